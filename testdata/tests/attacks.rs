//! The whole way of an honest exchange, and the attacks that the formats alone close. Numbers are those of
//! `spec/design/threat-model.md`.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::sync::{Arc, LazyLock};

use glassbloom_spec::{
    bundle::ReceiptBundle,
    cbor::Value,
    checkpoint::TreeHead,
    curve::PublicKey,
    envelope::{self, ClientRequest, Ended, EnvelopeError, FinishError, Opened},
    evidence::{Known as Claimed, Voucher, tpm::Evidence as TpmEvidence},
    hash::Hash,
    id::{TreeSize, UnixMillis},
    leaf::{Attestation, Evidence, Model, Payload, PolicyLeaf, Tier},
    policy::OpenError,
    receipt::{ReceiptError, SealedBy},
    seal::{KeyConfig, hpke},
    statement::{Statement, StatementError},
    verify::{Continuity, Known, Report, RevocationState, State},
};
use glassbloom_testdata::{
    mac,
    tpm::{ECDH, Maker, Names, SEALING, Tpm, place, public},
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

/// Requests for an attested machine go to a box beside it, whose key stands under the machine's evidence.
#[test]
fn a1_a_box_beside_an_attested_machine_is_refused() {
    World::hardware().provider();
    let refused = refusal(Plan {
        attestation: |it| {
            it.key_config = another_key();
            it.nonce = it.expected_nonce();
            it.evidence = evidence_with(it, WORLD.attestation.key_config.public_key(), SEALING);
            false
        },
        ..Plan::hardware()
    });
    assert!(
        refused.contains("tpm-key-mismatch (sealing key: the attestation names another one)"),
        "{refused}"
    );
    assert_rejected("evidence", "fail_tpm_key_mismatch_signing.cbor");
}

/// A key in software, with genuine evidence that was logged for another machine.
#[test]
fn a2_a_software_key_with_borrowed_evidence_is_refused() {
    // All of it, as it was logged.
    let refused = refusal(Plan {
        attestation: |it| {
            let honest = World::hardware();
            let first = Attestation::of(&honest.statement(index::ATTESTATION)).unwrap();
            (it.evidence, it.enrolment) = (first.evidence, None);
            false
        },
        ..Plan::hardware()
    });
    assert!(refused.contains("endorsement-mismatch"), "{refused}");
    let refused = refusal(Plan {
        attestation: |it| {
            it.evidence = mac::evidence("a Mac", Hash::of(b"the nonce of its owner"), NOW);
            false
        },
        ..macs()
    });
    assert!(refused.contains("mda-freshness"), "{refused}");
    // Or named as an enrolment, where nothing is made anew that could show who holds the key.
    assert_rejected("evidence", "fail_mda_other_key.cbor");
}

/// The coordinator has a clean machine vouch for a key of its own.
#[test]
fn a3_a_key_brought_into_a_clean_machine_is_refused() {
    let refused = refusal(Plan {
        attestation: |it| {
            it.key_config = another_key();
            it.nonce = it.expected_nonce();
            // Neither made there nor bound to stay: both bits are how a TPM says so.
            let imported = SEALING ^ 1 << 5 ^ 1 << 1;
            it.evidence = evidence_with(it, it.key_config.public_key(), imported);
            false
        },
        ..Plan::hardware()
    });
    assert!(refused.contains("tpm-key-attributes"), "{refused}");
    // A Mac under management cannot tell, which its tier says; that it is one Mac for both keys shows.
    let proven = |seed: &'static str| {
        let mut plan = macs();
        plan.attestation = if seed == "own" {
            |it| {
                it.key_config = another_key();
                it.nonce = it.expected_nonce();
                it.evidence = mac::evidence("a Mac", it.nonce, NOW);
                *it = it.clone().possessed(&hpke::derive_key_pair(&[66; 32]));
                false
            }
        } else {
            |it| {
                it.evidence = mac::evidence("a Mac", it.nonce, NOW);
                false
            }
        };
        World::of(plan).provider().proven().clone()
    };
    let (own, honest) = (proven("own"), proven("honest"));
    assert_eq!((own.tier, own.device), (Tier::Mda, honest.device));
    assert!(honest.device.is_some() && Tier::Mda.does_not_prove().contains("keys"));
}

