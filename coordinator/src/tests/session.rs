//! Providers that come, go, and may not stay.

use std::time::Duration;

use futures_util::SinkExt;
use glassbloom_spec::{
    api::{FromProvider, ToProvider},
    hash::Hash,
    id::TreeSize,
    leaf::{Payload, Release, Revocation},
};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{
    net::{Net, release, release_key},
    provider::{Claims, Provider, dial},
};

async fn registry_size(net: &Net) -> u64 {
    net.checkpoint("registry").await.size().get()
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_logs_attestation_and_verdict_once() {
    let net = Net::start().await;
    let before = registry_size(&net).await;
    let mut provider = Provider::connect(&net).await;
    assert_eq!(registry_size(&net).await, before + 2);
    assert_eq!(provider.records.len(), 1);
    provider.reconnect(&net).await;
    assert_eq!(registry_size(&net).await, before + 2, "the same attestation is logged once");
    net.verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_provider_leaves_a_verdict_and_hears_what_to_do() {
    let net = Net::start().await;
    let before = registry_size(&net).await;
    let claims = Claims { build: Hash::of(b"rogue"), models: vec![Hash::of(b"other")], ..Claims::default() };
    let (code, message) = Provider::connect_as(&net, &claims).await.map(|_| ()).unwrap_err();
    assert_eq!(code, "not_accepted");
    assert!(message.contains("build-not-released (") && message.contains("model-not-logged ("), "{message}");
    assert_eq!(registry_size(&net).await, before + 2, "the refusal is logged too");
    let (status, _) = net.get("/v1/providers/bundle?model=bloom-test").await;
    assert_eq!(status, 404);
    let forged = Claims { beacon: Some(b"no checkpoint".to_vec()), seed: 2, ..Claims::default() };
    let (code, message) = Provider::connect_as(&net, &forged).await.map(|_| ()).unwrap_err();
    assert!(code == "not_accepted" && message.contains("beacon-not-cosigned"), "{code} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_comes_later_is_found() {
    let net = Net::start().await;
    let build = Hash::of(b"newer");
    let claims = Claims { build, ..Claims::default() };
    assert!(Provider::connect_as(&net, &claims).await.is_err());
    let statement = Release { build, ..release() }.sign(&release_key()).unwrap();
    std::fs::write(net.app.config.releases().join("newer"), statement.bytes()).unwrap();
    let unsigned = Release { build: Hash::of(b"x"), ..release() }.sign(&net.app.signer).unwrap();
    std::fs::write(net.app.config.releases().join("rogue"), unsigned.bytes()).unwrap();
    Provider::connect_as(&net, &claims).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_with_the_same_key_ends_the_older() {
    let net = Net::start().await;
    let mut older = Provider::connect(&net).await;
    let _newer = Provider::connect(&net).await;
    assert_eq!(older.hear().await, None);
    assert_eq!(net.bundle().await.providers.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_the_session_and_does_not_come_back() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let key = provider.attestation.key_id();
    let revocation = Revocation { key, from: TreeSize::new(0), reason: "stolen".to_owned() };
    net.app.registry.append(&revocation.sign(&net.app.signer).unwrap()).await.unwrap();
    let (status, _) = net.get("/v1/providers/bundle?model=bloom-test").await;
    assert_eq!(status, 404, "not offered from the moment the coordinator knows");
    assert_eq!(provider.hear().await, None);
    let (code, message) = Provider::connect_as(&net, &Claims::default()).await.map(|_| ()).unwrap_err();
    assert!(code == "key_revoked" && message.contains("stolen"), "{code} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_the_session() {
    let net = Net::start().await;
    assert_eq!(dial(&net, "gbp-wrong").await.map(|_| ()).unwrap_err(), 401);
    for first in [Message::text("{}"), Message::binary(vec![1, 2, 3])] {
        let mut socket = dial(&net, &net.token).await.unwrap();
        socket.send(first).await.unwrap();
        let Some(Ok(Message::Text(text))) = futures_util::StreamExt::next(&mut socket).await else {
            panic!("expected a refusal")
        };
        let refused = serde_json::from_str(&text).unwrap();
        assert!(matches!(refused, ToProvider::Refused { code, .. } if code == "bad_message"));
    }
    let mut provider = Provider::connect(&net).await;
    provider.tell(&FromProvider::Heartbeat { active: 0 }).await;
    provider.socket.send(Message::text("not json")).await.unwrap();
    assert_eq!(provider.hear().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_loses_nothing_that_matters() {
    let mut net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let before = registry_size(&net).await;
    let stopped = timeout(Duration::from_secs(20), net.restart(true));
    stopped.await.unwrap();
    assert_eq!(
        registry_size(&net).await,
        before + 2,
        "a restart says nothing twice, and a new key and token are new"
    );
    provider.reconnect(&net).await;
    assert_eq!(registry_size(&net).await, before + 2);
    net.verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_to_earlier_rules_puts_them_in_force_again() {
    let net = Net::start().await;
    let before = registry_size(&net).await;
    let latest = || net.app.registry.view().latest().clone();
    let original = latest();
    for tiers in [vec![], vec!["self-signed".to_owned()], vec![], vec!["self-signed".to_owned()]] {
        let mut config = net.app.config.clone();
        config.rules.tiers = tiers.clone();
        // Twice: what is in force is not said again.
        for _ in 0..2 {
            crate::bootstrap::publish(&config, &net.app.signer, &net.app.registry).await.unwrap();
        }
        let view = net.app.registry.view();
        assert_eq!(view.rules().unwrap().says.tiers, tiers);
        assert_eq!(view.rules().unwrap().hash, view.latest().rules.unwrap(), "auditors go by the newest");
    }
    assert_eq!(registry_size(&net).await, before + 4);
    assert_eq!((latest().prices, latest().models), (original.prices, original.models));
    let _provider = Provider::connect(&net).await;
    net.verified().await;
}
