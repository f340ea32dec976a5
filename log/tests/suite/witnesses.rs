//! What is published depends on the witnesses; what is acknowledged does not.

use std::{sync::Arc, time::Duration};

use crate::support::{
    Bench, LIMIT, ORIGIN, entry, published,
    witness::{FakeWitness, Mood},
};
use glassbloom_log::Error;
use glassbloom_service::MockClock;
use glassbloom_spec::{id::UnixMillis, note::SignedNote};

const SHORT: Duration = Duration::from_millis(700);

async fn three() -> [FakeWitness; 3] {
    [FakeWitness::start(0).await, FakeWitness::start(1).await, FakeWitness::start(2).await]
}

fn bench(witnesses: &[FakeWitness], quorum: usize) -> Bench {
    Bench::memory().with_witnesses(witnesses.iter().map(|witness| witness.endpoint.clone()).collect(), quorum)
}

/// Polls until the condition holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{what} in time"));
}

#[tokio::test]
async fn proofs_verify_under_the_policy() {
    let witnesses = three().await;
    let bench = bench(&witnesses, 2);
    bench.create().await;
    let log = bench.open().await.unwrap();
    for n in 0..300 {
        let proof = log.append(entry(n), LIMIT).await.unwrap();
        let logged = proof.open_from(&bench.policy, ORIGIN, &entry(n)).unwrap();
        assert_eq!(logged.index().get(), n);
    }
    // An entry of long ago gets the same index and a proof under the newest checkpoint.
    let proof = log.append(entry(7), LIMIT).await.unwrap();
    let logged = proof.open(&bench.policy, &entry(7)).unwrap();
    assert_eq!((logged.index().get(), logged.checkpoint().size.get()), (7, 300));
    assert_eq!(log.metrics().duplicates(), 1);
    bench.check_all(&log).await;
    let note = SignedNote::parse(&log.published().unwrap().note).unwrap();
    assert!(note.signatures.len() >= 4, "two of the log, two of witnesses");
    // Restarted, the witnesses know more than the client remembers of them.
    log.stop().await.unwrap();
    let log = bench.open().await.unwrap();
    let proof = log.append(entry(300), LIMIT).await.unwrap();
    proof.open(&bench.policy, &entry(300)).unwrap();
    bench.check_all(&log).await;
}

#[tokio::test]
async fn without_quorum_nothing_is_published_but_entries_are_kept() {
    let witnesses = three().await;
    witnesses[1].mood(Mood::Broken);
    witnesses[2].mood(Mood::Forging);
    let bench = bench(&witnesses, 2);
    bench.create().await;
    let log = bench.open().await.unwrap();
    assert_eq!(log.add(entry(0)).await.unwrap().get(), 0);
    let late = log.append(entry(1), SHORT).await.unwrap_err();
    assert!(matches!(late, Error::Late { index, .. } if index.get() == 1), "{late}");
    assert_eq!(bench.tiles.published().await.unwrap(), None);
    assert!(!log.is_fresh(LIMIT));
    witnesses[1].mood(Mood::Honest);
    let proof = log.append(entry(1), LIMIT).await.unwrap();
    proof.open(&bench.policy, &entry(1)).unwrap();
    assert_eq!(bench.check_all(&log).await.get(), 2);
    assert!(log.is_fresh(LIMIT));
}

#[tokio::test]
async fn a_silent_witness_outside_the_quorum_delays_nothing() {
    let witnesses = three().await;
    witnesses[0].mood(Mood::Silent);
    let mut bench = bench(&witnesses, 2);
    bench.options.witness_timeout = Duration::from_secs(3600);
    bench.create().await;
    let log = bench.open().await.unwrap();
    let all = async {
        for n in 0..20 {
            log.append(entry(n), LIMIT).await.unwrap();
        }
    };
    // Far less than one of its time-outs for all twenty.
    tokio::time::timeout(LIMIT, all).await.unwrap();
    assert_eq!(witnesses[0].requests(), 1, "it is not asked again while it owes an answer");
    bench.check_all(&log).await;
}

#[tokio::test]
async fn a_witness_with_a_larger_tree_stops_publication() {
    let witnesses = three().await;
    let bench = bench(&witnesses, 3);
    bench.create().await;
    let log = bench.open().await.unwrap();
    log.append(entry(0), LIMIT).await.unwrap();
    let before = log.published().unwrap();
    witnesses[2].mood(Mood::Ahead(1000));
    let late = log.append(entry(1), SHORT).await.unwrap_err();
    assert!(matches!(late, Error::Late { .. }), "{late}");
    assert!(log.metrics().alarms() > 0);
    assert_eq!(log.published().unwrap(), before);
}

#[tokio::test]
async fn the_alarm_of_a_witness_outside_the_quorum_counts_and_ends() {
    let witnesses = three().await;
    let bench = bench(&witnesses, 2);
    bench.create().await;
    let log = bench.open().await.unwrap();
    log.append(entry(0), LIMIT).await.unwrap();
    witnesses[2].mood(Mood::Ahead(1000));
    // The others may be faster once or twice; from the alarm on nothing more comes out.
    let mut n = 1;
    while log.append(entry(n), SHORT).await.is_ok() {
        n += 1;
        assert!(n < 100, "published in spite of the alarm");
    }
    let before = log.published().unwrap();
    log.append(entry(n + 1), SHORT).await.unwrap_err();
    assert_eq!(log.published().unwrap(), before);
    witnesses[2].mood(Mood::Honest);
    log.append(entry(n + 2), LIMIT).await.unwrap();
    assert_eq!(bench.check_all(&log).await.get(), n + 3);
}

