//! What surrounds the simulated log, and the promises that are checked whatever happens.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use glassbloom_log::{
    Error, Log, LogKeys, Options, Parts,
    fsck::{Source, check},
    store::{StoreError, TileStore},
};
use glassbloom_service::MockClock;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixMillis},
    merkle::Frontier,
    policy::Policy,
    tile::{TilePath, decode_bundle},
};

use crate::{
    disk::{Bug, Disk, Stores},
    sim::Sim,
    witness::{FakeWitness, Network},
};

pub(crate) const ORIGIN: &str = "sim.example/registry";
/// The longest that anything may take once all faults are gone, in virtual time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

fn keys() -> LogKeys {
    LogKeys::from_seeds(ORIGIN, [1; 32], [2; 32]).unwrap()
}

/// Entry `n`; its length depends on `n`, too.
pub(crate) fn entry(n: u64) -> Bytes {
    format!("entry {n} {}", "x".repeat((n * 7 % 90) as usize)).into_bytes().into()
}

/// Everything that must be on one chain.
#[derive(Default)]
pub(crate) struct History {
    /// What the world was shown, in order.
    pub(crate) published: Vec<TreeHead>,
    /// What witnesses were shown, by size.
    submitted: BTreeMap<u64, Hash>,
    /// The indices that callers were told, by entry.
    pub(crate) acknowledged: BTreeMap<u64, u64>,
}

/// A log's surroundings, which outlive its processes.
pub(crate) struct World {
    pub(crate) sim: Arc<Sim>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) network: Arc<Network>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) quorum: usize,
    pub(crate) clock: MockClock,
    pub(crate) options: Options,
    evidence: PathBuf,
    history: Arc<Mutex<History>>,
    /// Two processes may be at work: then a checkpoint may be replaced by an older one for a while.
    pub(crate) shared: Arc<AtomicBool>,
    /// The stores were set back: what was acknowledged or shown to witnesses before may be gone.
    pub(crate) restored: Arc<AtomicBool>,
}

