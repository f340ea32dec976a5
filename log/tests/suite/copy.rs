//! Exporting and importing whole logs, also through crashes, also those of other people.

use std::{fs, path::Path, sync::Arc};

use glassbloom_log::{
    Log, LogKeys,
    copy::export,
    fsck::{FsckError, Options, Source, check, check_with},
    import::{ImportError, Target, import, is_under_way},
    store::{HeadStore, LocalTiles, MemoryHeads, MemoryTiles, TileStore},
};
use glassbloom_service::ExitCode;
use glassbloom_spec::{id::TreeSize, note::NoteSigner, policy::Policy};
use glassbloom_testdata::{shared_vectors, skipped};

use crate::support::{Bench, LIMIT, ORIGIN, entry, folder::write_log, keys, policy};

const OTHER: &str = "other.example/log";

fn other_keys() -> LogKeys {
    LogKeys::from_seeds(OTHER, [7; 32], [8; 32]).unwrap()
}

fn other_policy() -> Policy {
    let lines: String = other_keys().vkeys().map(|key| format!("log {key}\n")).collect();
    Policy::parse(&format!("{lines}quorum none\n")).unwrap()
}

fn entries(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("imported {n}").into_bytes()).collect()
}

/// Puts a folder in the place of a bundle, so that reading it fails as a bad disk does.
fn break_bundle(log: &Path, path: &str) -> Vec<u8> {
    let file = log.join(path);
    let whole = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    whole
}

