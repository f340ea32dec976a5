//! The whole way of an honest exchange, and the attacks that the formats alone close. Numbers are those of
//! `spec/design/threat-model.md`.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::sync::{Arc, LazyLock};

use glassbloom_spec::{
    bundle::ReceiptBundle,
    checkpoint::TreeHead,
    curve::PublicKey,
    envelope::{self, ClientRequest, Ended, EnvelopeError, FinishError, Opened},
    hash::Hash,
    id::{TreeSize, UnixMillis},
    leaf::{Attestation, Model, Payload, PolicyLeaf},
    policy::OpenError,
    receipt::{ReceiptError, SealedBy},
    seal::{KeyConfig, hpke},
    statement::{Statement, StatementError},
    verify::{Continuity, Known, Report, RevocationState, State},
};
use glassbloom_testdata::{
    vector,
    vectors::{self, Expect},
    world::{MODEL, NOW, Plan, REGISTRY, Script, World, begin, facts, index, read, resume, seal, sign},
};

static WORLD: LazyLock<World> = LazyLock::new(World::new);

#[test]
fn a12_a_first_checkpoint_is_not_called_consistent() {
    let mut report = Report::new();
    let known = Known { continuity: Continuity::FirstSeen, ..WORLD.known() };
    WORLD.policy().verify(&WORLD.record(), MODEL, &known, &mut report).unwrap();
    let step = report.steps().iter().find(|step| step.name == "checkpoint consistent").unwrap();
    assert_eq!(step.state, State::NotVerifiable);
}

#[test]
fn from_a_policy_to_a_bundle() {
    let world = World::of(Plan::default());
    let policy = world.policy();
    let mut report = Report::new();
    let provider = policy.verify(&world.record(), MODEL, &world.known(), &mut report).unwrap();
    assert!(report.steps().iter().all(|step| step.state == State::Verified), "{report:?}");

    let body = Script::all()[0].body();
    let request = ClientRequest { body: body.clone(), sampling: None, sealed_by: SealedBy::User, attempt: 1 };
    let (sealed, mut client) = envelope::seal(&provider, &request, &[9; 32]).unwrap();

    let key = Arc::clone(&world.keys.sealing) as _;
    let (opened, exchange) =
        envelope::open(key, &world.keys.key_config(), provider.attestation_hash(), &sealed).unwrap();
    assert_eq!((opened.body, opened.registry, opened.attempt), (body.clone(), provider.registry(), 1));
    let (mut wire, mut answer) = exchange.start(200, "text/event-stream", [9; 32]).unwrap();
    // An empty chunk is none: the client cannot see it, so the receipt must not count it.
    for chunk in [&b"data: one\n\n"[..], b"", b"data: [DONE]\n\n"] {
        wire.extend(answer.chunk(chunk).unwrap());
    }
    let script = &Script::all()[0];
    let (receipt, opening) = answer.receipt(&facts(&provider, script, &body), &world.keys.provider).unwrap();
    assert_eq!((opening.prompt, opening.completion), (script.usage.prompt, script.usage.completion));
    wire.extend(answer.finish(&receipt, script.usage).unwrap());

    let mut chunks = Vec::new();
    let mut opened: Vec<Opened> = wire.chunks(7).flat_map(|piece| client.push(piece).unwrap()).collect();
    let (rest, ended) = client.finish(&provider).unwrap();
    opened.extend(rest);
    for event in opened {
        match event {
            Opened::Head { status, .. } => assert_eq!(status, 200),
            Opened::Chunk(chunk) => chunks.push(chunk),
        }
    }
    let Ended::Answered(verified) = ended else { panic!("refused") };

    let mut world = world;
    world.receipts.append(receipt.bytes());
    let logged = verified.logged(&policy, &world.receipt_proof(0)).unwrap();
    let mut bundle = ReceiptBundle::new(&provider, &logged);
    (bundle.request, bundle.response) = (Some(body), Some(chunks));
    let file = bundle.to_bytes();
    let outcome = ReceiptBundle::parse(&file)
        .unwrap()
        .verify(&policy, UnixMillis::new((NOW + 10 * 365 * 86_400) * 1000));
    assert_eq!(outcome.report.failure(), None);
    let sentence = outcome.sentence.unwrap();
    assert!(sentence.contains(MODEL) && sentence.contains("have expired since"), "{sentence}");
}

/// The coordinator puts its own sealing key where the provider's belongs.
#[test]
fn a1_key_substitution_is_refused() {
    let own = hpke::derive_key_pair(&[66; 32]);
    let key_config = KeyConfig::new(1, PublicKey::from_sec1(&own.public_key()).unwrap());
    let attestation = Attestation { key_config, ..WORLD.attestation.clone() };
    let attestation = Attestation { nonce: attestation.expected_nonce(), ..attestation };
    // Shown without logging it.
    let mut record = WORLD.record();
    record.attestation.leaf = attestation.sign(&WORLD.keys.coordinator).unwrap().bytes().to_vec();
    assert_eq!(WORLD.verify(&record).unwrap_err().step, "inclusion");
    // Logged, with the provider's name on it.
    let world = World::of(Plan {
        attestation: |it| {
            let own = hpke::derive_key_pair(&[66; 32]);
            it.key_config = KeyConfig::new(1, PublicKey::from_sec1(&own.public_key()).unwrap());
            true
        },
        attestation_signer: |keys| &keys.coordinator,
        ..Plan::default()
    });
    assert_eq!(world.verify(&world.record()).unwrap_err().step, "signatures");
}

