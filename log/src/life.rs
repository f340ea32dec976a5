//! How a log begins and how it ends. See `spec/succession.md`.
//!
//! A log that has a date at which it closes takes its last entries then, publishes its final checkpoint, and writes down
//! in the head store that this is the end. From then on it is read-only for good, whatever clock or configuration say
//! later: its successor names that checkpoint.

use std::sync::Arc;

use glassbloom_service::Clock;
use glassbloom_spec::{
    checkpoint::TreeHead,
    id::{TreeSize, UnixMillis},
    succession::Succession,
    tile::{TilePath, decode_bundle},
};
use tokio::sync::watch;

use crate::{
    error::Error,
    keys::LogKeys,
    publisher::Published,
    reader::TileReader,
    sequencer::Budget,
    store::{HeadStore, StoreError, StoredHead},
};

/// What comes before and after a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Origin of the log that this one goes on from. Its first entry names that log's final checkpoint, and no entry is
    /// taken before it.
    pub predecessor: Option<String>,
    /// When it takes its last entries, by its own clock.
    pub closes: Option<UnixMillis>,
    /// The log that goes on afterwards.
    pub successor: Option<Successor>,
}

/// Where a writer goes when a log is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// Its origin.
    pub origin: String,
    /// Its prefix as a URL reference, relative to that of the writer's request.
    pub reference: String,
}

/// The key in the head store under which the end of a log is kept. An origin has no space in it.
fn end_of(origin: &str) -> String {
    format!("{origin} closed")
}

/// The final checkpoint of a log that has ended.
pub(crate) async fn load_end(
    keys: &LogKeys,
    heads: &dyn HeadStore,
    head: &TreeHead,
) -> Result<Option<Vec<u8>>, Error> {
    let Some(end) = heads.load(&end_of(&head.origin)).await? else { return Ok(None) };
    if keys.open_head(&end.note).as_ref() != Some(head) {
        return Err(Error::Corrupt {
            origin: head.origin.clone(),
            what: format!("it has ended with {} entries, and the head is another", end.applied),
        });
    }
    Ok(Some(end.note))
}

/// Checks that a log which goes on from another one begins with its final checkpoint.
pub(crate) async fn check_beginning(life: &Life, head: &TreeHead, reader: &TileReader) -> Result<(), Error> {
    let (Some(predecessor), true) = (&life.predecessor, head.size > TreeSize::new(0)) else { return Ok(()) };
    let path = TilePath::entries(0, head.size).expect("a tree with entries has a first bundle");
    let bundle = reader.get(path).await?.ok_or(Error::MissingTile { path })?;
    let first =
        decode_bundle(&bundle, path.width()).and_then(|entries| Succession::parse(entries.first()?).ok());
    if first.is_none_or(|first| first.head().origin != *predecessor) {
        return Err(Error::Corrupt {
            origin: head.origin.clone(),
            what: format!("its first entry does not name the final checkpoint of {predecessor}"),
        });
    }
    Ok(())
}

/// What the publisher needs to end a log, and whether it has.
pub(crate) struct Ending {
    pub(crate) life: Life,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) heads: Arc<dyn HeadStore>,
    /// Closed when the log takes no more entries; whole when all that it took are in tiles.
    pub(crate) budget: Budget,
    pub(crate) committed: watch::Receiver<TreeSize>,
    /// The final checkpoint.
    pub(crate) ended: watch::Sender<Option<Arc<Published>>>,
}

impl Ending {
    /// Whether the date has come.
    pub(crate) fn is_due(&self) -> bool {
        self.life.closes.is_some_and(|closes| self.clock.now() >= closes)
    }

    /// Ends the log if its date has come and everything that it took is published; whether it has ended.
    pub(crate) async fn step(
        &self,
        applied: &TreeHead,
        last: Option<&Arc<Published>>,
    ) -> Result<bool, StoreError> {
        if self.ended.borrow().is_some() {
            return Ok(true);
        }
        if !self.is_due() {
            return Ok(false);
        }
        // Whoever is in the log already is waited for; nobody comes in any more.
        self.budget.close();
        let all_written = self.budget.is_whole();
        let Some(last) = last.filter(|last| all_written && last.head == *applied) else { return Ok(false) };
        if *self.committed.borrow() != applied.size {
            return Ok(false);
        }
        let end = StoredHead { note: last.note.to_vec(), applied: applied.size };
        self.heads.create(&end_of(&applied.origin), &end).await?;
        tracing::info!(origin = applied.origin, size = %applied.size, "the log is closed for good");
        self.ended.send_replace(Some(Arc::clone(last)));
        Ok(true)
    }
}
