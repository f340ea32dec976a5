//! The leaf index is a hint: what is wrong in it can cause a second copy of an entry, never a wrong answer.

use std::sync::Arc;

use crate::support::{Bench, ORIGIN, entry};
use glassbloom_log::store::{LeafStore, MemoryHeads, MemoryLeaves, MemoryTiles, StoredHead};
use glassbloom_spec::{hash::Hash, id::LeafIndex};

fn leaf(n: u64) -> Hash {
    Hash::leaf(&entry(n))
}

async fn with_entries(count: u64) -> Bench {
    let bench = Bench::memory();
    bench.create().await;
    let log = bench.open().await.unwrap();
    futures_util::future::join_all((0..count).map(|n| log.add(entry(n)))).await;
    bench.check_all(&log).await;
    log.stop().await.unwrap();
    bench
}

#[tokio::test]
async fn an_entry_keeps_its_index_over_restarts_and_without_the_index() {
    let mut bench = with_entries(700).await;
    assert_eq!(
        bench.leaves.indexed(ORIGIN).await.unwrap().get(),
        700,
        "all was inserted when the log stopped"
    );
    for lost in [false, true] {
        if lost {
            bench.leaves = Arc::new(MemoryLeaves::default());
        }
        let log = bench.open().await.unwrap();
        assert_eq!(bench.leaves.indexed(ORIGIN).await.unwrap().get(), 700);
        for n in [699, 0, 255, 256, 511, 512, 300] {
            assert_eq!(log.add(entry(n)).await.unwrap().get(), n, "lost: {lost}");
        }
        assert_eq!(log.size().get(), 700);
        log.stop().await.unwrap();
    }
}

#[tokio::test]
async fn only_what_the_index_lacks_is_read_again() {
    let mut bench = with_entries(700).await;
    let partial = MemoryLeaves::default();
    partial.insert(ORIGIN, LeafIndex::new(0), &(0..300).map(leaf).collect::<Vec<_>>()).await.unwrap();
    bench.leaves = Arc::new(partial);
    let log = bench.open().await.unwrap();
    for n in [0, 299, 300, 699] {
        assert_eq!(log.add(entry(n)).await.unwrap().get(), n);
    }
    log.stop().await.unwrap();
}

#[tokio::test]
async fn candidates_that_are_not_the_entry_are_ignored() {
    let bench = with_entries(300).await;
    // As if entry 1000 agreed in its first 64 bits with two others, and the index named places that do not exist.
    for candidate in [5, 299, 300, 1 << 40] {
        bench.leaves.insert(ORIGIN, LeafIndex::new(candidate), &[leaf(1000)]).await.unwrap();
    }
    // And as if it said that entry 7 was logged earlier than it was.
    bench.leaves.insert(ORIGIN, LeafIndex::new(2), &[leaf(7)]).await.unwrap();
    bench.leaves.insert(ORIGIN, LeafIndex::new(300), &[]).await.unwrap();
    let log = bench.open().await.unwrap();
    assert_eq!(log.add(entry(7)).await.unwrap().get(), 7);
    assert_eq!(log.add(entry(1000)).await.unwrap().get(), 300);
    bench.check_all(&log).await;
    assert_eq!(log.add(entry(1000)).await.unwrap().get(), 300);
    assert_eq!(log.add(entry(5)).await.unwrap().get(), 5);
    assert_eq!(log.size().get(), 301);
    log.stop().await.unwrap();
}

#[tokio::test]
async fn an_index_that_lacks_an_entry_causes_a_copy_at_worst() {
    let mut bench = with_entries(300).await;
    bench.leaves = Arc::new(MemoryLeaves::default());
    // It claims to be complete and is empty.
    bench.leaves.insert(ORIGIN, LeafIndex::new(300), &[]).await.unwrap();
    let log = bench.open().await.unwrap();
    assert_eq!(log.add(entry(7)).await.unwrap().get(), 300);
    bench.check_all(&log).await;
    log.stop().await.unwrap();
    // Rebuilt, it knows both, and the first counts.
    bench.leaves = Arc::new(MemoryLeaves::default());
    let log = bench.open().await.unwrap();
    assert_eq!(log.add(entry(7)).await.unwrap().get(), 7);
    log.stop().await.unwrap();
}

#[tokio::test]
async fn an_index_of_a_longer_tree_is_moved_back() {
    let bench = with_entries(300).await;
    bench
        .leaves
        .insert(ORIGIN, LeafIndex::new(300), &(300..400).map(leaf).collect::<Vec<_>>())
        .await
        .unwrap();
    let log = bench.open().await.unwrap();
    assert_eq!(bench.leaves.indexed(ORIGIN).await.unwrap().get(), 300);
    assert_eq!(log.add(entry(350)).await.unwrap().get(), 300);
    assert_eq!(log.add(entry(300)).await.unwrap().get(), 301);
    bench.check_all(&log).await;
    log.stop().await.unwrap();
}

#[tokio::test]
async fn a_tile_that_went_bad_proves_nothing() {
    let tiles = Arc::new(MemoryTiles::default());
    let bench = Bench::on(tiles.clone(), Arc::new(MemoryHeads::default()));
    bench.create().await;
    let log = bench.open().await.unwrap();
    futures_util::future::join_all((0..600).map(|n| log.add(entry(n)))).await;
    bench.check_all(&log).await;
    log.stop().await.unwrap();
    // As after many more commits: nothing is staged any more, so that nothing is written again.
    let head = bench.heads.load(ORIGIN).await.unwrap().unwrap();
    bench.heads.swap(ORIGIN, &head, &StoredHead { applied: 600.into(), ..head.clone() }).await.unwrap();
    bench.tiles.unstage(&bench.tiles.staged().await.unwrap()).await.unwrap();
    // The leaf of entry 7 is in its place, another hash of the same tile is not.
    assert!(tiles.corrupt(&"tile/0/000".parse().unwrap(), 200 * 32));
    let log = bench.open().await.unwrap();
    assert_eq!(log.add(entry(7)).await.unwrap().get(), 600);
    assert_eq!(log.add(entry(300)).await.unwrap().get(), 300);
    log.stop().await.unwrap();
}