fn mend_bundle(log: &Path, path: &str, whole: &[u8]) {
    fs::remove_dir(log.join(path)).unwrap();
    fs::write(log.join(path), whole).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_catches_up_and_is_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let (log, copy) = (folder.path().join("log"), folder.path().join("copy"));
    let source = Source::Folder(log.clone());
    let policy = policy(&[], 0);
    let export = async || export(&source, &policy, ORIGIN, &copy, |_, _| ()).await;
    write_log(&log, &keys(), &entries(256 * 300 + 3));
    let whole = break_bundle(&log, "tile/entries/250");
    assert_eq!(export().await.unwrap_err().exit_code(), ExitCode::Unreachable);
    assert!(!copy.join("checkpoint").exists(), "half a copy is no log");
    mend_bundle(&log, "tile/entries/250", &whole);
    export().await.unwrap();
    let check_copy = async || {
        let copied = Source::Folder(copy.clone());
        let options = Options::default();
        let text = fs::read_to_string(copy.join("policy")).unwrap();
        check_with(&copied, &Policy::parse(&text).unwrap(), ORIGIN, &options, |_, _| ()).await.unwrap()
    };
    assert!(check_copy().await.is_ok());
    write_log(&log, &keys(), &entries(256 * 301 + 77));
    export().await.unwrap();
    let checked = check_copy().await;
    assert_eq!((checked.is_ok(), checked.checkpoint.size().get()), (true, 256 * 301 + 77));

    // A source that is not what it signed gives no copy.
    let bad = log.join("tile/entries/003");
    let mut bytes = fs::read(&bad).unwrap();
    bytes[9] ^= 1;
    fs::write(&bad, bytes).unwrap();
    fs::remove_dir_all(&copy).unwrap();
    let error = export().await.unwrap_err();
    assert!(matches!(error, FsckError::OtherRoot { .. }), "{error}");
    assert!(!copy.join("checkpoint").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_keeps_indices_and_root_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (log, marker) = (folder.path().join("log"), folder.path().join("staging/importing"));
    let size = 256 * 40 + 200;
    write_log(&log, &other_keys(), &entries(size));
    let source = Source::Folder(log.clone());
    let public = folder.path().join("public");
    let tiles: Arc<dyn TileStore> =
        Arc::new(LocalTiles::open(&public, &folder.path().join("staging")).unwrap());
    let bench = Bench::on(Arc::clone(&tiles), Arc::new(MemoryHeads::default()));
    bench.create().await;
    let (ours, policy) = (keys(), other_policy());
    let import = async || {
        let target = Target { keys: &ours, tiles: Arc::clone(&tiles), heads: &*bench.heads, marker: &marker };
        import(&target, &source, &policy, OTHER, |_, _| ()).await
    };

    // A crash half-way: nothing is signed, and what was read goes on.
    let whole = break_bundle(&log, "tile/entries/039");
    assert!(matches!(import().await, Err(ImportError::Source(FsckError::Unreachable { .. }))));
    assert!(is_under_way(&marker).unwrap());
    assert!(public.join("tile/entries/000").is_file());
    let empty = bench.heads.load(ORIGIN).await.unwrap().unwrap();
    assert_eq!(empty.applied, TreeSize::new(0));
    mend_bundle(&log, "tile/entries/039", &whole);
    // A crash between the swap of the head and the end of the import.
    let done = import().await.unwrap();
    fs::write(&marker, b"").unwrap();
    assert_eq!(import().await.unwrap(), done);
    assert!(!is_under_way(&marker).unwrap());
    assert!(matches!(import().await, Err(ImportError::NotEmpty { .. })), "only a new log");

    let opened = bench.open().await.unwrap();
    assert_eq!(opened.size(), done.size());
    assert_eq!(bench.check_all(&opened).await, done.size());
    assert_eq!(opened.published().unwrap().head.root, done.root());
    // Known entries keep their index, new ones come after.
    assert_eq!(opened.add(b"imported 77".to_vec().into()).await.unwrap().get(), 77);
    assert_eq!(opened.add(entry(1)).await.unwrap().get(), size);
    bench.check_all(&opened).await;
    opened.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_signed_is_not_imported() {
    let folder = tempfile::tempdir().unwrap();
    let (log, marker) = (folder.path().join("log"), folder.path().join("importing"));
    let tiles: Arc<dyn TileStore> = Arc::new(MemoryTiles::default());
    let heads = MemoryHeads::default();
    Log::create(&keys(), &*tiles, &heads).await.unwrap();
    let (ours, policy) = (keys(), other_policy());
    let target = Target { keys: &ours, tiles: Arc::clone(&tiles), heads: &heads, marker: &marker };
    let source = Source::Folder(log.clone());
    write_log(&log, &keys(), &entries(300));
    let error = import(&target, &source, &policy, OTHER, |_, _| ()).await.unwrap_err();
    assert!(matches!(error, ImportError::Source(FsckError::Checkpoint(_))), "signed by others: {error}");
    write_log(&log, &other_keys(), &entries(300));
    let bundle = log.join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[5] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let error = import(&target, &source, &policy, OTHER, |_, _| ()).await.unwrap_err();
    assert!(matches!(error, ImportError::Source(FsckError::OtherRoot { .. })), "{error}");
    assert_eq!(heads.load(ORIGIN).await.unwrap().unwrap().applied, TreeSize::new(0), "nothing was signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_tessera_made_is_imported() {
    let Some(folder) = shared_vectors().map(|folder| folder.join("tlog/tessera-testdata-log")) else {
        return skipped("the log of Tessera is not beside the checkout");
    };
    let source = Source::Folder(folder);
    // The published test key of that log.
    let key = "PRIVATE+KEY+example.com/log/testdata+33d7b496+AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg";
    let key: NoteSigner = key.parse().unwrap();
    let policy = Policy::parse(&format!("log {}\nquorum none\n", key.vkey())).unwrap();
    let bench = Bench::memory();
    bench.create().await;
    let scratch = tempfile::tempdir().unwrap();
    let (ours, marker) = (keys(), scratch.path().join("importing"));
    let target =
        Target { keys: &ours, tiles: Arc::clone(&bench.tiles), heads: &*bench.heads, marker: &marker };
    let origin = "example.com/log/testdata";
    let done = import(&target, &source, &policy, origin, |_, _| ()).await.unwrap();
    assert_eq!(done.size().get(), 15);
    let log = bench.open().await.unwrap();
    let added = tokio::time::timeout(LIMIT, log.append(entry(1), LIMIT)).await.unwrap().unwrap();
    assert_eq!(added.index.get(), 15);
    let ours = Source::Store(Arc::clone(&bench.tiles));
    assert!(check(&ours, &bench.policy, ORIGIN, |_, _| ()).await.unwrap().is_ok());
    log.stop().await.unwrap();
}
