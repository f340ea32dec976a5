//! What is published, when, and what is written for it.

use std::{sync::Arc, time::Duration};

use crate::support::{
    Bench, LIMIT, entry,
    witness::{FakeWitness, Mood},
};
use glassbloom_log::store::{MemoryHeads, MemoryTiles};
use glassbloom_service::MockClock;
use glassbloom_spec::{id::UnixMillis, note::SignedNote};

async fn until(what: &str, reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect(what);
}

#[tokio::test]
async fn published_times_never_go_back_and_publishing_goes_on() {
    let clock = MockClock::new(UnixMillis::new(2_000_000_000_000));
    let mut bench = Bench::memory();
    bench.clock = Arc::new(clock.clone());
    bench.options.refresh = Duration::from_millis(300);
    bench.create().await;
    let log = bench.open().await.unwrap();
    log.append(entry(0), LIMIT).await.unwrap();
    let before = log.published().unwrap().at;
    assert_eq!(before.get(), 2_000_000_000_000);
    // Ten years back; it will not catch up while the log runs.
    clock.set(UnixMillis::new(1_700_000_000_000));
    for n in 1..4 {
        log.append(entry(n), LIMIT).await.unwrap();
        assert!(log.published().unwrap().at >= before);
    }
    let refreshed = log.metrics().publications() + 2;
    until("refreshes although the clock stands still", || log.metrics().publications() >= refreshed).await;
    assert!(log.published().unwrap().at >= before);
    assert!(log.is_fresh(LIMIT));
    bench.check_all(&log).await;
    log.stop().await.unwrap();
}

#[tokio::test]
async fn a_cosignature_beyond_the_quorum_is_added_to_what_is_published() {
    let witnesses = [FakeWitness::start(0).await, FakeWitness::start(1).await, FakeWitness::start(2).await];
    let endpoints = witnesses.iter().map(|witness| witness.endpoint.clone()).collect();
    let bench = Bench::memory().with_witnesses(endpoints, 1);
    bench.create().await;
    let log = bench.open().await.unwrap();
    log.append(entry(0), LIMIT).await.unwrap();
    let head = log.published().unwrap().head.clone();
    let signatures = || SignedNote::parse(&log.published().unwrap().note).unwrap().signatures.len();
    // Two of the log, three of the witnesses; nothing is due for a refresh.
    until("all cosignatures", || signatures() == 5).await;
    assert_eq!(log.published().unwrap().head, head);
    assert!(log.metrics().publications() <= 2, "no further round was needed");
    bench.check_all(&log).await;
    log.stop().await.unwrap();
}

#[tokio::test]
async fn sizes_that_cannot_be_published_get_no_tiles_of_their_own() {
    let witness = FakeWitness::start(0).await;
    witness.mood(Mood::Silent);
    let tiles = Arc::new(MemoryTiles::default());
    let bench = Bench::on(tiles.clone(), Arc::new(MemoryHeads::default()))
        .with_witnesses(vec![witness.endpoint.clone()], 1);
    bench.create().await;
    let log = bench.open().await.unwrap();
    for n in 0..200 {
        assert_eq!(log.add(entry(n)).await.unwrap().get(), n);
    }
    // Each size of its own would be two tiles; a few rounds may have failed meanwhile.
    assert!(tiles.len() < 60, "{} tiles", tiles.len());
    witness.mood(Mood::Honest);
    assert_eq!(bench.check_all(&log).await.get(), 200);
    log.stop().await.unwrap();
}
