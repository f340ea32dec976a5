//! One bundle, the tile of its leaf hashes, and which of the two is right when they differ.

use std::path::Path;

use bytes::Bytes;
use glassbloom_spec::{
    hash::Hash,
    id::TreeSize,
    merkle::root_of,
    tile::{FULL_WIDTH, TilePath, decode_bundle},
};

use super::{Finding, FsckError};
use crate::source::{Source, read_tile, rows};

/// Level of the node over a full bundle of 256.
pub(super) const BUNDLE_LEVEL: u8 = 8;

/// What a bundle adds to the tree.
pub(super) enum Checked {
    /// A full bundle, by the root over its entries.
    Full { root: Hash, findings: Vec<Finding> },
    /// The partial bundle at the end, by what it and the tile beside it say: only the signed root can tell which is
    /// right.
    Last(Compared),
}

/// What the two objects say about the same leaves.
pub(super) struct Compared {
    bundle: TilePath,
    hashes: TilePath,
    /// Leaf hashes that follow from the entries, or what is wrong with the bundle.
    pub(super) entries: Result<Vec<Hash>, Finding>,
    /// Leaf hashes as the tile has them, or what is wrong with the tile.
    pub(super) tile: Result<Vec<Hash>, Finding>,
}

type Object = Option<(TilePath, Bytes)>;

/// The objects of a bundle in a tree of this size.
fn paths(index: u64, size: TreeSize) -> (TilePath, TilePath) {
    let bundle = TilePath::entries(index, size).expect("the index is below the number of bundles");
    (bundle, TilePath::hashes(0, index, size).expect("every bundle has a tile of hashes beside it"))
}

/// Checks consecutive bundles on this thread, up to the first for which the tree above is needed.
pub(super) fn in_folder(
    folder: &Path,
    bundles: std::ops::Range<u64>,
    size: TreeSize,
) -> Result<Vec<Step>, FsckError> {
    bundles
        .map(|index| {
            let (bundle, hashes) = paths(index, size);
            Ok(step(compare(bundle, &read_tile(folder, bundle)?, hashes, &read_tile(folder, hashes)?)))
        })
        .collect()
}

/// Checks one bundle of any source; the hashing is done on another thread.
pub(super) async fn anywhere(source: &Source, index: u64, size: TreeSize) -> Result<Vec<Step>, FsckError> {
    let (bundle, hashes) = paths(index, size);
    let (entries, tile) = tokio::try_join!(source.tile(bundle), source.tile(hashes))?;
    let compared = move || vec![step(compare(bundle, &entries, hashes, &tile))];
    tokio::task::spawn_blocking(compared)
        .await
        .map_err(|e| FsckError::Unreachable { path: bundle.to_string(), why: e.to_string() })
}

/// A bundle that is done, or one that is not right and takes more reading.
pub(super) enum Step {
    Right(Hash),
    Open(Compared),
}

fn step(compared: Compared) -> Step {
    match (&compared.entries, &compared.tile) {
        (Ok(entries), Ok(tile)) if entries == tile && compared.bundle.is_full() => {
            Step::Right(root_of(entries.iter().copied()))
        }
        _ => Step::Open(compared),
    }
}

/// Asks the tree above which of the two is right.
pub(super) async fn judge(step: Step, source: &Source, size: TreeSize) -> Result<Checked, FsckError> {
    let compared = match step {
        Step::Right(root) => return Ok(Checked::Full { root, findings: Vec::new() }),
        Step::Open(compared) if compared.bundle.is_full() => compared,
        Step::Open(compared) => return Ok(Checked::Last(compared)),
    };
    let index = compared.bundle.index();
    let width = u64::from(FULL_WIDTH);
    let above = TilePath::hashes(1, index / width, size).expect("a full bundle has a row above it");
    let row = source.tile(above).await?.and_then(|(path, bytes)| {
        rows(path, &bytes, usize::from(above.width()))?.get((index % width) as usize).copied()
    });
    let by_entries = compared.entries.as_ref().ok().map(|leaves| root_of(leaves.iter().copied()));
    let by_tile = compared.tile.as_ref().ok().map(|leaves| root_of(leaves.iter().copied()));
    let tile_is_right = by_tile.is_some() && by_tile == row && by_entries != row;
    let entries_are_right = by_entries.is_some() && by_entries == row && by_tile != row;
    // With both gone, the row lets the rest of the tree be checked all the same.
    let root = if tile_is_right { by_tile } else { by_entries.or(by_tile).or(row) };
    Ok(Checked::Full {
        root: root.unwrap_or(Hash::EMPTY_TREE),
        findings: compared.findings(entries_are_right),
    })
}

impl Compared {
    /// What is wrong; with `entries_are_right` it is the tile, of the two.
    pub(super) fn findings(self, entries_are_right: bool) -> Vec<Finding> {
        let first = self.bundle.index() * u64::from(FULL_WIDTH);
        match (self.entries, self.tile) {
            (Ok(entries), Ok(tile)) if entries != tile && entries_are_right => {
                vec![Finding::Tile { path: self.hashes }]
            }
            (Ok(entries), Ok(tile)) => {
                let wrong = (first..).zip(entries.iter().zip(&tile)).filter(|(_, (leaf, row))| leaf != row);
                wrong.map(|(index, _)| Finding::Entry { index }).collect()
            }
            (entries, tile) => tile.err().into_iter().chain(entries.err()).collect(),
        }
    }
}

fn compare(bundle: TilePath, entries: &Object, hashes: TilePath, tile: &Object) -> Compared {
    let width = usize::from(bundle.width());
    let first = bundle.index() * u64::from(FULL_WIDTH);
    let tile = match tile {
        None => Err(Finding::Missing { path: hashes }),
        Some((path, bytes)) => rows(*path, bytes, width).ok_or(Finding::Tile { path: *path }),
    };
    let entries = match entries {
        None => Err(Finding::Missing { path: bundle }),
        Some((path, bytes)) => match decode_bundle(bytes, path.width()) {
            Some(entries) => Ok(entries[..width].iter().map(|entry| Hash::leaf(entry)).collect()),
            None => Err(Finding::Bundle { path: *path, first, last: first + width as u64 - 1 }),
        },
    };
    Compared { bundle, hashes, entries, tile }
}
