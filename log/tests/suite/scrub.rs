//! What was written is read again as long as the log runs.

use std::{sync::Arc, time::Duration};

use crate::support::{Bench, LIMIT, entry};
use glassbloom_log::{
    Error, Log,
    store::{MemoryHeads, MemoryTiles, StoredHead},
};

/// A log of 700 entries, all in tiles and nothing staged, that reads a bundle again every millisecond.
async fn filled() -> (Bench, Arc<MemoryTiles>) {
    let tiles = Arc::new(MemoryTiles::default());
    let mut bench = Bench::on(tiles.clone(), Arc::new(MemoryHeads::default()));
    bench.options.scrub = Duration::from_millis(1);
    bench.create().await;
    let log = bench.open().await.unwrap();
    futures_util::future::join_all((0..700).map(|n| log.add(entry(n)))).await;
    bench.check_all(&log).await;
    log.stop().await.unwrap();
    let head = bench.heads.load(crate::support::ORIGIN).await.unwrap().unwrap();
    let applied = StoredHead { applied: 700.into(), ..head.clone() };
    bench.heads.swap(crate::support::ORIGIN, &head, &applied).await.unwrap();
    bench.tiles.unstage(&bench.tiles.staged().await.unwrap()).await.unwrap();
    (bench, tiles)
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect(what);
}

async fn scrubbed(log: &Log, more: u64) {
    let enough = log.metrics().scrubbed() + more;
    until("bundles are read again", || log.metrics().scrubbed() >= enough).await;
}

#[tokio::test]
async fn a_good_log_is_read_again_and_again_while_it_grows() {
    let (bench, _) = filled().await;
    let log = bench.open().await.unwrap();
    for n in 700..1100 {
        log.add(entry(n)).await.unwrap();
        if n % 100 == 0 {
            scrubbed(&log, 10).await;
        }
    }
    bench.check_all(&log).await;
    scrubbed(&log, 10).await;
    assert_eq!(log.metrics().scrub_findings(), 0);
    assert!(log.is_fresh(LIMIT));
    log.stop().await.unwrap();
}

#[tokio::test]
async fn a_flipped_bit_anywhere_stops_the_signing_until_somebody_looked() {
    for (path, byte) in [
        ("tile/entries/000", 1000),
        ("tile/entries/000", 0),
        ("tile/entries/002.p/188", 2),
        ("tile/0/000", 77),
        ("tile/0/001", 8191),
        ("tile/0/002.p/188", 187 * 32),
        ("tile/1/000.p/2", 33),
    ] {
        let (bench, tiles) = filled().await;
        let log = bench.open().await.unwrap();
        scrubbed(&log, 3).await;
        assert!(tiles.corrupt(&path.parse().unwrap(), byte), "{path}");
        until("the damage is found", || log.metrics().scrub_findings() == 1).await;
        assert!(!log.is_fresh(LIMIT), "{path}");
        let published = log.published();
        assert!(matches!(log.add(entry(5000)).await, Err(Error::Alarm { .. })), "{path}");
        assert_eq!(log.published(), published, "{path}");
        let size = log.size();
        log.stop().await.unwrap();

        let folder = bench.evidence.path().join("evidence");
        let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(path), "{path}: {text}");
        // Repaired, but not looked at: still nothing is signed.
        assert!(tiles.corrupt(&path.parse().unwrap(), byte));
        let log = bench.open().await.unwrap();
        assert!(matches!(log.add(entry(5000)).await, Err(Error::Alarm { .. })), "{path}");
        log.stop().await.unwrap();
        std::fs::remove_file(&file).unwrap();
        let log = bench.open().await.unwrap();
        assert_eq!(log.add(entry(5000)).await.unwrap().get(), size.get(), "{path}");
        bench.check_all(&log).await;
        scrubbed(&log, 10).await;
        assert_eq!(log.metrics().scrub_findings(), 0);
        log.stop().await.unwrap();
    }
}
