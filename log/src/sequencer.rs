//! Group commit: gives waiting entries their place in the tree, durably.
//!
//! One task per log owns the head. An entry that finds it idle is committed at once; batches form only from what
//! arrives while a commit is in flight. The order within a commit is the promise of the log:
//!
//! 1. the batch is staged and synced, so that whoever finds the new head can also find its entries;
//! 2. the head is compared and swapped in the head store, which is the moment when the entries are logged;
//! 3. whoever waits in `Log::add` learns the index;
//! 4. the integrator writes the tiles; the publisher has them cosigned and publishes;
//! 5. when a later swap has recorded that the tiles are complete, the staged batch is dropped.
//!
//! Any store error stops the log. After a crash at any point `Log::open` finishes from step 4. A batch whose head was
//! never swapped in, and whose entries nobody was told about, is dropped with the next swap: until then it may be that of
//! another process, where no lock keeps two apart.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
};

use glassbloom_service::Shutdown;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::Frontier,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    edge::Leaf,
    error::Error,
    indexer::Known,
    keys::LogKeys,
    metrics::Metrics,
    staging,
    store::{BatchName, HeadStore, StoredHead, TileStore},
    witness::alarm::Alarm,
};

/// The most entries in one commit; a commit of so many takes a few tens of milliseconds.
const MAX_BATCH: usize = 4096;

/// Memory that entries may take while they wait, in bytes.
#[derive(Clone)]
pub(crate) struct Budget {
    /// With [`CLOSED`] when no more is given out.
    left: Arc<AtomicUsize>,
    whole: usize,
}

const CLOSED: usize = 1 << (usize::BITS - 1);

/// A part of it, given back when dropped.
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

/// Why there is no share.
pub(crate) enum Full {
    /// None is given out any more.
    Closed,
    /// So much is not left.
    Waiting,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let whole = bytes.min(CLOSED - 1);
        Self { left: Arc::new(AtomicUsize::new(whole)), whole }
    }

    pub(crate) fn take(&self, bytes: usize) -> Result<Share, Full> {
        let take = |left: usize| if left & CLOSED == 0 { left.checked_sub(bytes) } else { None };
        match self.left.fetch_update(AcqRel, Acquire, take) {
            Ok(_) => Ok(Share { budget: self.clone(), bytes }),
            Err(left) if left & CLOSED != 0 => Err(Full::Closed),
            Err(_) => Err(Full::Waiting),
        }
    }

    /// Gives out no more, for good.
    pub(crate) fn close(&self) {
        self.left.fetch_or(CLOSED, AcqRel);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.left.load(Acquire) & CLOSED != 0
    }

    /// Whether all that was given out has come back.
    pub(crate) fn is_whole(&self) -> bool {
        self.left.load(Acquire) & !CLOSED == self.whole
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, AcqRel);
    }
}

/// An entry that waits for its index.
pub(crate) struct Pending {
    pub(crate) leaf: Leaf,
    /// Its share of the memory that waiting entries may take; held until its tiles are written.
    pub(crate) budget: Share,
    pub(crate) reply: oneshot::Sender<LeafIndex>,
}

/// A committed batch on its way to the tiles.
pub(crate) struct Batch {
    pub(crate) head: TreeHead,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) budget: Vec<Share>,
}

pub(crate) struct Sequencer {
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) applied: watch::Receiver<TreeHead>,
    pub(crate) batches: mpsc::Sender<Batch>,
    pub(crate) committed: watch::Sender<TreeSize>,
    pub(crate) frontier: Frontier,
    pub(crate) heads: Arc<dyn HeadStore>,
    pub(crate) keys: Arc<LogKeys>,
    pub(crate) known: Known,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) queue: mpsc::Receiver<Pending>,
    /// Staged batches, oldest first, that may have to be replayed.
    pub(crate) staged: VecDeque<BatchName>,
    pub(crate) stored: StoredHead,
    /// Staged batches that lead nowhere once this process has swapped the head.
    pub(crate) strays: Vec<BatchName>,
    pub(crate) tiles: Arc<dyn TileStore>,
    /// To whoever drops staged batches.
    pub(crate) unstage: mpsc::UnboundedSender<BatchName>,
}

