//! Stores that fail on demand: before the write reaches the store beneath, or after it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use glassbloom_log::store::{BatchName, HeadStore, StoreError, StoredHead, TileStore};
use glassbloom_spec::tile::TilePath;

/// Where to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Stage,
    Swap,
    Put,
    Publish,
    Unstage,
    Discard,
}

pub(crate) const POINTS: [Point; 6] =
    [Point::Stage, Point::Swap, Point::Put, Point::Publish, Point::Unstage, Point::Discard];

/// Fails one point, once per call, until repaired; shared by both stores of a log.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<(Point, bool)>>>);

impl Fault {
    /// From now on calls at this point fail; if `persists`, the write happens all the same.
    pub(crate) fn at(&self, point: Point, persists: bool) {
        *self.0.lock().unwrap() = Some((point, persists));
    }

    pub(crate) fn repair(&self) {
        *self.0.lock().unwrap() = None;
    }

    /// `None` to go on, otherwise whether to write before failing.
    fn hits(&self, point: Point) -> Option<bool> {
        self.0.lock().unwrap().filter(|(at, _)| *at == point).map(|(_, persists)| persists)
    }
}

fn injected(point: Point) -> StoreError {
    StoreError::io(format!("{point:?}"), std::io::Error::other("injected fault"))
}

macro_rules! guarded {
    ($self:ident, $point:expr, $call:expr) => {
        match $self.fault.hits($point) {
            None => $call.await,
            Some(persists) => {
                if persists {
                    $call.await?;
                }
                Err(injected($point))
            }
        }
    };
}

pub(crate) struct FaultyTiles {
    pub(crate) inner: Arc<dyn TileStore>,
    pub(crate) fault: Fault,
}

pub(crate) struct FaultyHeads {
    pub(crate) inner: Arc<dyn HeadStore>,
    pub(crate) fault: Fault,
}

#[async_trait]
impl TileStore for FaultyTiles {
    async fn put(&self, objects: Vec<(TilePath, Bytes)>) -> Result<(), StoreError> {
        // A put that fails without persisting all may have persisted some.
        match self.fault.hits(Point::Put) {
            None => self.inner.put(objects).await,
            Some(all) => {
                let some = if all { objects } else { objects.into_iter().take(1).collect() };
                self.inner.put(some).await?;
                Err(injected(Point::Put))
            }
        }
    }

    async fn get(&self, path: &TilePath) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(path).await
    }

    async fn discard_partials(&self, full: &TilePath) -> Result<(), StoreError> {
        guarded!(self, Point::Discard, self.inner.discard_partials(full))
    }

    async fn publish(&self, checkpoint: Bytes) -> Result<(), StoreError> {
        guarded!(self, Point::Publish, self.inner.publish(checkpoint))
    }

    async fn published(&self) -> Result<Option<Bytes>, StoreError> {
        self.inner.published().await
    }

    async fn stage(&self, batch: BatchName, bytes: Bytes) -> Result<(), StoreError> {
        guarded!(self, Point::Stage, self.inner.stage(batch, bytes))
    }

    async fn staged(&self) -> Result<Vec<BatchName>, StoreError> {
        self.inner.staged().await
    }

    async fn read_staged(&self, batch: BatchName) -> Result<Option<Bytes>, StoreError> {
        self.inner.read_staged(batch).await
    }

    async fn unstage(&self, batches: &[BatchName]) -> Result<(), StoreError> {
        guarded!(self, Point::Unstage, self.inner.unstage(batches))
    }
}

#[async_trait]
impl HeadStore for FaultyHeads {
    async fn create(&self, origin: &str, head: &StoredHead) -> Result<(), StoreError> {
        self.inner.create(origin, head).await
    }

    async fn load(&self, origin: &str) -> Result<Option<StoredHead>, StoreError> {
        self.inner.load(origin).await
    }

    async fn swap(&self, origin: &str, old: &StoredHead, new: &StoredHead) -> Result<(), StoreError> {
        guarded!(self, Point::Swap, self.inner.swap(origin, old, new))
    }
}
