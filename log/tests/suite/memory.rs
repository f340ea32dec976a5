//! A tree of ten million entries: opening it reads as much as opening a small one, and memory stays flat.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use glassbloom_log::{
    TileReader,
    config::{Config, Layout},
    init::init,
    store::{
        BatchName, HeadStore, LeafStore, LocalTiles, SqliteHeads, SqliteLeaves, StoreError, StoredHead,
        TileStore,
    },
};
use glassbloom_service::http_client;
use glassbloom_spec::{
    api::Appended,
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::root_of,
    note::SignedNote,
    proof::TlogProof,
    tile::{FULL_WIDTH, TileLevel, TilePath, encode_bundle},
};

use crate::{
    process::Process,
    support::{Bench, ORIGIN, arguments},
};

const SMALL: u64 = 10_000;
const LARGE: u64 = 10_000_000;
/// What a serving process may take at most, in KiB: programme, caches and the entries of this test. Ten million leaf
/// hashes alone would be 312,500 KiB.
const MOST: u64 = 64 * 1024;
/// The leaves that the index of the large log holds.
const INDEXED: u64 = 300_000;

fn entry(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn write(public: &Path, path: TilePath, bytes: &[u8]) {
    let path = public.join(path.to_string());
    if fs::write(&path, bytes).is_err() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
}

fn concat(rows: &[Hash]) -> Vec<u8> {
    rows.iter().flat_map(|row| *row.as_bytes()).collect()
}

/// Writes one bundle and the tile beside it; returns the root over it.
fn write_bundle(public: &Path, bundle: u64, size: TreeSize) -> Hash {
    let first = bundle * u64::from(FULL_WIDTH);
    let entries: Vec<_> = (first..size.get()).take(usize::from(FULL_WIDTH)).map(entry).collect();
    let leaves: Vec<Hash> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
    write(public, TilePath::entries(bundle, size).unwrap(), &encode_bundle(&entries).unwrap());
    write(public, TilePath::hashes(0, bundle, size).unwrap(), &concat(&leaves));
    root_of(leaves)
}

/// Writes every tile of a tree in which entry n is the number n.
fn write_tree(public: &Path, size: TreeSize) {
    let bundles = size.get().div_ceil(u64::from(FULL_WIDTH));
    let parts: Vec<_> = (0..bundles).step_by(4096).collect();
    let mut rows: Vec<Hash> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .map(|first| {
                let bundles = first..bundles.min(first + 4096);
                scope.spawn(|| bundles.map(|bundle| write_bundle(public, bundle, size)).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for level in 1..8 {
        // The root over a partial tile is no row of the tile above.
        rows.truncate((size.get() >> (8 * level)) as usize);
        for (index, tile) in rows.chunks(usize::from(FULL_WIDTH)).enumerate() {
            let path = TilePath::new(TileLevel::Hashes(level), index as u64, tile.len() as u16).unwrap();
            write(public, path, &concat(tile));
        }
        rows = rows.chunks(usize::from(FULL_WIDTH)).map(|tile| root_of(tile.iter().copied())).collect();
    }
}

/// A service whose registry has this many entries.
async fn with_entries(data: &Path, size: TreeSize) {
    init(&arguments(data)).await.unwrap();
    let layout = Layout::new(data);
    write_tree(&layout.tiles("registry"), size);
    let tiles = LocalTiles::open(&layout.tiles("registry"), &layout.staging("registry")).unwrap();
    let root = TileReader::new(Arc::new(tiles)).root(size).await.unwrap();
    let head = TreeHead { origin: ORIGIN.to_owned(), size, root };
    let config = Config::load(data, None).unwrap();
    let signature = config.logs[0].keys.signers()[0].sign_checkpoint(&head).unwrap();
    let note = SignedNote { text: head.to_string(), signatures: vec![signature] }.encode();
    let heads = SqliteHeads::open(&layout.database("registry")).await.unwrap();
    let empty = heads.load(ORIGIN).await.unwrap().unwrap();
    heads.swap(ORIGIN, &empty, &StoredHead { note, applied: size }).await.unwrap();
    let index = SqliteLeaves::open(&layout.index("registry")).await.unwrap();
    let first = size.get().saturating_sub(INDEXED);
    let leaves: Vec<Hash> = (first..size.get()).map(|n| Hash::leaf(&entry(n))).collect();
    index.insert(ORIGIN, LeafIndex::new(first), &leaves).await.unwrap();
}

/// Counts the objects that are read.
struct Counting {
    inner: LocalTiles,
    reads: AtomicUsize,
}

#[async_trait]
impl TileStore for Counting {
    async fn put(&self, objects: Vec<(TilePath, Bytes)>) -> Result<(), StoreError> {
        self.inner.put(objects).await
    }

    async fn get(&self, path: &TilePath) -> Result<Option<Bytes>, StoreError> {
        self.reads.fetch_add(1, SeqCst);
        self.inner.get(path).await
    }

    async fn discard_partials(&self, full: &TilePath) -> Result<(), StoreError> {
        self.inner.discard_partials(full).await
    }

    async fn publish(&self, checkpoint: Bytes) -> Result<(), StoreError> {
        self.inner.publish(checkpoint).await
    }

    async fn published(&self) -> Result<Option<Bytes>, StoreError> {
        self.inner.published().await
    }

    async fn stage(&self, batch: BatchName, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.stage(batch, bytes).await
    }

    async fn staged(&self) -> Result<Vec<BatchName>, StoreError> {
        self.inner.staged().await
    }

    async fn read_staged(&self, batch: BatchName) -> Result<Option<Bytes>, StoreError> {
        self.inner.read_staged(batch).await
    }

    async fn unstage(&self, batches: &[BatchName]) -> Result<(), StoreError> {
        self.inner.unstage(batches).await
    }
}

/// The number of objects that opening the log reads.
async fn reads_at_open(data: &Path, size: TreeSize) -> usize {
    let layout = Layout::new(data);
    let inner = LocalTiles::open(&layout.tiles("registry"), &layout.staging("registry")).unwrap();
    let tiles = Arc::new(Counting { inner, reads: AtomicUsize::new(0) });
    let heads = Arc::new(SqliteHeads::open(&layout.database("registry")).await.unwrap());
    let mut bench = Bench::on(tiles.clone(), heads);
    bench.leaves = Arc::new(SqliteLeaves::open(&layout.index("registry")).await.unwrap());
    // The first bundle of the scrub is not part of opening.
    bench.options.scrub = std::time::Duration::from_secs(3600);
    let mut config = Config::load(data, None).unwrap();
    bench.policy = config.policy;
    let log = bench.open_with(config.logs.remove(0).keys).await.unwrap();
    assert_eq!(log.size(), size);
    let reads = tiles.reads.load(SeqCst);
    log.stop().await.unwrap();
    reads
}

/// The most memory of a process that was resident at any time, in KiB.
fn peak(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Adds, sends again, proves and reads; returns the peak of memory in KiB.
async fn used(data: &Path, size: TreeSize) -> u64 {
    let process = Process::start(data);
    let token = fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
    let (http, url) = (http_client(), format!("{}/registry", process.url));
    let post = |path: &str, entry: Vec<u8>| {
        http.post(format!("{url}/{path}")).bearer_auth(&token).body(entry).send()
    };
    let added = stream::iter(0..1500_u64).map(|n| post("add", vec![n as u8; 1000 + n as usize]));
    let indices: Vec<u64> = added
        .buffer_unordered(64)
        .then(|reply| async { reply.unwrap().text().await.unwrap().parse::<u64>().unwrap() })
        .collect()
        .await;
    assert_eq!(indices.iter().max(), Some(&(size.get() + 1499)));
    for n in (size.get().saturating_sub(INDEXED)..size.get()).step_by(INDEXED as usize / 200).take(200) {
        let reply = post("add", entry(n).to_vec()).await.unwrap().text().await.unwrap();
        assert_eq!(reply, n.to_string(), "an old entry has its old index");
    }
    let appended: Appended = post("append", b"the last".to_vec()).await.unwrap().json().await.unwrap();
    let policy = Config::load(data, None).unwrap().policy;
    TlogProof::parse(appended.proof.as_bytes()).unwrap().open_from(&policy, ORIGIN, b"the last").unwrap();
    let tiles = (0..size.get() / 256).step_by(usize::try_from(size.get() / 256 / 30).unwrap());
    for tile in tiles {
        for path in [TilePath::hashes(0, tile, size), TilePath::entries(tile, size)] {
            let reply = http.get(format!("{url}/{}", path.unwrap())).send().await.unwrap();
            assert!(reply.error_for_status().unwrap().bytes().await.unwrap().len() > 2000);
        }
    }
    peak(&process)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_million_entries_cost_no_more_than_ten_thousand() {
    let mut reads = Vec::new();
    let mut peaks = Vec::new();
    for size in [SMALL, LARGE].map(TreeSize::new) {
        let folder = tempfile::tempdir().unwrap();
        with_entries(folder.path(), size).await;
        reads.push(reads_at_open(folder.path(), size).await);
        if cfg!(target_os = "linux") {
            peaks.push(used(folder.path(), size).await);
        }
    }
    println!("objects read at open: {reads:?}; peak of memory in KiB: {peaks:?}");
    // One tile for each level of tiles, of which ten million entries have one more.
    assert!(reads[1] <= reads[0] + 1, "{reads:?}");
    assert!(peaks.iter().all(|peak| *peak < MOST), "{peaks:?} KiB");
}
