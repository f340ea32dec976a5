//! A coordinator that lies about who the provider is.

use std::sync::Arc;

use glassbloom_hardware::software::Software;
use glassbloom_provider::attest::{Claims, Identity};
use glassbloom_service::{Clock, ExitCode, SystemClock, http_client};
use glassbloom_spec::{
    api::{Providers, header, path},
    curve::{Signer, SigningKey},
    leaf::{Attestation, Payload, Verdict},
    record::ProviderRecord,
    statement::{Statement, key_id},
};

use crate::support::{NAME, Options, TestNet, evil::Evil, leaf, record_now, within};

/// An attestation that the coordinator makes for a key of its own, with the honest provider's build and models.
async fn impostor(net: &TestNet, honest: &ProviderRecord) -> Statement {
    let statement = Statement::parse(&honest.attestation.leaf).unwrap();
    let honest = Attestation::of(&statement).unwrap();
    let device = Software::new(SigningKey::from_seed(b"the coordinator's own provider key")).unwrap();
    let identity = Identity::new(Arc::new(device)).unwrap();
    let claims = Claims {
        build: honest.build,
        endpoint: honest.endpoint,
        models: honest.models,
        previous: None,
        release_proof: None,
    };
    identity.attest(&claims, &net.checkpoint("registry").await, SystemClock.now()).unwrap().statement
}

async fn honest_record(net: &TestNet) -> ProviderRecord {
    net.offered().await.unwrap().providers.remove(0)
}

fn offer(evil: &Evil, record: ProviderRecord) {
    evil.on_providers(move |offered: &mut Providers| offered.providers = vec![record.clone()]);
}

