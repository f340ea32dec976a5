//! What the tests of the log share: witnesses that live in the test, stores that fail on demand, and a check of the
//! whole tree.

#[expect(dead_code, reason = "the tests of the stores and those of whole logs need different faults")]
pub(crate) mod bucket;
pub(crate) mod faulty;
pub(crate) mod folder;
pub(crate) mod servers;
pub(crate) mod witness;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use glassbloom_log::{
    Endpoint, Error, HttpTransport, Life, Log, LogKeys, Options, Parts,
    fsck::{Source, check},
    init::Init,
    store::{HeadStore, LeafStore, MemoryHeads, MemoryLeaves, MemoryTiles, TileStore},
};
use glassbloom_service::{Clock, SystemClock};
use glassbloom_spec::{id::TreeSize, policy::Policy};
use tempfile::TempDir;

pub(crate) const ORIGIN: &str = "test.example/registry";
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The parts of a log that survive its process.
pub(crate) struct Bench {
    pub(crate) tiles: Arc<dyn TileStore>,
    pub(crate) heads: Arc<dyn HeadStore>,
    pub(crate) leaves: Arc<dyn LeafStore>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) witnesses: Vec<Endpoint>,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) evidence: TempDir,
}

pub(crate) fn keys() -> LogKeys {
    LogKeys::from_seeds(ORIGIN, [1; 32], [2; 32]).unwrap()
}

/// A policy for the test log with these witnesses, of which `quorum` must cosign.
pub(crate) fn policy(witnesses: &[Endpoint], quorum: usize) -> Arc<Policy> {
    let keys = keys();
    let mut text: String = keys.vkeys().map(|key| format!("log {key}\n")).collect();
    let mut names = Vec::new();
    for (n, witness) in witnesses.iter().enumerate() {
        text.push_str(&format!("witness w{n} {} {}\n", witness.keys[0], witness.url));
        names.push(format!("w{n}"));
    }
    text.push_str(&match quorum {
        0 => "quorum none\n".to_owned(),
        quorum => format!("group q {quorum} {}\nquorum q\n", names.join(" ")),
    });
    Arc::new(Policy::parse(&text).unwrap())
}

impl Bench {
    /// In memory, without witnesses.
    pub(crate) fn memory() -> Self {
        Self::on(Arc::new(MemoryTiles::default()), Arc::new(MemoryHeads::default()))
    }

    pub(crate) fn on(tiles: Arc<dyn TileStore>, heads: Arc<dyn HeadStore>) -> Self {
        let options = Options { witness_timeout: Duration::from_millis(500), ..Options::default() };
        Self {
            tiles,
            heads,
            leaves: Arc::new(MemoryLeaves::default()),
            policy: policy(&[], 0),
            witnesses: vec![],
            options,
            clock: Arc::new(SystemClock),
            evidence: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn with_witnesses(mut self, witnesses: Vec<Endpoint>, quorum: usize) -> Self {
        self.policy = policy(&witnesses, quorum);
        self.witnesses = witnesses;
        self
    }

    pub(crate) async fn create(&self) {
        Log::create(&keys(), &*self.tiles, &*self.heads).await.unwrap();
    }

    pub(crate) async fn open(&self) -> Result<Log, Error> {
        self.open_with(keys()).await
    }

    /// Opens a log with other keys than those of [`ORIGIN`].
    pub(crate) async fn open_with(&self, keys: LogKeys) -> Result<Log, Error> {
        self.open_fully(keys, Life::default()).await
    }

    /// Opens the log with this beginning and end.
    pub(crate) async fn open_in(&self, life: Life) -> Result<Log, Error> {
        self.open_fully(keys(), life).await
    }

    async fn open_fully(&self, keys: LogKeys, life: Life) -> Result<Log, Error> {
        let parts = Parts {
            keys,
            policy: Arc::clone(&self.policy),
            tiles: Arc::clone(&self.tiles),
            heads: Arc::clone(&self.heads),
            leaves: Arc::clone(&self.leaves),
            transport: Arc::new(HttpTransport::new()),
            evidence: self.evidence.path().join("evidence"),
        };
        Log::open_with(parts, self.witnesses.clone(), self.options, life, Arc::clone(&self.clock)).await
    }

    /// Waits until everything committed is published and verifies the whole tree against it.
    pub(crate) async fn check_all(&self, log: &Log) -> TreeSize {
        let size = log.size();
        published(log, size).await;
        let report =
            check(&Source::Store(Arc::clone(&self.tiles)), &self.policy, ORIGIN, |_, _| ()).await.unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(report.checkpoint.size(), size);
        size
    }
}

/// Waits until at least this size is published.
pub(crate) async fn published(log: &Log, size: TreeSize) {
    let wait = async {
        while log.published().is_none_or(|published| published.head.size < size) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("published in time");
}

/// What makes a service without witnesses in this folder.
pub(crate) fn arguments(data: &Path) -> Init {
    Init {
        data: data.to_owned(),
        name: "test.example".to_owned(),
        listen: None,
        url: None,
        witnesses: vec![],
        tiles: None,
        head: None,
        quorum: None,
    }
}

pub(crate) fn entry(n: u64) -> Bytes {
    format!("entry {n}").into_bytes().into()
}
