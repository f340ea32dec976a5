//! Reads tiles back and builds proofs from them, so that nothing grows with the tree.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::{self, NodeId, Nodes},
    tile::{TileLevel, TilePath, TileSet},
};

use crate::{
    error::Error,
    store::{StoreError, TileStore},
};

/// Hash tiles kept in memory, at 8 KiB each: the right edge and what was read last.
const CACHED_TILES: usize = 512;

/// Roots of subtrees kept in memory, at about 100 bytes each.
const CACHED_NODES: usize = 16 * 1024;

/// Reads a log's tiles through a small cache. Clones share it.
#[derive(Clone)]
pub struct TileReader {
    store: Arc<dyn TileStore>,
    cache: Arc<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    tiles: HashMap<TilePath, Bytes>,
    // Roots of perfect subtrees, which never change: neighbours in the tree share most of their proofs.
    nodes: HashMap<NodeId, Hash>,
    // Oldest first; tiles are write-once, so no entry is ever replaced.
    order: VecDeque<TilePath>,
}

impl TileReader {
    /// A reader of this store with an empty cache.
    pub fn new(store: Arc<dyn TileStore>) -> Self {
        Self { store, cache: Arc::default() }
    }

    /// A tile or bundle in exactly this width, or its beginning when only the full one is left; `None` when there is
    /// neither.
    pub async fn get(&self, path: TilePath) -> Result<Option<Bytes>, StoreError> {
        if let Some(bytes) = self.cached(path) {
            return Ok(Some(bytes));
        }
        let mut found = self.store.get(&path).await?;
        if found.is_none() && !path.is_full() {
            found = self.store.get(&path.to_full()).await?.and_then(|full| first_rows(&full, path));
        }
        if let Some(bytes) = &found {
            self.remember(path, bytes.clone());
        }
        Ok(found)
    }

    /// Puts a hash tile that was just written into the cache; bundles are not kept.
    pub(crate) fn remember(&self, path: TilePath, bytes: Bytes) {
        if path.level() == TileLevel::Entries {
            return;
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.tiles.insert(path, bytes).is_none() {
            cache.order.push_back(path);
        }
        if cache.order.len() > CACHED_TILES
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.tiles.remove(&oldest);
        }
    }

    fn cached(&self, path: TilePath) -> Option<Bytes> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).tiles.get(&path).cloned()
    }

    /// The tiles that hold these nodes in a tree of this size.
    pub async fn tiles(&self, nodes: &[NodeId], size: TreeSize) -> Result<TileSet, Error> {
        let mut set = TileSet::new();
        for path in TileSet::needed(nodes, size) {
            let bytes = self.get(path).await?.ok_or(Error::MissingTile { path })?;
            set.insert(path, &bytes)?;
        }
        Ok(set)
    }

    /// The inclusion proof of an entry in the tree of this size.
    pub async fn inclusion(&self, index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, Error> {
        let mut missing = merkle::inclusion_nodes(index, size)?;
        let mut nodes = BTreeMap::new();
        {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            missing.retain(|id| match cache.nodes.get(id) {
                Some(hash) => nodes.insert(*id, *hash).is_some(),
                None => true,
            });
        }
        let tiles = self.tiles(&missing, size).await?;
        let found = missing.into_iter().filter_map(|id| tiles.node(id).map(|hash| (id, hash)));
        let found: Vec<(NodeId, Hash)> = found.collect();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.nodes.len() > CACHED_NODES {
            cache.nodes.clear();
        }
        // Those below are as quickly read from their tile.
        cache.nodes.extend(found.iter().filter(|(id, _)| id.level >= 3).copied());
        drop(cache);
        nodes.extend(found);
        Ok(merkle::prove_inclusion(index, size, &nodes)?)
    }

    /// The proof that the tree of size `new` extends that of size `old`.
    pub async fn consistency(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, Error> {
        let tiles = self.tiles(&merkle::consistency_nodes(old, new)?, new).await?;
        Ok(merkle::prove_consistency(old, new, &tiles)?)
    }

    /// The root of the tree of this size, recomputed from tiles.
    pub async fn root(&self, size: TreeSize) -> Result<Hash, Error> {
        let tiles = self.tiles(&merkle::frontier_nodes(size), size).await?;
        Ok(merkle::root_from_nodes(size, &tiles)?)
    }
}

/// The beginning of a full tile or bundle that equals its partial version.
fn first_rows(full: &Bytes, path: TilePath) -> Option<Bytes> {
    let mut end = usize::from(path.width()) * Hash::LEN;
    if path.level() == TileLevel::Entries {
        end = 0;
        for _ in 0..path.width() {
            let length = full.get(end..)?.first_chunk()?;
            end += 2 + usize::from(u16::from_be_bytes(*length));
        }
    }
    (end <= full.len()).then(|| full.slice(..end))
}