/// Offers the record to a user who knows nothing yet.
async fn refused(net: &TestNet, evil: &Evil, record: ProviderRecord, words: &str) {
    offer(evil, record);
    let client = net.client(&evil.url).await;
    for said in [client.ask().await, client.ask_whole().await] {
        said.is_refused_at_once(502, "provider_not_verified", words);
    }
    assert!(evil.asked().iter().all(|asked| asked.path != path::SEALED), "nothing was sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_key_substitution_is_refused() {
    within(async {
        let net = TestNet::start().await;
        let evil = Evil::before(&net.url).await;
        let honest = honest_record(&net).await;

        // Some other key in the attestation of an honest provider.
        let attested = Attestation::of(&Statement::parse(&honest.attestation.leaf).unwrap()).unwrap();
        let sealed_to = attested.key_config.encode();
        let at = honest.attestation.leaf.windows(sealed_to.len()).position(|part| part == sealed_to).unwrap();
        let mut altered = honest.clone();
        altered.attestation.leaf[at + sealed_to.len() / 2] ^= 1;
        refused(&net, &evil, altered, "inclusion: attestation leaf").await;

        // An attestation of its own, which nobody logged.
        let own = impostor(&net, &honest).await;
        let mut unlogged = honest.clone();
        unlogged.attestation.leaf = own.bytes().to_vec();
        refused(&net, &evil, unlogged, "inclusion: attestation leaf").await;

        // The same, logged for everybody to see, and with the verdict about somebody else.
        let index = net.append("registry", own.bytes()).await.index;
        let mut unjudged = honest.clone();
        unjudged.attestation.index = index;
        let registry = format!("{NAME}/registry");
        let unjudged = record_now(&net.registry(), &registry, &net.policy(), &unjudged).await;
        assert_eq!(unjudged.attestation.leaf, own.bytes());
        refused(&net, &evil, unjudged.clone(), "evidence: the logged verdict").await;

        // With a verdict about it by a key that no policy names.
        let nobody = SigningKey::from_seed(b"nobody");
        let verdict = Verdict {
            policy: Statement::parse(&honest.policy.leaf).unwrap().leaf_hash(),
            attestation: own.leaf_hash(),
            tier: Some("self-signed".to_owned()),
            reasons: Vec::new(),
        };
        let verdict = verdict.sign(&nobody).unwrap();
        let mut misjudged = unjudged;
        misjudged.verdict.index = net.append("registry", verdict.bytes()).await.index;
        let misjudged = record_now(&net.registry(), &registry, &net.policy(), &misjudged).await;
        refused(&net, &evil, misjudged, "signatures: ").await;

        // And the auditor sees what was tried: a verdict that nobody may give.
        let report = net.audit(&net.log_url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Rejected, "{report}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_to_another_provider_is_refused() {
    within(async {
        let net = TestNet::start_with(Options { providers: 2, ..Options::default() }).await;
        let evil = Evil::before(&net.url).await;
        let offered = net.offered().await.unwrap();
        let hashes: Vec<String> = offered
            .providers
            .iter()
            .map(|record| Statement::parse(&record.attestation.leaf).unwrap().leaf_hash().to_string())
            .collect();
        evil.on_request(move |asked| {
            if asked.path == path::SEALED {
                let meant = asked.headers[header::ATTESTATION].to_str().unwrap().to_owned();
                let other = hashes.iter().find(|hash| **hash != meant).unwrap();
                asked.headers.insert(header::ATTESTATION, other.parse().unwrap());
            }
        });
        let client = net.client(&evil.url).await;
        for said in [client.ask().await, client.ask_whole().await] {
            said.is_refused_at_once(502, "coordinator_error", "sealed");
        }
        for provider in &net.providers {
            assert_eq!(*provider.engine.started.borrow(), 0, "nothing that was relayed astray is computed");
        }
        evil.behave();
        client.ask().await.is_answered();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_again_is_not_answered_again() {
    within(async {
        let net = TestNet::start().await;
        let evil = Evil::before(&net.url).await;
        net.client(&evil.url).await.ask().await.is_answered();
        let asked = evil.asked().pop().unwrap();
        assert_eq!(asked.path, path::SEALED);
        let receipts = net.checkpoint("receipts").await.size();
        for _ in 0..2 {
            let again =
                http_client().post(format!("{}{}", net.url, path::SEALED)).headers(asked.headers.clone());
            let response = again.body(asked.body.clone()).send().await.unwrap();
            assert_eq!(response.status(), 502);
            assert!(response.text().await.unwrap().contains("error"));
        }
        assert_eq!(*net.providers[0].engine.started.borrow(), 1, "a second receipt would share its blinding");
        assert_eq!(net.checkpoint("receipts").await.size(), receipts);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_provider_is_refused() {
    within(async {
        let net = TestNet::start().await;
        let evil = Evil::before(&net.url).await;
        let honest = honest_record(&net).await;
        let known = net.client(&evil.url).await;
        known.ask().await.is_answered();

        let statement = Statement::parse(&honest.attestation.leaf).unwrap();
        let key = key_id(&Attestation::of(&statement).unwrap().signing_key).to_string();
        let revoke =
            net.coordinator_command(&["revoke", "--key", &key, "--reason", "stolen in a test"]).await;
        assert_eq!(revoke, ExitCode::Ok);

        // The honest part of the coordinator stops offering it, so the adversary makes the offer from the log.
        let registry = format!("{NAME}/registry");
        let record = record_now(&net.registry(), &registry, &net.policy(), &honest).await;
        evil.on_answer({
            let offered = Providers { expires: (u32::MAX as u64).into(), providers: vec![record.clone()] };
            move |asked, answer| {
                if asked.path.starts_with(path::PROVIDERS) {
                    answer.status = axum::http::StatusCode::OK;
                    answer.body = serde_json::to_vec(&offered).unwrap().into();
                }
            }
        });
        let words = "not revoked: the registry revokes this key: stolen in a test";
        known.let_cache_expire();
        known.ask().await.is_refused_at_once(502, "provider_not_verified", words);
        let stranger = net.client(&evil.url).await;
        stranger.ask().await.is_refused_at_once(502, "provider_not_verified", words);

        // A checkpoint from before the revocation does not help with those who have seen a later one.
        offer(&evil, honest);
        known.ask().await.is_refused_at_once(502, "provider_not_verified", "checkpoint fresh");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_in_each_others_places_are_refused() {
    within(async {
        let net = TestNet::start().await;
        let evil = Evil::before(&net.url).await;
        let honest = honest_record(&net).await;
        let size = net.checkpoint("registry").await.size();

        // Real leaves with real proofs, and yet not what they are offered as.
        let mut swapped = honest.clone();
        swapped.prices = leaf(&net.registry(), honest.policy.index, size).await;
        swapped.checkpoint = net.checkpoint("registry").await.note_bytes().to_vec();
        refused(&net, &evil, swapped, "signatures: ").await;

        // A release by a key that no policy names.
        let nobody = SigningKey::from_seed(b"nobody");
        let released = glassbloom_spec::leaf::Release::of(&Statement::parse(&honest.release.leaf).unwrap());
        assert_ne!(Signer::public_key(&nobody), Signer::public_key(&net.release_key));
        let forged = released.unwrap().sign(&nobody).unwrap();
        let mut rogue = honest;
        rogue.release.index = net.append("registry", forged.bytes()).await.index;
        let registry = format!("{NAME}/registry");
        let rogue = record_now(&net.registry(), &registry, &net.policy(), &rogue).await;
        refused(&net, &evil, rogue, "signatures: ").await;
    })
    .await;
}
