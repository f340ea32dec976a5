//! Every write of a log failing, and failing although it persisted; then open again and check the whole tree.

use std::{collections::BTreeMap, sync::Arc};

use crate::support::{
    Bench, ORIGIN, entry,
    faulty::{Fault, FaultyHeads, FaultyTiles, POINTS, Point},
    keys, published,
};
use glassbloom_log::{
    Error, Log,
    store::{
        BatchName, HeadStore, LocalTiles, MemoryHeads, MemoryTiles, SqliteHeads, StoreError, StoredHead,
        TileStore,
    },
};
use glassbloom_service::Shutdown;
use glassbloom_spec::hash::Hash;

/// Adds entries from `first` on until the log stops; returns what was acknowledged.
async fn add_until_stopped(log: &Log, first: u64, count: u64) -> BTreeMap<u64, u64> {
    let adds = (first..first + count).map(|n| async move { (n, log.add(entry(n)).await) });
    let mut acknowledged = BTreeMap::new();
    for (n, added) in futures_util::future::join_all(adds).await {
        if let Ok(index) = added {
            acknowledged.insert(n, index.get());
        }
    }
    acknowledged
}

/// One log that fails at `point` while growing from `size`, then is opened again.
async fn fails_and_recovers(point: Point, persists: bool, size: u64) {
    let name = format!("{point:?}, persists: {persists}, from size {size}");
    let fault = Fault::default();
    let bench = Bench::on(
        Arc::new(FaultyTiles { inner: Arc::new(MemoryTiles::default()), fault: fault.clone() }),
        Arc::new(FaultyHeads { inner: Arc::new(MemoryHeads::default()), fault: fault.clone() }),
    );
    bench.create().await;
    let log = bench.open().await.unwrap();
    let mut acknowledged = add_until_stopped(&log, 0, size).await;
    assert_eq!(acknowledged.len() as u64, size, "{name}");
    bench.check_all(&log).await;

    fault.at(point, persists);
    // Several commits, so that the log also goes on committing while integrating or publishing fails.
    let mut next = size;
    for count in [1, 3, 300, 1].into_iter().chain([1; 40]) {
        acknowledged.extend(add_until_stopped(&log, next, count).await);
        next += count;
    }
    let error = log.stop().await.expect_err("the fault is met and stops the log");
    assert!(matches!(error, Error::Store(StoreError::Io { .. })), "{name}: {error}");
    assert!(matches!(log.add(entry(0)).await, Err(Error::Halted)), "{name}");

    // Opening may meet the same fault; a fault that is gone must leave nothing behind.
    if let Ok(log) = bench.open().await {
        log.stop().await.ok();
    }
    fault.repair();
    let log = bench.open().await.unwrap_or_else(|error| panic!("{name}: {error}"));
    bench.check_all(&log).await;
    for (n, index) in &acknowledged {
        assert_eq!(log.add(entry(*n)).await.unwrap().get(), *index, "{name}: entry {n}");
    }
    // And it goes on: everything that was not acknowledged can be added now.
    let all = add_until_stopped(&log, 0, next + 300).await;
    assert_eq!(all.len() as u64, next + 300, "{name}");
    assert_eq!(bench.check_all(&log).await.get(), next + 300, "{name}");
    log.stop().await.unwrap();
    let log = bench.open().await.unwrap();
    bench.check_all(&log).await;
}

#[tokio::test]
async fn every_write_failing_loses_nothing_acknowledged() {
    for point in POINTS {
        for persists in [false, true] {
            for size in [0, 5, 256, 300] {
                fails_and_recovers(point, persists, size).await;
            }
        }
    }
}

#[tokio::test]
async fn killed_between_swap_and_tiles() {
    let fault = Fault::default();
    let bench = Bench::on(
        Arc::new(FaultyTiles { inner: Arc::new(MemoryTiles::default()), fault: fault.clone() }),
        Arc::new(MemoryHeads::default()),
    );
    bench.create().await;
    let log = bench.open().await.unwrap();
    fault.at(Point::Put, false);
    assert_eq!(log.add(entry(0)).await.unwrap().get(), 0, "acknowledged before its tiles exist");
    assert!(log.stopped().await.is_err());
    fault.repair();
    let log = bench.open().await.unwrap();
    assert_eq!(log.size().get(), 1);
    bench.check_all(&log).await;
}

#[tokio::test]
async fn a_batch_whose_head_was_never_swapped_is_dropped() {
    let bench = Bench::memory();
    bench.create().await;
    let name = BatchName { old: 0.into(), new: 2.into(), root: Hash::of(b"never swapped in") };
    bench.tiles.stage(name, "left by a crash".into()).await.unwrap();
    let log = bench.open().await.unwrap();
    // Not yet: it could be that of a process that still runs.
    assert_eq!(bench.tiles.staged().await.unwrap(), [name]);
    assert_eq!(log.add(entry(0)).await.unwrap().get(), 0);
    bench.check_all(&log).await;
    log.stop().await.unwrap();
    assert!(!bench.tiles.staged().await.unwrap().contains(&name));
}

