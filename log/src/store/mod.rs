//! Where a log keeps its bytes: tiles in a [`TileStore`], the signed head in a [`HeadStore`], and in a [`LeafStore`] a
//! hint where to find an entry that is sent again.
//!
//! Tiles and head are kept apart on purpose. Whoever can modify the tile store can stop the log, and no more: everything in
//! it is checked against the head before it is signed again. The head store is trusted: a head that goes back in
//! time is how a log forks, so it must not be restored from a backup.

mod bucket;
mod journal;
mod local;
mod memory;
mod object;
mod object_heads;
mod postgres;
mod sqlite;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod contract_remote;
#[cfg(test)]
#[path = "../../tests/suite/support/bucket.rs"]
#[expect(dead_code, reason = "the tests of the stores and those of whole logs need different faults")]
mod fake;
#[cfg(test)]
#[path = "../../tests/suite/support/servers.rs"]
mod servers;

use async_trait::async_trait;
use bytes::Bytes;
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    tile::TilePath,
};

pub use bucket::{Bucket, BucketUrl, BucketUrlError, Retries};
pub use local::{FolderLock, LocalTiles};
pub use memory::{MemoryHeads, MemoryLeaves, MemoryTiles};
pub use object::ObjectTiles;
pub use object_heads::ObjectHeads;
pub use postgres::{PostgresHeads, PostgresUrl, PostgresUrlError};
pub use sqlite::{SqliteHeads, SqliteLeaves};

/// Why a store did not do what it was asked. Every variant stops the log: after a failed write nobody knows what
/// the disk holds, and `Log::open` finds out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The published checkpoint is not the one that this process saw last.
    #[error("{path} was replaced by somebody else; only one process may write to a log")]
    CheckpointMoved {
        /// The checkpoint's path.
        path: String,
    },
    /// A write-once object exists with other bytes.
    #[error("{path} exists with other content; run `glassbloom-log fsck` on this log")]
    Conflict {
        /// The object's path.
        path: String,
    },
    /// The stored head is not the one that was to be replaced: another process writes to this log.
    #[error("the head of {origin} was changed by somebody else; only one process may write to a log")]
    HeadMoved {
        /// The log's origin.
        origin: String,
    },
    /// The disk or the database failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was being done, with its path.
        what: String,
        /// The cause. Not a `source`: it would be shown twice.
        cause: std::io::Error,
    },
    /// Another process has the log open.
    #[error("{path} is locked: another process serves this log; stop it first")]
    Locked {
        /// The lock file.
        path: String,
    },
}

impl StoreError {
    /// An I/O failure while doing `what`.
    pub fn io(what: impl Into<String>, cause: std::io::Error) -> Self {
        Self::Io { what: what.into(), cause }
    }
}

/// Everything of one log that the world may read, and what is staged to become that.
///
/// Tiles and bundles are write-once. When a writing method returns, the bytes survive a power cut. After an error
/// they may or may not be there. Implementations may be eventually consistent for readers of other processes, but a
/// read after a write in this process sees the write.
#[async_trait]
pub trait TileStore: Send + Sync + 'static {
    /// Writes the objects, in any order. An object that exists with the same bytes is left as it is; with other bytes
    /// it is a [`StoreError::Conflict`].
    async fn put(&self, objects: Vec<(TilePath, Bytes)>) -> Result<(), StoreError>;

    /// Reads an object; `None` when there is none.
    async fn get(&self, path: &TilePath) -> Result<Option<Bytes>, StoreError>;

    /// Deletes the partial versions of this full tile or bundle, if any. Need not be durable.
    async fn discard_partials(&self, full: &TilePath) -> Result<(), StoreError>;

    /// Replaces the published checkpoint as a whole.
    async fn publish(&self, checkpoint: Bytes) -> Result<(), StoreError>;

    /// The published checkpoint; `None` before the first.
    async fn published(&self) -> Result<Option<Bytes>, StoreError>;

    /// Writes a staged batch. Replaces one of the same name.
    async fn stage(&self, batch: BatchName, bytes: Bytes) -> Result<(), StoreError>;

    /// The names of all staged batches, in order.
    async fn staged(&self) -> Result<Vec<BatchName>, StoreError>;

    /// Reads a staged batch; `None` when there is none.
    async fn read_staged(&self, batch: BatchName) -> Result<Option<Bytes>, StoreError>;

    /// Deletes staged batches. Need not be durable: one that comes back is dropped again when the log is opened.
    async fn unstage(&self, batches: &[BatchName]) -> Result<(), StoreError>;
}

