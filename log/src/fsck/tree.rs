//! The tree as it follows from the bundles, compared with the tiles above them.

use bytes::Bytes;
use glassbloom_spec::{
    hash::Hash,
    id::TreeSize,
    merkle::{Frontier, NodeId},
    tile::{FULL_WIDTH, TileLevel, TilePath},
};

use super::{Finding, FsckError, bundle::BUNDLE_LEVEL};
use crate::source::Source;

/// Levels of tiles that a tree of fewer than 2^64 entries can have.
pub(super) const LEVELS: usize = 8;

/// The frontier, and the unfinished tile of each level above the leaves: a few hundred hashes, whatever the size.
#[derive(Clone, Default)]
pub(crate) struct Rebuilt {
    frontier: Frontier,
    rows: [Vec<Hash>; LEVELS],
}

impl Rebuilt {
    /// Restores a tree of whole bundles from its unfinished tiles, lowest level first; `None` unless these are the
    /// tiles of a tree of this size and root.
    pub(super) fn restore(size: TreeSize, root: Hash, rows: &[Vec<Hash>]) -> Option<Self> {
        let mut tree = Self::default();
        if rows.len() != LEVELS {
            return None;
        }
        for (level, row) in rows.iter().enumerate().rev() {
            let expected = (size.get() >> (8 * level)) % u64::from(FULL_WIDTH);
            if row.len() as u64 != expected || (level == 0 && expected != 0) {
                return None;
            }
            for hash in row {
                tree.append(8 * level as u8, *hash);
            }
        }
        (tree.size() == size && tree.root() == root).then_some(tree)
    }

    /// The unfinished tiles, lowest level first.
    pub(super) fn rows(&self) -> &[Vec<Hash>] {
        &self.rows
    }

    pub(crate) fn size(&self) -> TreeSize {
        self.frontier.size()
    }

    pub(super) fn root(&self) -> Hash {
        self.frontier.root()
    }

    fn append(&mut self, level: u8, root: Hash) {
        let rows = &mut self.rows;
        self.frontier.append_subtree(level, root, |NodeId { level, .. }, hash| {
            // Level 0 is compared with the bundles.
            if level > 0 && level.is_multiple_of(8) {
                rows[usize::from(level / 8)].push(hash);
            }
        });
    }

    /// Adds a full bundle and returns the tiles that it completes.
    pub(crate) fn append_bundle(&mut self, root: Hash) -> Vec<(TilePath, Bytes)> {
        self.append(BUNDLE_LEVEL, root);
        let mut completed = Vec::new();
        for level in 1..LEVELS {
            if self.rows[level].len() == usize::from(FULL_WIDTH) {
                completed.push(self.tile(level));
                self.rows[level].clear();
            }
        }
        completed
    }

    /// Adds a full bundle and compares the tiles that it completes.
    pub(super) async fn push(&mut self, root: Hash, source: &Source) -> Result<Vec<Finding>, FsckError> {
        compare(self.append_bundle(root), source).await
    }

    /// The root with these leaves at the end, fewer than a bundle.
    pub(crate) fn root_with(&self, leaves: &[Hash]) -> Hash {
        let mut frontier = self.frontier.clone();
        for leaf in leaves {
            frontier.append(*leaf);
        }
        frontier.root()
    }

    /// The tiles above the bundles that are not complete.
    pub(crate) fn unfinished(&self) -> Vec<(TilePath, Bytes)> {
        (1..LEVELS).filter(|level| !self.rows[*level].is_empty()).map(|level| self.tile(level)).collect()
    }

    /// Compares the tiles that are not complete.
    pub(super) async fn finish(&self, source: &Source) -> Result<Vec<Finding>, FsckError> {
        compare(self.unfinished(), source).await
    }

    fn tile(&self, level: usize) -> (TilePath, Bytes) {
        let rows = &self.rows[level];
        let count = self.frontier.size().get() >> (8 * level);
        let path = TilePath::new(
            TileLevel::Hashes(level as u8),
            (count - 1) / u64::from(FULL_WIDTH),
            u16::try_from(rows.len()).expect("at most 256 rows"),
        );
        let bytes: Vec<u8> = rows.iter().flat_map(|row| *row.as_bytes()).collect();
        (path.expect("a tile with rows has a name"), bytes.into())
    }
}

async fn compare(tiles: Vec<(TilePath, Bytes)>, source: &Source) -> Result<Vec<Finding>, FsckError> {
    let mut findings = Vec::new();
    for (path, expected) in tiles {
        match source.tile(path).await? {
            None => findings.push(Finding::Missing { path }),
            Some((found, bytes)) if bytes.starts_with(&expected) && exact(found, &bytes) => {}
            Some((path, _)) => findings.push(Finding::Tile { path }),
        }
    }
    Ok(findings)
}

fn exact(path: TilePath, bytes: &[u8]) -> bool {
    bytes.len() == usize::from(path.width()) * Hash::LEN
}
