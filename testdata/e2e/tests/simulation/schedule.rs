//! A schedule: some lives of the log's process, each with load and faults, and what happens to the disk in between.

use std::{
    cell::Cell,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use glassbloom_log::{Error, Log, store::StoreError};
use glassbloom_service::Clock;
use glassbloom_spec::id::UnixMillis;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    damage,
    disk::Bug,
    sim::{Fault, POINTS, Sim},
    witness::{MOODS, Mood},
    world::{PATIENCE, World, entry},
};

/// What a schedule found.
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
    pub(crate) acknowledged: usize,
    pub(crate) published: usize,
    pub(crate) faults: u64,
}

thread_local! {
    /// Whether something panicked on this thread; see `watch_panics`.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// A panic in a task of the log is caught by tokio: this keeps it from being taken for an ordinary stop.
pub(crate) fn watch_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.set(true);
        before(panic);
    }));
}

/// Runs one process' worth of virtual time; whatever still runs at its end is dropped where it stands.
pub(crate) fn live<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(life)
}

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64, bug: Option<Bug>, folder: &Path) -> Outcome {
    PANICKED.set(false);
    let world = Arc::new(World::new(seed, bug, folder));
    let sim = Arc::clone(&world.sim);
    live(world.create());
    let mut plan = Plan { next: 0 };
    let lives = 1 + sim.rng().below(4);
    let mut snapshots = Vec::new();
    let mut ended = false;
    for n in 0..lives {
        snapshots.push(world.disk.contents().clone());
        sim.note(|| format!("life {n}"));
        world.shared.store(false, SeqCst);
        live(life(Arc::clone(&world), &mut plan, n == 0));
        sim.repair();
        world.disk.crash();
        if world.evidence() > 0 {
            sim.violation("an alarm without a cause");
        }
        if !sim.violations().is_empty() {
            break;
        }
        let damaged = sim.rng().percent(40);
        if damaged && damage::happens(&world, &snapshots, &mut plan.next) {
            ended = true;
            break;
        }
    }
    if !ended && sim.violations().is_empty() {
        world.shared.store(false, SeqCst);
        ending(&world);
    }
    if PANICKED.get() {
        sim.violation("something panicked");
    }
    let history = world.history();
    Outcome {
        violations: sim.violations(),
        trace: sim.trace(),
        acknowledged: history.acknowledged.len(),
        published: history.published.len(),
        faults: sim.hits(),
    }
}

/// The number of the next new entry.
struct Plan {
    next: u64,
}

/// A process of the log.
struct Process {
    log: Log,
    /// One `append` waits at a time: tokio wakes several in an order that no seed decides.
    appending: Arc<AtomicBool>,
    ended: JoinHandle<Result<(), Error>>,
}

async fn start(world: &World) -> Option<Process> {
    let hits = world.sim.hits();
    match world.open().await {
        Ok(log) => {
            world.sim.note(|| format!("open at {}", log.size()));
            let watched = log.clone();
            let ended = tokio::spawn(async move { watched.stopped().await });
            Some(Process { log, appending: Arc::default(), ended })
        }
        Err(error) => {
            world.sim.note(|| format!("refuses: {error}"));
            let explained = World::is_injected(&error) && world.sim.hits() > hits;
            if !explained && !world.shared.load(SeqCst) {
                world.sim.violation(format!("refuses to start without a cause: {error}"));
            }
            None
        }
    }
}

/// Why a process stopped, and whether it had cause.
fn judge(world: &World, ended: Result<(), Error>) {
    let Err(error) = ended else { return };
    world.sim.note(|| format!("stopped: {error}"));
    let shared = world.shared.load(SeqCst);
    let explained = match &error {
        error if World::is_injected(error) => true,
        Error::Store(StoreError::HeadMoved { .. } | StoreError::Io { .. }) | Error::MissingTile { .. } => {
            shared
        }
        _ => false,
    };
    if !explained {
        world.sim.violation(format!("stopped without a cause: {error}"));
    }
}

