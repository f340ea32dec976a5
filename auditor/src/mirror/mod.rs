//! A mirror: a verified, complete copy of logs, laid out and served as the logs themselves are.
//! `[c2sp.org/tlog-mirror]` `[c2sp.org/tlog-tiles]`
//!
//! The copy's checkpoint moves only when every entry below it is on disk and leads to its root, so that whoever reads
//! the copy reads what the log committed to, also when the log is gone. Nothing is ever taken back: a log that shows
//! another history is not followed any further, and what it showed is kept as evidence.

mod copy;
mod disk;
mod http;
mod submit;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::PathBuf,
    sync::Arc,
};

use glassbloom_service::{Clock, ExitCode, FetchError, durable};
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    note::{NoteSigner, VerifierKey},
    policy::{OpenError, Policy},
};

pub use copy::{Copy, Synced};
pub use http::{router, serve};

use crate::{
    replay::ReplayError,
    witness::{
        KeyError,
        keys::{self, Role},
    },
};

/// What to mirror.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the mirror: `public/<SHA-256 of the origin>/` for the world, evidence and keys beside it.
    pub data: PathBuf,
    /// Whom to believe; every log in it is mirrored.
    pub policy: Policy,
    /// Base URL of a log service, in place of the URLs in the policy.
    pub log: Option<String>,
    /// The logs upload what they have, so that nothing is read from them.
    pub submissions: bool,
}

/// Why a log's copy could not be brought up to date. What was copied before stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// What the log serves does not lead to the root that it signed, and proves nothing against it.
    #[error("{0}; the copy stays as it was, try again later or tell the log's operator")]
    Damaged(String),
    /// The mirror's folder.
    #[error("the mirror's folder: {0}")]
    Disk(#[from] io::Error),
    /// The log showed another history than before.
    #[error("{detail}; both checkpoints are in {}, the copy stays as it was", evidence.display())]
    Fork {
        /// What differs.
        detail: String,
        /// The file with both notes.
        evidence: PathBuf,
    },
    /// The copy on disk is not what this program wrote.
    #[error("the copy itself is damaged: {0}; move its folder away and mirror the log anew")]
    Local(String),
    /// The log did not answer, or not with a tile.
    #[error(transparent)]
    Log(#[from] ReplayError),
    /// The checkpoint does not satisfy the policy.
    #[error("checkpoint: {0}")]
    Open(#[from] OpenError),
}

impl From<FetchError> for SyncError {
    fn from(error: FetchError) -> Self {
        Self::Log(error.into())
    }
}

impl SyncError {
    /// How a tool ends that meets it.
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Damaged(_) | Self::Fork { .. } | Self::Local(_) => ExitCode::Rejected,
            Self::Disk(_) => ExitCode::Usage,
            Self::Log(ReplayError::Malformed(_) | ReplayError::Fetch(FetchError::Malformed { .. }))
            | Self::Open(OpenError::Malformed(_)) => ExitCode::Malformed,
            Self::Log(_) => ExitCode::Unreachable,
            Self::Open(OpenError::Quorum { .. }) => ExitCode::Stale,
            Self::Open(_) => ExitCode::Rejected,
        }
    }
}

/// Why a mirror did not start.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The folder.
    #[error("{path}: {error}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Another process works on the folder.
    #[error("{0} is in use by another mirror; stop it or choose another --data")]
    Locked(PathBuf),
    /// The mirror's key has the name of a log or a witness.
    #[error("{0:?} is the name of a key in the policy; a mirror must have a name of its own")]
    SameName(String),
    /// Uploads are answered with the mirror's signatures.
    #[error(
        "a mirror that takes uploads signs for them: make its keys with `glassbloom-auditor mirror init`"
    )]
    NoKey,
    /// Neither the policy nor the command line says where a log is.
    #[error("the policy names no URL for log {0:?}; add it to the log line or give --log URL")]
    Where(String),
}

