//! Attestations of a network that tests made, and evidence in our own maps.

use std::fs;

use glassbloom_spec::{
    evidence::{app_attest, snp, tdx},
    hash::Hash,
    leaf::{Attestation, Payload, Tier},
    policy::Policy,
    verify::State,
};
use glassbloom_testdata::{
    mac,
    world::{World, index},
};

use crate::support::*;

/// The network's attestation with a Mac's evidence, and a policy that believes who endorsed it.
fn of_a_mac(world: &World) -> (Attestation, Policy) {
    let mut attestation = world.attestation.clone();
    let at = world.policy().open(None, &attestation.beacon.checkpoint).unwrap().cosigned_at();
    attestation.evidence = mac::evidence("a Mac", attestation.nonce, at.get());
    let endorser = mac::endorser().public_key();
    let policy = Policy::parse(&format!("{}endorser {endorser}\n", world.policy_text())).unwrap();
    (attestation, policy)
}

#[test]
fn an_attestation_is_explained_as_of_its_beacon() {
    let world = World::new();
    let (attestation, policy) = of_a_mac(&world);
    let statement = attestation.sign(world.provider_key()).unwrap();
    let mut options = options(0);
    options.policy = Some(policy);
    let explanation = look(statement.bytes(), &[], &options);
    assert!(explanation.holds(), "{explanation}");
    assert_eq!(explanation.proves(), Some(Tier::Mda));
    assert_eq!(explanation.at_from, "the beacon's time");
    for name in ["signature", "nonce", "beacon", "evidence", "sealing key", "lifetime"] {
        assert_eq!(step(&explanation, name), State::Verified, "{explanation}");
    }
    assert_eq!(step(&explanation, "registry"), State::NotVerifiable);
    assert_eq!(field(&explanation, "sip"), "enabled");
    assert!(field(&explanation, "serial").starts_with("redacted"));
    let text = explanation.to_string();
    for part in
        ["proves: a genuine Mac", "does not prove: that the keys live in that Mac", "self      endpoint"]
    {
        assert!(text.contains(part), "{text}");
    }
    // Somebody who does not believe the endorser.
    options.policy = Some(world.policy());
    assert!(failure(&look(statement.bytes(), &[], &options)).contains("endorser-unknown"));
    // Without a policy nothing says which witnesses count, and the tier's words are not said.
    options.policy = None;
    let explanation = look(statement.bytes(), &[], &options);
    assert!(failure(&explanation).contains("--policy"), "{explanation}");
    assert_eq!(step(&explanation, "beacon"), State::NotVerifiable);
}

#[test]
fn a_self_signed_attestation_proves_little_and_says_so() {
    let world = World::new();
    let mut options = options(0);
    options.policy = Some(world.policy());
    let explanation = look(world.statement(index::ATTESTATION).bytes(), &[], &options);
    assert_eq!(explanation.proves(), Some(Tier::SelfSigned), "{explanation}");
    assert!(explanation.does_not_prove.contains("that the keys live in hardware"));
    options.policy = None;
    let explanation = look(world.statement(index::ATTESTATION).bytes(), &[], &options);
    assert_eq!(explanation.proves(), None, "{explanation}");
}

#[test]
fn an_altered_attestation_is_rejected() {
    let world = World::new();
    let (good, policy) = of_a_mac(&world);
    let mut options = options(0);
    options.policy = Some(policy);
    let reason = |alter: &dyn Fn(&mut Attestation)| {
        let mut attestation = good.clone();
        alter(&mut attestation);
        let statement = attestation.sign(world.provider_key()).unwrap();
        failure(&look(statement.bytes(), &[], &options))
    };
    assert!(reason(&|attestation| attestation.nonce = Hash::of(b"chosen")).contains("nonce-mismatch"));
    assert!(reason(&|attestation| attestation.beacon.checkpoint.truncate(100)).contains("nonce-mismatch"));
    assert!(reason(&|attestation| attestation.evidence.bytes.truncate(100)).contains("evidence-malformed"));
    assert!(
        reason(&|attestation| attestation.evidence.format = "oracle".to_owned()).contains("evidence-unknown")
    );
    assert!(reason(&|attestation| attestation.possession = None).contains("possession-not-shown"));
    assert!(reason(&|attestation| attestation.not_after = 1.into()).contains("expired"));
    // Signed by another key than the one in it.
    let statement = good.sign(&mac::endorser()).unwrap();
    assert_eq!(step(&look(statement.bytes(), &[], &options), "signature"), State::Failed);
}

#[test]
fn an_enrolment_is_asked_for() {
    let world = World::new();
    let (first, policy) = of_a_mac(&world);
    let mut options = options(0);
    options.policy = Some(policy);
    let first = first.sign(world.provider_key()).unwrap();
    let mut later = Attestation::of(&first).unwrap();
    later.enrolment = Some(first.leaf_hash());
    later.previous = Some(first.leaf_hash());
    let later = later.sign(world.provider_key()).unwrap();
    let explanation = look(later.bytes(), &[], &options);
    assert!(!explanation.holds() && explanation.report.failure().is_none(), "{explanation}");
    assert!(explanation.to_string().contains("--with"));
    let explanation = look(later.bytes(), &[first.bytes().to_vec()], &options);
    assert!(explanation.holds(), "{explanation}");
    assert_eq!(step(&explanation, "rotation"), State::Verified);
    // Another statement than the one that is named is none.
    let other = world.statement(index::ATTESTATION).bytes().to_vec();
    assert!(!look(later.bytes(), &[other], &options).holds());
}

