//! One flipped bit in each file of a log that stopped: what the log then does is exactly this.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use glassbloom_log::store::{HeadStore, SqliteHeads};

use crate::program::{LIMIT, Process, add, copy, new_log, program, publishes, recovers, run};

/// Adds `count` entries; some batches are left staged, as after a crash.
async fn fill(program: &Path, data: &Path, count: u64) -> BTreeMap<String, u64> {
    let process = Process::start(&[], program, data);
    let url = process.url.clone().unwrap();
    let mut acknowledged = BTreeMap::new();
    for n in 0..count {
        let entry = format!("entry {n}");
        let index = add(&url, data, &entry, LIMIT).await.unwrap();
        acknowledged.insert(entry, index);
    }
    assert!(publishes(&url, count, LIMIT).await);
    acknowledged
}

/// Starts a copy of the log in which one bit of a file is flipped. What it said, if it refused.
fn with_flipped_bit(program: &Path, data: &Path, file: &str, at: impl Fn(&[u8]) -> usize) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    copy(data, folder.path());
    let path = folder.path().join(file);
    let mut bytes = fs::read(&path).unwrap();
    let at = at(&bytes);
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut process = Process::start(&[], program, folder.path());
    process.url.is_none().then(|| {
        let status = process.ended_within(LIMIT).unwrap();
        assert_eq!(status.code(), Some(1), "{file}: {}", process.said());
        process.said()
    })
}

/// The file of the journal that holds an entry, and where.
fn journal_of(data: &Path, entry: &[u8]) -> (String, usize) {
    let files = fs::read_dir(data.join("state/receipts")).unwrap().map(|file| file.unwrap());
    let place = files.filter_map(|file| {
        let bytes = fs::read(file.path()).ok()?;
        let at = bytes.windows(entry.len()).position(|window| window == entry)?;
        Some((format!("state/receipts/{}", file.file_name().into_string().unwrap()), at))
    });
    place.last().expect("the last batch is in the journal")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_never_signed_over() {
    let Some(program) = program() else { return };
    let folder = new_log(&program);
    let data = folder.path().to_owned();
    let acknowledged = fill(&program, &data, 300).await;
    let middle = |bytes: &[u8]| bytes.len() / 2;

    // On the right edge, and in what proves the head: refused at start.
    for file in ["tile/entries/001.p/44", "tile/0/001.p/44", "tile/1/000.p/1"] {
        let said = with_flipped_bit(&program, &data, &format!("public/receipts/{file}"), middle);
        let said = said.unwrap_or_else(|| panic!("started over a flipped bit in {file}"));
        assert!(said.contains("do not repair by hand") || said.contains("other content"), "{file}: {said}");
    }
    let (file, at) = journal_of(&data, b"entry 299");
    let said = with_flipped_bit(&program, &data, &file, |_| at);
    let said = said.expect("started over a flipped bit in a staged batch");
    assert!(said.contains("the batch that leads to size 300 is not staged"), "{said}");
    let root = |bytes: &[u8]| bytes.windows(13).position(|w| w == b"/receipts\n300").unwrap() + 20;
    let said = with_flipped_bit(&program, &data, "public/receipts/checkpoint", root);
    let said = said.expect("started over a flipped bit in the published checkpoint");
    assert!(said.contains("the published checkpoint is not signed by the key of this log"), "{said}");

    // In the write-ahead log of the head database: SQLite drops what follows, so the head seems to go back.
    let said = with_flipped_bit(&program, &data, "state/receipts.db-wal", middle);
    let said = said.expect("started with a head that went back");
    assert!(said.contains("restored from a backup"), "{said}");
    // In the database itself.
    checkpoint_database(&data.join("state/receipts.db")).await;
    let text = b"test.example/receipts\n300\n";
    let root = |bytes: &[u8]| bytes.windows(text.len()).position(|w| w == text).unwrap() + text.len();
    let said = with_flipped_bit(&program, &data, "state/receipts.db", root);
    let said = said.expect("started over a flipped bit in the head");
    assert!(said.contains("the stored head is not signed by the key of this log"), "{said}");

    // In an old tile or bundle: the log goes on, because its edge is right; whoever checks finds it.
    for (file, finding) in
        [("tile/entries/000", "entry 12"), ("tile/0/000", "tile/0/000: does not hold the hashes")]
    {
        let path = data.join("public/receipts").join(file);
        let at = |bytes: &[u8]| if file.contains("entries") { entry_of(bytes, 12) } else { 128 * 32 };
        let original = fs::read(&path).unwrap();
        let mut flipped = original.clone();
        flipped[at(&original)] ^= 1;
        fs::write(&path, &flipped).unwrap();
        let fsck = run(&program, &["fsck", data.to_str().unwrap()]);
        let said =
            format!("{}{}", String::from_utf8_lossy(&fsck.stdout), String::from_utf8_lossy(&fsck.stderr));
        assert_eq!(fsck.status.code(), Some(10), "{file}: {said}");
        assert!(said.contains(finding), "{file}: {said}");
        fs::write(&path, &original).unwrap();
    }

    // Brought back, nothing is lost.
    recovers(&program, &data, &acknowledged).await.unwrap();
}

/// Where the bytes of an entry begin in a bundle.
fn entry_of(bundle: &[u8], entry: usize) -> usize {
    let mut at = 0;
    for _ in 0..entry {
        at += 2 + usize::from(u16::from_be_bytes([bundle[at], bundle[at + 1]]));
    }
    at + 2
}

/// Moves what is in the write-ahead log into the database, as closing its last connection does.
async fn checkpoint_database(path: &Path) {
    let heads = SqliteHeads::open(path).await.unwrap();
    assert!(heads.load("test.example/receipts").await.unwrap().is_some());
    drop(heads);
    let (begin, wal) = (Instant::now(), path.with_extension("db-wal"));
    while fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0) {
        assert!(begin.elapsed() < LIMIT, "the database is not closed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
