//! Which entries the log holds already: a hint in the leaf index, a proof in the tree.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::{self, NodeId, Nodes},
    tile::{FULL_WIDTH, TilePath},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use crate::{
    edge::Leaf,
    error::Error,
    reader::TileReader,
    store::{LeafStore, StoreError},
};

/// Leaves per insert. The larger the insert, the fewer pages of the index are written per leaf.
const AT_ONCE: usize = 32 * 1024;
/// How long the first leaf waits for others to be inserted with.
const WAIT: Duration = Duration::from_secs(5);
/// Tiles of leaf hashes, at 8 KiB each, that were proven to be in the tree: entries are sent again in runs.
const PROVEN_TILES: usize = 64;

/// Inserts the leaves of written tiles into the index, off the path of commits.
pub(crate) struct Indexer {
    pub(crate) applied: mpsc::Receiver<Vec<Hash>>,
    pub(crate) indexed: watch::Sender<TreeSize>,
    pub(crate) leaves: Arc<dyn LeafStore>,
    pub(crate) origin: String,
}

impl Indexer {
    /// Inserts one run of leaves; `false` when no more can come.
    pub(crate) async fn step(&mut self) -> Result<bool, StoreError> {
        let Some(mut leaves) = self.applied.recv().await else { return Ok(false) };
        let deadline = Instant::now() + WAIT;
        while leaves.len() < AT_ONCE {
            let Ok(Some(more)) = timeout_at(deadline, self.applied.recv()).await else { break };
            leaves.extend(more);
        }
        let from = self.indexed.borrow().get();
        self.leaves.insert(&self.origin, LeafIndex::new(from), &leaves).await?;
        self.indexed.send_replace(TreeSize::new(from + leaves.len() as u64));
        Ok(true)
    }
}

/// Reads what the index lacks from the tiles: what a crash lost, or everything when the index itself was lost.
pub(crate) async fn catch_up(
    origin: &str,
    leaves: &dyn LeafStore,
    reader: &TileReader,
    size: TreeSize,
) -> Result<(), Error> {
    let mut next = leaves.indexed(origin).await?.get();
    let missing = size.get().saturating_sub(next);
    if missing > AT_ONCE as u64 {
        tracing::info!(origin, missing, "the leaf index is rebuilt from the tiles");
    }
    if next > size.get() {
        // The index of a longer tree: its candidates beyond this one prove nothing, and are replaced as it grows.
        leaves.insert(origin, LeafIndex::new(size.get()), &[]).await?;
    }
    while next < size.get() {
        let mut run = Vec::new();
        while run.len() < AT_ONCE && next + (run.len() as u64) < size.get() {
            let at = next + run.len() as u64;
            let path = TilePath::hashes(0, at / u64::from(FULL_WIDTH), size).expect("it is below the size");
            let tile = reader.get(path).await?.ok_or(Error::MissingTile { path })?;
            let (rows, _) = tile.as_chunks::<{ Hash::LEN }>();
            let skip = (at % u64::from(FULL_WIDTH)) as usize;
            let rows = rows.get(skip..usize::from(path.width())).filter(|rows| !rows.is_empty());
            let rows = rows.ok_or(glassbloom_spec::tile::TileError::WrongContent { path })?;
            run.extend(rows.iter().copied().map(Hash::from_bytes));
        }
        leaves.insert(origin, LeafIndex::new(next), &run).await?;
        next += run.len() as u64;
    }
    Ok(())
}

/// Finds the entries that are in the log. Memory: the leaves that are not yet indexed, and a few tiles.
pub(crate) struct Known {
    applied: watch::Receiver<TreeHead>,
    indexed: watch::Receiver<TreeSize>,
    leaves: Arc<dyn LeafStore>,
    proven: VecDeque<(u64, Vec<Hash>)>,
    reader: TileReader,
    /// Leaves from `first` on, which the index may not have yet.
    recent: VecDeque<Hash>,
    first: u64,
    places: HashMap<Hash, LeafIndex>,
}

