//! All stores in memory: for tests and for trying things out. Nothing survives the process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    tile::TilePath,
};

use super::{BatchName, HeadStore, LeafStore, StoreError, StoredHead, TileStore, leaf_key};

/// Tiles in memory.
#[derive(Debug, Default)]
pub struct MemoryTiles(Mutex<Objects>);

#[derive(Debug, Default)]
struct Objects {
    tiles: HashMap<String, Bytes>,
    checkpoint: Option<Bytes>,
    staged: BTreeMap<BatchName, Bytes>,
}

/// Heads in memory.
#[derive(Debug, Default)]
pub struct MemoryHeads(Mutex<HashMap<String, StoredHead>>);

/// The leaf index in memory; like the one on disk it keeps 64 bits of each leaf hash.
#[derive(Debug, Default)]
pub struct MemoryLeaves(Mutex<HashMap<String, Indexed>>);

#[derive(Debug, Default)]
struct Indexed {
    size: TreeSize,
    leaves: HashMap<i64, BTreeSet<LeafIndex>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code below panics while it holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl TileStore for MemoryTiles {
    async fn put(&self, objects: Vec<(TilePath, Bytes)>) -> Result<(), StoreError> {
        let mut store = lock(&self.0);
        for (path, bytes) in objects {
            let path = path.to_string();
            if store.tiles.get(&path).is_some_and(|found| *found != bytes) {
                return Err(StoreError::Conflict { path });
            }
            store.tiles.insert(path, bytes);
        }
        Ok(())
    }

    async fn get(&self, path: &TilePath) -> Result<Option<Bytes>, StoreError> {
        Ok(lock(&self.0).tiles.get(&path.to_string()).cloned())
    }

    async fn discard_partials(&self, full: &TilePath) -> Result<(), StoreError> {
        let prefix = format!("{full}.p/");
        lock(&self.0).tiles.retain(|path, _| !path.starts_with(&prefix));
        Ok(())
    }

    async fn publish(&self, checkpoint: Bytes) -> Result<(), StoreError> {
        lock(&self.0).checkpoint = Some(checkpoint);
        Ok(())
    }

    async fn published(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(lock(&self.0).checkpoint.clone())
    }

    async fn stage(&self, batch: BatchName, bytes: Bytes) -> Result<(), StoreError> {
        lock(&self.0).staged.insert(batch, bytes);
        Ok(())
    }

    async fn staged(&self) -> Result<Vec<BatchName>, StoreError> {
        Ok(lock(&self.0).staged.keys().copied().collect())
    }

    async fn read_staged(&self, batch: BatchName) -> Result<Option<Bytes>, StoreError> {
        Ok(lock(&self.0).staged.get(&batch).cloned())
    }

    async fn unstage(&self, batches: &[BatchName]) -> Result<(), StoreError> {
        let mut store = lock(&self.0);
        for batch in batches {
            store.staged.remove(batch);
        }
        Ok(())
    }
}

#[async_trait]
impl HeadStore for MemoryHeads {
    async fn create(&self, origin: &str, head: &StoredHead) -> Result<(), StoreError> {
        let mut heads = lock(&self.0);
        if heads.contains_key(origin) {
            return Err(StoreError::HeadMoved { origin: origin.to_owned() });
        }
        heads.insert(origin.to_owned(), head.clone());
        Ok(())
    }

    async fn load(&self, origin: &str) -> Result<Option<StoredHead>, StoreError> {
        Ok(lock(&self.0).get(origin).cloned())
    }

    async fn swap(&self, origin: &str, old: &StoredHead, new: &StoredHead) -> Result<(), StoreError> {
        let mut heads = lock(&self.0);
        let stored = heads.get_mut(origin).filter(|stored| *stored == old);
        *stored.ok_or_else(|| StoreError::HeadMoved { origin: origin.to_owned() })? = new.clone();
        Ok(())
    }
}

#[async_trait]
impl LeafStore for MemoryLeaves {
    async fn indexed(&self, origin: &str) -> Result<TreeSize, StoreError> {
        Ok(lock(&self.0).get(origin).map_or(TreeSize::new(0), |log| log.size))
    }

    async fn insert(&self, origin: &str, from: LeafIndex, leaves: &[Hash]) -> Result<(), StoreError> {
        let mut logs = lock(&self.0);
        let log = logs.entry(origin.to_owned()).or_default();
        for (index, leaf) in (from.get()..).zip(leaves) {
            log.leaves.entry(leaf_key(leaf)).or_default().insert(LeafIndex::new(index));
        }
        log.size = TreeSize::new(from.get() + leaves.len() as u64);
        Ok(())
    }

    async fn find(&self, origin: &str, leaves: &[Hash]) -> Result<Vec<Vec<LeafIndex>>, StoreError> {
        let logs = lock(&self.0);
        let log = logs.get(origin);
        let candidates = |leaf| log.and_then(|log| log.leaves.get(&leaf_key(leaf)));
        Ok(leaves.iter().map(|leaf| candidates(leaf).into_iter().flatten().copied().collect()).collect())
    }
}

impl MemoryTiles {
    /// The number of tiles and bundles it holds.
    pub fn len(&self) -> usize {
        lock(&self.0).tiles.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flips one bit of a stored object, as a failing disk would; `false` when there is no such object or byte.
    pub fn corrupt(&self, path: &TilePath, byte: usize) -> bool {
        let mut store = lock(&self.0);
        let Some(object) = store.tiles.get_mut(&path.to_string()) else { return false };
        let mut bytes = object.to_vec();
        let Some(target) = bytes.get_mut(byte) else { return false };
        *target ^= 1;
        *object = bytes.into();
        true
    }

    /// The size of the newest staged batch, for tests that count what is left behind.
    pub fn staged_up_to(&self) -> Option<TreeSize> {
        lock(&self.0).staged.keys().next_back().map(|batch| batch.new)
    }
}