#[test]
fn other_statements_are_named_and_their_signers_looked_up() {
    let world = World::new();
    let mut options = options(0);
    for at in [index::COORDINATOR, index::POLICY, index::PRICES, index::MODEL, index::RELEASE, index::VERDICT]
    {
        let statement = world.statement(at);
        options.policy = Some(world.policy());
        let explanation = look(statement.bytes(), &[], &options);
        assert!(explanation.holds() && explanation.kind.contains(statement.kind().name()), "{explanation}");
        options.policy = believing("");
        assert!(failure(&look(statement.bytes(), &[], &options)).contains("no line of the policy"));
        options.policy = None;
        assert!(!look(statement.bytes(), &[], &options).holds());
    }
}

#[test]
fn evidence_without_its_attestation() {
    let nonce = Hash::of(b"nonce");
    let bytes = mac::evidence("a Mac", nonce, NOW).bytes;
    let mut options = options(NOW);
    options.policy = believing(&format!("endorser {}", mac::endorser().public_key()));
    let explanation = look(&bytes, &[], &options);
    assert!(explanation.holds() && explanation.proves().is_none(), "{explanation}");
    assert_eq!(step(&explanation, "nonce"), State::NotVerifiable);
    options.nonce = Some(nonce.as_bytes().to_vec());
    assert!(look(&bytes, &[], &options).holds());
    options.nonce = Some(Hash::of(b"other").as_bytes().to_vec());
    assert!(failure(&look(&bytes, &[], &options)).contains("mda-freshness"));
    options.nonce = Some(vec![1]);
    assert!(failure(&look(&bytes, &[], &options)).contains("32 bytes"));
    // What was valid at the time is told apart from what is valid now.
    options.nonce = None;
    options.now = (NOW + 400 * 86_400).into();
    let explanation = look(&bytes, &[], &options);
    assert!(explanation.to_string().contains("valid at that time; expired since"), "{explanation}");
    assert!(explanation.to_json()["expired-since"].is_u64());
}

#[test]
fn app_attest_in_a_map() {
    let Some(capture) = read("appattest/macos27-hellas-real-app-attest.json") else { return };
    let capture: serde_json::Value = serde_json::from_slice(&capture).unwrap();
    let decode = |name: &str| {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.decode(capture[name].as_str().unwrap()).unwrap()
    };
    let bytes =
        app_attest::encode(&decode("attestationObjectBase64"), &decode("assertionObjectBase64")).unwrap();
    let mut options = options(0);
    options.at = glassbloom_auditor::evidence::parse_time("2026-10-03");
    options.policy = believing("app 2F53L9ZR3N.ai.hellas.app-attest-spike");
    let explanation = look(&bytes, &[], &options);
    assert!(!explanation.holds() && explanation.report.failure().is_none(), "{explanation}");
    options.nonce = Some(hex::decode(capture["assertionClientDataHashHex"].as_str().unwrap()).unwrap());
    let explanation = look(&bytes, &[], &options);
    assert!(explanation.holds(), "{explanation}");
    options.policy = believing("app 2F53L9ZR3N.another");
    assert!(failure(&look(&bytes, &[], &options)).contains("app-attest-app"));
}

#[test]
fn reports_in_maps_are_read() {
    let (Some(report), Some(quote)) = (read("sev-snp/report-v5-milan.bin"), read("tdx/tdx_quote")) else {
        return;
    };
    let certificates = [b"a".to_vec(), b"b".to_vec(), b"c".to_vec()];
    let bytes = snp::Evidence { report, chain: certificates }.encode();
    let mut options = options(NOW);
    options.nonce = Some(vec![7; 32]);
    assert!(failure(&look(&bytes, &[], &options)).contains("certificate-malformed"));
    let document = || tdx::Document { json: b"{}".to_vec(), signature: [0; 64] };
    let collateral = tdx::Collateral {
        tcb_info: document(),
        enclave_identity: document(),
        signer: Vec::new(),
        root_crl: Vec::new(),
        pck_crl: Vec::new(),
    };
    let bytes = tdx::Evidence { quote, collateral }.encode();
    assert!(!look(&bytes, &[], &options).holds());
}

#[test]
fn the_command_ends_as_its_finding_is() {
    let world = World::new();
    let (attestation, policy) = of_a_mac(&world);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good", attestation.sign(world.provider_key()).unwrap().bytes());
    let bad = write("bad", attestation.sign(&mac::endorser()).unwrap().bytes());
    let policy = write("policy", policy.to_string().as_bytes());
    let (code, text, _) = run(&[&good, "--policy", &policy]);
    assert_eq!(code, 0, "{text}");
    let (code, text, _) = run(&[&bad, "--policy", &policy]);
    assert!(code == 10 && text.contains("rejected") && text.contains("nobody"), "{text}");
    let (code, text, _) = run(&[&good, "--policy", &policy, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["tier"], &json["holds"]), (0, &"mda".into(), &true.into()));
    assert_eq!(run(&[&write("rubbish", b"wibble\n")]).0, 30);
    assert_eq!(run(&[&policy]).0, 30);
    assert_eq!(run(&[&good, "--policy", &good]).0, 1);
    assert_eq!(run(&[&good, "--at", "yesterday"]).0, 1);
    assert_eq!(run(&[&good, "--nonce", "xyz"]).0, 1);
    assert_eq!(run(&["/nowhere"]).0, 1);
    assert_eq!(run(&[]).0, 1);
}