/// Names a staged batch by the trees before and after it. The root is part of the name, so that a batch whose head was
/// never swapped in cannot take the place of one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchName {
    /// Size before.
    pub old: TreeSize,
    /// Size after; larger than `old`.
    pub new: TreeSize,
    /// Root after.
    pub root: Hash,
}

impl std::fmt::Display for BatchName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Fixed width, so that the order of names is the order of sizes.
        write!(f, "{:020}-{:020}-{}", self.old.get(), self.new.get(), self.root)
    }
}

impl std::str::FromStr for BatchName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = text.split('-').collect();
        let [old, new, root] = parts[..] else { return Err(()) };
        let size = |text: &str| text.parse().map(TreeSize::new).map_err(|_| ());
        let name = Self { old: size(old)?, new: size(new)?, root: root.parse().map_err(|_| ())? };
        if name.old < name.new && name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

/// The head of a log as its store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// The checkpoint with the log's own signature, not cosigned: private until published.
    pub note: Vec<u8>,
    /// Tiles and bundles are complete up to this size; what lies between it and the head is staged.
    pub applied: TreeSize,
}

/// The newest signed head of each log.
///
/// Swaps are serialisable, across processes and restarts, and durable when they return. This is what keeps a log from
/// forking, so an implementation must never be pointed at a copy.
#[async_trait]
pub trait HeadStore: Send + Sync + 'static {
    /// Stores the first head of a log; [`StoreError::HeadMoved`] if there is one already.
    async fn create(&self, origin: &str, head: &StoredHead) -> Result<(), StoreError>;

    /// The newest head; `None` before `create`.
    async fn load(&self, origin: &str) -> Result<Option<StoredHead>, StoreError>;

    /// Replaces `old` by `new`; [`StoreError::HeadMoved`] unless `old` is the stored head.
    async fn swap(&self, origin: &str, old: &StoredHead, new: &StoredHead) -> Result<(), StoreError>;
}

/// Where each leaf was first logged: a hint that spares reading the whole tree.
///
/// Nothing in it is believed: a candidate counts only when all 256 bits of the leaf hash are found at that index and
/// proven to be in the tree. Losing or altering it can therefore cause an entry to be logged twice and nothing else.
/// What is missing is read again from tiles when the log is opened.
#[async_trait]
pub trait LeafStore: Send + Sync + 'static {
    /// All leaves below this index were inserted; 0 for a log it has never seen.
    async fn indexed(&self, origin: &str) -> Result<TreeSize, StoreError>;

    /// Adds the leaves from index `from` on, and moves `indexed` to their end in the same transaction. Repeating an
    /// insert changes nothing. Need not be fsynced: what is lost is indexed again.
    async fn insert(&self, origin: &str, from: LeafIndex, leaves: &[Hash]) -> Result<(), StoreError>;

    /// For each leaf the indices where it may be, in rising order. A store may keep a part of the hash only, of at
    /// least 64 bits, and answer with leaves that share that part.
    async fn find(&self, origin: &str, leaves: &[Hash]) -> Result<Vec<Vec<LeafIndex>>, StoreError>;
}

/// The part of a leaf hash that the stores here keep: its first 64 bits.
fn leaf_key(leaf: &Hash) -> i64 {
    let (key, _) = leaf.as_bytes().split_first_chunk().expect("a hash is longer than eight bytes");
    i64::from_be_bytes(*key)
}