impl Known {
    /// Everything that `indexed` says is in the index.
    pub(crate) fn new(
        leaves: Arc<dyn LeafStore>,
        reader: TileReader,
        applied: watch::Receiver<TreeHead>,
        indexed: watch::Receiver<TreeSize>,
    ) -> Self {
        let first = indexed.borrow().get();
        Self {
            applied,
            indexed,
            leaves,
            proven: VecDeque::new(),
            reader,
            recent: VecDeque::new(),
            first,
            places: HashMap::new(),
        }
    }

    /// Remembers leaves that were committed, the next ones of the tree.
    pub(crate) fn committed(&mut self, leaves: &[Leaf]) {
        for leaf in leaves {
            self.places.insert(leaf.hash, LeafIndex::new(self.first + self.recent.len() as u64));
            self.recent.push_back(leaf.hash);
        }
    }

    /// The first index of each entry that is in the log.
    pub(crate) async fn find(&mut self, leaves: &[Hash]) -> Result<Vec<Option<LeafIndex>>, Error> {
        // Before the index is asked: what is forgotten here must be there.
        self.forget_indexed();
        let origin = self.applied.borrow().origin.clone();
        let candidates = self.leaves.find(&origin, leaves).await?;
        let mut found = Vec::with_capacity(leaves.len());
        for (leaf, candidates) in leaves.iter().zip(candidates) {
            let mut place = None;
            for candidate in candidates {
                if self.is_at(*leaf, candidate).await? {
                    place = Some(candidate);
                    break;
                }
            }
            found.push(place.or_else(|| self.places.get(leaf).copied()));
        }
        Ok(found)
    }

    fn forget_indexed(&mut self) {
        let indexed = self.indexed.borrow().get();
        while self.first < indexed
            && let Some(leaf) = self.recent.pop_front()
        {
            self.places.remove(&leaf);
            self.first += 1;
        }
    }

    /// Whether the tree has this leaf at this index: the index may have been altered, the root was signed.
    async fn is_at(&mut self, leaf: Hash, index: LeafIndex) -> Result<bool, Error> {
        let (tile, row) = (index.get() / u64::from(FULL_WIDTH), index.get() % u64::from(FULL_WIDTH));
        if let Some((_, rows)) = self.proven.iter().find(|(proven, _)| *proven == tile) {
            return Ok(rows.get(row as usize) == Some(&leaf));
        }
        let head = self.applied.borrow().clone();
        match self.prove(leaf, index, &head).await {
            Ok(Some(rows)) => {
                if rows.len() == usize::from(FULL_WIDTH) {
                    self.proven.push_back((tile, rows));
                }
                if self.proven.len() > PROVEN_TILES {
                    self.proven.pop_front();
                }
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(Error::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(origin = %head.origin, %index, "the leaf index or the tiles are wrong: {error}");
                Ok(false)
            }
        }
    }

    /// The tile that holds the leaf, if all of it is proven to be in the tree: each row is the leaf or below one of
    /// the proof's hashes.
    async fn prove(&self, leaf: Hash, index: LeafIndex, head: &TreeHead) -> Result<Option<Vec<Hash>>, Error> {
        let path = TilePath::hashes(0, index.get() / u64::from(FULL_WIDTH), head.size);
        let Some(path) = path.filter(|_| index.get() < head.size.get()) else { return Ok(None) };
        let node = NodeId { level: 0, index: index.get() };
        let mut nodes = merkle::inclusion_nodes(index, head.size)?;
        nodes.push(node);
        let tiles = self.reader.tiles(&nodes, head.size).await?;
        if tiles.node(node) != Some(leaf) {
            return Ok(None);
        }
        let proof = merkle::prove_inclusion(index, head.size, &tiles)?;
        merkle::verify_inclusion(leaf, index, head.size, head.root, &proof)?;
        Ok(tiles.get(path).map(<[Hash]>::to_vec))
    }
}
