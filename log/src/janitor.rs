//! Deletes what has served its time, off the path of commits and publications.

use std::sync::Arc;

use glassbloom_spec::{
    id::TreeSize,
    tile::{TilePath, tiles_between},
};
use tokio::sync::{mpsc, watch};

use crate::{
    publisher::Published,
    store::{BatchName, StoreError, TileStore},
};

pub(crate) struct Janitor {
    /// Partial tiles are gone where the tree of this size has full ones.
    pub(crate) cleaned: TreeSize,
    pub(crate) published: watch::Receiver<Option<Arc<Published>>>,
    pub(crate) tiles: Arc<dyn TileStore>,
    /// Staged batches that the head store knows to be in tiles.
    pub(crate) unstage: mpsc::UnboundedReceiver<BatchName>,
}

/// Batches dropped by one call to the store.
const AT_ONCE: usize = 64;

impl Janitor {
    /// Deletes what there is to delete, and waits when there is nothing; `false` when the log has stopped.
    pub(crate) async fn step(&mut self) -> Result<bool, StoreError> {
        let mut batches = Vec::new();
        tokio::select! {
            biased;
            count = self.unstage.recv_many(&mut batches, AT_ONCE), if !self.unstage.is_closed() => {
                if count > 0 {
                    self.tiles.unstage(&batches).await?;
                }
                Ok(true)
            }
            changed = self.published.changed() => {
                self.discard_partials().await?;
                Ok(changed.is_ok())
            }
        }
    }

    /// Partial tiles below the published size have served their time where the full tile exists.
    async fn discard_partials(&mut self) -> Result<(), StoreError> {
        let size = self.published.borrow_and_update().as_ref().map_or(self.cleaned, |last| last.head.size);
        for path in tiles_between(self.cleaned, size).filter(|path: &TilePath| path.is_full()) {
            self.tiles.discard_partials(&path).await?;
        }
        self.cleaned = self.cleaned.max(size);
        Ok(())
    }
}
