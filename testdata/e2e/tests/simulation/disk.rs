//! The stores of a simulated log: what they hold survives a crash, as far as the traits promise.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use glassbloom_log::store::{BatchName, HeadStore, LeafStore, StoreError, StoredHead, TileStore};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize},
    note::SignedNote,
    tile::TilePath,
};

use crate::{
    sim::{Point, Sim},
    world::ORIGIN,
};

/// Everything that survives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) tiles: BTreeMap<TilePath, Bytes>,
    pub(crate) checkpoint: Option<Bytes>,
    pub(crate) staged: BTreeMap<BatchName, Bytes>,
    pub(crate) head: Option<StoredHead>,
    /// What was inserted into the leaf index, in order; a crash undoes the last inserts.
    pub(crate) inserts: Vec<(u64, Vec<Hash>)>,
    // Deleted, but a crash may bring it back.
    deleted_tiles: BTreeMap<TilePath, Bytes>,
    deleted_staged: BTreeMap<BatchName, Bytes>,
}

/// A store that does not keep its promise, to show that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The head is replaced whatever it was.
    SwapsWithoutComparing,
    /// A staged batch is gone after a crash.
    StagesInMemory,
    /// The last object of a put is not written.
    PutsAllButOne,
    /// A swap returns before it is durable: a crash undoes it.
    SwapsInMemory,
    /// The leaf index says that it has what it has not.
    ForgetsLeaves,
}

/// Called with every checkpoint that is published.
pub(crate) type OnPublish = Box<dyn Fn(&Sim, &Bytes) + Send + Sync>;

/// The disk of a world.
pub(crate) struct Disk {
    pub(crate) sim: Arc<Sim>,
    pub(crate) bug: Option<Bug>,
    contents: Mutex<Contents>,
    /// Heads that were swapped in, in order.
    swapped: Mutex<Vec<StoredHead>>,
    on_publish: OnPublish,
    /// Nothing takes time or fails: whoever looks at everything from outside does not change what happens.
    pub(crate) at_rest: AtomicBool,
}

fn injected(point: Point) -> StoreError {
    StoreError::io(format!("{point:?}"), std::io::Error::other("injected fault"))
}

impl Disk {
    pub(crate) fn new(sim: Arc<Sim>, bug: Option<Bug>, on_publish: OnPublish) -> Self {
        Self {
            sim,
            bug,
            contents: Mutex::default(),
            swapped: Mutex::default(),
            on_publish,
            at_rest: false.into(),
        }
    }

    pub(crate) fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All heads that were ever swapped in, oldest first.
    pub(crate) fn swapped(&self) -> MutexGuard<'_, Vec<StoredHead>> {
        self.swapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a power cut does to what was not synced.
    pub(crate) fn crash(&self) {
        let mut contents = self.contents();
        let contents = &mut *contents;
        let mut rng = self.sim.rng();
        for (path, bytes) in std::mem::take(&mut contents.deleted_tiles) {
            if rng.percent(50) {
                contents.tiles.entry(path).or_insert(bytes);
            }
        }
        for (name, bytes) in std::mem::take(&mut contents.deleted_staged) {
            if rng.percent(50) {
                contents.staged.entry(name).or_insert(bytes);
            }
        }
        let kept = rng.below(contents.inserts.len() as u64 + 1);
        contents.inserts.truncate(kept as usize);
        match self.bug {
            Some(Bug::StagesInMemory) => contents.staged.clear(),
            Some(Bug::SwapsInMemory) => {
                let swapped = self.swapped();
                if let [.., before, _] = &swapped[..] {
                    contents.head = Some(before.clone());
                }
            }
            _ => {}
        }
    }

    /// One operation: it takes its time, and may fail before or after it is done.
    async fn operation<T>(
        &self,
        point: Point,
        work: impl FnOnce(&mut Contents) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.at_rest.load(SeqCst) {
            return work(&mut self.contents());
        }
        self.sim.pause(Some(point)).await;
        let fault = self.sim.fault(point);
        let done = match fault {
            Some(false) => return Err(injected(point)),
            None | Some(true) => work(&mut self.contents()),
        };
        self.sim.pause(Some(point)).await;
        match fault {
            None => done,
            Some(_) => Err(injected(point)),
        }
    }
}

fn head_of(note: &[u8]) -> Option<TreeHead> {
    TreeHead::parse(&SignedNote::parse(note).ok()?.text).ok()
}

/// The disk as one process sees it.
pub(crate) struct Stores(pub(crate) Arc<Disk>);

#[async_trait]
impl TileStore for Stores {
    async fn put(&self, mut objects: Vec<(TilePath, Bytes)>) -> Result<(), StoreError> {
        let disk = &self.0;
        disk.sim.delays(Some(Point::Put)).shuffle(&mut objects);
        if disk.bug == Some(Bug::PutsAllButOne) {
            objects.pop();
        }
        let fault = disk.sim.fault(Point::Put);
        if fault == Some(false) {
            // Some may have been written.
            let some = disk.sim.delays(Some(Point::Put)).below(objects.len() as u64 + 1);
            objects.truncate(some as usize);
        }
        for (path, bytes) in objects {
            disk.sim.pause(Some(Point::Put)).await;
            let mut contents = disk.contents();
            let found = contents.tiles.entry(path).or_insert_with(|| bytes.clone());
            if *found != bytes {
                return Err(StoreError::Conflict { path: path.to_string() });
            }
            contents.deleted_tiles.remove(&path);
        }
        disk.sim.pause(Some(Point::Put)).await;
        fault.map_or(Ok(()), |_| Err(injected(Point::Put)))
    }