/// One process, or a few, until a crash or an orderly end.
async fn life(world: Arc<World>, plan: &mut Plan, first: bool) {
    let sim = Arc::clone(&world.sim);
    let end = Instant::now() + Duration::from_millis(20 + sim.rng().below(6000));
    let mut calls = JoinSet::new();
    let mut processes = Vec::new();
    let story = async {
        processes.extend(start(&world).await);
        if first && sim.rng().percent(60) {
            let size = *sim.rng().pick(&[1, 5, 200, 254, 255, 256, 257, 500, 511, 513]);
            prefill(&world, &processes, plan, size).await;
        }
        while sim.violations().is_empty() {
            let pause = *sim.rng().pick(&[0, 0, 1, 5, 20, 100, 400]);
            sleep(Duration::from_millis(pause)).await;
            act(&world, &mut processes, &mut calls, plan).await;
        }
    };
    tokio::select! { biased; () = sleep_until(end) => {} () = story => {} }
    if sim.rng().percent(30) {
        sim.note(|| "orderly stop".to_owned());
        for Process { log, ended, .. } in processes {
            log.stop().await.ok();
            judge(&world, ended.await.unwrap_or(Ok(())));
        }
    } else {
        sim.note(|| "crash".to_owned());
        // A process that failed before had its reasons.
        for Process { ended, .. } in processes {
            if ended.is_finished() {
                judge(&world, ended.await.unwrap_or(Ok(())));
            }
        }
    }
}

async fn prefill(world: &Arc<World>, processes: &[Process], plan: &mut Plan, size: u64) {
    let Some(Process { log, .. }) = processes.first() else { return };
    let mut calls = JoinSet::new();
    for n in plan.next..plan.next + size {
        calls.spawn(add(Arc::clone(world), log.clone(), n));
    }
    plan.next += size;
    while calls.join_next().await.is_some() {}
}

async fn add(world: Arc<World>, log: Log, n: u64) {
    match log.add(entry(n)).await {
        Ok(index) => world.acknowledge(n, index.get()),
        Err(Error::Halted | Error::Overloaded) => {}
        Err(Error::Alarm { .. }) if world.restored.load(SeqCst) => {}
        Err(error) => world.sim.violation(format!("add: {error}")),
    }
}

async fn append(world: Arc<World>, log: Log, n: u64, limit: Duration) {
    match log.append(entry(n), limit).await {
        Ok(proof) => {
            world.acknowledge(n, proof.index.get());
            match proof.open_from(&world.policy, crate::world::ORIGIN, &entry(n)) {
                Err(error) => world.sim.violation(format!("the proof of entry {n} is wrong: {error}")),
                Ok(logged) => {
                    if !world.history().published.contains(logged.checkpoint()) {
                        world.sim.violation(format!("the proof of entry {n} is under an unpublished head"));
                    }
                }
            }
        }
        // It is in the log all the same.
        Err(Error::Late { index, .. }) => world.acknowledge(n, index.get()),
        Err(Error::Halted | Error::Overloaded | Error::Store(_)) => {}
        // Tiles of a process that has lost the log may be gone.
        Err(Error::MissingTile { .. }) if world.shared.load(SeqCst) => {}
        Err(error) => world.sim.violation(format!("append: {error}")),
    }
}

