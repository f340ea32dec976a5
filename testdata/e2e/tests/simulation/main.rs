//! A deterministic simulation of the log: its real code, on stores, witnesses and clocks that fail by a script that
//! follows from a seed. A failing seed is printed; `GLASSBLOOM_SEED=N cargo test -p glassbloom-e2e --test simulation` runs
//! it alone and shows what happened.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod damage;
mod disk;
mod schedule;
mod sim;
mod witness;
mod world;

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{disk::Bug, schedule::Outcome};

/// Schedules that are run at least, however slow the machine.
const AT_LEAST: u64 = 1000;
/// As many as fit into this time are run.
const TIME: Duration = Duration::from_secs(120);
/// The most that are run.
const AT_MOST: u64 = 20_000;

/// Runs schedules on all processors until `enough` says so, or one fails; returns how many, and the failure.
fn run_many(first: u64, bug: Option<Bug>, enough: impl Fn(u64) -> bool + Sync) -> Totals {
    let folder = tempfile::tempdir().unwrap();
    let (next, totals) = (AtomicU64::new(0), Mutex::new(Totals::default()));
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, SeqCst);
                    if enough(n) || totals.lock().unwrap().failed.is_some() {
                        return;
                    }
                    let outcome = schedule::run(first + n, bug, folder.path());
                    totals.lock().unwrap().count(first + n, outcome);
                }
            });
        }
    });
    totals.into_inner().unwrap()
}

#[derive(Default)]
struct Totals {
    schedules: u64,
    acknowledged: usize,
    published: usize,
    faults: u64,
    failed: Option<(u64, Outcome)>,
}

impl Totals {
    fn count(&mut self, seed: u64, outcome: Outcome) {
        self.schedules += 1;
        self.acknowledged += outcome.acknowledged;
        self.published += outcome.published;
        self.faults += outcome.faults;
        if !outcome.violations.is_empty() && self.failed.is_none() {
            self.failed = Some((seed, outcome));
        }
    }
}

fn explain(seed: u64, outcome: &Outcome) -> String {
    let trace = &outcome.trace;
    let shown = if std::env::var_os("GLASSBLOOM_SEED").is_some() { trace.len() } else { 60 };
    format!(
        "seed {seed}: {}\n\nwhat happened last:\n{}\n\nrun it alone, with all that happened: \
         GLASSBLOOM_SEED={seed} cargo test -p glassbloom-e2e --test simulation one_chain",
        outcome.violations.join("; "),
        trace[trace.len().saturating_sub(shown)..].join("\n"),
    )
}

#[test]
fn one_chain_and_nothing_lost_whatever_fails() {
    schedule::watch_panics();
    if let Ok(seed) = std::env::var("GLASSBLOOM_SEED") {
        let seed = seed.parse().expect("GLASSBLOOM_SEED is a number");
        let outcome = schedule::run(seed, None, tempfile::tempdir().unwrap().path());
        println!("{}", outcome.trace.join("\n"));
        assert!(outcome.violations.is_empty(), "{}", explain(seed, &outcome));
        return;
    }
    let begin = Instant::now();
    let enough = |n| n >= AT_MOST || (n >= AT_LEAST && begin.elapsed() > TIME);
    let totals = run_many(0, None, enough);
    let Totals { schedules, acknowledged, published, faults, failed } = totals;
    println!(
        "{schedules} schedules in {:?}: {acknowledged} acknowledged entries, {published} publications, {faults} faults",
        begin.elapsed()
    );
    if let Some((seed, outcome)) = failed {
        panic!("{}", explain(seed, &outcome));
    }
    assert!(faults > schedules / 4 && published as u64 > schedules, "the schedules do something");
}

#[test]
fn a_store_that_breaks_its_promise_is_noticed() {
    schedule::watch_panics();
    for bug in [
        Bug::SwapsWithoutComparing,
        Bug::SwapsInMemory,
        Bug::StagesInMemory,
        Bug::PutsAllButOne,
        Bug::ForgetsLeaves,
    ] {
        let totals = run_many(0, Some(bug), |n| n >= AT_LEAST);
        let (seed, outcome) = totals.failed.unwrap_or_else(|| panic!("{bug:?} was not noticed"));
        println!("{bug:?}: seed {seed}, {} schedules: {}", totals.schedules, outcome.violations[0]);
    }
}

#[test]
fn a_seed_gives_the_same_schedule_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let run = |seed: u64, at: &str| {
        let folder: &Path = &folder.path().join(at);
        schedule::run(seed, None, folder).trace
    };
    for seed in 1000..1020 {
        let (one, other) = (run(seed, "one"), run(seed, "other"));
        let differs = one.iter().zip(&other).position(|(one, other)| one != other);
        assert_eq!((differs, one.len()), (None, other.len()), "seed {seed}");
    }
}
