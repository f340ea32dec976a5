//! Checks a whole log from outside: every entry, every tile, the root, the signatures.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use glassbloom_service::{ExitCode, read_bounded};
use glassbloom_spec::{
    checkpoint::Checkpoint,
    hash::Hash,
    id::TreeSize,
    merkle::Frontier,
    policy::{OpenError, Policy},
    tile::{FULL_WIDTH, MAX_ENTRY, TileLevel, TilePath, decode_bundle},
};
use reqwest::StatusCode;

use crate::{
    store::{StoreError, TileStore},
    witness::describe,
};

/// Where a log is read from.
#[derive(Clone)]
pub enum Source {
    /// A folder with `checkpoint` and `tile/` in it.
    Folder(PathBuf),
    /// An address below which they are served.
    Http(reqwest::Client, String),
    /// The store of a log in this process.
    Store(Arc<dyn TileStore>),
}

/// Why a log could not be checked to the end.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The checkpoint is not one of this log under the policy.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] OpenError),
    /// There is no checkpoint.
    #[error("{0} has no checkpoint: nothing was published there yet")]
    NoCheckpoint(String),
    /// The source does not answer.
    #[error("cannot read {path}: {why}")]
    Unreachable {
        /// What was asked for.
        path: String,
        /// The cause.
        why: String,
    },
}

impl FsckError {
    /// How a tool ends that meets it.
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Checkpoint(OpenError::Malformed(_)) => ExitCode::Malformed,
            Self::Checkpoint(OpenError::Quorum { .. }) => ExitCode::Stale,
            Self::Checkpoint(_) => ExitCode::Rejected,
            Self::NoCheckpoint(_) | Self::Unreachable { .. } => ExitCode::Unreachable,
        }
    }
}

/// Something in a log that is not as its checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A bundle cannot be split into its entries.
    #[error("{path}: not a bundle of {width} entries (entries {first} to {last})", width = path.width())]
    Bundle {
        /// The bundle.
        path: TilePath,
        /// Index of its first entry.
        first: u64,
        /// Index of its last entry.
        last: u64,
    },
    /// An entry does not hash to the leaf that the tile beside it holds.
    #[error("entry {index}: its bytes do not hash to its leaf in the tree")]
    Entry {
        /// Its index.
        index: u64,
    },
    /// A tile or bundle that must exist does not.
    #[error("{path}: missing")]
    Missing {
        /// The object.
        path: TilePath,
    },
    /// The tree of all entries has another root than the checkpoint.
    #[error("the entries hash to root {found}, the checkpoint of size {size} says {signed}")]
    Root {
        /// Size of the tree.
        size: TreeSize,
        /// Recomputed root.
        found: Hash,
        /// Signed root.
        signed: Hash,
    },
    /// A tile above the leaves holds other hashes than follow from the entries.
    #[error("{path}: does not hold the hashes that follow from the entries")]
    Tile {
        /// The tile.
        path: TilePath,
    },
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint that was checked against.
    pub checkpoint: Checkpoint,
    /// Everything that is wrong, in the order of the tree; empty for a good log.
    pub findings: Vec<Finding>,
}

/// Bundles fetched at once.
const PARALLEL: usize = 16;
/// No object of a log is larger: 256 entries of 65,535 bytes.
const MAX_OBJECT: usize = FULL_WIDTH as usize * (MAX_ENTRY + 2);

impl Source {
    /// Reads an object; `None` when there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, FsckError> {
        let unreachable = |why: String| FsckError::Unreachable { path: path.to_owned(), why };
        match self {
            Self::Folder(folder) => match tokio::fs::read(folder.join(path)).await {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(unreachable(error.to_string())),
            },
            Self::Http(client, base) => {
                let url = format!("{}/{path}", base.trim_end_matches('/'));
                let response = client
                    .get(&url)
                    .send()
                    .await
                    .map_err(|e| unreachable(format!("{url}: {}", describe(&e))))?;
                match response.status() {
                    StatusCode::OK => {}
                    StatusCode::NOT_FOUND => return Ok(None),
                    status => return Err(unreachable(format!("{url} answered {status}"))),
                }
                let bytes =
                    read_bounded(response, MAX_OBJECT).await.map_err(|e| unreachable(e.to_string()))?;
                Ok(Some(bytes.into()))
            }
            Self::Store(store) => {
                let read = match path.parse::<TilePath>() {
                    Ok(path) => store.get(&path).await,
                    Err(_) => store.published().await,
                };
                read.map_err(|error: StoreError| unreachable(error.to_string()))
            }
        }
    }

    /// A tile or bundle, or its beginning in the full one: a log drops partial tiles when the full one is there.
    async fn tile(&self, path: TilePath) -> Result<Option<(TilePath, Bytes)>, FsckError> {
        let paths = if path.is_full() { vec![path] } else { vec![path, path.to_full()] };
        for path in paths {
            if let Some(bytes) = self.get(&path.to_string()).await? {
                return Ok(Some((path, bytes)));
            }
        }
        Ok(None)
    }
}

