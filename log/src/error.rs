//! What can go wrong in a log, by fault.

use std::time::Duration;

use axum::http::StatusCode;
use glassbloom_service::Problem;
use glassbloom_spec::{
    id::{LeafIndex, TreeSize},
    merkle::ProofError,
    note::SignedNote,
    tile::{MAX_ENTRY, TileError, TilePath},
};

use crate::{life::Successor, store::StoreError};

/// Why a log refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This log's key has signed a tree that the log does not have, or does not have as it was.
    #[error(
        "{origin}: nothing is added or published, because of what lies in {folder}. After `fork` or `larger-tree`: a \
         witness has shown a tree that this log signed and does not have; find out whether the log was restored from \
         a backup or its key was taken, and tell those who rely on it. After `damage`: run `glassbloom-log fsck` and \
         replace what is damaged. Then move the file elsewhere and start again"
    )]
    Alarm {
        /// The log's origin.
        origin: String,
        /// Where the proof is.
        folder: String,
    },
    /// The log has ended.
    #[error(
        "{origin} is closed and takes no more entries{}",
        successor.as_ref().map(|next| format!("; {} goes on", next.origin)).unwrap_or_default()
    )]
    Closed {
        /// The log's origin.
        origin: String,
        /// The log that goes on.
        successor: Option<Successor>,
    },
    /// What the store holds does not hash to the signed head.
    #[error(
        "{origin}: {what}; do not repair by hand: restore the tiles from a mirror, never the head database"
    )]
    Corrupt {
        /// The log's origin.
        origin: String,
        /// What was found.
        what: String,
    },
    /// An entry without bytes says nothing.
    #[error("an entry has at least one byte")]
    EntryEmpty,
    /// The entry does not fit a bundle.
    #[error("the entry has {length} bytes; at most {MAX_ENTRY} fit")]
    EntryTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The log stopped: it failed, or is shutting down.
    #[error(
        "the log has stopped; entries that were answered are safe, send this one again after the restart"
    )]
    Halted,
    /// The head store has no head for this log.
    #[error(
        "{origin} has no head; run `glassbloom-log init` once for a new log, and never for an existing one"
    )]
    HeadMissing {
        /// The log's origin.
        origin: String,
    },
    /// The public checkpoint is ahead of the head store, which was probably restored from a backup.
    #[error(
        "{origin}: the published checkpoint has size {published}, the head store only {head}: it was restored from a \
         backup or belongs to another log; bring back the newest head database"
    )]
    HeadWentBack {
        /// The log's origin.
        origin: String,
        /// Size in the head store.
        head: TreeSize,
        /// Size of the published checkpoint.
        published: TreeSize,
    },
    /// The entry is in the log, but no checkpoint that covers it was published in time.
    #[error(
        "entry {index} is in the log, but no cosigned checkpoint covered it within {waited:?}; ask again later"
    )]
    Late {
        /// Where the entry is.
        index: LeafIndex,
        /// The log's signed promise that it will be covered.
        promise: Box<SignedNote>,
        /// How long the caller waited.
        waited: Duration,
    },
    /// A tile that must exist does not.
    #[error("{path} is missing from the store")]
    MissingTile {
        /// The tile.
        path: TilePath,
    },
    /// The log goes on from another one, which has not ended.
    #[error("{origin} begins when {predecessor} has ended; send the entry there")]
    NotBegun {
        /// The log's origin.
        origin: String,
        /// The log that comes before.
        predecessor: String,
    },
    /// More entries wait than the log keeps in memory.
    #[error("too many entries are waiting; send this one again in a second")]
    Overloaded,
    /// A proof could not be built.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored tile has the wrong form.
    #[error(transparent)]
    Tile(#[from] TileError),
}

impl Error {
    /// The HTTP status and the stable code that go with it.
    pub const fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Alarm { .. } => (StatusCode::SERVICE_UNAVAILABLE, "log-alarm"),
            Self::Closed { .. } => (StatusCode::GONE, "log-closed"),
            Self::Corrupt { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "log-corrupt"),
            Self::EntryEmpty => (StatusCode::BAD_REQUEST, "entry-empty"),
            Self::EntryTooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "entry-too-long"),
            Self::Halted => (StatusCode::SERVICE_UNAVAILABLE, "log-halted"),
            Self::HeadMissing { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "head-missing"),
            Self::HeadWentBack { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "head-went-back"),
            Self::Late { .. } => (StatusCode::SERVICE_UNAVAILABLE, "log-late"),
            Self::MissingTile { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "tile-missing"),
            Self::NotBegun { .. } => (StatusCode::SERVICE_UNAVAILABLE, "log-not-begun"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "log-overloaded"),
            Self::Proof(_) => (StatusCode::INTERNAL_SERVER_ERROR, "proof-failed"),
            Self::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "store-failed"),
            Self::Tile(_) => (StatusCode::INTERNAL_SERVER_ERROR, "tile-malformed"),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code) = error.status();
        let problem = Self::new(status, code, error.to_string());
        match error {
            Error::Closed { successor: Some(Successor { origin, reference }), .. } => {
                problem.with("successor", origin).with("successor_url", reference)
            }
            _ => problem,
        }
    }
}
