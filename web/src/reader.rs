//! Reads a log that serves tiles. `[c2sp.org/tlog-tiles]`
//!
//! Nothing that comes from here is believed: proofs are built from tiles and then checked against a checkpoint.

use core::cell::RefCell;
use std::{collections::BTreeMap, rc::Rc};

use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::{NodeId, ProofError, consistency_nodes, inclusion_nodes, prove_consistency, prove_inclusion},
    tile::{FULL_WIDTH, TileLevel, TilePath, TileSet, decode_bundle},
};

/// Why something could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server has no such thing.
    #[error("{url} does not exist on this server")]
    Missing {
        /// What was asked for.
        url: String,
    },
    /// The server answered with an error.
    #[error("{url} answered with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// No answer that a page may read.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the browser said.
        reason: String,
    },
}

/// Where bytes come from: the browser, or a test's memory.
#[expect(async_fn_in_trait, reason = "pages run on one thread, so nothing has to be Send")]
pub trait Fetch {
    /// The content at an address.
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError>;
}

/// Why a part of a log could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The bytes are not what their path says.
    #[error("the log's {path} is not a tile of {} entries", path.width())]
    Malformed {
        /// The tile.
        path: TilePath,
    },
    /// The index or size is outside the tree.
    #[error(transparent)]
    Outside(#[from] ProofError),
}

/// Reads one log.
#[derive(Clone, Debug)]
pub struct LogReader<F> {
    fetch: F,
    prefix: String,
    /// Tiles never change, so what was read once is kept while the page is open.
    cache: Rc<RefCell<BTreeMap<TilePath, Vec<u8>>>>,
}

impl<F: Fetch> LogReader<F> {
    /// A reader of the log under an address.
    pub fn new(fetch: F, prefix: &str) -> Self {
        Self { fetch, prefix: prefix.trim_end_matches('/').to_owned(), cache: Rc::default() }
    }

    /// The address of the log.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The newest checkpoint, unchecked.
    pub async fn checkpoint(&self) -> Result<Vec<u8>, FetchError> {
        self.fetch.get(&format!("{}/checkpoint", self.prefix)).await
    }

    /// The entries with these indexes, in a tree of this size.
    pub async fn entries(
        &self,
        range: core::ops::Range<u64>,
        size: TreeSize,
    ) -> Result<Vec<(LeafIndex, Vec<u8>)>, ReadError> {
        let full = u64::from(FULL_WIDTH);
        let range = range.start..range.end.min(size.get());
        let mut found = Vec::new();
        if range.is_empty() {
            return Ok(found);
        }
        for at in range.start / full..range.end.div_ceil(full) {
            let Some(path) = TilePath::entries(at, size) else { break };
            let (path, bytes) = self.tile(path).await?;
            let entries = decode_bundle(&bytes, path.width()).ok_or(ReadError::Malformed { path })?;
            for (index, entry) in (at * full..).zip(entries) {
                if range.contains(&index) {
                    found.push((index.into(), entry.to_vec()));
                }
            }
        }
        Ok(found)
    }

    /// The proof that an entry is in the tree of this size, as the log's tiles have it.
    pub async fn inclusion(&self, index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, ReadError> {
        let nodes = inclusion_nodes(index, size)?;
        Ok(prove_inclusion(index, size, &self.tiles(&nodes, size).await?)?)
    }

    /// The proof that the tree of the new size begins with that of the old, as the log's tiles have it.
    pub async fn consistency(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, ReadError> {
        let nodes = consistency_nodes(old, new)?;
        Ok(prove_consistency(old, new, &self.tiles(&nodes, new).await?)?)
    }

    /// The tiles that hold these nodes.
    pub async fn tiles(&self, nodes: &[NodeId], size: TreeSize) -> Result<TileSet, ReadError> {
        let mut tiles = TileSet::new();
        for path in TileSet::needed(nodes, size) {
            let (path, bytes) = self.tile(path).await?;
            tiles.insert(path, &bytes).map_err(|_| ReadError::Malformed { path })?;
        }
        Ok(tiles)
    }

    /// A tile, or the full one at its place: a log may drop partial tiles once the full one exists.
    async fn tile(&self, path: TilePath) -> Result<(TilePath, Vec<u8>), ReadError> {
        for path in [path, path.to_full()] {
            if let Some(bytes) = self.cache.borrow().get(&path) {
                return Ok((path, bytes.clone()));
            }
        }
        let (path, bytes) = match self.get(path).await {
            Err(FetchError::Missing { .. }) if !path.is_full() => {
                (path.to_full(), self.get(path.to_full()).await?)
            }
            answer => (path, answer?),
        };
        self.cache.borrow_mut().insert(path, bytes.clone());
        Ok((path, bytes))
    }

    async fn get(&self, path: TilePath) -> Result<Vec<u8>, FetchError> {
        debug_assert!(matches!(path.level(), TileLevel::Entries | TileLevel::Hashes(_)));
        self.fetch.get(&format!("{}/{path}", self.prefix)).await
    }
}
