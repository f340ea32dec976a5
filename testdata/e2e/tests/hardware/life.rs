//! A provider's life: another signing key, another build, and what they may do when.

use glassbloom_provider::{config::KeysFile, keys};
use glassbloom_service::ExitCode;
use glassbloom_spec::{
    leaf::{Attestation, Payload},
    statement::Statement,
};

use crate::support::{Hardware, Options, TestNet, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn a6_a_rotated_key_keeps_its_identity() {
    within(async {
        let mut net = TestNet::start().await;
        let first = net.offered().await.unwrap().providers.remove(0);
        let first = Statement::parse(&first.attestation.leaf).unwrap();
        let before = Attestation::of(&first).unwrap();
        let data = net.providers[0].data.clone();
        keys::rotate(&data).unwrap();
        net.restart_provider(0).await;
        let record = net.offered_after(&first.leaf_hash()).await;
        let after = Attestation::of(&Statement::parse(&record.attestation.leaf).unwrap()).unwrap();
        assert_ne!(after.signing_key, before.signing_key);
        let message = after.rotation_message().unwrap();
        before.signing_key.verify(&message, &after.countersignature.unwrap()).unwrap();
        net.client(&net.url).await.ask().await.is_answered();
        let report = net.audit(&net.log_url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
        assert!(!report.to_string().contains("GB-ATT-002"), "the identity goes on: {report}");

        // A key that nobody counter-signs is another identity, and everybody sees it.
        let second = Statement::parse(&record.attestation.leaf).unwrap().leaf_hash();
        std::fs::remove_file(data.join(keys::SIGNING_KEY)).unwrap();
        std::fs::remove_file(data.join(keys::PREVIOUS_KEY)).unwrap();
        net.restart_provider(0).await;
        let record = net.offered_after(&second).await;
        let stranger = Attestation::of(&Statement::parse(&record.attestation.leaf).unwrap()).unwrap();
        assert!(stranger.countersignature.is_none());
        let report = net.audit(&net.log_url, "audit").await;
        assert!(report.to_string().contains("GB-ATT-002"), "a discontinuity is told: {report}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_release_serves_only_after_its_cool_off() {
    within(async {
        let options = Options { cool_off: 2, ..Options::default() };
        let net = TestNet::start_and_go_on(options, &Hardware::default()).await;
        let refusal = net.refusal_of_provider(0).await;
        assert!(refusal.contains("build-cooling-off"), "{refusal}");
        // It tries again by itself, and shows since when the release has been public.
        let offered =
            until(async || net.offered().await.filter(|offered| !offered.providers.is_empty())).await;
        let attestation = Statement::parse(&offered.providers[0].attestation.leaf).unwrap();
        assert!(Attestation::of(&attestation).unwrap().release_proof.is_some());
        net.client(&net.url).await.ask().await.is_answered();
        let report = net.audit(&net.log_url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    })
    .await;
}

/// A software key is for trying things out: it serves only where somebody says so, in the rules and in the user's policy.
#[tokio::test(flavor = "multi_thread")]
async fn no_policy_accepts_a_software_key_unasked() {
    within(async {
        let silent = Hardware { keys: KeysFile::default(), policy: String::new() };
        let net = TestNet::start_and_go_on(Options::default(), &silent).await;
        let refusal = net.refusal_of_provider(0).await;
        assert!(refusal.contains("tier-not-accepted"), "{refusal}");
        let net = TestNet::start().await;
        let policy = net.policy_text.replace("accept self-signed\n", "");
        let said = net.client_with_policy(&net.url, &policy).await.ask().await;
        said.is_refused_at_once(502, "provider_not_verified", "accept self-signed");
    })
    .await;
}