    async fn get(&self, path: &TilePath) -> Result<Option<Bytes>, StoreError> {
        self.0.operation(Point::Get, |contents| Ok(contents.tiles.get(path).cloned())).await
    }

    async fn discard_partials(&self, full: &TilePath) -> Result<(), StoreError> {
        self.0
            .operation(Point::Discard, |contents| {
                let old = std::mem::take(&mut contents.tiles);
                let (gone, kept) = old
                    .into_iter()
                    .partition::<BTreeMap<_, _>, _>(|(path, _)| !path.is_full() && path.to_full() == *full);
                contents.tiles = kept;
                contents.deleted_tiles.extend(gone);
                Ok(())
            })
            .await
    }

    async fn publish(&self, checkpoint: Bytes) -> Result<(), StoreError> {
        let disk = &self.0;
        disk.operation(Point::Publish, |contents| {
            (disk.on_publish)(&disk.sim, &checkpoint);
            contents.checkpoint = Some(checkpoint);
            Ok(())
        })
        .await
    }

    async fn published(&self) -> Result<Option<Bytes>, StoreError> {
        self.0.operation(Point::Published, |contents| Ok(contents.checkpoint.clone())).await
    }

    async fn stage(&self, batch: BatchName, bytes: Bytes) -> Result<(), StoreError> {
        self.0
            .operation(Point::Stage, |contents| {
                contents.deleted_staged.remove(&batch);
                contents.staged.insert(batch, bytes);
                Ok(())
            })
            .await
    }

    async fn staged(&self) -> Result<Vec<BatchName>, StoreError> {
        self.0.operation(Point::Staged, |contents| Ok(contents.staged.keys().copied().collect())).await
    }

    async fn read_staged(&self, batch: BatchName) -> Result<Option<Bytes>, StoreError> {
        self.0.operation(Point::ReadStaged, |contents| Ok(contents.staged.get(&batch).cloned())).await
    }

    async fn unstage(&self, batches: &[BatchName]) -> Result<(), StoreError> {
        for batch in batches {
            self.0
                .operation(Point::Unstage, |contents| {
                    if let Some(bytes) = contents.staged.remove(batch) {
                        contents.deleted_staged.insert(*batch, bytes);
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }
}

#[async_trait]
impl HeadStore for Stores {
    async fn create(&self, _: &str, head: &StoredHead) -> Result<(), StoreError> {
        let mut contents = self.0.contents();
        assert!(contents.head.is_none(), "a simulated log is created once");
        contents.head = Some(head.clone());
        self.0.swapped().push(head.clone());
        Ok(())
    }

    async fn load(&self, origin: &str) -> Result<Option<StoredHead>, StoreError> {
        // What a log keeps under another name is for its end, which no simulated log reaches.
        let head = |contents: &mut Contents| contents.head.clone().filter(|_| origin == ORIGIN);
        self.0.operation(Point::Load, |contents| Ok(head(contents))).await
    }

    async fn swap(&self, origin: &str, old: &StoredHead, new: &StoredHead) -> Result<(), StoreError> {
        let disk = &self.0;
        disk.operation(Point::Swap, |contents| {
            if contents.head.as_ref() != Some(old) && disk.bug != Some(Bug::SwapsWithoutComparing) {
                return Err(StoreError::HeadMoved { origin: origin.to_owned() });
            }
            contents.head = Some(new.clone());
            disk.swapped().push(new.clone());
            let head = head_of(&new.note);
            disk.sim.note(|| format!("  head {:?}, applied {}", head.map(|h| h.size.get()), new.applied));
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl LeafStore for Stores {
    async fn indexed(&self, _: &str) -> Result<TreeSize, StoreError> {
        let end = |contents: &Contents| contents.inserts.last().map_or(0, |(from, l)| from + l.len() as u64);
        self.0.operation(Point::Indexed, |contents| Ok(TreeSize::new(end(contents)))).await
    }

    async fn insert(&self, _: &str, from: LeafIndex, leaves: &[Hash]) -> Result<(), StoreError> {
        let insert = (from.get(), leaves.to_vec());
        self.0
            .operation(Point::Insert, |contents| {
                contents.inserts.push(insert);
                Ok(())
            })
            .await
    }

    async fn find(&self, _: &str, leaves: &[Hash]) -> Result<Vec<Vec<LeafIndex>>, StoreError> {
        let disk = &self.0;
        disk.operation(Point::Find, |contents| {
            let mut rng = disk.sim.delays(Some(Point::Find));
            let mut places: HashMap<&Hash, BTreeSet<u64>> = HashMap::new();
            let mut count = 0;
            for (from, inserted) in &contents.inserts {
                for (index, leaf) in (*from..).zip(inserted) {
                    places.entry(leaf).or_default().insert(index);
                    count = count.max(index);
                }
            }
            let find = |leaf: &Hash| {
                let mut found = places.get(leaf).cloned().unwrap_or_default();
                if disk.bug == Some(Bug::ForgetsLeaves) {
                    found.clear();
                }
                // A store that keeps a part of the hash finds others, too.
                if rng.percent(10) {
                    found.insert(rng.below(count + 2));
                }
                found.into_iter().map(LeafIndex::new).collect()
            };
            Ok(leaves.iter().map(find).collect())
        })
        .await
    }
}
