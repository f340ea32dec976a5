//! One log: a handle to its tasks, and the checks at start.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use glassbloom_service::{Clock, Shutdown};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixMillis, UnixSeconds},
    note::SignedNote,
    policy::Policy,
    promise::Promise,
    proof::TlogProof,
    succession::Succession,
    tile::MAX_ENTRY,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    edge::Leaf,
    error::Error,
    indexer::{Indexer, Known, catch_up},
    integrator::Integrator,
    janitor::Janitor,
    keys::LogKeys,
    life::{Ending, Life, check_beginning, load_end},
    load::{Loaded, load, published_head, reopen},
    metrics::Metrics,
    publisher::{Published, Publisher},
    reader::TileReader,
    scrub::Scrub,
    sequencer::{Budget, Full, Pending, Sequencer},
    store::{HeadStore, LeafStore, StoreError, StoredHead, TileStore},
    witness::{Endpoint, Means, Transport, Witnesses, alarm::Alarm},
};

/// What a log is made of.
pub struct Parts {
    /// Its signing keys; their name is the log's origin.
    pub keys: LogKeys,
    /// Decides what is published: clients use the same text.
    pub policy: Arc<Policy>,
    /// Where tiles go.
    pub tiles: Arc<dyn TileStore>,
    /// Where the head is.
    pub heads: Arc<dyn HeadStore>,
    /// Where each entry was first logged; a hint.
    pub leaves: Arc<dyn LeafStore>,
    /// How witnesses are reached.
    pub transport: Arc<dyn Transport>,
    /// Folder for proofs that the log's key signed a tree that this log does not have. It need not exist; while
    /// something lies in it, nothing is added or published.
    pub evidence: PathBuf,
}

/// How a log behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for entries that wait, in bytes. More are refused with [`Error::Overloaded`].
    pub max_waiting: usize,
    /// An idle log has its checkpoint cosigned and published anew after this time.
    pub refresh: Duration,
    /// How long after an entry the log promises to have it covered, when it cannot prove it at once.
    pub promise: Duration,
    /// Pause between two bundles that are read again and compared with the signed root.
    pub scrub: Duration,
    /// How long a witness has to answer.
    pub witness_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_waiting: 64 << 20,
            refresh: Duration::from_secs(60),
            scrub: Duration::from_millis(100),
            promise: Duration::from_secs(3600),
            witness_timeout: Duration::from_secs(2),
        }
    }
}

/// A running log. Clones are handles to the same one; it runs until [`Log::stop`] or a failure.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    ended: watch::Receiver<Option<Arc<Published>>>,
    life: Life,
    alarm: Arc<Alarm>,
    budget: Budget,
    clock: Arc<dyn Clock>,
    committed: watch::Receiver<TreeSize>,
    keys: Arc<LogKeys>,
    metrics: Arc<Metrics>,
    origin: String,
    promise: Duration,
    published: watch::Receiver<Option<Arc<Published>>>,
    queue: mpsc::Sender<Pending>,
    reader: TileReader,
    stop: Shutdown,
    tasks: Mutex<JoinSet<Result<(), Error>>>,
    tiles: Arc<dyn TileStore>,
}

/// Small entries that may wait at once; large ones meet the limit in bytes first.
const MAX_QUEUE: usize = 16 * 1024;
/// Memory for an entry that waits, besides its bytes.
const WAITING_OVERHEAD: usize = 256;
/// Bytes of entries that are written to tiles without waiting for the publisher.
const ENOUGH: usize = 8 << 20;
/// Committed batches that may wait for the integrator.
const MAX_BATCHES: usize = 16;

impl Log {
    /// Stores the empty head of a new log. Do this once in the life of a log.
    ///
    /// # Errors
    /// When the log has a head already, or a checkpoint was published for it: such a log must not begin again.
    pub async fn create(keys: &LogKeys, tiles: &dyn TileStore, heads: &dyn HeadStore) -> Result<(), Error> {
        let head =
            TreeHead { origin: keys.origin().to_owned(), size: TreeSize::new(0), root: Hash::EMPTY_TREE };
        if let Some(note) = tiles.published().await? {
            let published = published_head(keys, &note)?.size;
            return Err(Error::HeadWentBack { origin: head.origin, head: head.size, published });
        }
        let stored = StoredHead { note: keys.sign_head(&head), applied: head.size };
        Ok(heads.create(keys.origin(), &stored).await?)
    }