#[tokio::test]
async fn a_head_that_went_back_is_refused() {
    let bench = Bench::memory();
    bench.create().await;
    let log = bench.open().await.unwrap();
    add_until_stopped(&log, 0, 3).await;
    bench.check_all(&log).await;
    log.stop().await.unwrap();

    // The head database is "restored from a backup": a new one, at size 0.
    let restored = Bench::on(Arc::clone(&bench.tiles), Arc::new(MemoryHeads::default()));
    let created = Log::create(&keys(), &*restored.tiles, &*restored.heads).await;
    assert!(matches!(created, Err(Error::HeadWentBack { .. })), "{created:?}");
    let missing = restored.open().await.err().unwrap();
    assert!(matches!(missing, Error::HeadMissing { .. }), "{missing}");
    let fresh = Bench::memory();
    fresh.create().await;
    let empty = fresh.heads.load(ORIGIN).await.unwrap().unwrap();
    restored.heads.create(ORIGIN, &empty).await.unwrap();
    let error = restored.open().await.err().unwrap();
    assert!(matches!(error, Error::HeadWentBack { .. }), "{error}");
}

#[tokio::test]
async fn flipped_bits_are_found_at_start() {
    for (path, byte) in [("tile/entries/000.p/3", 4), ("tile/0/000.p/3", 40)] {
        let tiles = Arc::new(MemoryTiles::default());
        let bench = Bench::on(tiles.clone(), Arc::new(MemoryHeads::default()));
        bench.create().await;
        let log = bench.open().await.unwrap();
        add_until_stopped(&log, 0, 3).await;
        published(&log, 3.into()).await;
        log.stop().await.unwrap();
        // As after many more commits: the tiles are recorded as complete and nothing is staged any more.
        let head = bench.heads.load(ORIGIN).await.unwrap().unwrap();
        let applied = StoredHead { applied: 3.into(), ..head.clone() };
        bench.heads.swap(ORIGIN, &head, &applied).await.unwrap();
        bench.tiles.unstage(&bench.tiles.staged().await.unwrap()).await.unwrap();
        bench.open().await.unwrap().stop().await.unwrap();

        assert!(tiles.corrupt(&path.parse().unwrap(), byte));
        let error = bench.open().await.err().unwrap();
        assert!(matches!(error, Error::Corrupt { .. }), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_second_process_is_refused_or_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let local = || LocalTiles::open(&path("public"), &path("staging"));
    let tiles: Arc<dyn TileStore> = Arc::new(local().unwrap());
    let heads: Arc<dyn HeadStore> = Arc::new(SqliteHeads::create(&path("heads.db")).await.unwrap());
    let bench = Bench::on(tiles, heads);
    bench.create().await;
    let log = bench.open().await.unwrap();
    log.add(entry(0)).await.unwrap();
    let refused = local().err().unwrap();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");

    // A lock that does not hold, as on some network file systems: the swap of the head still decides.
    let other =
        Bench::on(Arc::clone(&bench.tiles), Arc::new(SqliteHeads::open(&path("heads.db")).await.unwrap()));
    bench.check_all(&log).await;
    let second = other.open().await.unwrap();
    second.add(entry(1)).await.unwrap();
    published(&second, 2.into()).await;
    assert!(matches!(log.add(entry(2)).await, Err(Error::Halted)));
    let why = log.stopped().await.unwrap_err();
    assert!(matches!(why, Error::Store(StoreError::HeadMoved { .. })), "{why}");
    other.check_all(&second).await;
}

#[tokio::test]
async fn survives_reopening_at_every_size() {
    let folder = tempfile::tempdir().unwrap();
    let tiles: Arc<dyn TileStore> =
        Arc::new(LocalTiles::open(&folder.path().join("public"), &folder.path().join("staging")).unwrap());
    let heads: Arc<dyn HeadStore> =
        Arc::new(SqliteHeads::create(&folder.path().join("heads.db")).await.unwrap());
    let bench = Bench::on(tiles, heads);
    bench.create().await;
    let mut size = 0;
    for step in [1, 1, 2, 200, 51, 1, 1, 255, 256, 700] {
        let log = bench.open().await.unwrap();
        let added = add_until_stopped(&log, size, step).await;
        assert_eq!(
            added.into_iter().collect::<Vec<_>>(),
            (size..size + step).map(|n| (n, n)).collect::<Vec<_>>()
        );
        size += step;
        assert_eq!(bench.check_all(&log).await.get(), size);
        log.stop().await.unwrap();
    }
}

#[tokio::test]
async fn stopping_answers_everybody() {
    let bench = Bench::memory();
    bench.create().await;
    let log = bench.open().await.unwrap();
    let shutdown = Shutdown::new();
    let adds = {
        let log = log.clone();
        tokio::spawn(async move { add_until_stopped(&log, 0, 2000).await })
    };
    shutdown.trigger();
    log.stop().await.unwrap();
    let acknowledged = adds.await.unwrap();
    let log = bench.open().await.unwrap();
    bench.check_all(&log).await;
    assert!(log.size().get() >= acknowledged.len() as u64);
}