/// A policy for the log with these witnesses, of which `quorum` must cosign.
fn policy(witnesses: &[Arc<FakeWitness>], quorum: usize) -> Arc<Policy> {
    let mut text: String = keys().vkeys().map(|key| format!("log {key}\n")).collect();
    let mut names = Vec::new();
    for (n, witness) in witnesses.iter().enumerate() {
        text.push_str(&format!("witness w{n} {} {}\n", witness.endpoint.keys[0], witness.endpoint.url));
        names.push(format!("w{n}"));
    }
    text.push_str(&match quorum {
        0 => "quorum none\n".to_owned(),
        quorum => format!("group q {quorum} {}\nquorum q\n", names.join(" ")),
    });
    Arc::new(Policy::parse(&text).unwrap())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// A world with a new, empty log.
    pub(crate) fn new(seed: u64, bug: Option<Bug>, folder: &Path) -> Self {
        let sim = Arc::new(Sim::new(seed));
        // A majority: two quorums share a witness, so that no two trees can both be published.
        let (count, quorum) = *sim.rng().pick(&[(0, 0), (1, 1), (3, 2), (3, 2), (3, 3), (4, 3), (5, 3)]);
        let log: Vec<_> = keys().vkeys().cloned().collect();
        let witnesses: Vec<_> = (0..count).map(|n| Arc::new(FakeWitness::new(n, log.clone()))).collect();
        let policy = policy(&witnesses, quorum);
        let history = Arc::new(Mutex::new(History::default()));
        let (shared, restored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));

        let on_publish = {
            let (policy, witnesses) = (Arc::clone(&policy), witnesses.clone());
            let (history, shared) = (Arc::clone(&history), Arc::clone(&shared));
            move |sim: &Sim, note: &Bytes| {
                let head = match policy.open(Some(ORIGIN), note) {
                    Ok(checkpoint) => checkpoint.head().clone(),
                    Err(error) => return sim.violation(format!("published against the policy: {error}")),
                };
                sim.note(|| format!("  published {} {}", head.size, head.root));
                if witnesses.iter().filter(|witness| witness.has_cosigned(&head)).count() < quorum {
                    sim.violation(format!("size {} was published without its quorum", head.size));
                }
                let mut history = lock(&history);
                let newest = history.published.last().map_or(0, |last| last.size.get());
                if head.size.get() < newest && !shared.load(SeqCst) {
                    sim.violation(format!("size {} was published after {newest}", head.size));
                }
                history.published.push(head);
            }
        };
        let on_submit = {
            let (history, restored) = (Arc::clone(&history), Arc::clone(&restored));
            move |sim: &Sim, head: &TreeHead| {
                let mut history = lock(&history);
                let root = *history.submitted.entry(head.size.get()).or_insert(head.root);
                if root != head.root && !restored.load(SeqCst) {
                    sim.violation(format!("two roots of size {} were shown to witnesses", head.size));
                }
            }
        };
        let disk = Arc::new(Disk::new(Arc::clone(&sim), bug, Box::new(on_publish)));
        let network = Arc::new(Network {
            sim: Arc::clone(&sim),
            witnesses,
            on_submit: Box::new(on_submit),
            may_refuse: AtomicBool::new(false),
        });
        let refresh = Duration::from_secs(1 + sim.rng().below(90));
        let options = Options {
            refresh,
            scrub: Duration::from_millis(20),
            witness_timeout: Duration::from_millis(500),
            ..Options::default()
        };
        sim.note(|| format!("{count} witnesses, quorum {quorum}"));
        Self {
            sim,
            disk,
            network,
            policy,
            quorum,
            clock: MockClock::new(UnixMillis::new(1_900_000_000_000)),
            options,
            evidence: folder.join(format!("evidence-{seed}")),
            history,
            shared,
            restored,
        }
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    pub(crate) async fn create(&self) {
        let stores = Stores(Arc::clone(&self.disk));
        Log::create(&keys(), &stores, &stores).await.unwrap();
    }

    /// Starts a process of the log.
    pub(crate) async fn open(&self) -> Result<Log, Error> {
        let stores = Arc::new(Stores(Arc::clone(&self.disk)));
        let parts = Parts {
            keys: keys(),
            policy: Arc::clone(&self.policy),
            tiles: stores.clone(),
            heads: stores.clone(),
            leaves: stores,
            transport: self.network.clone(),
            evidence: self.evidence.clone(),
        };
        let witnesses = self.network.witnesses.iter().map(|witness| witness.endpoint.clone()).collect();
        let opened = Log::open(parts, witnesses, self.options, Arc::new(self.clock.clone()));
        match tokio::time::timeout(PATIENCE, opened).await {
            Ok(opened) => opened,
            Err(_) => {
                self.sim.violation("opening takes for ever");
                Err(Error::Halted)
            }
        }
    }

    /// The proofs of alarms so far.
    pub(crate) fn evidence(&self) -> usize {
        std::fs::read_dir(&self.evidence).map_or(0, Iterator::count)
    }

    /// What an operator does who has seen to the cause of an alarm.
    pub(crate) fn clear_evidence(&self) {
        // There may be none.
        let _ = std::fs::remove_dir_all(&self.evidence);
    }

    /// Keeps what a caller was told.
    pub(crate) fn acknowledge(&self, n: u64, index: u64) {
        if self.restored.load(SeqCst) {
            return;
        }
        self.sim.note(|| format!("  entry {n} is {index}"));
        let mut history = self.history();
        if let Some(other) = history.acknowledged.iter().find(|(m, at)| **at == index && **m != n) {
            self.sim.violation(format!("entries {n} and {} both have index {index}", other.0));
        }
        let first = *history.acknowledged.entry(n).or_insert(index);
        if first != index {
            self.sim.violation(format!("entry {n} has index {index}, and had {first}"));
        }
    }

    /// Whether an error is one that an injected fault explains.
    pub(crate) fn is_injected(error: &Error) -> bool {
        matches!(error, Error::Store(StoreError::Io { cause, .. }) if cause.to_string() == "injected fault")
    }

    /// The leaves of the tree on the disk, by its bundles.
    pub(crate) fn entries(&self, size: TreeSize) -> Vec<Bytes> {
        let contents = self.disk.contents();
        let mut entries = Vec::new();
        for index in 0..size.get().div_ceil(256) {
            let path = TilePath::entries(index, size).unwrap();
            let found = [path, path.to_full()].into_iter().find_map(|p| Some((p, contents.tiles.get(&p)?)));
            let Some((found, bytes)) = found else {
                self.sim.violation(format!("{path} is gone"));
                return entries;
            };
            let decoded = decode_bundle(bytes, found.width()).unwrap_or_default();
            entries.extend(decoded.iter().take(usize::from(path.width())).map(|e| Bytes::copy_from_slice(e)));
        }
        entries
    }

    /// The root at every size of the tree on the disk.
    pub(crate) fn roots(entries: &[Bytes]) -> Vec<Hash> {
        let mut frontier = Frontier::new();
        let mut roots = vec![frontier.root()];
        for entry in entries {
            frontier.append(Hash::leaf(entry));
            roots.push(frontier.root());
        }
        roots
    }

    /// Every promise about the whole tree, which is published.
    pub(crate) async fn check_all(&self, size: TreeSize) {
        let source = Source::Store(Arc::new(Stores(Arc::clone(&self.disk))) as Arc<dyn TileStore>);
        self.disk.at_rest.store(true, SeqCst);
        let checked = check(&source, &self.policy, ORIGIN, |_, _| ()).await;
        self.disk.at_rest.store(false, SeqCst);
        match checked {
            Err(error) => self.sim.violation(format!("fsck: {error}")),
            Ok(report) => {
                if report.checkpoint.size() != size || !report.findings.is_empty() {
                    let found = report.checkpoint.size();
                    self.sim.violation(format!("fsck: size {found} of {size}: {:?}", report.findings));
                }
            }
        }
        let entries = self.entries(size);
        let roots = Self::roots(&entries);
        let history = self.history();
        for (n, index) in &history.acknowledged {
            if entries.get(*index as usize) != Some(&entry(*n)) {
                self.sim.violation(format!("entry {n} was acknowledged as {index} and is not there"));
            }
        }
        let published = history.published.iter().map(|head| (head.size.get(), head.root));
        for (kind, heads) in [
            ("published", published.collect::<Vec<_>>()),
            ("shown to witnesses", history.submitted.iter().map(|(size, root)| (*size, *root)).collect()),
        ] {
            for (size, root) in heads {
                if roots.get(size as usize) != Some(&root) {
                    self.sim
                        .violation(format!("the tree of size {size} that was {kind} is on another chain"));
                }
            }
        }
    }
}
