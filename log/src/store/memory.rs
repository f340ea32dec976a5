//! Both stores in memory: for tests and for trying things out. Nothing survives the process.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    tile::TilePath,
};

use super::{BatchName, HeadStore, StoreError, StoredHead, TileStore};

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
pub struct MemoryHeads(Mutex<HashMap<String, OneHead>>);

#[derive(Debug)]
struct OneHead {
    head: StoredHead,
    leaves: HashMap<Hash, LeafIndex>,
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
        heads.insert(origin.to_owned(), OneHead { head: head.clone(), leaves: HashMap::new() });
        Ok(())
    }

    async fn load(&self, origin: &str) -> Result<Option<StoredHead>, StoreError> {
        Ok(lock(&self.0).get(origin).map(|one| one.head.clone()))
    }

    async fn swap(
        &self,
        origin: &str,
        old: &StoredHead,
        new: &StoredHead,
        first: LeafIndex,
        leaves: &[Hash],
    ) -> Result<(), StoreError> {
        let mut heads = lock(&self.0);
        let one = heads
            .get_mut(origin)
            .filter(|one| one.head == *old)
            .ok_or_else(|| StoreError::HeadMoved { origin: origin.to_owned() })?;
        one.head = new.clone();
        for (index, leaf) in (first.get()..).zip(leaves) {
            one.leaves.entry(*leaf).or_insert(LeafIndex::new(index));
        }
        Ok(())
    }

    async fn find(&self, origin: &str, leaves: &[Hash]) -> Result<Vec<Option<LeafIndex>>, StoreError> {
        let heads = lock(&self.0);
        let known = heads.get(origin).map(|one| &one.leaves);
        Ok(leaves.iter().map(|leaf| known.and_then(|known| known.get(leaf)).copied()).collect())
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
