//! Epochs: who is challenged, what is logged of it, and what becomes of those that are silent.

use std::{sync::Arc, time::Duration};

use glassbloom_service::{Clock, LogClient, MockClock, SystemClock};
use glassbloom_spec::{
    api::{Challenges, ToProvider, path},
    hash::Hash,
    id::UnixSeconds,
    leaf::{ChallengeBatch, Payload, Transcript},
    statement::Statement,
};
use tokio::time::{interval, timeout};

use super::{
    net::Net,
    provider::{Claims, Manner, Provider},
};
use crate::liveness::step;

const EPOCH: u64 = 300;

/// A network whose coordinator goes by a clock that the test moves; the clock stands just after an epoch began.
async fn start() -> (Net, MockClock) {
    let clock = MockClock::new(SystemClock.now());
    let net = Net::start_at(Arc::new(clock.clone()), |_| ()).await;
    next_epoch(&net, &clock).await;
    (net, clock)
}

/// Moves on to the next epoch, and has everything done that is due then.
async fn next_epoch(net: &Net, clock: &MockClock) -> UnixSeconds {
    let now = clock.now().get();
    clock.advance_millis(EPOCH * 1000 - now % (EPOCH * 1000));
    step(&net.app).await.unwrap();
    clock.now().seconds()
}

/// A provider that leaves challenges to the test.
async fn silent(net: &Net, seed: u8) -> Provider {
    let claims = Claims { seed, ..Claims::default() };
    let mut provider = Provider::connect_as(net, &claims).await.unwrap();
    provider.manner = Manner::Silent;
    provider
}