/// Software says that it is hardware, with a genuine certificate or without.
#[test]
fn a5_a_program_does_not_pass_for_hardware() {
    let certified =
        |maker: &Maker| Tpm::of(maker, |it| it.extensions[place::NAMES] = Names::SOFTWARE.extension());
    let refused = refusal(Plan { tpm: Some(certified(&Maker::hardware())), ..Plan::hardware() });
    assert!(refused.contains("tpm-is-software"), "{refused}");
    let mut plan = Plan { tpm: Some(Tpm::software()), ..Plan::hardware() };
    plan.rules.anchors = vec![Maker::software().anchor()];
    plan.trust += &Maker::software().policy_line();
    assert!(refusal(plan).contains("tier-not-accepted"));
    let refused = refusal(Plan { tpm: Some(certified(&Maker::of("Mine", Tier::TpmHw))), ..Plan::hardware() });
    assert!(refused.contains("certificate-root"), "{refused}");
}

/// A dirty machine says which clean one it is. Nothing that names a machine comes from its provider.
#[test]
fn a5_no_name_of_a_machine_is_self_asserted() {
    let world = World::hardware();
    let proven = world.provider().proven().clone();
    assert!(proven.device.is_some());
    assert!(proven.claims.iter().all(|claim| matches!(claim.by, Voucher::Tpm | Voucher::Endorser)));
    // The name is in a certificate, and a changed certificate is nobody's.
    let mut evidence = TpmEvidence::decode(&read_vector("evidence", "tpm_hw.cbor")).unwrap();
    let at = evidence.lasting.chain[0].windows(7).position(|window| window == b"Glass 1").unwrap();
    evidence.lasting.chain[0][at + 6] = b'2';
    let refused = vectors::evidence::prove(&WORLD, "tpm-hw", &evidence.encode()).unwrap_err();
    assert_eq!(refused.reason, "certificate-signature");
    assert_rejected("evidence", "fail_mda_identifies_device_serial.cbor");
    assert_rejected("evidence", "fail_mda_endorser_unknown.cbor");
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

/// The evidence is somewhere else, or says nothing that could be judged.
#[test]
fn b1_withheld_evidence_proves_nothing() {
    let refused = refusal(Plan {
        attestation: |it| {
            let made = mac::evidence("a Mac", it.nonce, NOW);
            it.evidence = Evidence { bytes: Hash::of(&made.bytes).as_bytes().to_vec(), ..made };
            false
        },
        ..macs()
    });
    assert!(refused.contains("evidence-malformed"), "{refused}");
    assert_rejected("evidence", "fail_mda_posture_unknown_redacted.cbor");
    assert_rejected("evidence", "fail_mda_not_endorsed.cbor");
    assert_rejected("evidence", "fail_tpm_not_endorsed.cbor");
    assert_rejected("record", "fail_tpm_enrolment_missing.cbor");
}

/// The coordinator calls a provider hardware that has no evidence for it, or whose evidence only the rules believe.
#[test]
fn b2_a_tier_without_evidence_for_it_is_refused() {
    let mut plan = Plan { verdict: |it| it.tier = Some("tpm-hw".into()), ..Plan::default() };
    plan.rules.tiers.push("tpm-hw".to_owned());
    let refused = refusal(plan);
    assert_eq!(refused, "evidence: the logged verdict is not what the evidence gives when judged anew");
    assert_rejected("record", "fail_tpm_self_signed_provider.cbor");
    assert_rejected("record", "fail_tpm_policy_without_its_maker.cbor");
    assert_rejected("record", "fail_tpm_policy_without_its_endorser.cbor");
}

/// The same machine's evidence of an hour before, with the enrolment that it was made under.
#[test]
fn b3_replayed_evidence_is_refused() {
    let refused = refusal(Plan {
        attestation: |it| {
            let honest = World::hardware();
            it.evidence = Attestation::of(&honest.statement(index::ATTESTATION)).unwrap().evidence;
            false
        },
        ..Plan::hardware()
    });
    assert!(refused.contains("tpm-nonce"), "{refused}");
}

/// Leaving something out is never better than saying it.
#[test]
fn b5_what_is_left_out_does_not_pass() {
    for (with, file) in [("tpm-hw", "tpm_hw.cbor"), ("mda", "mda.cbor")] {
        let Value::Map(fields) = Value::decode(&read_vector("evidence", file)).unwrap() else {
            panic!("{file}")
        };
        for left_out in 0..fields.len() {
            let mut fewer = fields.clone();
            fewer.remove(left_out);
            let refused = vectors::evidence::prove(&WORLD, with, &Value::Map(fewer).encode()).unwrap_err();
            assert_eq!(refused.reason, "evidence-malformed", "{file} without its field {left_out}");
        }
    }
    assert_rejected("evidence", "fail_mda_posture_unknown_absent.cbor");
    assert_rejected("evidence", "fail_tpm_registers_missing.cbor");
    assert_rejected("record", "fail_tpm_build_without_release_proof.cbor");
    assert_rejected("record", "fail_tpm_lasting_part_without_enrolment.cbor");
}

/// Every claim can be otherwise, and is then refused or shown so; nothing is a constant.
#[test]
fn b7_no_claim_is_always_true() {
    for file in ["fail_mda_sip_disabled", "fail_mda_secure_boot_reduced", "fail_mda_kexts_allowed"] {
        assert_rejected("evidence", &format!("{file}.cbor"));
    }
    let claim = |file: &str, name: &str| {
        let proven = vectors::evidence::prove(&WORLD, "mda", &read_vector("evidence", file)).unwrap();
        proven.claims.into_iter().find(|claim| claim.name == name).unwrap().value
    };
    assert_eq!(claim("mda.cbor", "secure-boot"), Claimed::Present("Full Security".to_owned()));
    assert!(matches!(claim("mda.cbor", "os-version"), Claimed::Redacted(_)));
    assert_eq!(claim("mda_with_more_opened.cbor", "os-version"), Claimed::Present("27.1".to_owned()));
    assert_eq!(claim("mda_of_unknown_version.cbor", "os-version").to_string(), "unknown");
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

/// A build that nobody could have looked at, in time or at all.
#[test]
fn c1_a_build_that_was_not_public_is_refused() {
    let refused = refusal(Plan {
        attestation: |it| {
            it.build = Hash::of(b"rogue build");
            true
        },
        ..Plan::hardware()
    });
    assert_eq!(refused, "evidence: judged anew, it may not serve: build-not-released");
    let refused = refusal(Plan { release_signer: |keys| &keys.coordinator, ..Plan::hardware() });
    assert!(refused.starts_with("signatures: "), "{refused}");
    for file in ["build_cooling_off", "build_without_release_proof", "release_proof_of_another_leaf"] {
        assert_rejected("record", &format!("fail_tpm_{file}.cbor"));
    }
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

fn read_vector(folder: &str, file: &str) -> Vec<u8> {
    std::fs::read(vector(folder).join(file)).unwrap()
}

/// Why the client refuses the provider of such a network.
fn refusal(plan: Plan) -> String {
    let world = World::of(plan);
    world.verify(&world.record()).unwrap_err().to_string()
}

/// A network whose rules and user take the word of an auditor for Macs.
fn macs() -> Plan {
    let mut plan = Plan {
        verdict: |it| it.tier = Some("mda".into()),
        accept: vec!["mda".to_owned()],
        trust: format!("endorser {}\n", mac::endorser().public_key()),
        ..Plan::default()
    };
    plan.rules.tiers = vec!["mda".to_owned()];
    plan.rules.endorsers = vec![mac::endorser().public_key()];
    plan
}

/// A sealing key that is not in the provider's TPM.
fn another_key() -> KeyConfig {
    let own = hpke::derive_key_pair(&[66; 32]);
    KeyConfig::new(1, PublicKey::from_sec1(&own.public_key()).unwrap())
}

/// Fresh evidence of the enrolled TPM, in which this is the sealing key.
fn evidence_with(attestation: &Attestation, sealing: &PublicKey, attributes: u32) -> Evidence {
    let tpm = Tpm::new();
    let lasting = TpmEvidence::decode(&attestation.evidence.bytes).unwrap().lasting;
    let mut evidence = tpm.evidence(lasting, &attestation.signing_key, sealing, attestation.nonce);
    evidence.sealing = tpm.certified(public(sealing, attributes, ECDH), attestation.nonce);
    Evidence { format: attestation.evidence.format.clone(), bytes: evidence.encode() }
}
