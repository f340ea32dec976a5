//! Fills a new, empty log with everything that another tlog-tiles log has, at the same indices and under the same root.
//!
//! The order that keeps every promise: what is to be imported is written down; tiles and bundles are written and
//! synced; the tree is compared with the signed one; and only then the head is signed and swapped in. A crash before
//! that leaves an empty log that must not be served, because the tiles of another tree lie in it: the same import,
//! run again, goes on, and `restart` throws away what there is. A crash after it leaves a whole log.

use std::{fs, io, path::Path, sync::Arc};

use bytes::Bytes;
use glassbloom_spec::{
    checkpoint::{Checkpoint, TreeHead},
    id::TreeSize,
    policy::Policy,
    tile::TilePath,
};

use crate::{
    LogKeys,
    copy::{Sink, copy},
    fsck::{FsckError, Source},
    store::{HeadStore, StoreError, StoredHead, TileStore},
};

/// Why a log was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The head is not one of this log.
    #[error("the stored head of {0} is not signed by a key of this log")]
    BadHead(String),
    /// The log has no head.
    #[error("{0} has no head; run `glassbloom-log init` first")]
    NoHead(String),
    /// The log has entries already.
    #[error("{origin} has {size} entries already; only a new log, which has none, can be imported into")]
    NotEmpty {
        /// The log's origin.
        origin: String,
        /// Its size.
        size: TreeSize,
    },
    /// The source.
    #[error(transparent)]
    Source(#[from] FsckError),
    /// The log's own store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file that says that an import has begun.
    #[error("{path}: {source}")]
    Marker {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

/// The log that is to be filled, not served by anybody.
pub struct Target<'a> {
    /// Its keys.
    pub keys: &'a LogKeys,
    /// Its tiles.
    pub tiles: Arc<dyn TileStore>,
    /// Its head.
    pub heads: &'a dyn HeadStore,
    /// The file that is there while an import is under way; see [`is_under_way`].
    pub marker: &'a Path,
}

/// Whether an import into the log has begun and not ended. Such a log must not be served.
///
/// # Errors
/// When that cannot be found out.
pub fn is_under_way(marker: &Path) -> io::Result<bool> {
    marker.try_exists()
}

struct StoreSink(Arc<dyn TileStore>);

impl Sink for StoreSink {
    async fn put(&self, objects: Vec<(TilePath, Bytes)>) -> Result<(), FsckError> {
        self.0.put(objects).await.map_err(|error| {
            let why = match error {
                StoreError::Conflict { path } => format!(
                    "{path} is there with other content, from an import of another log; run again with --restart"
                ),
                other => other.to_string(),
            };
            FsckError::Unwritable { path: "the tiles of the log".into(), why }
        })
    }
}

/// Imports the source as of its checkpoint, which opens under the policy.
///
/// # Errors
/// When the log is not empty, the source is not what its checkpoint signs, or a store fails. The log is whole or empty.
pub async fn import(
    target: &Target<'_>,
    source: &Source,
    policy: &Policy,
    origin: &str,
    progress: impl FnMut(u64, u64),
) -> Result<Checkpoint, ImportError> {
    let Target { keys, tiles, heads, marker } = target;
    let ours = keys.origin().to_owned();
    let failed = |source| ImportError::Marker { path: marker.display().to_string(), source };
    let stored = heads.load(&ours).await?.ok_or_else(|| ImportError::NoHead(ours.clone()))?;
    let head = keys.open_head(&stored.note).ok_or_else(|| ImportError::BadHead(ours.clone()))?;
    let note = source.get("checkpoint").await?.ok_or_else(|| FsckError::NoCheckpoint(origin.to_owned()))?;
    let checkpoint = policy.open(Some(origin), &note).map_err(FsckError::from)?;
    let (size, root) = (checkpoint.size(), checkpoint.root());
    // The swap was the last step but one of an import that was cut off there.
    let done = (head.size, head.root) == (size, root) && is_under_way(marker).map_err(failed)?;
    if !done && head.size > TreeSize::new(0) {
        return Err(ImportError::NotEmpty { origin: ours, size: head.size });
    }
    if !done {
        begin(marker).map_err(failed)?;
        let state = marker.with_extension("state");
        copy(source, checkpoint.head(), &StoreSink(Arc::clone(tiles)), &state, progress).await?;
        let head = TreeHead { origin: ours.clone(), size, root };
        let next = StoredHead { note: keys.sign_head(&head), applied: size };
        heads.swap(&ours, &stored, &next).await?;
    }
    end(marker).map_err(failed)?;
    Ok(checkpoint)
}

fn begin(marker: &Path) -> io::Result<()> {
    if let Some(folder) = marker.parent() {
        glassbloom_service::durable::create_folder(folder)?;
    }
    glassbloom_service::durable::write(marker, b"an import into this log is under way\n")
}

/// Forgets an import: its state first, so that whoever finds the marker finds all that belongs to it.
pub(crate) fn end(marker: &Path) -> io::Result<()> {
    for path in [&marker.with_extension("state"), marker] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
