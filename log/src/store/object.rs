//! Tiles in a bucket, laid out so that the bucket or any CDN before it can serve them.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use glassbloom_spec::tile::{FULL_WIDTH, MAX_ENTRY, TilePath};
use object_store::{Error, PutMode, UpdateVersion};
use tokio::sync::Mutex;

use super::{
    BatchName, FolderLock, StoreError, TileStore,
    bucket::{Bucket, Kind, failed},
};

/// `PREFIX/public/LOG/checkpoint` and `PREFIX/public/LOG/tile/…` for the world, `PREFIX/staging/LOG/…` for the log
/// alone, so that nothing but `PREFIX/public/` need be readable.
///
/// Tiles are put with If-None-Match, the checkpoint with If-Match: a process that lost the log without noticing
/// cannot put an older checkpoint over a newer one. There is no lock; a second process is stopped by the swap of the
/// head.
pub struct ObjectTiles {
    public: Bucket,
    staging: Bucket,
    checkpoint: Mutex<Known>,
    _lock: Option<FolderLock>,
}

/// The published checkpoint, as this process last saw it.
enum Known {
    Unread,
    Absent,
    Version(UpdateVersion),
}

/// Requests in flight per call.
const PARALLEL: usize = 16;
/// How often a write-once object is tried: it may be deleted between the put that finds it and the look at it, and a
/// put that timed out may have arrived.
const ATTEMPTS: usize = 3;
/// No tile or bundle is larger, in bytes.
const MAX_OBJECT: usize = FULL_WIDTH as usize * (MAX_ENTRY + 2);
/// No checkpoint is larger, in bytes: room for more than two hundred post-quantum cosignatures.
const MAX_CHECKPOINT: usize = 1 << 20;
/// No staged batch is larger, in bytes: 4,096 entries of the largest size and their frame.
const MAX_STAGED: usize = 4096 * (MAX_ENTRY + 2) + 4096;
const CHECKPOINT: &str = "checkpoint";

impl ObjectTiles {
    /// The tiles of `log`, which is one path segment, in a bucket.
    pub fn new(bucket: &Bucket, log: &str) -> Self {
        Self {
            public: bucket.below(&format!("public/{log}")),
            staging: bucket.below(&format!("staging/{log}")),
            checkpoint: Mutex::new(Known::Unread),
            _lock: None,
        }
    }

    /// Keeps a lock for as long as these tiles are open: of the folder with what goes with them.
    #[must_use]
    pub fn holding(self, lock: FolderLock) -> Self {
        Self { _lock: Some(lock), ..self }
    }

    /// Writes an object that has these bytes for ever. Sending it again can hide nothing: what is there is compared.
    async fn put_once(&self, path: TilePath, bytes: Bytes) -> Result<(), StoreError> {
        let name = path.to_string();
        let full = self.public.path(&name);
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let put = self.public.write(&name, bytes.clone(), Kind::Immutable, PutMode::Create).await;
            let conditional = !matches!(put, Err(Error::NotImplemented { .. }));
            match put {
                Ok(_) => return Ok(()),
                Err(Error::AlreadyExists { .. } | Error::NotImplemented { .. }) => {}
                Err(error @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. })) => {
                    return Err(failed("write", &full, &error));
                }
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            }
            match self.public.get(&name, MAX_OBJECT).await? {
                Some(found) if found == bytes => return Ok(()),
                Some(_) => return Err(StoreError::Conflict { path: full.to_string() }),
                None if conditional => {}
                // The operator says that this store has no conditional put. There is one writer, so looking first is
                // nearly as good; the head is swapped elsewhere.
                None => {
                    let put = self.public.write(&name, bytes, Kind::Immutable, PutMode::Overwrite).await;
                    return put.map(|_| ()).map_err(|e| failed("write", &full, &e));
                }
            }
        }
        let comes_and_goes =
            || Error::Generic { store: "bucket", source: "it exists, and is not there".into() };
        Err(failed("write", &full, &last.unwrap_or_else(comes_and_goes)))
    }
}

#[async_trait]
impl TileStore for ObjectTiles {
    async fn put(&self, objects: Vec<(TilePath, Bytes)>) -> Result<(), StoreError> {
        let puts = objects.into_iter().map(|(path, bytes)| self.put_once(path, bytes));
        stream::iter(puts).buffer_unordered(PARALLEL).try_collect().await
    }

    async fn get(&self, path: &TilePath) -> Result<Option<Bytes>, StoreError> {
        self.public.get(&path.to_string(), MAX_OBJECT).await
    }

    async fn discard_partials(&self, full: &TilePath) -> Result<(), StoreError> {
        let folder = format!("{full}.p");
        let names = self.public.list(&folder).await?;
        self.public.delete(names.into_iter().map(|name| format!("{folder}/{name}")).collect()).await
    }

    async fn publish(&self, checkpoint: Bytes) -> Result<(), StoreError> {
        let mut known = self.checkpoint.lock().await;
        if matches!(*known, Known::Unread) {
            *known = version(self.public.read(CHECKPOINT, MAX_CHECKPOINT).await?.map(|read| read.version));
        }
        let mode = match &*known {
            Known::Version(version) => PutMode::Update(version.clone()),
            Known::Absent | Known::Unread => PutMode::Create,
        };
        let write = |mode| self.public.write(CHECKPOINT, checkpoint.clone(), Kind::Checkpoint, mode);
        let mut put = write(mode).await;
        if matches!(put, Err(Error::NotImplemented { .. })) {
            put = write(PutMode::Overwrite).await;
        }
        let path = self.public.path(CHECKPOINT);
        match put {
            Ok(written) => *known = version(Some(written)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                // An earlier attempt of this very put may have arrived although its answer did not.
                match self.public.read(CHECKPOINT, MAX_CHECKPOINT).await? {
                    Some(found) if found.bytes == checkpoint => *known = version(Some(found.version)),
                    _ => return Err(StoreError::CheckpointMoved { path: path.to_string() }),
                }
            }
            Err(error) => return Err(failed("write", &path, &error)),
        }
        Ok(())
    }

    async fn published(&self) -> Result<Option<Bytes>, StoreError> {
        let mut known = self.checkpoint.lock().await;
        let found = self.public.read(CHECKPOINT, MAX_CHECKPOINT).await?;
        *known = version(found.as_ref().map(|read| read.version.clone()));
        Ok(found.map(|read| read.bytes))
    }

    async fn stage(&self, batch: BatchName, bytes: Bytes) -> Result<(), StoreError> {
        let name = batch.to_string();
        let put = self.staging.write(&name, bytes, Kind::Private, PutMode::Overwrite).await;
        put.map(|_| ()).map_err(|e| failed("write", &self.staging.path(&name), &e))
    }

    async fn staged(&self) -> Result<Vec<BatchName>, StoreError> {
        let names = self.staging.list("").await?;
        let mut batches: Vec<BatchName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        batches.sort_unstable();
        Ok(batches)
    }

    async fn read_staged(&self, batch: BatchName) -> Result<Option<Bytes>, StoreError> {
        self.staging.get(&batch.to_string(), MAX_STAGED).await
    }

    async fn unstage(&self, batches: &[BatchName]) -> Result<(), StoreError> {
        self.staging.delete(batches.iter().map(BatchName::to_string).collect()).await
    }
}

/// A store that gives its objects neither ETag nor version cannot be held to one.
fn version(found: Option<UpdateVersion>) -> Known {
    match found {
        None => Known::Absent,
        Some(version) if version.e_tag.is_none() && version.version.is_none() => Known::Unread,
        Some(version) => Known::Version(version),
    }
}