/// The other half: a coordinator that logs keys of its own as a provider of its own is a provider, and the self-signed
/// tier cannot tell. The test keeps the threat model honest.
#[test]
fn a1_a_provider_of_the_coordinators_own_is_not_detected_by_the_self_signed_tier() {
    let world = World::of(Plan {
        attestation: |it| {
            it.signing_key = glassbloom_spec::curve::SigningKey::from_seed(&[1; 32]).public_key();
            true
        },
        attestation_signer: |keys| &keys.coordinator,
        ..Plan::default()
    });
    let provider = world.verify(&world.record()).unwrap();
    assert!(provider.tier().does_not_prove().contains("that the operator cannot read prompts"));
}

/// One machine attests, another signs.
#[test]
fn a1_the_receipt_key_is_the_key_that_was_sealed_to() {
    let provider = WORLD.provider();
    let script = &Script::all()[0];
    let (sealed, client) = seal(&provider, script);
    let (mut pieces, answer) = begin(&WORLD.keys, &provider, script, &sealed);
    let (receipt, _) =
        answer.receipt(&facts(&provider, script, &script.body()), &WORLD.keys.stranger).unwrap();
    pieces.push(answer.finish(&receipt, script.usage).unwrap());
    assert!(matches!(read(client, &provider, &pieces), Err(FinishError::Receipt(ReceiptError::Leaf(_)))));
}

/// A request that is routed to another provider is not answered there.
#[test]
fn a1_a_request_for_another_attestation_is_refused_by_the_provider() {
    let sealed = &WORLD.exchanges[0].sealed_request;
    let opened = envelope::open(
        Arc::clone(&WORLD.keys.sealing) as _,
        &WORLD.keys.key_config(),
        Hash::leaf(b"another"),
        sealed,
    );
    assert!(matches!(opened, Err(EnvelopeError::OtherAttestation { .. })));
}

/// Evidence that was made for one sealing key does not do for another.
#[test]
fn a2_evidence_covers_both_keys_and_the_beacon() {
    let good = &WORLD.attestation;
    let other = Attestation { signing_key: WORLD.keys.stranger.public_key(), ..good.clone() };
    assert_ne!(other.expected_nonce(), good.nonce);
    let own = hpke::derive_key_pair(&[66; 32]);
    let other = Attestation {
        key_config: KeyConfig::new(1, PublicKey::from_sec1(&own.public_key()).unwrap()),
        ..good.clone()
    };
    assert_ne!(other.expected_nonce(), good.nonce);
    let mut other = good.clone();
    other.beacon.checkpoint = WORLD.checkpoint(REGISTRY, 5, NOW + 1);
    assert_ne!(other.expected_nonce(), good.nonce);
}

/// The provider says that it ran a model which it did not attest.
#[test]
fn a3_a_receipt_for_another_model_is_refused() {
    assert_rejected("sealed-answer", "fail_receipt_for_another_model.bin");
    assert_rejected("record", "fail_model_not_attested.cbor");
}

/// The counts that are billed are those that the client was told.
#[test]
fn a4_token_counts_other_than_the_committed_are_refused() {
    assert_rejected("sealed-answer", "fail_usage_not_the_committed.bin");
    assert_rejected("sealed-answer", "fail_charge_at_another_price.bin");
}

/// What was signed is kept to the byte, and there is one encoding.
#[test]
fn a6_bytes_are_never_serialised_again() {
    for at in 0..WORLD.registry.size() {
        let entry = &WORLD.registry_entries()[at as usize];
        let statement = Statement::parse(entry).unwrap();
        assert_eq!(statement.bytes(), entry);
        assert_eq!(statement.leaf_hash(), Hash::leaf(entry));
    }
    for entry in vectors::index("leaf").unwrap().iter().filter(|entry| entry.expect == Expect::Accept) {
        let bytes = std::fs::read(vector("leaf").join(&entry.file)).unwrap();
        assert_eq!(glassbloom_spec::cbor::Value::decode(&bytes).unwrap().encode(), bytes, "{}", entry.file);
    }
}

/// Yesterday's verifier reads tomorrow's statements.
#[test]
fn a7_unknown_optional_field_is_accepted() {
    for kind in
        ["attestation", "coordinator", "model", "policy", "price-table", "release", "revocation", "verdict"]
    {
        let bytes = std::fs::read(vector("leaf").join(format!("{kind}_with_optional_field.cbor"))).unwrap();
        assert_eq!(vectors::check(&WORLD, "leaf", kind, &bytes), Ok(()));
        assert_rejected("leaf", &format!("fail_{kind}_with_critical_field.cbor"));
    }
}