/// Mirrors of all logs of a policy.
pub struct Mirror {
    copies: Vec<Arc<Copy>>,
    submissions: bool,
    // Locked while open; the operating system releases it when the process dies, however it dies.
    _lock: File,
}

/// What all copies share.
struct Common {
    data: PathBuf,
    policy: Policy,
    signers: Vec<NoteSigner>,
    clock: Arc<dyn Clock>,
}

/// Makes the mirror's keys where they are missing and returns the public halves: Ed25519 and ML-DSA-44.
///
/// # Errors
/// When the folder cannot be written or holds keys of another name.
pub fn init(data: &std::path::Path, name: &str) -> Result<Vec<VerifierKey>, KeyError> {
    keys::make(Role::Mirror, data, name)
}

impl Mirror {
    /// Opens the folder, creating it when it is missing, for this process alone.
    ///
    /// # Errors
    /// When the folder is not usable or a log has no address.
    pub fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, MirrorError> {
        let Config { data, policy, log, submissions } = config;
        let io = |path: &std::path::Path| {
            let path = path.to_owned();
            move |error| MirrorError::Io { path, error }
        };
        durable::create_folder(&data).map_err(io(&data))?;
        let path = data.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(MirrorError::Locked(data)),
            Err(fs::TryLockError::Error(error)) => return Err(MirrorError::Io { path, error }),
        }
        let signers = keys::present(Role::Mirror, &data)?;
        if let Some(own) = signers.first().map(|signer| signer.vkey().name())
            && (policy.log(own).is_some()
                || policy.witnesses().iter().any(|witness| witness.key.name() == own))
        {
            return Err(MirrorError::SameName(own.to_owned()));
        }
        if submissions && signers.is_empty() {
            return Err(MirrorError::NoKey);
        }
        let mut urls = Vec::new();
        for followed in policy.logs() {
            let origin = &followed.origin;
            let url = match &log {
                _ if submissions => None,
                Some(base) => Some(format!("{}/{}", base.trim_end_matches('/'), path_of(origin))),
                None => followed.url.clone(),
            };
            if url.is_none() && !submissions {
                return Err(MirrorError::Where(origin.clone()));
            }
            urls.push((origin.clone(), url));
        }
        let common = Arc::new(Common { data, policy, signers, clock });
        let copies = urls.iter().map(|(origin, url)| {
            let copy = Copy::open(Arc::clone(&common), origin, url.as_deref());
            copy.map(Arc::new).map_err(io(&common.data))
        });
        Ok(Self { copies: copies.collect::<Result<_, _>>()?, submissions, _lock: lock })
    }

    /// The copy of each log.
    pub fn copies(&self) -> &[Arc<Copy>] {
        &self.copies
    }

    /// Every path that a copy is served under: the hash of its origin and, where no two logs share it, the path that
    /// the log itself is served under by its service.
    fn prefixes(&self) -> BTreeMap<String, Arc<Copy>> {
        let mut prefixes = BTreeMap::new();
        for copy in &self.copies {
            let path = path_of(copy.origin());
            if self.copies.iter().filter(|other| path_of(other.origin()) == path).count() == 1 {
                prefixes.insert(path.to_owned(), Arc::clone(copy));
            }
        }
        for copy in &self.copies {
            prefixes.insert(Hash::of(copy.origin().as_bytes()).to_string(), Arc::clone(copy));
        }
        prefixes
    }
}

/// Where a service serves a log: its origin without the name of the service.
fn path_of(origin: &str) -> &str {
    origin.split_once('/').map_or(origin, |(_, path)| path)
}

/// The first entry that is not what the log's hash tiles say, in words.
fn first_difference(size: TreeSize, index: Option<LeafIndex>) -> String {
    match index {
        Some(index) => format!("entry {index} does not hash to its leaf in the log's tiles"),
        None => format!("the entries do not lead to the root that the log signed at size {size}"),
    }
}