    /// Opens a log: finishes what a crash interrupted, re-verifies the right edge of the tree, and starts the tasks.
    ///
    /// Time and memory depend on the last batches and on what the leaf index lacks, not on the size of the tree.
    ///
    /// # Errors
    /// When head, tiles and published checkpoint contradict each other. Nothing is signed then.
    pub async fn open(
        parts: Parts,
        witnesses: Vec<Endpoint>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        Self::open_with(parts, witnesses, options, Life::default(), clock).await
    }

    /// Like [`Log::open`], for a log that goes on from another one, or that will end.
    ///
    /// # Errors
    /// As [`Log::open`]; also when its first entry is not the one that names the end of its predecessor, or it has grown
    /// after its own end.
    pub async fn open_with(
        parts: Parts,
        witnesses: Vec<Endpoint>,
        options: Options,
        life: Life,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let Parts { keys, policy, tiles, heads, leaves, transport, evidence } = parts;
        let keys = Arc::new(keys);
        let reader = TileReader::new(Arc::clone(&tiles));
        let Loaded { stored, head, edge, frontier, staged, strays, last } =
            load(&keys, &*tiles, &*heads, &reader).await?;
        let origin = head.origin.clone();
        check_beginning(&life, &head, &reader).await?;
        let end = load_end(&keys, &*heads, &head).await?;
        catch_up(&origin, &*leaves, &reader, head.size).await?;

        let alarm = Alarm::open(&evidence)
            .map_err(|e| StoreError::io(format!("look for evidence in {}", evidence.display()), e))?;
        let alarm = Arc::new(alarm);
        let metrics = Arc::new(Metrics::new(witnesses.iter().map(|witness| witness.url.clone())));
        let (queue, entries) = mpsc::channel(MAX_QUEUE);
        let (batches, committed_batches) = mpsc::channel(MAX_BATCHES);
        let (to_index, applied_leaves) = mpsc::channel(MAX_BATCHES);
        let (committed, committed_size) = watch::channel(head.size);
        let (indexed_sender, indexed) = watch::channel(head.size);
        let (applied_sender, applied) = watch::channel(head);
        let scrubbed = applied.clone();
        let budget = Budget::new(options.max_waiting);
        let mut last = last.and_then(|note| reopen(&policy, &origin, note));
        let published_size = last.as_ref().map_or(TreeSize::new(0), |last| last.head.size);
        let mut ended = None;
        if let Some(note) = end {
            budget.close();
            let note = Bytes::from(note);
            if tiles.published().await?.as_ref() != Some(&note) {
                tiles.publish(note.clone()).await?;
            }
            // It stays what it was under the policy of its time, whatever the policy says now.
            let head = applied.borrow().clone();
            let as_it_was = || Published { head, note: note.clone(), at: 0.into(), cosigned_at: 0.into() };
            let end = reopen(&policy, &origin, note.clone()).unwrap_or_else(|| Arc::new(as_it_was()));
            last = Some(Arc::clone(&end));
            ended = Some(end);
        }
        let (ended_sender, ended) = watch::channel(ended);
        let (published_sender, published) = watch::channel(last);
        let (taken_sender, taken) = watch::channel(published_size);
        let (unstage, to_unstage) = mpsc::unbounded_channel();

        let means = Means {
            alarm: Arc::clone(&alarm),
            heads: Arc::clone(&heads),
            keys: Arc::clone(&keys),
            metrics: Arc::clone(&metrics),
            reader: reader.clone(),
            timeout: options.witness_timeout,
            transport,
        };
        let mut sequencer = Sequencer {
            alarm: Arc::clone(&alarm),
            applied: applied.clone(),
            batches,
            committed,
            frontier,
            heads: Arc::clone(&heads),
            keys: Arc::clone(&keys),
            known: Known::new(Arc::clone(&leaves), reader.clone(), applied.clone(), indexed),
            metrics: Arc::clone(&metrics),
            queue: entries,
            staged,
            stored,
            strays,
            tiles: Arc::clone(&tiles),
            unstage,
        };
        let mut integrator = Integrator {
            applied: applied_sender,
            batches: committed_batches,
            edge,
            // A part of what may wait, or the log would be full of entries that wait for a publisher without quorum.
            enough: ENOUGH.min(options.max_waiting / 4),
            reader: reader.clone(),
            taken,
            tiles: Arc::clone(&tiles),
            to_index,
        };
        let mut indexer =
            Indexer { applied: applied_leaves, indexed: indexed_sender, leaves, origin: origin.clone() };
        let ending = Ending {
            life: life.clone(),
            clock: Arc::clone(&clock),
            heads,
            budget: budget.clone(),
            committed: committed_size.clone(),
            ended: ended_sender,
        };
        let mut publisher = Publisher {
            ending,
            alarm: Arc::clone(&alarm),
            applied,
            clock: Arc::clone(&clock),
            cosignatures: Vec::new(),
            keys: Arc::clone(&keys),
            late: false,
            metrics: Arc::clone(&metrics),
            policy,
            published: published_sender,
            refresh: options.refresh,
            round: 0,
            signed: None,
            taken: taken_sender,
            tiles: Arc::clone(&tiles),
            timeout: options.witness_timeout,
            tried: (UnixMillis::new(0), Instant::now()),
            witnesses: Witnesses::start(witnesses, &means),
        };

        let mut scrub = Scrub {
            alarm: Arc::clone(&alarm),
            applied: scrubbed,
            clock: Arc::clone(&clock),
            failures: 0,
            metrics: Arc::clone(&metrics),
            next: None,
            pause: options.scrub,
            rested: true,
            tiles: Arc::clone(&tiles),
        };
        let mut janitor = Janitor {
            cleaned: published_size,
            published: published.clone(),
            tiles: Arc::clone(&tiles),
            unstage: to_unstage,
        };

        // Each task ends after the step in hand when the log stops; the first to fail stops the others.
        let stop = Shutdown::new();
        let mut tasks = JoinSet::new();
        let on = stop.clone();
        tasks.spawn(async move {
            let _guard = StopOnDrop(on.clone());
            while !on.is_requested() && sequencer.step(&on).await? {}
            Ok(())
        });
        let on = stop.clone();
        tasks.spawn(async move {
            let _guard = StopOnDrop(on.clone());
            // Ends when the sequencer is gone and all it committed is written.
            while integrator.step().await? {}
            Ok(())
        });
        let on = stop.clone();
        tasks.spawn(async move {
            let _guard = StopOnDrop(on.clone());
            // Ends when the integrator is gone and all it wrote is indexed.
            while indexer.step().await? {}
            Ok(())
        });
        let on = stop.clone();
        tasks.spawn(async move {
            let _guard = StopOnDrop(on.clone());
            while !on.is_requested() && publisher.step().await? {}
            Ok(())
        });
        let on = stop.clone();
        tasks.spawn(async move {
            let _guard = StopOnDrop(on.clone());
            while scrub.step(&on).await {}
            Ok(())
        });
        let on = stop.clone();
        tasks.spawn(async move {
            let _guard = StopOnDrop(on.clone());
            // Ends when the publisher is gone.
            while janitor.step().await? {}
            Ok(())
        });
        let tasks = Mutex::new(tasks);
        let committed = committed_size;
        let shared = Shared {
            ended,
            life,
            alarm,
            budget,
            clock,
            committed,
            keys,
            metrics,
            origin,
            promise: options.promise,
            published,
            queue,
            reader,
            stop,
            tasks,
            tiles,
        };
        Ok(Self(Arc::new(shared)))
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The number of entries that are durably in the log, published or not.
    pub fn size(&self) -> TreeSize {
        *self.0.committed.borrow()
    }

    /// What the world sees; `None` before the first publication.
    pub fn published(&self) -> Option<Arc<Published>> {
        self.0.published.borrow().clone()
    }

    /// Its counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Reads its tiles.
    pub fn reader(&self) -> &TileReader {
        &self.0.reader
    }

    /// Where its tiles are.
    pub fn tiles(&self) -> &Arc<dyn TileStore> {
        &self.0.tiles
    }

    /// Whether the log runs without an alarm, and its published checkpoint is younger than `limit` or nothing was ever added.
    pub fn is_fresh(&self, limit: Duration) -> bool {
        let now = self.0.clock.now();
        let fresh = self.published().is_some_and(|published| published.age(now) <= limit);
        // The checkpoint of a log that has ended does not age.
        let fresh = fresh || self.size().get() == 0 || self.0.ended.borrow().is_some();
        !self.0.stop.is_requested() && !self.0.alarm.is_raised() && fresh
    }

    /// Adds an entry and returns its index once it is durably in the log. An entry that is in the log already gets
    /// the index it has.
    pub async fn add(&self, entry: Bytes) -> Result<LeafIndex, Error> {
        let Life { predecessor, closes, .. } = &self.0.life;
        if closes.is_some_and(|closes| self.0.clock.now() >= closes) || self.0.budget.is_closed() {
            return Err(self.closed());
        }
        if let (Some(predecessor), 0) = (predecessor, self.size().get()) {
            let (origin, predecessor) = (self.0.origin.clone(), predecessor.clone());
            return Err(Error::NotBegun { origin, predecessor });
        }
        self.take(entry).await
    }

    /// Adds the first entry of a log that goes on from another one; `false` when it has one already.
    ///
    /// # Errors
    /// As [`Log::add`].
    pub async fn begin(&self, first: &Succession) -> Result<bool, Error> {
        if self.size().get() > 0 {
            return Ok(false);
        }
        self.take(first.encode().into()).await?;
        Ok(true)
    }

    /// The final checkpoint, once the log has ended; waits for it. Never returns while the log goes on.
    pub async fn ended(&self) -> Result<Arc<Published>, Error> {
        let mut ended = self.0.ended.clone();
        let last = ended.wait_for(Option::is_some).await.map_err(|_| Error::Halted)?.clone();
        last.ok_or(Error::Halted)
    }

    /// Whether the log has ended.
    pub fn has_ended(&self) -> bool {
        self.0.ended.borrow().is_some()
    }

    async fn take(&self, entry: Bytes) -> Result<LeafIndex, Error> {
        if entry.is_empty() {
            return Err(Error::EntryEmpty);
        }
        if entry.len() > MAX_ENTRY {
            return Err(Error::EntryTooLong { length: entry.len() });
        }
        self.alarm()?;
        let budget = self.0.budget.take(entry.len() + WAITING_OVERHEAD).map_err(|full| match full {
            Full::Waiting => Error::Overloaded,
            Full::Closed => self.closed(),
        })?;
        let (reply, index) = oneshot::channel();
        let pending = Pending { leaf: Leaf::new(entry), budget, reply };
        self.0.queue.try_send(pending).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Halted,
        })?;
        index.await.map_err(|_| self.alarm().err().unwrap_or(Error::Halted))
    }

    fn closed(&self) -> Error {
        Error::Closed { origin: self.0.origin.clone(), successor: self.0.life.successor.clone() }
    }

    fn alarm(&self) -> Result<(), Error> {
        if !self.0.alarm.is_raised() {
            return Ok(());
        }
        let folder = self.0.alarm.folder().display().to_string();
        Err(Error::Alarm { origin: self.0.origin.clone(), folder })
    }

    /// Adds an entry and returns its proof under a published checkpoint.
    ///
    /// # Errors
    /// [`Error::Late`] with a signed promise when none covers it within `limit`; the entry stays in the log.
    pub async fn append(&self, entry: Bytes, limit: Duration) -> Result<TlogProof, Error> {
        let leaf = Hash::leaf(&entry);
        let index = self.add(entry).await?;
        match tokio::time::timeout(limit, self.covering(index)).await {
            Ok(published) => self.prove(index, &*published?).await,
            Err(_) => {
                let promise = Box::new(self.promise(index, leaf));
                Err(Error::Late { index, promise, waited: limit })
            }
        }
    }

    /// Signs that an entry, which was given this index a moment ago, will be covered. See `spec/promise.md`.
    fn promise(&self, index: LeafIndex, leaf: Hash) -> SignedNote {
        let deadline = self.0.clock.now().seconds().get().saturating_add(self.0.promise.as_secs());
        let promise =
            Promise { origin: self.0.origin.clone(), index, leaf, deadline: UnixSeconds::new(deadline) };
        self.0.keys.sign_promise(&promise)
    }

    /// Waits for a published checkpoint that covers the entry.
    async fn covering(&self, index: LeafIndex) -> Result<Arc<Published>, Error> {
        let mut published = self.0.published.clone();
        let covers =
            |last: &Option<Arc<Published>>| last.as_ref().is_some_and(|p| p.head.size.get() > index.get());
        let last = published.wait_for(covers).await.map_err(|_| Error::Halted)?.clone();
        last.ok_or(Error::Halted)
    }

    /// The proof of an entry under a checkpoint of this log that covers it.
    pub async fn prove(&self, index: LeafIndex, published: &Published) -> Result<TlogProof, Error> {
        let hashes = self.0.reader.inclusion(index, published.head.size).await?;
        Ok(TlogProof { extra: None, index, hashes, checkpoint: published.note.to_vec() })
    }

    /// Waits until the log has stopped, by itself or because of [`Log::stop`], and says why.
    pub async fn stopped(&self) -> Result<(), Error> {
        self.0.stop.requested().await;
        let mut tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let mut first = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let result = ended.unwrap_or_else(|panic| {
                tracing::error!(origin = %self.0.origin, "a task of the log panicked: {panic}");
                Err(Error::Halted)
            });
            first = first.and(result);
        }
        first
    }

    /// Stops the log and waits for its tasks. What was answered is durable; waiting calls get [`Error::Halted`].
    pub async fn stop(&self) -> Result<(), Error> {
        self.0.stop.trigger();
        self.stopped().await
    }
}

struct StopOnDrop(Shutdown);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.trigger();
    }
}
