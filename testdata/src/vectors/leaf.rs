//! `leaf/`: payloads of the registry's statements, unsigned. `with` is the kind.

use glassbloom_spec::{
    cbor::Value,
    evidence::{Anchor, endorsement::Endorsement},
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    leaf::{
        Attestation, Beacon, ChallengeBatch, OperatorAction, Payload, PolicyLeaf, Release, Revocation, Tier,
        Transcript, challenge_message,
    },
    statement::key_id,
};

use super::Folder;
use crate::world::{NOW, REGISTRY, World, index};

pub(super) fn folder(world: &World) -> Folder {
    let mut folder = Folder::new("leaf", "leaf.md", "cbor");
    let payload = |at| Value::decode(world.statement(at).payload()).expect("a payload of ours");
    let revocation = Revocation {
        key: key_id(&world.keys.provider.public_key()),
        from: TreeSize::new(3),
        reason: "key lost".to_owned(),
    };
    let kinds = [
        ("attestation", payload(index::ATTESTATION)),
        ("challenge-batch", batch(world).to_value()),
        ("coordinator", payload(index::COORDINATOR)),
        ("endorsement", endorsement(world).to_value()),
        ("model", payload(index::MODEL)),
        ("operator-action", action(world).to_value()),
        ("policy", payload(index::POLICY)),
        ("price-table", payload(index::PRICES)),
        ("release", payload(index::RELEASE)),
        ("revocation", revocation.to_value()),
        ("verdict", payload(index::VERDICT)),
    ];
    for (kind, value) in &kinds {
        folder.pass(kind, kind, kind, value.encode());
        folder.pass(
            &format!("{kind}_with_optional_field"),
            GROWTH,
            kind,
            with(value, 128, Value::Bool(true)).encode(),
        );
        folder.fail(
            &format!("{kind}_with_critical_field"),
            GROWTH,
            kind,
            with(value, 127, Value::Bool(true)).encode(),
        );
        folder.fail(
            &format!("{kind}_without_its_last_field"),
            kind,
            kind,
            without_last(kind, value).encode(),
        );
    }
    let of = |kind: &str| &kinds.iter().find(|(name, _)| *name == kind).expect("every kind is above").1;
    let policy = of("policy").encode();
    for (rule, bytes) in [
        ("payload_not_a_map", Value::Array(Vec::new()).encode()),
        ("payload_empty", Vec::new()),
        ("payload_trailing_byte", [&policy[..], &[0]].concat()),
        ("payload_text_key", with_key(of("policy"), "tiers".into()).encode()),
        ("payload_negative_key", with_key(of("policy"), Value::Negative(0)).encode()),
        // a3 01 .. : the first key in two bytes.
        ("payload_key_not_shortest", [&policy[..1], &[0x18, 1], &policy[2..]].concat()),
        ("payload_key_twice", [&[0xa4], &policy[1..], &[3, 0xf5]].concat()),
    ] {
        folder.fail(rule, "payloads", "policy", bytes);
    }
    for (kind, rule, key, value) in edits(world) {
        folder.fail(&format!("{kind}_{rule}"), kind, kind, with(of(kind), key, value).encode());
    }
    folder.pass("attestation_with_previous", "attestation", "attestation", {
        with(of("attestation"), 10, Hash::of(b"the one before").into()).encode()
    });
    folder.pass("attestation_with_everything", "attestation", "attestation", {
        let all = with(of("attestation"), 10, Hash::of(b"the one before").into());
        let all = with(&all, 12, Value::Bytes(vec![2; 64]));
        let all = with(&all, 13, b"c2sp.org/tlog-proof@v1".as_slice().into());
        with(&all, 14, Hash::of(b"the enrolment").into()).encode()
    });
    folder.pass("policy_with_trust", "policy", "policy", {
        let rules = PolicyLeaf {
            tiers: vec!["tpm-hw".into(), "app-attest".into()],
            max_lifetime: 24 * 3600,
            plaintext_api: false,
            anchors: vec![Anchor { tier: Tier::TpmHw, key: Hash::of(b"root"), name: "A maker".into() }],
            endorsers: vec![world.keys.stranger.public_key()],
            apps: vec!["ABCDE12345.org.example.provider".into()],
            cool_off: 3600,
            max_enrolment: 90 * 24 * 3600,
        };
        rules.to_value().encode()
    });
    folder.pass("release_with_code_and_approvals", "release", "release", {
        let release = Release::of(&world.statement(index::RELEASE)).expect("a release of ours");
        let mut release = Release { code: Some(Hash::of(b"code directory")), ..release };
        let approver = &world.keys.stranger;
        release.approvals = vec![(approver.public_key(), approver.sign(&release.approval_message()))];
        release.to_value().encode()
    });
    folder.pass("attestation_evidence_of_another_format", "attestation", "attestation", {
        let evidence = Value::Array(vec!["app-attest".into(), Value::Bytes(vec![1, 2, 3])]);
        with(of("attestation"), 8, evidence).encode()
    });
    folder.pass("verdict_refusing", "verdict", "verdict", {
        let refused = with(of("verdict"), 3, Value::Null);
        with(&refused, 4, Value::Array(vec!["expired".into()])).encode()
    });
    folder
}

