//! A provider whose keys are in a software TPM, under a policy that demands one.

use glassbloom_provider::config::{KeyDevice, KeysFile};
use glassbloom_service::ExitCode;
use glassbloom_spec::{
    leaf::{Attestation, Payload, Tier},
    statement::Statement,
    verify::State,
};

use crate::support::{Options, TestNet, endorser::Auditor, within};

#[tokio::test(flavor = "multi_thread")]
async fn from_the_makers_certificate_to_a_receipt() {
    within(async {
        let Some(auditor) = Auditor::with_a_tpm().await else { return };
        let net = TestNet::start_on(Options::default(), &auditor.hardware("tpm-soft")).await;
        let client = net.client(&net.url).await;
        client.ask().await.is_answered();
        client.ask_whole().await.is_answered();

        let record = net.offered().await.unwrap().providers.remove(0);
        let attestation = Attestation::of(&Statement::parse(&record.attestation.leaf).unwrap()).unwrap();
        assert_eq!(attestation.evidence.format, "tpm");
        assert!(attestation.possession.is_none(), "a key in a TPM agrees on secrets and signs nothing");
        let report = net.audit(&net.log_url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_provider_is_the_same_and_asks_nobody_again() {
    within(async {
        let Some(auditor) = Auditor::with_a_tpm().await else { return };
        let mut net = TestNet::start_on(Options::default(), &auditor.hardware("tpm-soft")).await;
        let first = net.offered().await.unwrap().providers.remove(0);
        let first = Statement::parse(&first.attestation.leaf).unwrap();
        // From here on nobody vouches for anything.
        let _tpm = auditor.stop().await;
        net.restart_provider(0).await;
        let record = net.offered_after(&first.leaf_hash()).await;
        let again = Attestation::of(&Statement::parse(&record.attestation.leaf).unwrap()).unwrap();
        assert_eq!(again.enrolment, Some(first.leaf_hash()));
        assert_eq!(again.previous, Some(first.leaf_hash()));
        let before = Attestation::of(&first).unwrap();
        assert_eq!(again.signing_key, before.signing_key);
        assert_ne!(again.key_config, before.key_config, "what was sealed before cannot be opened any more");
        net.client(&net.url).await.ask().await.is_answered();
        let report = net.audit(&net.log_url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    })
    .await;
}

/// The rules believe the root and the endorser; a user who does not is not fooled by the coordinator's verdict.
#[tokio::test(flavor = "multi_thread")]
async fn b2_a_verdict_is_not_enough_for_a_policy_that_believes_others() {
    within(async {
        let Some(auditor) = Auditor::with_a_tpm().await else { return };
        let hardware = auditor.hardware("tpm-soft");
        let net = TestNet::start_on(Options::default(), &hardware).await;
        for (line, words) in [("anchor", "certificate-root"), ("endorser", "endorser-unknown")] {
            let policy: String = net
                .policy_text
                .lines()
                .filter(|text| !text.starts_with(line))
                .map(|line| format!("{line}\n"))
                .collect();
            let client = net.client_with_policy(&net.url, &policy).await;
            let said = client.ask().await;
            said.is_refused_at_once(502, "provider_not_verified", words);
        }
        let policy = net.policy_text.replace("accept tpm-soft", "accept tpm-hw");
        let client = net.client_with_policy(&net.url, &policy).await;
        client.ask().await.is_refused_at_once(502, "provider_not_verified", "tpm-soft");
    })
    .await;
}

/// Whoever calls a software TPM's maker a maker of hardware is not believed: the certificate says what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_software_tpm_never_serves_as_hardware() {
    within(async {
        let Some(auditor) = Auditor::with_a_tpm().await else { return };
        let net = TestNet::start_and_go_on(Options::default(), &auditor.hardware("tpm-hw")).await;
        let refusal = net.refusal_of_provider(0).await;
        assert!(refusal.contains("tpm-is-software"), "{refusal}");
        assert!(net.offered().await.is_none_or(|offered| offered.providers.is_empty()));
    })
    .await;
}

/// The software key works for trying things out, and for nothing that asks for more.
#[tokio::test(flavor = "multi_thread")]
async fn a1_an_unattested_box_beside_an_attested_one_serves_nobody() {
    within(async {
        let Some(auditor) = Auditor::with_a_tpm().await else { return };
        let software = KeysFile { device: KeyDevice::Software, ..KeysFile::default() };
        let hardware = auditor.hardware("tpm-soft");
        let mut net = TestNet::start_on(Options { providers: 1, ..Options::default() }, &hardware).await;
        net.join("a second machine of the same owner", &software).await;
        let refusal = net.refusal_of_provider(1).await;
        assert!(refusal.contains("tier-not-accepted"), "{refusal}");
        assert_eq!(net.offered().await.unwrap().providers.len(), 1);
        assert_eq!(Tier::SelfSigned.name(), "self-signed");
    })
    .await;
}

/// What a user's own report says about the keys.
#[tokio::test(flavor = "multi_thread")]
async fn the_report_names_the_tier_and_what_it_proves() {
    within(async {
        let Some(auditor) = Auditor::with_a_tpm().await else { return };
        let net = TestNet::start_on(Options::default(), &auditor.hardware("tpm-soft")).await;
        let (provider, report) = net.verified_by_policy().await;
        assert_eq!(provider.tier(), Tier::TpmSoft);
        let evidence = report.steps().iter().find(|step| step.name == "evidence").unwrap();
        assert_eq!(evidence.state, State::Verified);
        assert!(evidence.detail.contains("nothing about any machine"), "{}", evidence.detail);
        let claims: Vec<_> =
            provider.proven().claims.iter().map(|claim| (claim.name, claim.by.name())).collect();
        for by in ["tpm", "endorser"] {
            assert!(claims.iter().any(|(_, voucher)| *voucher == by), "{claims:?}");
        }
        assert!(
            claims.iter().all(|(_, by)| *by != "self"),
            "what a provider says of itself is not proven: {claims:?}"
        );
        assert!(provider.proven().device.is_some());
    })
    .await;
}
