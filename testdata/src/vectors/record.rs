//! `record/`: what a client fetches about a provider. `with` is the tier that the policy accepts, where it is another, or
//! the policy's file in `policy/`.

use glassbloom_spec::{
    cbor::Value,
    checkpoint::TreeHead,
    curve::PublicKey,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    leaf::{Attestation, Evidence, Payload, PolicyLeaf, Tier},
    note::SignedNote,
    proof::TlogProof,
    record::{LeafProof, ProviderRecord},
    seal::{KeyConfig, hpke},
};

use super::{
    Folder,
    leaf::with,
    statement::{no_leaf, with_payload},
};
use crate::{
    tpm::{self, Maker, Tpm},
    world::{NOW, Plan, RECEIPTS, REGISTRY, World, index, sign},
};

pub(super) fn folder(world: &World) -> Folder {
    let mut folder = Folder::new("record", "verify.md", "cbor");
    let good = world.record();
    folder.pass("record", "steps", "", good.to_value().encode());
    folder.pass("with_optional_field", "record", "", with(&good.to_value(), 128, Value::Null).encode());
    folder.fail("critical_field", "record", "", with(&good.to_value(), 9, Value::Null).encode());
    folder.fail("not_a_map", "record", "", Value::Array(Vec::new()).encode());
    folder.fail(
        "leaf_without_proof",
        "record",
        "",
        with(&good.to_value(), 2, Value::Array(vec![Value::Null])).encode(),
    );
    folder.fail("tier_not_accepted_by_the_user", "evidence", "mda", good.to_value().encode());
    for (rule, section, plan) in planned() {
        folder.fail(rule, section, "", World::of(plan).record().to_value().encode());
    }
    for (rule, section, record) in edited(world, &good) {
        folder.fail(rule, section, "", record.to_value().encode());
    }
    hardware(world, &mut folder);
    folder
}