/// One field of one kind set to something that it must not be.
fn edits(world: &World) -> Vec<(&'static str, &'static str, u64, Value)> {
    let hash = |text: &[u8]| Value::from(Hash::of(text));
    let file = |name: &str| Value::Array(vec![name.into(), 1.into(), hash(name.as_bytes())]);
    let files = |names: &[&str]| Value::Array(names.iter().map(|name| file(name)).collect());
    let price = |alias: &str| Value::Array(vec![alias.into(), 1.into(), 2.into()]);
    let mut off_curve = world.keys.key_config().encode();
    off_curve[67] ^= 1;
    let long = "x".repeat(1025);
    vec![
        ("attestation", "bad_point", 1, Value::Bytes([&[2u8][..], &[0xff; 32]].concat())),
        (
            "attestation",
            "uncompressed_point",
            1,
            Value::Bytes(world.keys.provider.public_key().to_uncompressed().to_vec()),
        ),
        ("attestation", "sealing_key_off_the_curve", 2, Value::Bytes(off_curve)),
        ("attestation", "key_config_cut", 2, Value::Bytes(world.keys.key_config().encode()[..70].to_vec())),
        ("attestation", "build_31_bytes", 3, Value::Bytes(vec![1; 31])),
        ("attestation", "endpoint_with_escape_sequence", 4, "\u{1b}[2J".into()),
        ("attestation", "not_after_negative", 5, Value::Negative(0)),
        ("attestation", "model_not_a_hash", 6, Value::Array(vec!["bloom-tiny".into()])),
        ("attestation", "beacon_text", 7, "a checkpoint".into()),
        (
            "attestation",
            "evidence_of_three",
            8,
            Value::Array(vec!["a".into(), Value::Bytes(Vec::new()), Value::Null]),
        ),
        ("attestation", "previous_null", 10, Value::Null),
        ("attestation", "possession_of_63_bytes", 11, Value::Bytes(vec![1; 63])),
        ("attestation", "countersignature_text", 12, "signed".into()),
        ("attestation", "release_proof_null", 13, Value::Null),
        ("attestation", "enrolment_31_bytes", 14, Value::Bytes(vec![1; 31])),
        ("challenge-batch", "epoch_within_another", 1, (NOW - NOW % 300 + 1).into()),
        ("challenge-batch", "length_0", 2, 0.into()),
        ("challenge-batch", "beacon_text", 3, "a checkpoint".into()),
        (
            "challenge-batch",
            "expected_out_of_order",
            5,
            Value::Array(vec![Hash::from_bytes([2; 32]).into(), Hash::from_bytes([1; 32]).into()]),
        ),
        (
            "challenge-batch",
            "missing_was_not_expected",
            6,
            Value::Array(vec![Value::Array(vec![hash(b"another"), "no answer".into()])]),
        ),
        ("endorsement", "subject_text", 2, "all of it".into()),
        ("endorsement", "device_false", 4, Value::Bool(false)),
        ("operator-action", "approver_twice", 5, {
            let approval = entries(&action(world).to_value())[4].1.clone();
            match approval {
                Value::Array(approvals) => Value::Array(vec![approvals[0].clone(), approvals[0].clone()]),
                _ => panic!("approvals are an array"),
            }
        }),
        ("operator-action", "change_text", 3, "everything".into()),
        ("coordinator", "quote_text", 4, "tdx".into()),
        ("model", "files_out_of_order", 2, files(&["b", "a"])),
        ("model", "file_twice", 2, files(&["a", "a"])),
        ("model", "file_outside_the_folder", 2, files(&["../a"])),
        ("model", "file_absolute", 2, files(&["/etc/a"])),
        ("model", "file_with_backslash", 2, files(&["a\\b"])),
        ("model", "file_without_name", 2, files(&[""])),
        (
            "model",
            "file_size_text",
            2,
            Value::Array(vec![Value::Array(vec!["a".into(), "1".into(), hash(b"a")])]),
        ),
        ("model", "alias_too_long", 1, long.as_str().into()),
        ("policy", "tier_number", 1, Value::Array(vec![1.into()])),
        ("policy", "plaintext_null", 3, Value::Null),
        ("policy", "anchors_empty", 4, Value::Array(Vec::new())),
        (
            "policy",
            "anchor_of_a_pinned_tier",
            4,
            Value::Array(vec![Value::Array(vec!["app-attest".into(), hash(b"root"), "mine".into()])]),
        ),
        (
            "policy",
            "endorser_uncompressed",
            5,
            Value::Array(vec![Value::Bytes(world.keys.release.public_key().to_uncompressed().to_vec())]),
        ),
        ("policy", "app_number", 6, Value::Array(vec![1.into()])),
        ("policy", "cool_off_0", 7, 0.into()),
        ("policy", "max_enrolment_text", 8, "a year".into()),
        ("release", "code_text", 6, "code".into()),
        ("release", "approvals_empty", 7, Value::Array(Vec::new())),
        (
            "release",
            "approval_without_signature",
            7,
            Value::Array(vec![Value::Array(vec![Value::Bytes(
                world.keys.release.public_key().as_bytes().to_vec(),
            )])]),
        ),
        ("price-table", "alias_twice", 1, Value::Array(vec![price("a"), price("a")])),
        (
            "price-table",
            "price_negative",
            1,
            Value::Array(vec![Value::Array(vec!["a".into(), Value::Negative(0), 1.into()])]),
        ),
        ("price-table", "price_of_two", 1, Value::Array(vec![Value::Array(vec!["a".into(), 1.into()])])),
        ("release", "build_text", 2, "build".into()),
        ("release", "version_with_line_break", 1, "0.1.0\nverified".into()),
        ("revocation", "key_33_bytes", 1, Value::Bytes(vec![2; 33])),
        ("revocation", "from_text", 2, "now".into()),
        ("verdict", "tier_number", 3, 1.into()),
        ("verdict", "reasons_text", 4, "expired".into()),
    ]
}

