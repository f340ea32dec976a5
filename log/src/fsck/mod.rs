//! Checks a whole log from outside: every entry, every tile, the root, the signatures.
//!
//! Bundles are read and hashed on several threads; the tree takes one node per bundle. Memory does not grow with the
//! log, and with a state file a check that was interrupted goes on where it was.

mod bundle;
pub(crate) mod state;
pub(crate) mod tree;

use std::{num::NonZero, path::PathBuf, thread::available_parallelism, time::Duration};

use futures_util::{StreamExt, stream};
use glassbloom_service::ExitCode;
use glassbloom_spec::{
    checkpoint::Checkpoint,
    hash::Hash,
    id::TreeSize,
    policy::{OpenError, Policy},
    tile::{FULL_WIDTH, TileLevel, TilePath},
};
use tokio::time::Instant;

use self::{
    bundle::{Checked, Step},
    tree::Rebuilt,
};
pub use crate::source::Source;

/// Why a log could not be checked to the end.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The checkpoint is not one of this log under the policy.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] OpenError),
    /// There is no checkpoint.
    #[error("{0} has no checkpoint: nothing was published there yet")]
    NoCheckpoint(String),
    /// A log that is to be copied has an object that is not what it must be.
    #[error("{path}: {why}; nothing was signed or shown; `glassbloom-log fsck` on the source says more")]
    Damaged {
        /// The object.
        path: TilePath,
        /// What is wrong with it.
        why: String,
    },
    /// A log that is to be copied has other entries than it signed.
    #[error(
        "the entries hash to root {found}, the checkpoint of size {size} says {signed}; nothing was signed or shown; \
         `glassbloom-log fsck` on the source says more"
    )]
    OtherRoot {
        /// Size of the tree.
        size: TreeSize,
        /// Recomputed root.
        found: Hash,
        /// Signed root.
        signed: Hash,
    },
    /// The file that says how far an earlier check came cannot be read.
    #[error("{path} is not the state of a check: {why}; name another file with --state")]
    StateMalformed {
        /// The file.
        path: String,
        /// The cause.
        why: String,
    },
    /// The file that says how far an earlier check came is not of this log, or this log is not what it was.
    #[error(
        "{path} does not fit the log: {why}. Begin anew, with `fsck --from-genesis`, `import --restart` or an empty \
         folder for `export`: if that goes well, the file was of another log or damaged; if the log itself went back \
         or forked, keep the file, it is evidence"
    )]
    StateWrong {
        /// The file.
        path: String,
        /// What contradicts what.
        why: String,
    },
    /// The state of the check cannot be kept.
    #[error("cannot write {path}: {why}")]
    Unwritable {
        /// The file.
        path: String,
        /// The cause.
        why: String,
    },
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
            Self::StateMalformed { .. } => ExitCode::Malformed,
            Self::Checkpoint(_) | Self::Damaged { .. } | Self::OtherRoot { .. } | Self::StateWrong { .. } => {
                ExitCode::Rejected
            }
            Self::Unwritable { .. } => ExitCode::Usage,
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
    #[error("entry {index} in {}: its bytes do not hash to its leaf in the tree", bundle_of(*index))]
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
    /// A tile holds other hashes than follow from the entries, or has another length than its name says.
    #[error("{path}: does not hold the hashes that follow from the entries")]
    Tile {
        /// The tile.
        path: TilePath,
    },
}

impl Finding {
    /// What the operator can do about it.
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Bundle { .. } | Self::Entry { .. } => {
                "bring this bundle back from a mirror, an export or a backup of public/, and check again; the log \
                 must not sign on before it is whole"
            }
            Self::Missing { .. } => {
                "bring it back from a mirror, an export or a backup of public/; with a static server, see that it \
                 serves this path"
            }
            Self::Root { .. } => {
                "these entries are not what was signed: keep this copy and the checkpoint, compare them with a mirror \
                 and with what the witnesses cosigned, and tell both"
            }
            Self::Tile { .. } => {
                "bring this tile back from a mirror, an export or a backup of public/; the entries below it are \
                 unaffected"
            }
        }
    }
}

fn bundle_of(entry: u64) -> TilePath {
    TilePath::new(TileLevel::Entries, entry / u64::from(FULL_WIDTH), FULL_WIDTH)
        .expect("an entry lies in a bundle")
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint that was checked against.
    pub checkpoint: Checkpoint,
    /// What is wrong, in the order of the tree; empty for a good log. The first [`MAX_FINDINGS`] of them.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
    /// Entries that an earlier run had checked already, and what it found, in words.
    pub resumed: Option<(TreeSize, Vec<String>)>,
}

impl Report {
    /// Whether nothing was found, now or by the earlier run that this one went on from.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty() && self.resumed.as_ref().is_none_or(|(_, findings)| findings.is_empty())
    }
}

/// How a log is checked.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// File that remembers how far the check has come.
    pub state: Option<PathBuf>,
    /// Begin at the first entry, whatever is remembered.
    pub from_genesis: bool,
}