impl Sequencer {
    /// Waits for entries and commits them; `false` when no more can come.
    ///
    /// # Errors
    /// After an error nobody knows what was written: drop everything and open the log anew.
    pub(crate) async fn step(&mut self, stop: &Shutdown) -> Result<bool, Error> {
        let mut pending = Vec::new();
        // Only waiting is cut short: a commit that has begun is finished.
        match stop.unless_requested(self.queue.recv_many(&mut pending, MAX_BATCH)).await {
            None | Some(0) => Ok(false),
            // Nothing more is signed; whoever waits is told why by `Log::add`.
            Some(_) if self.alarm.is_raised() => Ok(true),
            Some(_) => self.commit(pending).await.map(|()| true),
        }
    }

    async fn commit(&mut self, pending: Vec<Pending>) -> Result<(), Error> {
        let begin = Instant::now();
        let old = self.frontier.size();
        let (leaves, budget, replies, duplicates) = self.place(pending).await?;
        if leaves.is_empty() {
            self.metrics.committed(0, duplicates, begin.elapsed());
            answer(replies);
            return Ok(());
        }
        let mut frontier = self.frontier.clone();
        for leaf in &leaves {
            frontier.append(leaf.hash);
        }
        let head =
            TreeHead { origin: self.keys.origin().to_owned(), size: frontier.size(), root: frontier.root() };
        let name = BatchName { old, new: head.size, root: head.root };
        self.tiles.stage(name, staging::encode(name, self.frontier.root(), &leaves)).await?;

        let applied = self.applied.borrow().size;
        let next = StoredHead { note: self.keys.sign_head(&head), applied };
        self.heads.swap(self.keys.origin(), &self.stored, &next).await?;
        self.known.committed(&leaves);
        self.frontier = frontier;
        self.stored = next;
        self.staged.push_back(name);
        self.committed.send_replace(head.size);
        self.metrics.committed(leaves.len(), duplicates, begin.elapsed());
        answer(replies);

        // Waits when the integrator is far behind, so that memory stays bounded. It is gone only when the log stops.
        let _ = self.batches.send(Batch { head, leaves, budget }).await;
        let mut strays = std::mem::take(&mut self.strays);
        // The same entries make the same batch. Not left to the janitor, because that holds for later ones, too.
        strays.retain(|stray| *stray != name);
        if !strays.is_empty() {
            self.tiles.unstage(&strays).await?;
        }
        self.drop_staged(applied);
        Ok(())
    }

    /// Gives each entry its index: its first one if it is known, the next free one otherwise.
    async fn place(&mut self, pending: Vec<Pending>) -> Result<Placed, Error> {
        let hashes: Vec<Hash> = pending.iter().map(|one| one.leaf.hash).collect();
        let known = self.known.find(&hashes).await?;
        let mut next = self.frontier.size().get();
        let mut fresh = HashMap::new();
        let (mut leaves, mut budget) = (Vec::new(), Vec::new());
        let mut replies = Vec::with_capacity(pending.len());
        for (Pending { leaf, budget: share, reply }, known) in pending.into_iter().zip(known) {
            let index = known.or_else(|| fresh.get(&leaf.hash).copied()).unwrap_or_else(|| {
                let index = LeafIndex::new(next);
                next += 1;
                fresh.insert(leaf.hash, index);
                leaves.push(leaf);
                budget.push(share);
                index
            });
            replies.push((reply, index));
        }
        let duplicates = replies.len() - leaves.len();
        Ok((leaves, budget, replies, duplicates))
    }

    /// Drops what the head store now knows to be in tiles. Not before: after a crash the tiles at `applied` are where
    /// the replay begins.
    fn drop_staged(&mut self, applied: TreeSize) {
        while let Some(batch) = self.staged.pop_front_if(|batch| batch.new <= applied) {
            // The janitor is gone only when the log stops; what is left is dropped when it is opened.
            let _ = self.unstage.send(batch);
        }
    }
}

type Placed = (Vec<Leaf>, Vec<Share>, Vec<(oneshot::Sender<LeafIndex>, LeafIndex)>, usize);

fn answer(replies: Vec<(oneshot::Sender<LeafIndex>, LeafIndex)>) {
    for (reply, index) in replies {
        // A caller that gave up does not want to know.
        let _ = reply.send(index);
    }
}
