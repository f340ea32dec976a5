//! The one task that writes: it makes many logs' new trees durable with one fsync.
//!
//! An idle witness writes at once; what arrives while a write is in flight shares the next one.

use glassbloom_service::Shutdown;
use glassbloom_spec::id::TreeSize;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};

use super::{
    book::Standing,
    store::{Advance, Store, StoreError},
};

/// Moves in one transaction at most; a log takes part with one.
const BATCH: usize = 256;

/// How a move ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It failed. The tree may or may not have moved; nothing was promised.
    Failed(StoreError),
    /// It is on disk.
    Moved,
    /// The log stood elsewhere, at this size: another process moved it.
    Overtaken(TreeSize),
}

/// A move that waits to be written.
pub(super) struct Job {
    pub(super) advance: Advance,
    /// Travels with the job, so that a submitter who hangs up leaves nothing half done.
    pub(super) standing: OwnedMutexGuard<Standing>,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// Writes until `stop`, then what has arrived until then.
///
/// # Errors
/// When a write failed: what the disk holds is unknown then, so the caller must open the file anew.
pub(super) async fn run(
    store: Store,
    mut jobs: mpsc::Receiver<Job>,
    stop: Shutdown,
) -> Result<(), StoreError> {
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        if stop.unless_requested(jobs.recv_many(&mut batch, BATCH)).await.is_none() {
            jobs.close();
            jobs.recv_many(&mut batch, BATCH).await;
        }
        if batch.is_empty() {
            return Ok(());
        }
        write(&store, batch).await?;
    }
}

async fn write(store: &Store, batch: Vec<Job>) -> Result<(), StoreError> {
    let moves: Vec<&Advance> = batch.iter().map(|job| &job.advance).collect();
    let moved = match store.advance(&moves).await {
        Ok(moved) => moved,
        Err(error) => {
            let busy = matches!(error, StoreError::Busy);
            for job in batch {
                let error = if busy { StoreError::Busy } else { StoreError::Halted };
                let _ = job.reply.send(Outcome::Failed(error));
            }
            return if busy { Ok(()) } else { Err(error) };
        }
    };
    for mut job in batch {
        let outcome = if moved.contains(&job.advance.origin) {
            job.standing.latest = job.advance.new;
            Outcome::Moved
        } else {
            match store.latest(&job.advance.origin).await {
                Ok(Some(latest)) => {
                    job.standing.latest = latest;
                    Outcome::Overtaken(latest.size)
                }
                Ok(None) => Outcome::Failed(StoreError::Corrupt("log that vanished")),
                Err(error) => Outcome::Failed(error),
            }
        };
        drop(job.standing);
        // The submitter may have hung up.
        let _ = job.reply.send(outcome);
    }
    Ok(())
}