/// No key is taken from anywhere but the policy.
#[test]
fn a8_a_key_outside_the_policy_signs_nothing() {
    let world = World::of(Plan { coordinator_signer: |keys| &keys.stranger, ..Plan::default() });
    assert_eq!(world.verify(&world.record()).unwrap_err().step, "signatures");
    let policy = world.statement(index::POLICY);
    assert!(matches!(
        policy.verify(&world.keys.coordinator.public_key()),
        Err(StatementError::OtherKey { .. })
    ));
    assert!(PolicyLeaf::of(&policy).is_ok(), "only the key is wrong");
}

/// A relay answers in plain text with a good status.
#[test]
fn a9_a_plain_answer_is_refused() {
    let provider = WORLD.provider();
    for plain in [&br#"{"choices":[]}"#[..], b"data: {}\n\ndata: [DONE]\n\n", b"HTTP/1.1 200 OK\r\n\r\n"] {
        let plain = plain.repeat(20);
        assert!(read(resume(&provider, 0), &provider, &[plain]).is_err());
    }
}

/// A relay ends the answer early, anywhere.
#[test]
fn a10_a_truncated_answer_is_refused() {
    let provider = WORLD.provider();
    let answer = WORLD.exchanges[0].sealed_answer.concat();
    read(resume(&provider, 0), &provider, core::slice::from_ref(&answer)).unwrap();
    for length in (0..answer.len()).step_by(3) {
        assert!(read(resume(&provider, 0), &provider, &[answer[..length].to_vec()]).is_err(), "{length}");
    }
}

/// A provider ends the answer properly, without a receipt.
#[test]
fn a10_an_answer_without_a_receipt_is_refused() {
    let provider = WORLD.provider();
    let script = &Script::all()[0];
    let (sealed, client) = seal(&provider, script);
    let (mut pieces, answer) = begin(&WORLD.keys, &provider, script, &sealed);
    pieces.push(answer.finish_refused().unwrap());
    assert!(matches!(read(client, &provider, &pieces), Err(FinishError::Receipt(ReceiptError::Missing))));
}

/// The log shows two trees. One needs a quorum; both together are proof.
#[test]
fn a12_a_forked_log_needs_its_witnesses_and_leaves_proof() {
    let fork = TreeHead { origin: REGISTRY.to_owned(), size: TreeSize::new(7), root: Hash::of(b"fork") };
    let note = sign(&WORLD.keys, &fork, NOW);
    let alone = glassbloom_spec::note::SignedNote::parse(&note).unwrap();
    let alone =
        glassbloom_spec::note::SignedNote { signatures: alone.signatures[..2].to_vec(), ..alone }.encode();
    let policy = WORLD.policy();
    assert!(matches!(policy.open(None, &alone), Err(OpenError::Quorum { have: 0, need: 2, .. })));
    let forked = policy.open(None, &note).unwrap();
    let inconsistency = forked.extends(WORLD.registry_checkpoint().head(), &[]).unwrap_err();
    assert!(inconsistency.is_fork());
    // The provider repeats in its receipt what the user relied on.
    assert_eq!(WORLD.exchanges[0].verified.receipt().registry, WORLD.provider().registry());
}

/// A revocation that the client knows of stops it.
#[test]
fn b8_a_revoked_key_is_refused() {
    let known = glassbloom_spec::verify::Known {
        revocation: RevocationState::Revoked { reason: "lost".into() },
        ..WORLD.known()
    };
    let refused = WORLD.policy().verify(&WORLD.record(), MODEL, &known, &mut Report::new()).unwrap_err();
    assert_eq!(refused.step, "not revoked");
}

/// What was not checked is never shown as good.
#[test]
fn nothing_checked_is_nothing_verified() {
    assert_eq!(Report::new().state(), State::NotVerifiable);
    let mut bundle = WORLD.bundle();
    bundle.record.model.leaf = b"unreadable".to_vec();
    let outcome = bundle.verify(&WORLD.policy(), UnixMillis::new(NOW * 1000));
    assert_eq!((outcome.report.state(), outcome.sentence), (State::Failed, None));
    assert!(ReceiptBundle::parse(&vec![0; glassbloom_spec::bundle::MAX_BUNDLE + 1]).is_err());
}

/// A manifest cannot name files outside the folder that it is compared with.
#[test]
fn c2_file_names_stay_in_the_folder() {
    let good = Model::of(&WORLD.statement(index::MODEL)).unwrap();
    for name in ["../x", "/x", "a/../x", "a//b", "", ".", "a\\b", "c:x", "a\nb"] {
        let mut model = good.clone();
        model.files[0].name = name.to_owned();
        model.files.sort();
        let statement = model.sign(&WORLD.keys.coordinator).unwrap();
        assert!(Model::of(&statement).is_err(), "{name:?}");
    }
}

fn assert_rejected(folder: &str, file: &str) {
    let entry = vectors::index(folder).unwrap().into_iter().find(|entry| entry.file == file).unwrap();
    let bytes = std::fs::read(vector(folder).join(file)).unwrap();
    assert_eq!(vectors::check(&WORLD, folder, &entry.with, &bytes), Err(entry.error));
}
