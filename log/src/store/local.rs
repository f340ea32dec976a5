//! Tiles in a local directory, laid out so that any static file server can serve it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use async_trait::async_trait;
use bytes::Bytes;
use glassbloom_service::durable;
use glassbloom_spec::tile::TilePath;

use super::{BatchName, StoreError, TileStore, journal::Journal};

/// `PUBLIC/checkpoint` and `PUBLIC/tile/…` for the world, `STAGING/…` for the log alone.
///
/// Every public write is: temporary file, fsync, rename, fsync of the folder; those of one call are synced at the same
/// time, so that they share the turns of the disk. Staged batches are appended to a journal. Holds `STAGING/lock` while
/// it lives, so that a second process on the same folders is refused.
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
    journal: Mutex<Journal>,
    /// Folders of which this process knows that they are on the disk, forgotten when there are many.
    durable: Mutex<BTreeSet<PathBuf>>,
    _lock: FolderLock,
}

impl LocalTiles {
    /// Opens both folders, creating them if missing. Blocks on the disk.
    pub fn open(public: &Path, staging: &Path) -> Result<Self, StoreError> {
        durable::create_folder(public)
            .map_err(|e| StoreError::io(format!("create {}", public.display()), e))?;
        let lock = FolderLock::take(staging)?;
        let journal =
            open_journal(staging).map_err(|e| StoreError::io(format!("read {}", staging.display()), e))?;
        Ok(Self(Arc::new(Inner {
            public: public.to_owned(),
            journal: Mutex::new(journal),
            durable: Mutex::default(),
            _lock: lock,
        })))
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

/// The journal in this folder, with the batches that earlier versions staged as one file each.
fn open_journal(folder: &Path) -> io::Result<Journal> {
    let mut journal = Journal::open(folder)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.parse::<BatchName>().ok());
        if let Some(name) = name {
            journal.append(name, &fs::read(&path)?)?;
            fs::remove_file(&path)?;
        }
    }
    Ok(journal)
}

/// What became of a write-once write.
enum Put {
    Done,
    Conflict(PathBuf),
}

/// Folders to remember: those of a few thousand tiles.
const KNOWN_FOLDERS: usize = 64;
/// Files synced at the same time.
const PARALLEL: usize = 8;

impl Inner {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        // After a panic in the middle of an append the log stops anyway.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, objects: &[(TilePath, Bytes)]) -> io::Result<Put> {
        let mut known = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > KNOWN_FOLDERS {
            known.clear();
        }
        let mut folders = BTreeSet::new();
        let mut files = Vec::with_capacity(objects.len());
        let mut renames = Vec::with_capacity(objects.len());
        for (path, bytes) in objects {
            let target = self.public.join(path.to_string());
            let folder = parent(&target);
            if !known.contains(&folder) {
                fs::create_dir_all(&folder)?;
                // Also when it was there: the process that made it may have died before it was on the disk.
                let above = folder.ancestors().take_while(|above| above.starts_with(&self.public));
                folders.extend(above.map(Path::to_owned));
            }
            match fs::read(&target) {
                Ok(found) if found == *bytes => {
                    folders.insert(folder);
                    continue;
                }
                Ok(_) => return Ok(Put::Conflict(target)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let temporary = target.with_extension("tmp");
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            files.push(file);
            renames.push((temporary, target));
            folders.insert(folder);
        }
        sync_all(&files)?;
        for (temporary, target) in renames {
            fs::rename(temporary, target)?;
        }
        // One after another: the first commits the renames in all of them, the others find little to do.
        folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())?;
        known.extend(folders);
        Ok(Put::Done)
    }
}

/// Syncs files at the same time: a file system commits for all who wait at once.
fn sync_all(files: &[File]) -> io::Result<()> {
    for files in files.chunks(PARALLEL) {
        let Some((first, others)) = files.split_first() else { continue };
        thread::scope(|scope| {
            let syncs: Vec<_> = others.iter().map(|file| scope.spawn(|| file.sync_all())).collect();
            let first = first.sync_all();
            syncs.into_iter().fold(first, |done, sync| {
                let synced = sync.join();
                done.and(
                    synced.unwrap_or_else(|_| Err(io::Error::other("a thread that synced a file panicked"))),
                )
            })
        })?;
    }
    Ok(())
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
        self.blocking(format!("stage {batch}"), move |inner| inner.journal().append(batch, &bytes)).await
    }

    async fn staged(&self) -> Result<Vec<BatchName>, StoreError> {
        Ok(self.0.journal().names())
    }

    async fn read_staged(&self, batch: BatchName) -> Result<Option<Bytes>, StoreError> {
        self.blocking(format!("read {batch}"), move |inner| inner.journal().read(batch)).await
    }

    async fn unstage(&self, batches: &[BatchName]) -> Result<(), StoreError> {
        let batches = batches.to_vec();
        self.blocking("remove staged batches".into(), move |inner| inner.journal().remove(&batches)).await
    }
}
