//! Tiles in a local directory, laid out so that any static file server can serve it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use glassbloom_service::durable;
use glassbloom_spec::tile::TilePath;

use super::{BatchName, StoreError, TileStore};

/// `PUBLIC/checkpoint` and `PUBLIC/tile/…` for the world, `STAGING/…` for the log alone.
///
/// Every write is: temporary file, fsync, rename, fsync of the folder. Holds `STAGING/lock` while it lives, so that a
/// second process on the same folders is refused.
pub struct LocalTiles(Arc<Inner>);

/// Says that this process alone works with a folder.
pub struct FolderLock {
    // Locked while open; the operating system releases it when the process dies, however it dies.
    _file: File,
}

impl FolderLock {
    /// Locks `FOLDER/lock`, creating both if missing. Blocks on the disk, never on another process.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        durable::create_folder(folder)
            .map_err(|e| StoreError::io(format!("create {}", folder.display()), e))?;
        let path = folder.join("lock");
        let shown = path.display().to_string();
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| StoreError::io(format!("open {shown}"), e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path: shown }),
            Err(fs::TryLockError::Error(e)) => Err(StoreError::io(format!("lock {shown}"), e)),
        }
    }
}

struct Inner {
    public: PathBuf,
    staging: PathBuf,
    _lock: FolderLock,
}

impl LocalTiles {
    /// Opens both folders, creating them if missing. Blocks on the disk.
    pub fn open(public: &Path, staging: &Path) -> Result<Self, StoreError> {
        durable::create_folder(public)
            .map_err(|e| StoreError::io(format!("create {}", public.display()), e))?;
        let lock = FolderLock::take(staging)?;
        Ok(Self(Arc::new(Inner { public: public.to_owned(), staging: staging.to_owned(), _lock: lock })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: String,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|e| StoreError::io(what, e))
    }
}

/// What became of a write-once write.
enum Put {
    Done,
    Conflict(PathBuf),
}

impl Inner {
    fn put(&self, objects: &[(TilePath, Bytes)]) -> io::Result<Put> {
        let mut folders = BTreeSet::new();
        let mut renames = Vec::with_capacity(objects.len());
        for (path, bytes) in objects {
            let target = self.public.join(path.to_string());
            match fs::read(&target) {
                Ok(found) if found == *bytes => {
                    // Its folder may not have reached the disk when the process that wrote it died.
                    folders.insert(parent(&target));
                    continue;
                }
                Ok(_) => return Ok(Put::Conflict(target)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let folder = parent(&target);
            durable::create_folder(&folder)?;
            let temporary = target.with_extension("tmp");
            let mut file = File::create(&temporary)?;
            io::Write::write_all(&mut file, bytes)?;
            file.sync_all()?;
            renames.push((temporary, target));
            folders.insert(folder);
        }
        for (temporary, target) in renames {
            fs::rename(temporary, target)?;
        }
        for folder in folders {
            File::open(folder)?.sync_all()?;
        }
        Ok(Put::Done)
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().expect("a tile path has at least two parts").to_owned()
}

fn optional(read: io::Result<Vec<u8>>) -> io::Result<Option<Bytes>> {
    match read {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[async_trait]
impl TileStore for LocalTiles {
    async fn put(&self, objects: Vec<(TilePath, Bytes)>) -> Result<(), StoreError> {
        match self.blocking("write tiles".into(), move |inner| inner.put(&objects)).await? {
            Put::Done => Ok(()),
            Put::Conflict(path) => Err(StoreError::Conflict { path: path.display().to_string() }),
        }
    }

    async fn get(&self, path: &TilePath) -> Result<Option<Bytes>, StoreError> {
        let path = path.to_string();
        self.blocking(format!("read {path}"), move |inner| optional(fs::read(inner.public.join(path)))).await
    }

    async fn discard_partials(&self, full: &TilePath) -> Result<(), StoreError> {
        let path = format!("{full}.p");
        self.blocking(format!("remove {path}"), move |inner| {
            missing_is_fine(fs::remove_dir_all(inner.public.join(path)))
        })
        .await
    }

    async fn publish(&self, checkpoint: Bytes) -> Result<(), StoreError> {
        self.blocking("publish the checkpoint".into(), move |inner| {
            durable::write(&inner.public.join("checkpoint"), &checkpoint)
        })
        .await
    }

    async fn published(&self) -> Result<Option<Bytes>, StoreError> {
        self.blocking("read the checkpoint".into(), |inner| {
            optional(fs::read(inner.public.join("checkpoint")))
        })
        .await
    }

    async fn stage(&self, batch: BatchName, bytes: Bytes) -> Result<(), StoreError> {
        self.blocking(format!("stage {batch}"), move |inner| {
            durable::write(&inner.staging.join(batch.to_string()), &bytes)
        })
        .await
    }

    async fn staged(&self) -> Result<Vec<BatchName>, StoreError> {
        self.blocking("list staged batches".into(), |inner| {
            let mut names = Vec::new();
            for entry in fs::read_dir(&inner.staging)? {
                // The lock and temporary files have other names.
                names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<BatchName>().ok()));
            }
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    async fn read_staged(&self, batch: BatchName) -> Result<Option<Bytes>, StoreError> {
        self.blocking(format!("read {batch}"), move |inner| {
            optional(fs::read(inner.staging.join(batch.to_string())))
        })
        .await
    }

    async fn unstage(&self, batches: &[BatchName]) -> Result<(), StoreError> {
        let batches = batches.to_vec();
        self.blocking("remove staged batches".into(), move |inner| {
            batches
                .iter()
                .try_for_each(|b| missing_is_fine(fs::remove_file(inner.staging.join(b.to_string()))))
        })
        .await
    }
}
