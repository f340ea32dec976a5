//! A mirror keeps what it verified, whatever becomes of the log.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use glassbloom_auditor::{
    audit::{Config as AuditConfig, audit},
    mirror::{self, Config, Mirror, MirrorError, SyncError},
};
use glassbloom_service::{ExitCode, LogClient, MockClock, Shutdown, http_client};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixMillis, UnixSeconds},
    note::SignedNote,
    tile::{TilePath, tiles_for_size},
};
use reqwest::header;
use tokio::net::TcpListener;

use crate::support::{FakeLog, NOW, RECEIPTS, REGISTRY, World, head, policy};

fn open(data: &Path, log: &FakeLog) -> Mirror {
    let config =
        Config { data: data.to_owned(), policy: policy(), log: Some(log.url.clone()), submissions: false };
    Mirror::open(config, Arc::new(MockClock::new(UnixMillis::new((NOW + 5) * 1000)))).unwrap()
}

/// Brings the copy of one log up to date.
async fn sync(data: &Path, log: &FakeLog, origin: &str) -> Result<(u64, u64), SyncError> {
    let mirror = open(data, log);
    let copy = mirror.copies().iter().find(|copy| copy.origin() == origin).unwrap();
    copy.sync().await.map(|synced| (synced.size.get(), synced.new))
}

fn folder(data: &Path, origin: &str) -> std::path::PathBuf {
    data.join("public").join(Hash::of(origin.as_bytes()).to_string())
}

fn copied(data: &Path, origin: &str) -> TreeHead {
    let note = SignedNote::parse(&fs::read(folder(data, origin).join("checkpoint")).unwrap()).unwrap();
    TreeHead::parse(&note.text).unwrap()
}

fn entries(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("entry {number}").into_bytes()).collect()
}

/// Every tile and bundle of the copy has the bytes that the log would serve.
fn assert_complete(data: &Path, entries: &[Vec<u8>]) {
    let (folder, size) = (folder(data, RECEIPTS), TreeSize::new(entries.len() as u64));
    assert_eq!(copied(data, RECEIPTS), head(RECEIPTS, entries));
    for (path, bytes) in crate::support::tiles(entries) {
        let found = fs::read(folder.join(path.to_string())).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(found == bytes, "{path} at size {size}");
    }
}

#[tokio::test]
async fn grows_through_every_kind_of_edge() {
    let log = FakeLog::start().await;
    let data = tempfile::tempdir().unwrap();
    let mut before = 0;
    for size in [0, 1, 5, 255, 256, 257, 511, 700, 1024, 1500] {
        let entries = entries(size);
        log.publish(RECEIPTS, &entries, NOW);
        let synced = sync(data.path(), &log, RECEIPTS).await.unwrap();
        assert_eq!(synced, (size, size - before), "size {size}");
        assert_complete(data.path(), &entries);
        before = size;
    }
    // Partial tiles of earlier sizes are gone where the full tile is, and only there.
    assert!(!folder(data.path(), RECEIPTS).join("tile/0/000.p").exists());
    assert!(folder(data.path(), RECEIPTS).join("tile/1/000.p/5").exists());
    // Nothing new: one request, and the newer cosignature is taken over.
    log.publish(RECEIPTS, &entries(1500), NOW + 60);
    log.requests();
    assert_eq!(sync(data.path(), &log, RECEIPTS).await.unwrap(), (1500, 0));
    assert_eq!(log.requests(), ["/receipts/checkpoint"]);
    let note = fs::read(folder(data.path(), RECEIPTS).join("checkpoint")).unwrap();
    assert_eq!(policy().open(Some(RECEIPTS), &note).unwrap().cosigned_at(), UnixSeconds::new(NOW + 60));
    // An older checkpoint that the copy has as its prefix is stale, no more.
    log.publish(RECEIPTS, &entries(700), NOW + 61);
    assert_eq!(sync(data.path(), &log, RECEIPTS).await.unwrap(), (1500, 0));
    assert_complete(data.path(), &entries(1500));
}

