//! What all parts of a simulated world share: randomness from one seed, scripted faults, and a record of what happened.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Every operation of the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Put,
    Get,
    Discard,
    Publish,
    Published,
    Stage,
    Staged,
    ReadStaged,
    Unstage,
    Load,
    Swap,
    Indexed,
    Insert,
    Find,
}

pub(crate) const POINTS: [Point; 14] = [
    Point::Put,
    Point::Get,
    Point::Discard,
    Point::Publish,
    Point::Published,
    Point::Stage,
    Point::Staged,
    Point::ReadStaged,
    Point::Unstage,
    Point::Load,
    Point::Swap,
    Point::Indexed,
    Point::Insert,
    Point::Find,
];

/// A store operation that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) point: Point,
    /// What was asked for happens all the same.
    pub(crate) persists: bool,
    /// How many calls still go well before.
    pub(crate) after: u64,
    /// How many calls then fail.
    pub(crate) times: u64,
}

/// One simulated world's randomness, faults and record.
pub(crate) struct Sim {
    rng: Mutex<Rng>,
    // How long things take. Apart for each kind of operation: tokio wakes those who wait for one value in an order that
    // no seed decides, and they then do different things.
    delays: [Mutex<Rng>; POINTS.len() + 1],
    faults: Mutex<Vec<Fault>>,
    hits: AtomicU64,
    trace: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sim {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Mutex::new(Rng::new(seed)),
            delays: std::array::from_fn(|n| Mutex::new(Rng::new(seed ^ ((n as u64 + 1) << 40)))),
            faults: Mutex::default(),
            hits: AtomicU64::new(0),
            trace: Mutex::default(),
            violations: Mutex::default(),
        }
    }

    pub(crate) fn rng(&self) -> MutexGuard<'_, Rng> {
        lock(&self.rng)
    }

    /// The randomness of one operation; of the network when there is no point.
    pub(crate) fn delays(&self, point: Option<Point>) -> MutexGuard<'_, Rng> {
        lock(&self.delays[point.map_or(POINTS.len(), |point| point as usize)])
    }

    /// Takes as long as a disk or a network may, in virtual time: often nothing, sometimes very long.
    pub(crate) async fn pause(&self, point: Option<Point>) {
        let millis = {
            let mut rng = self.delays(point);
            match rng.below(100) {
                0..50 => return,
                50..65 => 0,
                65..97 => 1 + rng.below(6),
                _ => 20 + rng.below(300),
            }
        };
        match millis {
            0 => tokio::task::yield_now().await,
            millis => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.note(|| format!("fault: {fault:?}"));
        lock(&self.faults).push(fault);
    }

    pub(crate) fn repair(&self) {
        lock(&self.faults).clear();
    }

    /// `None` to go on, otherwise whether what was asked for happens before the failure.
    pub(crate) fn fault(&self, point: Point) -> Option<bool> {
        let mut faults = lock(&self.faults);
        for fault in faults.iter_mut().filter(|fault| fault.point == point && fault.times > 0) {
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            fault.times -= 1;
            self.hits.fetch_add(1, SeqCst);
            self.note(|| format!("  {point:?} fails, persists: {}", fault.persists));
            return Some(fault.persists);
        }
        None
    }

    /// How many faults were met so far.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(SeqCst)
    }

    /// Records what happened: shown when the schedule fails, and compared when it is run twice.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        lock(&self.trace).push(what());
    }

    /// Records a broken promise.
    pub(crate) fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(|| format!("VIOLATION: {what}"));
        lock(&self.violations).push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        lock(&self.trace).clone()
    }
}