/// A copy with a field set or added.
pub(super) fn with(value: &Value, key: u64, to: Value) -> Value {
    let mut entries = entries(value);
    match entries.iter_mut().find(|(other, _)| *other == Value::from(key)) {
        Some(entry) => entry.1 = to,
        None => entries.push((key.into(), to)),
    }
    Value::Map(entries)
}

fn with_key(value: &Value, key: Value) -> Value {
    let mut entries = entries(value);
    entries.push((key, Value::Null));
    Value::Map(entries)
}

/// A copy without the last field that must be there.
fn without_last(kind: &str, value: &Value) -> Value {
    let mut entries = entries(value);
    if kind == "attestation" {
        entries.truncate(9);
    }
    entries.pop();
    Value::Map(entries)
}

fn action(world: &World) -> OperatorAction {
    let mut action = OperatorAction {
        what: "moved two providers to another account".to_owned(),
        scope: "accounts".to_owned(),
        change: Hash::of(b"update providers set account = 7 where id in (1, 2)"),
        reason: "asked for by their owner".to_owned(),
        approvals: Vec::new(),
    };
    let message = action.approval_message();
    let keys = [&world.keys.release, &world.keys.coordinator];
    action.approvals = keys.map(|key| (key.public_key(), key.sign(&message))).to_vec();
    action.approvals.sort_unstable_by_key(|(key, _)| *key);
    action
}

fn batch(world: &World) -> ChallengeBatch {
    let epoch = UnixSeconds::new(NOW - NOW % 300);
    let beacon = Beacon { checkpoint: world.checkpoint(REGISTRY, 5, NOW) };
    let attestation = world.statement(index::ATTESTATION).leaf_hash();
    let message = challenge_message(beacon.digest(), attestation, epoch);
    let answer = Transcript { attestation, signature: world.keys.provider.sign(&message) };
    let silent = (Hash::of(b"the attestation of a provider that was not there"), "no answer".to_owned());
    ChallengeBatch::new(epoch, 300, beacon, &[answer], vec![silent])
}

fn endorsement(world: &World) -> Endorsement {
    let attestation = Attestation::of(&world.statement(index::ATTESTATION)).expect("an attestation of ours");
    Endorsement {
        format: "mda".to_owned(),
        subject: Hash::of(b"what was seen"),
        nonce: attestation.nonce,
        device: Some(Hash::of(b"the device")),
    }
}

fn entries(value: &Value) -> Vec<(Value, Value)> {
    match value {
        Value::Map(entries) => entries.clone(),
        _ => panic!("payloads are maps"),
    }
}

const GROWTH: &str = "growth";