/// Policies of users who want hardware: one that believes its maker and an auditor, two that lack one of them, and one that believes
/// everyone whom `evidence/` is about.
pub(super) fn hardware_policies(world: &World) -> [(&'static str, String); 4] {
    let accept = ["tpm-hw".to_owned()];
    let [anchor, endorser] =
        [Maker::hardware().policy_line(), format!("endorser {}\n", tpm::endorser().public_key())];
    let policy = |trust: &str| world.keys.policy_text(&accept, trust);
    [
        ("tpm_hw.policy", policy(&format!("{anchor}{endorser}"))),
        ("tpm_hw_without_anchor.policy", policy(&endorser)),
        ("tpm_hw_without_endorser.policy", policy(&anchor)),
        ("evidence.policy", policy(&super::evidence::trust_lines())),
    ]
}

/// A provider with a TPM: enrolled by one key, renewed by the next.
fn hardware(world: &World, folder: &mut Folder) {
    const POLICY: &str = "tpm_hw.policy";
    let network = World::hardware();
    let good = network.record();
    let bytes = good.to_value().encode();
    folder.pass("tpm_hw", "evidence", POLICY, bytes.clone());
    folder.pass("tpm_hw_at_its_enrolment", "evidence", POLICY, {
        let [size, leaf] = [network.registry.size(), index::ATTESTATION];
        let of = |at: u64| LeafProof {
            leaf: network.registry_entries()[at as usize].clone(),
            index: LeafIndex::new(at),
            proof: network.registry.inclusion(at, size),
        };
        let first =
            ProviderRecord { attestation: of(leaf), verdict: of(leaf + 1), enrolment: None, ..good.clone() };
        first.to_value().encode()
    });
    folder.fail("tpm_policy_without_its_maker", "evidence", "tpm_hw_without_anchor.policy", bytes.clone());
    folder.fail(
        "tpm_policy_without_its_endorser",
        "evidence",
        "tpm_hw_without_endorser.policy",
        bytes.clone(),
    );
    folder.fail("tpm_not_accepted_by_the_user", "evidence", "app-attest", bytes);
    let edit = |edit: &dyn Fn(&mut ProviderRecord)| {
        let mut record = good.clone();
        edit(&mut record);
        record.to_value().encode()
    };
    for (rule, section, bytes) in [
        ("tpm_enrolment_missing", "evidence", edit(&|it| it.enrolment = None)),
        ("tpm_enrolment_is_another_leaf", "signatures", edit(&|it| it.enrolment = Some(it.verdict.clone()))),
        ("tpm_enrolment_is_itself", "evidence", edit(&|it| it.enrolment = Some(it.attestation.clone()))),
        (
            "tpm_enrolment_not_logged",
            "inclusion",
            edit(&|it| _ = it.enrolment.as_mut().map(|leaf| leaf.proof.pop())),
        ),
        ("tpm_self_signed_provider", "evidence", world.record().to_value().encode()),
    ] {
        folder.fail(rule, section, POLICY, bytes);
    }
    for (rule, plan) in hardware_plans() {
        folder.fail(rule, "evidence", POLICY, World::of(plan).record().to_value().encode());
    }
}

/// Networks with a TPM that departs from good order in one thing.
fn hardware_plans() -> Vec<(&'static str, Plan)> {
    let rules = |edit: fn(&mut PolicyLeaf)| {
        let mut plan = Plan::hardware();
        edit(&mut plan.rules);
        plan
    };
    let attested = |attestation| Plan { attestation, ..Plan::hardware() };
    vec![
        ("tpm_rules_without_its_maker", rules(|it| it.anchors.clear())),
        ("tpm_rules_without_its_endorser", rules(|it| it.endorsers.clear())),
        ("tpm_rules_call_it_software", rules(|it| it.anchors[0].tier = Tier::TpmSoft)),
        ("tpm_build_cooling_off", rules(|it| it.cool_off += 1)),
        ("tpm_enrolment_too_old", rules(|it| it.max_enrolment = 3599)),
        (
            "tpm_build_without_release_proof",
            attested(|it| {
                it.release_proof = None;
                false
            }),
        ),
        (
            "tpm_release_proof_of_another_leaf",
            attested(|it| {
                let proof = it.release_proof.take().and_then(|proof| TlogProof::parse(&proof).ok());
                let proof = proof.map(|proof| TlogProof { index: LeafIndex::new(index::MODEL), ..proof });
                it.release_proof = proof.map(|proof| proof.encode());
                false
            }),
        ),
        (
            "tpm_lasting_part_without_enrolment",
            attested(|it| {
                it.enrolment = None;
                false
            }),
        ),
        (
            "tpm_lasting_part_is_another",
            attested(|it| {
                it.evidence = Tpm::new().attest(it, Tpm::new().lasting(it.nonce));
                false
            }),
        ),
        (
            "tpm_sealing_key_of_another",
            attested(|it| {
                it.key_config = another_key();
                it.nonce = it.expected_nonce();
                false
            }),
        ),
        (
            "tpm_verdict_of_a_lower_tier",
            Plan { verdict: |it| it.tier = Some("tpm-soft".into()), ..Plan::hardware() },
        ),
        ("tpm_of_a_program", Plan { tpm: Some(Tpm::software()), ..Plan::hardware() }),
    ]
}

/// Networks that logged something which a client must not rely on.
fn planned() -> Vec<(&'static str, &'static str, Plan)> {
    let attested = |attestation| Plan { attestation, ..Plan::default() };
    let judged = |verdict| Plan { verdict, ..Plan::default() };
    let beacon = |beacon| Plan { beacon, ..Plan::default() };
    let mut plans = vec![
        (
            "coordinator_not_in_the_policy",
            "signatures",
            Plan { coordinator_signer: |keys| &keys.stranger, ..Plan::default() },
        ),
        (
            "release_by_the_coordinator",
            "signatures",
            Plan { release_signer: |keys| &keys.coordinator, ..Plan::default() },
        ),
        (
            "attestation_by_another_key",
            "signatures",
            Plan { attestation_signer: |keys| &keys.stranger, ..Plan::default() },
        ),
        (
            "nonce_wrong",
            "evidence",
            attested(|it| {
                it.nonce = Hash::of(b"chosen");
                false
            }),
        ),
        (
            "sealing_key_not_under_the_nonce",
            "evidence",
            attested(|it| {
                it.key_config = another_key();
                false
            }),
        ),
        (
            "lifetime_too_long",
            "evidence",
            attested(|it| {
                it.not_after = UnixSeconds::new(NOW + 24 * 3600 + 1);
                false
            }),
        ),
        (
            "expired_before_it_began",
            "evidence",
            attested(|it| {
                it.not_after = UnixSeconds::new(NOW);
                false
            }),
        ),
        (
            "expired_since",
            "keys-bound",
            attested(|it| {
                it.not_after = UnixSeconds::new(NOW + 60);
                false
            }),
        ),
        (
            "evidence_unknown",
            "evidence",
            attested(|it| {
                it.evidence = Evidence { format: "self-signed-2".into(), bytes: Vec::new() };
                false
            }),
        ),
        (
            "self_signed_with_bytes",
            "evidence",
            attested(|it| {
                it.evidence.bytes = vec![1];
                false
            }),
        ),
        (
            "sealing_key_not_possessed",
            "evidence",
            attested(|it| {
                it.possession = Some([1; 64]);
                false
            }),
        ),
        (
            "enrolment_unknown",
            "evidence",
            attested(|it| {
                it.enrolment = Some(no_leaf());
                false
            }),
        ),
        (
            "build_not_released",
            "evidence",
            attested(|it| {
                it.build = Hash::of(b"rogue build");
                false
            }),
        ),
        (
            "no_models",
            "evidence",
            attested(|it| {
                it.models.clear();
                false
            }),
        ),
        (
            "model_not_attested",
            "build-and-model",
            attested(|it| {
                it.models = vec![Hash::of(b"another model")];
                false
            }),
        ),
        (
            "verdict_refuses",
            "evidence",
            judged(|it| {
                it.tier = None;
                it.reasons = vec!["expired".into()];
            }),
        ),
        ("verdict_of_another_tier", "evidence", judged(|it| it.tier = Some("mda".into()))),
        ("verdict_with_reasons", "evidence", judged(|it| it.reasons = vec!["waived".into()])),
        ("verdict_on_another_attestation", "evidence", judged(|it| it.attestation = no_leaf())),
        ("verdict_under_another_policy", "evidence", judged(|it| it.policy = no_leaf())),
        (
            "beacon_without_a_witness",
            "evidence",
            beacon(|keys, registry| uncosigned(&registry.checkpoint(keys, 5, NOW))),
        ),
        ("beacon_of_the_receipts_log", "evidence", beacon(|keys, _| sign(keys, &head(RECEIPTS, 3), NOW))),
        ("beacon_after_the_attestation", "evidence", beacon(|keys, _| sign(keys, &head(REGISTRY, 6), NOW))),
        ("beacon_not_a_checkpoint", "evidence", beacon(|_, _| b"soon".to_vec())),
    ];
    let mut plan = Plan::default();
    plan.rules.tiers = vec!["mda".into()];
    plans.push(("tier_not_accepted_by_the_rules", "evidence", plan));
    let mut plan = Plan::default();
    plan.rules.cool_off = 3600;
    plans.push(("build_cooling_off", "evidence", plan));
    let mut plan = Plan::default();
    plan.release.not_before = UnixSeconds::new(NOW + 1);
    plans.push(("build_not_yet_released", "evidence", plan));
    let mut plan = Plan::default();
    plan.model.alias = "bloom-large".into();
    plans.push(("model_of_another_alias", "build-and-model", plan));
    let mut plan = Plan::default();
    plan.prices.prices.clear();
    plans.push(("no_price", "build-and-model", plan));
    plans
}

/// The good record with one part exchanged.
fn edited(world: &World, good: &ProviderRecord) -> Vec<(&'static str, &'static str, ProviderRecord)> {
    let edit = |edit: &dyn Fn(&mut ProviderRecord)| {
        let mut record = good.clone();
        edit(&mut record);
        record
    };
    let size = world.registry.size();
    // As logged, but for another key; signed by the right provider, and by a coordinator that wants to read.
    let attestation = Attestation { key_config: another_key(), ..world.attestation.clone() };
    let attestation = Attestation { nonce: attestation.expected_nonce(), ..attestation };
    let substituted = attestation.sign(&world.keys.provider).expect("software keys sign");
    let logged = world.statement(index::ATTESTATION);
    let forged = with_payload(&logged, &attestation.to_value(), &world.keys.coordinator);
    vec![
        ("sealing_key_substituted", "inclusion", edit(&|it| it.attestation.leaf = forged.bytes().to_vec())),
        (
            "attestation_not_logged",
            "inclusion",
            edit(&|it| it.attestation.leaf = substituted.bytes().to_vec()),
        ),
        ("leaf_changed", "inclusion", edit(&|it| *it.policy.leaf.last_mut().expect("not empty") ^= 1)),
        (
            "proof_of_another_leaf",
            "inclusion",
            edit(&|it| it.attestation.proof.clone_from(&good.verdict.proof)),
        ),
        ("index_of_another_leaf", "inclusion", edit(&|it| it.attestation.index = LeafIndex::new(4))),
        ("index_outside_the_tree", "inclusion", edit(&|it| it.attestation.index = LeafIndex::new(size))),
        ("proof_too_short", "inclusion", edit(&|it| _ = it.attestation.proof.pop())),
        ("proof_too_long", "inclusion", edit(&|it| it.attestation.proof.push(Hash::EMPTY_TREE))),
        ("leaves_swapped", "signatures", edit(&|it| core::mem::swap(&mut it.policy, &mut it.prices))),
        ("release_in_place_of_the_model", "signatures", edit(&|it| it.model.clone_from(&good.release))),
        (
            "checkpoint_of_a_fork",
            "inclusion",
            edit(&|it| it.checkpoint = sign(&world.keys, &head(REGISTRY, size), NOW)),
        ),
        (
            "checkpoint_older_than_the_leaf",
            "inclusion",
            edit(&|it| it.checkpoint = world.checkpoint(REGISTRY, 6, NOW)),
        ),
        (
            "checkpoint_from_the_future",
            "checkpoint-fresh",
            edit(&|it| it.checkpoint = world.checkpoint(REGISTRY, size, NOW + 361)),
        ),
        (
            "checkpoint_stale",
            "checkpoint-fresh",
            edit(&|it| it.checkpoint = world.checkpoint(REGISTRY, size, NOW - 3600)),
        ),
        (
            "checkpoint_without_a_witness",
            "witness-quorum",
            edit(&|it| it.checkpoint = uncosigned(&it.checkpoint)),
        ),
        (
            "checkpoint_of_the_receipts_log",
            "log-key",
            edit(&|it| it.checkpoint = world.checkpoint(RECEIPTS, 3, NOW)),
        ),
        (
            "checkpoint_of_an_unknown_log",
            "log-key",
            edit(&|it| {
                it.checkpoint = String::from_utf8_lossy(&it.checkpoint)
                    .replacen("glassbloom.test", "glassbloom.test.example", 1)
                    .into_bytes();
            }),
        ),
        ("checkpoint_empty", "log-key", edit(&|it| it.checkpoint.clear())),
        (
            "leaf_empty",
            "inclusion",
            edit(&|it| it.release = LeafProof { leaf: Vec::new(), ..good.release.clone() }),
        ),
    ]
}

fn head(origin: &str, size: u64) -> TreeHead {
    TreeHead { origin: origin.to_owned(), size: TreeSize::new(size), root: Hash::of(b"a root of nothing") }
}

/// The note without its last line, that of the second witness.
pub(super) fn uncosigned(note: &[u8]) -> Vec<u8> {
    let mut note = SignedNote::parse(note).expect("a note of ours");
    note.signatures.pop();
    note.encode()
}

/// A sealing key that is not the provider's.
fn another_key() -> KeyConfig {
    let secret = hpke::derive_key_pair(&[66; 32]);
    KeyConfig::new(1, PublicKey::from_sec1(&secret.public_key()).expect("a point of ours"))
}
