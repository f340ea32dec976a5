//! Streams a log's entries in constant memory and folds them into a root.

use futures_util::{Stream, StreamExt, stream};
use glassbloom_service::{FetchError, LogClient};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::{Frontier, NodeId, Nodes},
    tile::{FULL_WIDTH, TilePath, TileSet, decode_bundle},
};

/// Bundles in flight at once. At most 16 MiB each, in practice a few hundred kilobytes.
const IN_FLIGHT: usize = 8;

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A tile or bundle did not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What came is not a tile or a bundle.
    #[error("{0}")]
    Malformed(String),
}

/// Consecutive entries from one bundle, with what the hash tile says of them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Index of the first entry.
    pub first: LeafIndex,
    /// The entries.
    pub entries: Vec<Vec<u8>>,
    /// Leaf hashes recomputed from the entries.
    pub hashes: Vec<Hash>,
    /// Leaf hashes as the level-0 tile has them.
    pub tile: Vec<Hash>,
}

/// An entry whose bytes do not hash to what the hash tile says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The entry.
    pub index: LeafIndex,
    /// Hash of the bytes in the bundle.
    pub entry: Hash,
    /// Hash in the level-0 tile.
    pub tile: Hash,
}

/// Why the entries do not lead to the root, and which are to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The hash tiles lead to the root: the entries named are not what was logged.
    Entries(Vec<Mismatch>),
    /// Neither leads to the root: the span `from..to` was altered in both.
    Both {
        /// First entry of the span.
        from: LeafIndex,
        /// The tree size that does not hold.
        to: TreeSize,
        /// Where bundle and tile differ from each other as well.
        mismatches: Vec<Mismatch>,
        /// Roots over full bundles, from that of the given number on: to be compared with the hash tiles above.
        bundles: (u64, Vec<Hash>),
    },
    /// The entries lead to the root: only these rows of hash tiles were altered.
    Tiles(Vec<Mismatch>),
}

/// The first full bundle whose root is not what the hash tiles one level up have for it.
///
/// # Errors
/// When those tiles cannot be read.
pub async fn first_wrong_bundle(
    client: &LogClient,
    (first, roots): &(u64, Vec<Hash>),
    size: TreeSize,
) -> Result<Option<u64>, ReplayError> {
    let nodes = |number: u64| NodeId { level: BUNDLE_LEVEL, index: first + number };
    let wanted: Vec<NodeId> = (0..roots.len() as u64).map(nodes).collect();
    let mut tiles = TileSet::new();
    for path in TileSet::needed(&wanted, size) {
        let bytes = client.fetch(path).await?;
        tiles.insert(path, &bytes).map_err(|error| ReplayError::Malformed(error.to_string()))?;
    }
    let differs = |(node, root): &(&NodeId, &Hash)| tiles.node(**node).is_some_and(|tile| tile != **root);
    Ok(wanted.iter().zip(roots).find(differs).map(|(node, _)| node.index))
}

/// Reads entries `from..to.size`, in order, several bundles ahead.
pub fn batches(
    client: &LogClient,
    from: TreeSize,
    to: TreeSize,
) -> impl Stream<Item = Result<Batch, ReplayError>> + '_ {
    let width = u64::from(FULL_WIDTH);
    let bundles = if from >= to { 0..0 } else { from.get() / width..to.get().div_ceil(width) };
    stream::iter(bundles).map(move |bundle| fetch(client, bundle, from, to)).buffered(IN_FLIGHT)
}

async fn fetch(client: &LogClient, bundle: u64, from: TreeSize, to: TreeSize) -> Result<Batch, ReplayError> {
    let entries_path = TilePath::entries(bundle, to).expect("the bundle is below the size");
    let hashes_path = TilePath::hashes(0, bundle, to).expect("the tile is below the size");
    let (entries, tile) = tokio::try_join!(client.fetch(entries_path), client.fetch(hashes_path))?;
    let entries = decode_bundle(&entries, entries_path.width()).ok_or_else(|| {
        ReplayError::Malformed(format!("{entries_path} is not exactly {} entries", entries_path.width()))
    })?;
    let tile = match tile.as_chunks::<{ Hash::LEN }>() {
        (hashes, []) if hashes.len() == entries.len() => hashes,
        _ => {
            let detail = format!("{hashes_path} is not exactly {} hashes", hashes_path.width());
            return Err(ReplayError::Malformed(detail));
        }
    };
    // The first bundle may begin with entries that an earlier replay has folded already.
    let start = bundle * u64::from(FULL_WIDTH);
    let known = from.get().saturating_sub(start).min(entries.len() as u64) as usize;
    let entries: Vec<Vec<u8>> = entries[known..].iter().map(|entry| entry.to_vec()).collect();
    Ok(Batch {
        first: LeafIndex::new(start + known as u64),
        hashes: entries.iter().map(|entry| Hash::leaf(entry)).collect(),
        tile: tile[known..].iter().map(|hash| Hash::from_bytes(*hash)).collect(),
        entries,
    })
}

/// Folds batches into a root, twice: from the entries and from the hash tiles, to tell which of the two is wrong.
#[derive(Clone, Debug)]
pub struct Fold {
    from: TreeSize,
    entries: Frontier,
    tiles: Frontier,
    mismatches: Vec<Mismatch>,
    /// 32 bytes for 256 entries, to narrow down what does not lead to the root.
    bundles: Vec<Hash>,
}

impl Fold {
    /// Goes on from an earlier replay.
    pub fn new(from: Frontier) -> Self {
        Self {
            from: from.size(),
            tiles: from.clone(),
            entries: from,
            mismatches: Vec::new(),
            bundles: Vec::new(),
        }
    }

    /// Adds the next entries.
    pub fn absorb(&mut self, batch: &Batch) {
        for ((index, entry), tile) in (batch.first.get()..).zip(&batch.hashes).zip(&batch.tile) {
            let bundles = &mut self.bundles;
            self.entries.append_with(*entry, |node, hash| {
                if node.level == BUNDLE_LEVEL {
                    bundles.push(hash);
                }
            });
            self.tiles.append(*tile);
            // The first few name the damage; more would only use memory.
            if entry != tile && self.mismatches.len() < MAX_MISMATCHES {
                self.mismatches.push(Mismatch { index: index.into(), entry: *entry, tile: *tile });
            }
        }
    }

    /// Entries folded so far.
    pub fn size(&self) -> TreeSize {
        self.entries.size()
    }

    /// Compares with the root. The frontier is worth keeping unless the entries are damaged.
    ///
    /// # Errors
    /// What is wrong; with [`Damage::Tiles`] the entries are right nevertheless, and the frontier comes along.
    pub fn finish(self, head: &TreeHead) -> Result<Frontier, (Damage, Option<Frontier>)> {
        let entries_right = self.entries.size() == head.size && self.entries.root() == head.root;
        let tiles_right = self.tiles.size() == head.size && self.tiles.root() == head.root;
        match (entries_right, tiles_right) {
            (true, true) => Ok(self.entries),
            (true, false) => Err((Damage::Tiles(self.mismatches), Some(self.entries))),
            (false, true) => Err((Damage::Entries(self.mismatches), None)),
            (false, false) => {
                let from = LeafIndex::new(self.from.get());
                let bundles = (self.from.get() / u64::from(FULL_WIDTH), self.bundles);
                Err((Damage::Both { from, to: head.size, mismatches: self.mismatches, bundles }, None))
            }
        }
    }
}

const MAX_MISMATCHES: usize = 1000;
/// The level of the node over a full bundle of 256.
const BUNDLE_LEVEL: u8 = 8;