#[tokio::test]
async fn a_restored_log_is_noticed_by_the_witnesses() {
    let witnesses = three().await;
    let first = bench(&witnesses, 2);
    first.create().await;
    let log = first.open().await.unwrap();
    log.append(entry(0), LIMIT).await.unwrap();
    log.append(entry(1), LIMIT).await.unwrap();
    log.stop().await.unwrap();
    // The same keys on an older state: without witnesses this would be a fork.
    let second = bench(&witnesses, 2);
    second.create().await;
    let log = second.open().await.unwrap();
    let late = log.append(entry(9), SHORT).await.unwrap_err();
    assert!(matches!(late, Error::Late { .. }), "{late}");
    assert!(log.metrics().alarms() > 0);
    // Grown past the old size it still does not get through: the trees differ.
    for n in 10..14 {
        log.add(entry(n)).await.unwrap();
    }
    let late = log.append(entry(14), SHORT).await.unwrap_err();
    assert!(matches!(late, Error::Late { .. }), "{late}");
    assert!(log.published().is_none());
}

#[tokio::test]
async fn a_witness_that_lost_its_state_is_caught_up() {
    let witnesses = three().await;
    let bench = bench(&witnesses, 3);
    bench.create().await;
    let log = bench.open().await.unwrap();
    for n in 0..5 {
        log.append(entry(n), LIMIT).await.unwrap();
    }
    witnesses[1].forget();
    log.append(entry(5), LIMIT).await.unwrap();
    assert_eq!(witnesses[1].seen(ORIGIN).unwrap().size.get(), 6);
    assert_eq!(log.metrics().alarms(), 0);
}

#[tokio::test]
async fn an_idle_log_is_refreshed_also_when_the_clock_goes_back() {
    let witnesses = three().await;
    // The witnesses of these tests live a little after this time, each request a second later.
    let clock = MockClock::new(UnixMillis::new(1_900_000_000_000));
    let mut bench = bench(&witnesses, 3);
    bench.clock = Arc::new(clock.clone());
    bench.options.refresh = Duration::from_secs(60);
    bench.create().await;
    let log = bench.open().await.unwrap();
    log.append(entry(0), LIMIT).await.unwrap();
    let first = log.published().unwrap();
    let requests = witnesses[0].requests();
    clock.advance_millis(30_000);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(witnesses[0].requests(), requests, "nothing is due");
    clock.advance_millis(40_000);
    until("a refresh", || log.published().unwrap().cosigned_at > first.cosigned_at).await;
    let second = log.published().unwrap();
    assert_eq!(second.head, first.head);
    clock.set(UnixMillis::new(1_800_000_000_000));
    until("a refresh after the clock went back", || {
        log.published().unwrap().cosigned_at > second.cosigned_at
    })
    .await;
    bench.check_all(&log).await;
}

#[tokio::test]
async fn an_empty_log_publishes_too() {
    let witnesses = three().await;
    let bench = bench(&witnesses, 2);
    bench.create().await;
    let log = bench.open().await.unwrap();
    published(&log, 0.into()).await;
    assert_eq!(bench.check_all(&log).await.get(), 0);
}

#[tokio::test]
async fn an_idle_log_commits_at_once_and_a_busy_one_in_batches() {
    let bench = Bench::memory();
    bench.create().await;
    let log = bench.open().await.unwrap();
    for n in 0..10 {
        log.add(entry(n)).await.unwrap();
    }
    assert_eq!(log.metrics().commits(), 10);
    futures_util::future::join_all((10..2000).map(|n| log.add(entry(n)))).await;
    assert!(log.metrics().commits() < 30, "{} commits", log.metrics().commits());
    assert_eq!(bench.check_all(&log).await.get(), 2000);
}

#[tokio::test]
async fn the_same_entry_many_times_at_once_has_one_index() {
    let bench = Bench::memory();
    bench.create().await;
    let log = bench.open().await.unwrap();
    let same = futures_util::future::join_all((0..50).map(|n| log.add(entry(n % 2)))).await;
    let indices: std::collections::BTreeSet<u64> =
        same.into_iter().map(|index| index.unwrap().get()).collect();
    assert_eq!(indices.into_iter().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(bench.check_all(&log).await.get(), 2);
}

#[tokio::test]
async fn more_than_memory_allows_is_refused() {
    let mut bench = Bench::memory();
    bench.options.max_waiting = 1000;
    bench.create().await;
    let log = bench.open().await.unwrap();
    let results = futures_util::future::join_all((0..10).map(|n| log.add(entry(n)))).await;
    assert!(results.iter().any(|result| matches!(result, Err(Error::Overloaded))));
    assert!(results.iter().any(Result::is_ok));
    bench.check_all(&log).await;
    log.add(entry(9)).await.unwrap();
}