#[tokio::test]
async fn a_vanished_log_is_audited_over_its_mirror() {
    let mut world = World::new();
    for number in 0..300 {
        world.answer(&world.receipt(number));
    }
    let log = FakeLog::start().await;
    world.publish(&log);
    let data = tempfile::tempdir().unwrap();
    let vkeys = mirror::init(data.path(), "mirror.example/m1").unwrap();
    assert_eq!(mirror::init(data.path(), "mirror.example/m1").unwrap(), vkeys);
    let mirror = open(data.path(), &log);
    let copies = mirror.copies().to_vec();
    for copy in &copies {
        copy.sync().await.unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::new();
    drop(log);
    let serving = tokio::spawn(mirror::serve(mirror, listener, Duration::from_secs(60), shutdown.clone()));

    let state = tempfile::tempdir().unwrap();
    let config = AuditConfig {
        log: url.clone(),
        policy: policy(),
        state: state.path().to_owned(),
        from_genesis: false,
    };
    let report = audit(&config, &MockClock::new(UnixMillis::new((NOW + 10) * 1000))).await.unwrap();
    assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    assert_eq!(report.logs.iter().map(|log| log.size.get()).sum::<u64>(), 300 + world.registry.len() as u64);

    // The same under the hash of the origin, and signed by the mirror, which says that it keeps a copy.
    let prefix = format!("{url}/{}", Hash::of(RECEIPTS.as_bytes()));
    let client = LogClient::new(&prefix);
    let note = SignedNote::parse(&client.checkpoint_bytes().await.unwrap()).unwrap();
    let head = TreeHead::parse(&note.text).unwrap();
    for vkey in &vkeys {
        let line = note.signatures.iter().find(|line| vkey.claims(line)).unwrap();
        assert_eq!(vkey.verify(&head, line).unwrap(), UnixSeconds::new(NOW + 5));
    }
    assert_eq!(client.entries(255..258, 300.into()).await.unwrap(), world.receipts[255..258]);

    let get = async |path: &str| http_client().get(format!("{prefix}/{path}")).send().await.unwrap();
    let tile = get("tile/0/000").await;
    assert_eq!(tile.headers()[header::CACHE_CONTROL], "public, max-age=604800, immutable");
    assert_eq!(tile.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    for missing in
        ["tile/0/002", "tile/0/001.p/45", "tile/0/001", "tile/0/0", "tile/9/000", "", "checkpoints"]
    {
        assert_eq!(get(missing).await.status(), 404, "{missing}");
    }
    let zipped = http_client().get(format!("{prefix}/tile/entries/000")).header("accept-encoding", "gzip");
    assert_eq!(zipped.send().await.unwrap().headers()[header::CONTENT_ENCODING], "gzip");
    // The log cannot be reached, and the mirror says so.
    let health = http_client().get(format!("{url}/healthz")).send().await.unwrap();
    assert!([200, 503].contains(&health.status().as_u16()));
    shutdown.trigger();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_altered_entry_is_named_and_nothing_of_it_is_kept() {
    let log = FakeLog::start().await;
    let data = tempfile::tempdir().unwrap();
    log.publish(RECEIPTS, &entries(300), NOW);
    sync(data.path(), &log, RECEIPTS).await.unwrap();
    let mut altered = entries(1000);
    altered[600] = b"another".to_vec();
    log.publish(RECEIPTS, &altered, NOW);
    let bundle = log.file("/receipts/tile/entries/002");
    log.publish(RECEIPTS, &entries(1000), NOW);
    let good = log.put("/receipts/tile/entries/002", Some(bundle));
    let error = sync(data.path(), &log, RECEIPTS).await.unwrap_err();
    assert!(matches!(&error, SyncError::Damaged(detail) if detail.contains("entry 600 ")), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Rejected);
    assert_complete(data.path(), &entries(300));
    for path in tiles_for_size(TreeSize::new(1000)).filter(|path| path.is_full() && path.index() > 0) {
        assert!(!folder(data.path(), RECEIPTS).join(path.to_string()).exists(), "{path} was kept");
    }
    // Repaired, the log is followed again.
    log.put("/receipts/tile/entries/002", good);
    assert_eq!(sync(data.path(), &log, RECEIPTS).await.unwrap(), (1000, 700));
    assert_complete(data.path(), &entries(1000));
}

#[tokio::test]
async fn a_fork_leaves_evidence_and_the_copy_as_it_was() {
    for (size, fork_at) in [(300, 7), (300, 280), (600, 599)] {
        let log = FakeLog::start().await;
        let data = tempfile::tempdir().unwrap();
        log.publish(RECEIPTS, &entries(size), NOW);
        sync(data.path(), &log, RECEIPTS).await.unwrap();
        // The other history: larger, of the same size, smaller.
        for other_size in [900, size, size - 1] {
            let mut other = entries(other_size.max(fork_at + 1));
            other[fork_at as usize] = b"another history".to_vec();
            let fork = FakeLog::start().await;
            fork.publish(RECEIPTS, &other, NOW + 1);
            let error = sync(data.path(), &fork, RECEIPTS).await.unwrap_err();
            let SyncError::Fork { evidence, .. } = &error else { panic!("{other_size}: {error}") };
            assert_eq!(error.exit_code(), ExitCode::Rejected);
            let file: serde_json::Value = serde_json::from_slice(&fs::read(evidence).unwrap()).unwrap();
            // Both notes open under the policy by themselves.
            for (side, size) in [("first_seen", size), ("then_served", other.len() as u64)] {
                let note = file[side].as_str().unwrap();
                let checkpoint = policy().open(Some(RECEIPTS), note.as_bytes()).unwrap();
                assert_eq!(checkpoint.size().get(), size);
            }
            assert_complete(data.path(), &entries(size));
        }
    }
}

#[tokio::test]
async fn an_interrupted_run_goes_on_where_it_was() {
    let log = FakeLog::start().await;
    let data = tempfile::tempdir().unwrap();
    log.publish(RECEIPTS, &entries(300), NOW);
    sync(data.path(), &log, RECEIPTS).await.unwrap();
    log.publish(RECEIPTS, &entries(20_000), NOW);
    // The log fails after 70 of 78 bundles.
    let path = TilePath::entries(70, TreeSize::new(20_000)).unwrap();
    let bundle = log.put(&format!("/receipts/{path}"), None);
    assert!(matches!(sync(data.path(), &log, RECEIPTS).await, Err(SyncError::Log(_))));
    assert_eq!(copied(data.path(), RECEIPTS).size.get(), 300);
    let kept = folder(data.path(), RECEIPTS).join("tile/entries");
    assert!(kept.join("010").exists());

    log.put(&format!("/receipts/{path}"), bundle);
    log.requests();
    assert_eq!(sync(data.path(), &log, RECEIPTS).await.unwrap(), (20_000, 19_700));
    assert!(!log.requests().iter().any(|path| path.ends_with("/entries/010")), "fetched twice");
    assert_complete(data.path(), &entries(20_000));

    // What an interrupted run left is believed no more than what the log says.
    log.publish(RECEIPTS, &entries(21_000), NOW);
    let left = TilePath::entries(78, TreeSize::new(21_000)).unwrap();
    let mut wrong = log.file(&format!("/receipts/{left}"));
    *wrong.last_mut().unwrap() ^= 1;
    fs::write(folder(data.path(), RECEIPTS).join(left.to_string()), wrong).unwrap();
    assert_eq!(sync(data.path(), &log, RECEIPTS).await.unwrap(), (21_000, 1000));
    assert_complete(data.path(), &entries(21_000));
}

#[tokio::test]
async fn what_the_policy_refuses_is_not_copied() {
    let log = FakeLog::start().await;
    let data = tempfile::tempdir().unwrap();
    log.publish(RECEIPTS, &entries(3), NOW);
    let mut note = SignedNote::parse(&log.file("/receipts/checkpoint")).unwrap();
    note.signatures.truncate(1);
    let good = log.put("/receipts/checkpoint", Some(note.encode()));
    let error = sync(data.path(), &log, RECEIPTS).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Stale, "{error}");
    log.put("/receipts/checkpoint", Some(b"hello".to_vec()));
    assert_eq!(sync(data.path(), &log, RECEIPTS).await.unwrap_err().exit_code(), ExitCode::Malformed);
    log.put("/receipts/checkpoint", good);
    drop(log);
    let gone = FakeLog::start().await;
    let error = sync(data.path(), &gone, RECEIPTS).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unreachable, "{error}");
    assert!(!folder(data.path(), RECEIPTS).join("checkpoint").exists());
}

#[tokio::test]
async fn a_damaged_copy_is_not_built_upon() {
    let log = FakeLog::start().await;
    let data = tempfile::tempdir().unwrap();
    log.publish(RECEIPTS, &entries(300), NOW);
    sync(data.path(), &log, RECEIPTS).await.unwrap();
    let tile = folder(data.path(), RECEIPTS).join("tile/0/001.p/44");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[40] ^= 1;
    fs::write(&tile, bytes).unwrap();
    log.publish(RECEIPTS, &entries(400), NOW);
    let error = sync(data.path(), &log, RECEIPTS).await.unwrap_err();
    assert!(matches!(error, SyncError::Local(_)), "{error}");
}

#[tokio::test]
async fn one_process_per_folder_and_a_name_of_its_own() {
    let log = FakeLog::start().await;
    let data = tempfile::tempdir().unwrap();
    let first = open(data.path(), &log);
    let config = Config {
        data: data.path().to_owned(),
        policy: policy(),
        log: Some(log.url.clone()),
        submissions: false,
    };
    let clock = Arc::new(MockClock::new(UnixMillis::new(NOW * 1000)));
    assert!(matches!(Mirror::open(config.clone(), clock.clone()), Err(MirrorError::Locked(_))));
    drop(first);
    let nowhere = Config { log: None, ..config.clone() };
    assert!(
        matches!(Mirror::open(nowhere, clock.clone()), Err(MirrorError::Where(origin)) if origin == REGISTRY)
    );
    mirror::init(data.path(), RECEIPTS).unwrap();
    assert!(matches!(Mirror::open(config, clock), Err(MirrorError::SameName(_))));
}

#[tokio::test]
async fn the_command_says_what_it_copied() {
    let log = FakeLog::start().await;
    let data = tempfile::tempdir().unwrap();
    log.publish(RECEIPTS, &entries(3), NOW);
    log.publish(REGISTRY, &entries(2), NOW);
    let file = data.path().join("policy");
    fs::write(&file, crate::support::policy_text()).unwrap();
    let url = log.url.clone();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbloom-auditor"));
        command.args(["mirror", "sync", "--log", &url, "--policy"]).arg(&file);
        command.arg("--data").arg(file.with_file_name("mirror")).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run.clone()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, format!("{REGISTRY}  size 2  2 new\n{RECEIPTS}  size 3  3 new\n"));
    // One log forked, the other is gone: the fork weighs more.
    log.publish(REGISTRY, &entries(3)[1..], NOW);
    log.put("/receipts/checkpoint", None);
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(output.status.code(), Some(10), "{output:?}");
}