/// Rebuilds the tree from its bundles and compares every tile and the root. `progress` is told the number of entries
/// done and of all.
///
/// # Errors
/// When the checkpoint does not meet the policy or the source fails; what is wrong with the content is in the report.
pub async fn check(
    source: &Source,
    policy: &Policy,
    origin: &str,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, FsckError> {
    let note = source.get("checkpoint").await?.ok_or_else(|| FsckError::NoCheckpoint(origin.to_owned()))?;
    let checkpoint = policy.open(Some(origin), &note)?;
    let size = checkpoint.size();
    let mut tree = Rebuilt::default();
    let bundles = size.get().div_ceil(u64::from(FULL_WIDTH));
    let mut read = stream::iter(0..bundles).map(|index| read_bundle(source, index, size)).buffered(PARALLEL);
    while let Some(bundle) = read.next().await {
        let Bundle { leaves, findings } = bundle?;
        tree.findings.extend(findings);
        for leaf in leaves {
            tree.push(leaf, source, size).await?;
        }
        progress(tree.frontier.size().get(), size.get());
    }
    tree.finish(source, size).await?;
    let (found, signed) = (tree.frontier.root(), checkpoint.root());
    if found != signed {
        tree.findings.push(Finding::Root { size, found, signed });
    }
    Ok(Report { checkpoint, findings: tree.findings })
}

struct Bundle {
    leaves: Vec<Hash>,
    findings: Vec<Finding>,
}

/// Reads a bundle and the tile of its leaf hashes and compares them, on a thread of its own.
async fn read_bundle(source: &Source, index: u64, size: TreeSize) -> Result<Bundle, FsckError> {
    let bundle = TilePath::entries(index, size).expect("the index is below the number of bundles");
    let hashes = TilePath::hashes(0, index, size).expect("every bundle has a tile of hashes beside it");
    let (entries, tile) = tokio::try_join!(source.tile(bundle), source.tile(hashes))?;
    let compared =
        tokio::task::spawn_blocking(move || compare(bundle, entries.as_ref(), hashes, tile.as_ref())).await;
    compared.map_err(|e| FsckError::Unreachable { path: bundle.to_string(), why: e.to_string() })
}

fn compare(
    bundle: TilePath,
    entries: Option<&(TilePath, Bytes)>,
    hashes: TilePath,
    tile: Option<&(TilePath, Bytes)>,
) -> Bundle {
    let width = usize::from(bundle.width());
    let first = bundle.index() * u64::from(FULL_WIDTH);
    let mut findings = Vec::new();
    let tile: Option<Vec<Hash>> = match tile {
        None => {
            findings.push(Finding::Missing { path: hashes });
            None
        }
        Some((path, bytes)) => match bytes.as_chunks::<{ Hash::LEN }>() {
            (rows, []) if rows.len() == usize::from(path.width()) => {
                Some(rows[..width].iter().copied().map(Hash::from_bytes).collect())
            }
            _ => {
                findings.push(Finding::Tile { path: *path });
                None
            }
        },
    };
    let leaves: Option<Vec<Hash>> = match entries {
        None => {
            findings.push(Finding::Missing { path: bundle });
            None
        }
        Some((path, bytes)) => {
            let entries = decode_bundle(bytes, path.width());
            if entries.is_none() {
                findings.push(Finding::Bundle { path: *path, first, last: first + width as u64 - 1 });
            }
            entries.map(|entries| entries[..width].iter().map(|entry| Hash::leaf(entry)).collect())
        }
    };
    if let (Some(leaves), Some(tile)) = (&leaves, &tile) {
        let wrong = (first..).zip(leaves.iter().zip(tile)).filter(|(_, (leaf, row))| leaf != row);
        findings.extend(wrong.map(|(index, _)| Finding::Entry { index }));
    }
    // With the bundle gone, the tile lets the rest of the tree be checked all the same.
    Bundle { leaves: leaves.or(tile).unwrap_or_else(|| vec![Hash::EMPTY_TREE; width]), findings }
}

/// The tree as it follows from the entries, with the unfinished tile of each level above the leaves.
#[derive(Default)]
struct Rebuilt {
    frontier: Frontier,
    rows: [Vec<Hash>; 8],
    findings: Vec<Finding>,
}

impl Rebuilt {
    async fn push(&mut self, leaf: Hash, source: &Source, size: TreeSize) -> Result<(), FsckError> {
        let rows = &mut self.rows;
        self.frontier.append_with(leaf, |node, hash| {
            // Level 0 is compared with the bundles.
            if node.level > 0 && node.level.is_multiple_of(8) {
                rows[usize::from(node.level / 8)].push(hash);
            }
        });
        for level in 1..8 {
            if self.rows[level].len() == usize::from(FULL_WIDTH) {
                self.compare(level, source, size).await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self, source: &Source, size: TreeSize) -> Result<(), FsckError> {
        for level in 1..8 {
            if !self.rows[level].is_empty() {
                self.compare(level, source, size).await?;
            }
        }
        Ok(())
    }

    async fn compare(&mut self, level: usize, source: &Source, size: TreeSize) -> Result<(), FsckError> {
        let rows = std::mem::take(&mut self.rows[level]);
        let count = self.frontier.size().get() >> (8 * level);
        let path = TilePath::new(
            TileLevel::Hashes(level as u8),
            (count - 1) / u64::from(FULL_WIDTH),
            u16::try_from(rows.len()).expect("at most 256 rows"),
        );
        let path = path.expect("a tile with rows has a name");
        debug_assert!(count <= size.get() >> (8 * level), "no tile beyond the tree");
        let expected: Vec<u8> = rows.iter().flat_map(|row| *row.as_bytes()).collect();
        match source.tile(path).await? {
            None => self.findings.push(Finding::Missing { path }),
            Some((_, found)) if found.starts_with(&expected) => {}
            Some((path, _)) => self.findings.push(Finding::Tile { path }),
        }
        Ok(())
    }
}