/// One thing that happens.
async fn act(world: &Arc<World>, processes: &mut Vec<Process>, calls: &mut JoinSet<()>, plan: &mut Plan) {
    let sim = &world.sim;
    // A supervisor starts a process that has stopped anew.
    if let Some(dead) = processes.iter().position(|process| process.ended.is_finished()) {
        let Process { ended, .. } = processes.remove(dead);
        judge(world, ended.await.unwrap_or(Ok(())));
    }
    if processes.is_empty() {
        if sim.rng().percent(30) {
            sim.repair();
        }
        processes.extend(start(world).await);
        return;
    }
    let (log, appending) = {
        let mut rng = sim.rng();
        let process = rng.pick(processes);
        (process.log.clone(), Arc::clone(&process.appending))
    };
    let dice = sim.rng().below(100);
    match dice {
        0..35 => {
            plan.next += 1;
            calls.spawn(add(Arc::clone(world), log, plan.next));
        }
        35..45 => {
            let n = sim.rng().below(plan.next + 1);
            calls.spawn(add(Arc::clone(world), log, n));
        }
        45..55 => {
            let count = 1 + sim.rng().below(40);
            for _ in 0..count {
                // Some of them the same.
                plan.next += sim.rng().below(2);
                calls.spawn(add(Arc::clone(world), log.clone(), plan.next));
            }
        }
        55..72 => {
            plan.next += 1;
            let limit = Duration::from_millis(50 + sim.rng().below(3000));
            let (world, n) = (Arc::clone(world), plan.next);
            if appending.swap(true, SeqCst) {
                calls.spawn(add(world, log, n));
            } else {
                calls.spawn(async move {
                    append(world, log, n, limit).await;
                    appending.store(false, SeqCst);
                });
            }
        }
        72..78 => {
            let point = *sim.rng().pick(&POINTS);
            let fault = {
                let mut rng = sim.rng();
                Fault { point, persists: rng.percent(50), after: rng.below(6), times: 1 + rng.below(3) }
            };
            sim.inject(fault);
        }
        78..86 => {
            if !world.network.witnesses.is_empty() {
                let mut rng = sim.rng();
                let witness = rng.pick(&world.network.witnesses);
                witness.mood(if rng.percent(40) { Mood::Honest } else { *rng.pick(&MOODS) });
            }
        }
        86..91 => jump(world),
        91..94 => {
            let Process { log, ended, .. } = processes.swap_remove(0);
            log.stop().await.ok();
            judge(world, ended.await.unwrap_or(Ok(())));
        }
        94..96 => {
            sim.note(|| "a second process".to_owned());
            world.shared.store(true, SeqCst);
            processes.extend(start(world).await);
        }
        _ => {
            let millis = sim.rng().below(2500);
            sleep(Duration::from_millis(millis)).await;
        }
    }
}

/// The clock goes on, jumps far, or goes back.
fn jump(world: &World) {
    let now = world.clock.now().get();
    let mut rng = world.sim.rng();
    let by = *rng.pick(&[1_000, 30_000, 120_000, 86_400_000]);
    let to = if rng.percent(40) { now.saturating_sub(by) } else { now + by };
    world.clock.set(UnixMillis::new(to));
}

/// Waits until all that is committed is published.
pub(crate) async fn published(sim: &Sim, log: &Log) {
    let size = log.size();
    let wait = async {
        while log.published().is_none_or(|published| published.head.size < size) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        sim.violation(format!("size {size} is not published although nothing stands in the way"));
    }
}

/// All faults are gone: what must be there is there, and the log goes on.
fn ending(world: &Arc<World>) {
    let sim = &world.sim;
    sim.note(|| "the end".to_owned());
    for witness in &world.network.witnesses {
        witness.mood(Mood::Honest);
    }
    for again in [false, true] {
        let size = live(async {
            let log = match world.open().await {
                Ok(log) => log,
                Err(error) => {
                    sim.violation(format!("does not open: {error}"));
                    return None;
                }
            };
            if again {
                let acknowledged: Vec<_> = world.history().acknowledged.keys().copied().collect();
                for n in acknowledged.into_iter().rev().take(40).chain([1_000_000]) {
                    add(Arc::clone(world), log.clone(), n).await;
                }
            }
            published(sim, &log).await;
            let size = log.size();
            judge(world, log.stop().await);
            Some(size)
        });
        let Some(size) = size.filter(|_| sim.violations().is_empty()) else { return };
        live(world.check_all(size));
    }
}
