//! The logs that are followed, in memory: an `add-checkpoint` request reads nothing from disk.
//!
//! What another process adds to the database is found when it is asked for: an origin, an origin hash or a signing
//! key that is not known here is looked up once more among the rows added since. Rows are never removed, so that
//! their numbers only grow.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use glassbloom_spec::{
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    note::VerifierKey,
};
use tokio::sync::Mutex;

use super::{
    rate::Meter,
    store::{Store, StoreError},
};

/// The last tree cosigned for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Entries; 0 before the first cosignature.
    pub size: TreeSize,
    /// Root; [`Hash::EMPTY_TREE`] before the first cosignature.
    pub root: Hash,
    /// Time of the cosignature; 0 before the first. It never goes back.
    pub at: UnixSeconds,
}

/// What changes about a log.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) latest: Latest,
    pub(super) meter: Meter,
}

/// A log that is followed.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) origin: Arc<str>,
    keys: RwLock<Arc<[VerifierKey]>>,
    /// Held from the comparison with a request's old tree until the new one is on disk, by the writer in the end.
    pub(super) standing: Arc<Mutex<Standing>>,
}

impl Log {
    pub(super) fn keys(&self) -> Arc<[VerifierKey]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Every log that is followed.
#[derive(Debug)]
pub(super) struct Book {
    store: Store,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_origin: HashMap<Arc<str>, Arc<Log>>,
    by_hash: HashMap<Hash, Arc<Log>>,
    /// Number of the last key row read.
    read: i64,
}

impl Book {
    /// Reads what the database has.
    pub(super) async fn open(store: Store) -> Result<Self, StoreError> {
        let book = Self { store, known: RwLock::default() };
        book.look_again().await?;
        Ok(book)
    }

    /// The log of this origin.
    pub(super) async fn log(&self, origin: &str) -> Result<Option<Arc<Log>>, StoreError> {
        self.find(|known| known.by_origin.get(origin)).await
    }

    /// The log whose origin has this SHA-256.
    pub(super) async fn by_hash(&self, hash: &Hash) -> Result<Option<Arc<Log>>, StoreError> {
        self.find(|known| known.by_hash.get(hash)).await
    }

    /// Takes over what was added to the database since; says whether there was anything.
    pub(super) async fn look_again(&self) -> Result<bool, StoreError> {
        let read = self.known().read;
        let rows = self.store.keys_after(read).await?;
        let Some(last) = rows.last().map(|row| row.number) else { return Ok(false) };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let log = match known.by_origin.get(row.key.name()) {
                Some(log) => Arc::clone(log),
                None => {
                    let origin: Arc<str> = row.key.name().into();
                    let log = Arc::new(Log {
                        origin: Arc::clone(&origin),
                        keys: RwLock::new(Arc::new([])),
                        standing: Arc::new(Mutex::new(Standing {
                            latest: row.latest,
                            meter: Meter::default(),
                        })),
                    });
                    known.by_hash.insert(Hash::of(origin.as_bytes()), Arc::clone(&log));
                    known.by_origin.insert(origin, Arc::clone(&log));
                    log
                }
            };
            let mut keys = log.keys.write().unwrap_or_else(PoisonError::into_inner);
            // Two requests may look again at the same time and read the same rows.
            if !keys.contains(&row.key) {
                *keys = keys.iter().cloned().chain([row.key]).collect();
            }
        }
        known.read = known.read.max(last);
        Ok(true)
    }

    async fn find(&self, find: impl Fn(&Known) -> Option<&Arc<Log>>) -> Result<Option<Arc<Log>>, StoreError> {
        let found = find(&self.known()).cloned();
        if found.is_some() || !self.look_again().await? {
            return Ok(found);
        }
        Ok(find(&self.known()).cloned())
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}