/// Findings that are kept: a log of which everything is wrong must not fill the memory.
pub const MAX_FINDINGS: usize = 1000;
/// Bundles fetched at once over the network.
const FETCHES: usize = 16;
/// Bundles that one thread reads from disk in a row.
const RUN: u64 = 8;
/// How often the state is written.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Rebuilds the tree from its bundles and compares every tile and the root. `progress` is told the number of entries
/// done and of all.
///
/// # Errors
/// As [`check_with`].
pub async fn check(
    source: &Source,
    policy: &Policy,
    origin: &str,
    progress: impl FnMut(u64, u64),
) -> Result<Report, FsckError> {
    check_with(source, policy, origin, &Options::default(), progress).await
}

/// Like [`check`], with a memory of how far it came.
///
/// # Errors
/// When the checkpoint does not meet the policy, the source fails or the remembered state does not fit; what is wrong
/// with the content is in the report.
pub async fn check_with(
    source: &Source,
    policy: &Policy,
    origin: &str,
    options: &Options,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, FsckError> {
    let note = source.get("checkpoint").await?.ok_or_else(|| FsckError::NoCheckpoint(origin.to_owned()))?;
    let checkpoint = policy.open(Some(origin), &note)?;
    let size = checkpoint.size();
    let remembered = match &options.state {
        Some(path) if !options.from_genesis => state::load(path, checkpoint.head(), source).await?,
        _ => None,
    };
    let resumed = remembered.as_ref().map(|(tree, findings)| (tree.size(), findings.clone()));
    let mut run = Run {
        tree: remembered.map(|(tree, _)| tree).unwrap_or_default(),
        findings: Vec::new(),
        more: 0,
        last: None,
    };
    let save = |run: &Run| {
        let Some(path) = &options.state else { return Ok(()) };
        let earlier = resumed.iter().flat_map(|(_, findings)| findings).cloned();
        let findings: Vec<String> =
            earlier.chain(run.findings.iter().map(ToString::to_string)).take(MAX_FINDINGS).collect();
        state::save(path, checkpoint.head(), &run.tree, &findings)
    };
    let first = run.tree.size().get() / u64::from(FULL_WIDTH);
    let mut steps = std::pin::pin!(steps(source, first, size));
    let mut saved = Instant::now();
    while let Some(read) = steps.next().await {
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                // What was checked so far stays checked.
                save(&run)?;
                return Err(error);
            }
        };
        for step in read {
            run.take(step, source, size).await?;
        }
        progress(run.tree.size().get(), size.get());
        if saved.elapsed() >= SAVE_EVERY {
            save(&run)?;
            saved = Instant::now();
        }
    }
    save(&run)?;
    run.finish(source, &checkpoint).await?;
    progress(size.get(), size.get());
    Ok(Report { checkpoint, findings: run.findings, more: run.more, resumed })
}

/// Reads and hashes all bundles from `first` on, several at once, in order.
fn steps(
    source: &Source,
    first: u64,
    size: TreeSize,
) -> impl stream::Stream<Item = Result<Vec<Step>, FsckError>> + '_ {
    let bundles = size.get().div_ceil(u64::from(FULL_WIDTH));
    let (run, parallel) = match source {
        // One more than there are cores: a thread that waits for the disk leaves its core idle.
        Source::Folder(_) => (RUN, available_parallelism().map_or(2, NonZero::get) + 1),
        Source::Bucket(_) | Source::Http(..) | Source::Store(_) => (1, FETCHES),
    };
    let runs = (first..bundles).step_by(run as usize).map(move |begin| begin..(begin + run).min(bundles));
    stream::iter(runs)
        .map(move |run| async move {
            let Source::Folder(folder) = source else {
                return bundle::anywhere(source, run.start, size).await;
            };
            let folder = folder.clone();
            let failed =
                FsckError::Unreachable { path: folder.display().to_string(), why: "a thread died".into() };
            let done = tokio::task::spawn_blocking(move || bundle::in_folder(&folder, run, size)).await;
            done.unwrap_or(Err(failed))
        })
        .buffered(parallel)
}

/// A check under way.
struct Run {
    tree: Rebuilt,
    findings: Vec<Finding>,
    more: u64,
    /// The partial bundle at the end.
    last: Option<bundle::Compared>,
}

impl Run {
    async fn take(&mut self, step: Step, source: &Source, size: TreeSize) -> Result<(), FsckError> {
        match bundle::judge(step, source, size).await? {
            Checked::Full { root, findings } => {
                self.found(findings);
                let findings = self.tree.push(root, source).await?;
                self.found(findings);
            }
            Checked::Last(compared) => self.last = Some(compared),
        }
        Ok(())
    }

    async fn finish(&mut self, source: &Source, checkpoint: &Checkpoint) -> Result<(), FsckError> {
        let findings = self.tree.finish(source).await?;
        self.found(findings);
        let mut found = self.tree.root();
        if let Some(last) = self.last.take() {
            let entries = last.entries.as_ref().ok().map(|leaves| self.tree.root_with(leaves));
            let tile = last.tile.as_ref().ok().map(|leaves| self.tree.root_with(leaves));
            let signed = Some(checkpoint.root());
            found = if tile == signed { tile } else { entries.or(tile) }.unwrap_or(Hash::EMPTY_TREE);
            self.found(last.findings(entries == signed));
        }
        let (size, signed) = (checkpoint.size(), checkpoint.root());
        if found != signed {
            self.found(vec![Finding::Root { size, found, signed }]);
        }
        Ok(())
    }

    fn found(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            if self.findings.len() < MAX_FINDINGS {
                self.findings.push(finding);
            } else {
                self.more += 1;
            }
        }
    }
}