/// Hears up to the next challenge, and answers it.
async fn answer(net: &Net, provider: &mut Provider) {
    let (epoch, beacon) = loop {
        match provider.hear().await.unwrap() {
            ToProvider::Challenge { epoch, beacon } => break (epoch, beacon),
            ToProvider::Notice { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    provider.answer(epoch, &beacon).await;
    let leaf = provider.attestation.leaf_hash();
    // It is heard when it is written down, or the epoch is complete and signed.
    until(async || {
        let open = net.app.store.open_epochs().await.unwrap();
        open.iter().find(|open| open.epoch == epoch).is_none_or(|open| open.answers[&leaf].is_some())
    })
    .await;
}

async fn until(mut done: impl AsyncFnMut() -> bool) {
    let poll = async {
        let mut poll = interval(Duration::from_millis(5));
        while !done().await {
            poll.tick().await;
        }
    };
    timeout(Duration::from_secs(20), poll).await.expect("in time");
}

async fn notice(provider: &mut Provider) -> (String, String) {
    loop {
        match provider.hear().await.unwrap() {
            ToProvider::Notice { code, message } => return (code, message),
            ToProvider::Challenge { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Every batch in the registry, in order.
async fn batches(net: &Net) -> Vec<ChallengeBatch> {
    let client = LogClient::new(&format!("{}/registry", net.app.config.log.url));
    let size = net.checkpoint("registry").await.size();
    let entries = client.entries(0..size.get(), size).await.unwrap();
    let statements = entries.iter().map(|entry| Statement::parse(entry).unwrap());
    statements
        .filter_map(|statement| {
            let batch = ChallengeBatch::of(&statement).ok()?;
            statement.verify(&net.app.signer.public_key()).unwrap();
            Some(batch)
        })
        .collect()
}

fn missing(batch: &ChallengeBatch) -> Vec<(Hash, &str)> {
    batch.missing.iter().map(|(leaf, reason)| (*leaf, reason.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn b4_silence_is_logged() {
    let (net, clock) = start().await;
    let (mut good, mut bad) = (silent(&net, 1).await, silent(&net, 2).await);
    let (there, away) = (good.attestation.leaf_hash(), bad.attestation.leaf_hash());
    assert_eq!(batches(&net).await, [], "nobody served when an epoch began");
    let epoch = next_epoch(&net, &clock).await;
    for missed in 1..=3_usize {
        answer(&net, &mut good).await;
        next_epoch(&net, &clock).await;
        let logged = batches(&net).await;
        assert_eq!(logged.len(), missed, "one an epoch");
        assert_eq!(missing(&logged[missed - 1]), [(away, "silent")]);
        let (code, message) = notice(&mut bad).await;
        assert_eq!(code, if missed < 3 { "challenge-missed" } else { "suspended" });
        assert!(message.contains("no answer came"), "{message}");
        let offered = net.bundle().await.providers.len();
        assert_eq!(offered, if missed < 3 { 2 } else { 1 });
    }
    let refused = net.post_sealed(away, vec![0]).await;
    assert_eq!(Net::code(refused, 409).await, "attestation_not_live");

    // Anyone recomputes it: from the batch and the transcripts alone.
    let (status, value) = net.get(&path::challenges(epoch)).await;
    assert_eq!(status, 200, "{value}");
    let shown: Challenges = serde_json::from_value(value).unwrap();
    let batch = ChallengeBatch::of(&Statement::parse(&shown.batch).unwrap()).unwrap();
    assert_eq!(batch, batches(&net).await[0]);
    assert_eq!((batch.epoch, batch.seconds), (epoch, EPOCH));
    let mut both = [there, away];
    both.sort_unstable();
    assert_eq!(batch.expected, both);
    let answers: Vec<Transcript> = shown.answers.iter().map(|answer| answer.transcript().unwrap()).collect();
    assert!(batch.is_over(&answers));
    net.policy().open(Some("test.local/registry"), &batch.beacon.checkpoint).unwrap();
    let key = glassbloom_spec::leaf::Attestation::of(&good.attestation).unwrap().signing_key;
    assert!(answers[0].attestation == there && answers[0].verify(&key, batch.beacon.digest(), epoch));
    assert_eq!(net.get(&path::challenges(clock.now().seconds())).await.0, 404, "the epoch is not over");

    // Whoever answers is back: the challenges of the epochs before are worth nothing any more.
    loop {
        let Some(ToProvider::Challenge { epoch, beacon }) = bad.hear().await else { panic!("a challenge") };
        bad.answer(epoch, &beacon).await;
        if epoch == clock.now().seconds() {
            break;
        }
    }
    assert_eq!(notice(&mut bad).await.0, "resumed");
    assert_eq!(net.bundle().await.providers.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_network_is_said_once_and_is_no_silence() {
    let (net, clock) = start().await;
    let provider = silent(&net, 1).await;
    let leaf = provider.attestation.leaf_hash();
    let first = next_epoch(&net, &clock).await;
    drop(provider);
    until(async || net.app.sessions.all().is_empty()).await;
    for _ in 0..3 {
        next_epoch(&net, &clock).await;
    }
    let logged = batches(&net).await;
    assert_eq!(logged.len(), 2);
    assert_eq!((logged[0].epoch, missing(&logged[0])), (first, vec![(leaf, "disconnected")]));
    assert_eq!((logged[1].epoch.get(), logged[1].expected.len()), (first.get() + EPOCH, 0));
    // Whoever comes is expected from the next epoch on, and everybody's answer ends an epoch at once.
    let mut provider = silent(&net, 1).await;
    next_epoch(&net, &clock).await;
    answer(&net, &mut provider).await;
    step(&net.app).await.unwrap();
    let logged = batches(&net).await;
    assert_eq!((logged.len(), logged[2].expected.len(), logged[2].missing.len()), (3, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_logged_once_whatever_becomes_of_the_coordinator() {
    let (mut net, clock) = start().await;
    let (mut back, gone) = (silent(&net, 1).await, silent(&net, 2).await);
    let away = gone.attestation.leaf_hash();
    let epoch = next_epoch(&net, &clock).await;
    timeout(Duration::from_secs(20), net.restart(false)).await.unwrap();
    step(&net.app).await.unwrap();
    assert_eq!(batches(&net).await, [], "the epoch goes on");
    // The challenge before the welcome is the epoch's own.
    back.manner = Manner::Honest;
    back.reconnect(&net).await;
    back.manner = Manner::Silent;
    next_epoch(&net, &clock).await;
    let logged = batches(&net).await;
    assert_eq!((logged.len(), logged[0].epoch), (1, epoch));
    assert_eq!(missing(&logged[0]), [(away, "coordinator-restarted")]);
    timeout(Duration::from_secs(20), net.restart(true)).await.unwrap();
    step(&net.app).await.unwrap();
    assert_eq!(batches(&net).await, logged, "what the registry says is not said again without the database");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_live_without_an_answer() {
    let net = Net::start().await;
    let claims = Claims { manner: Manner::Forging, ..Claims::default() };
    let (code, message) = Provider::connect_as(&net, &claims).await.map(|_| ()).unwrap_err();
    assert!(code == "challenge_failed" && message.contains("does not verify"), "{code} {message}");
    assert_eq!(net.get("/v1/providers/bundle?model=bloom-test").await.0, 404);
    Provider::connect(&net).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_answer_is_told_apart_from_silence() {
    let (net, clock) = start().await;
    let mut provider = silent(&net, 1).await;
    next_epoch(&net, &clock).await;
    let Some(ToProvider::Challenge { epoch, beacon }) = provider.hear().await else { panic!("a challenge") };
    provider.manner = Manner::Forging;
    provider.answer(epoch, &beacon).await;
    provider.manner = Manner::Silent;
    until(async || net.app.liveness.has_heard_forgery()).await;
    next_epoch(&net, &clock).await;
    let logged = batches(&net).await;
    assert_eq!(missing(&logged[0]), [(provider.attestation.leaf_hash(), "bad-signature")]);
    assert!(notice(&mut provider).await.1.contains("does not verify"));
}
