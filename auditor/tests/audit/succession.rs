//! Receipts logs that go on from one another.

use glassbloom_auditor::audit::{Config, ProblemKind, Report, audit};
use glassbloom_service::{ExitCode, MockClock};
use glassbloom_spec::{id::UnixMillis, policy::Policy, succession::Succession};

use crate::support::{FakeLog, NOW, RECEIPTS, World, head, log_key, note, policy_text};

const NEXT: &str = "glassbloom.test/receipts/2027";
const OTHER: &str = "glassbloom.test/receipts/2028";

struct Audit {
    config: Config,
    folder: tempfile::TempDir,
}

impl Audit {
    fn of(log: &FakeLog, successors: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let more: String =
            successors.iter().map(|origin| format!("log {}\n", log_key(origin).vkey())).collect();
        let policy = Policy::parse(&format!("{more}{}", policy_text())).unwrap();
        Self { config: Config { log: log.url.clone(), policy, state, from_genesis: false }, folder }
    }

    /// Audits this many hours after everything was signed.
    async fn run(&self, hours: u64) -> Report {
        let clock = MockClock::new(UnixMillis::new((NOW + 5 + hours * 3600) * 1000));
        audit(&self.config, &clock).await.unwrap()
    }
}

fn rules(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.rule).collect()
}

/// A world with four receipts: two in a log that has ended, the others in the one that goes on.
fn world() -> (World, Vec<Vec<u8>>, Vec<u8>) {
    let mut world = World::new();
    for number in 0..4 {
        world.answer(&world.receipt(number));
    }
    let later = world.receipts.split_off(2);
    let end = note(&head(RECEIPTS, &world.receipts), NOW);
    (world, later, end)
}

fn first(end: &[u8]) -> Vec<u8> {
    Succession::new(end).unwrap().encode()
}

#[tokio::test]
async fn a_log_that_goes_on_is_audited_and_the_one_that_ended_does_not_age() {
    let (world, later, end) = world();
    let log = FakeLog::start().await;
    world.publish(&log);
    let entries = [vec![first(&end)], later].concat();
    log.publish(NEXT, &entries, NOW);
    let audit = Audit::of(&log, &[NEXT]);
    let report = audit.run(0).await;
    assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    assert_eq!(report.logs.len(), 3);
    let size = |origin: &str| report.logs.iter().find(|log| log.origin == origin).unwrap().size.get();
    assert_eq!((size(RECEIPTS), size(NEXT)), (2, 3));

    // Much later only the logs that go on have been cosigned anew.
    let late = NOW + 3600 * 1000;
    log.publish(crate::support::REGISTRY, &world.registry, late);
    log.publish(NEXT, &entries, late);
    let report = audit.run(1000).await;
    assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    // Without the entry that names its end, it would be stale.
    log.publish(NEXT, &world.receipts[..0], late);
    log.put("/receipts/2027/checkpoint", None);
    let fresh = Audit::of(&log, &[NEXT]);
    let report = fresh.run(1000).await;
    assert!(report.problems.iter().any(|problem| problem.kind == ProblemKind::Stale), "{report}");
    assert!(fresh.folder.path().join("state").is_dir());
}

#[tokio::test]
async fn an_end_that_is_not_the_end_is_found() {
    let (mut world, later, end) = world();
    // The log took an entry after its end.
    world.receipts.push(later[0].clone());
    let log = FakeLog::start().await;
    world.publish(&log);
    log.publish(NEXT, &[first(&end), later[1].clone()], NOW);
    let report = Audit::of(&log, &[NEXT]).run(0).await;
    assert_eq!(rules(&report), ["GB-LOG-007"], "{report}");
    assert_eq!(report.findings[0].origin, RECEIPTS);
    assert_eq!(report.exit_code(), ExitCode::Rejected);

    // A stale copy of the log that ended is no finding.
    world.receipts.truncate(1);
    let log = FakeLog::start().await;
    world.publish(&log);
    log.publish(NEXT, &[first(&end), later[1].clone()], NOW);
    let report = Audit::of(&log, &[NEXT]).run(0).await;
    assert_eq!((rules(&report).len(), report.exit_code()), (0, ExitCode::Stale), "{report}");
}

#[tokio::test]
async fn a_succession_elsewhere_or_of_something_else_is_found() {
    let (world, later, end) = world();
    let log = FakeLog::start().await;
    world.publish(&log);
    // In the second place.
    log.publish(NEXT, &[later[0].clone(), first(&end)], NOW);
    let report = Audit::of(&log, &[NEXT]).run(0).await;
    assert_eq!(rules(&report), ["GB-LOG-007"], "{report}");
    assert_eq!(report.findings[0].index.map(|index| index.get()), Some(1));
    // Not cosigned.
    let text = String::from_utf8(end.clone()).unwrap();
    let uncosigned: String = text.split_inclusive('\n').take(5).collect();
    log.publish(NEXT, &[first(uncosigned.as_bytes()), later[0].clone()], NOW);
    let report = Audit::of(&log, &[NEXT]).run(0).await;
    assert_eq!(rules(&report), ["GB-LOG-007"], "{report}");
    // Two logs that go on from the same one.
    log.publish(NEXT, &[first(&end), later[0].clone()], NOW);
    log.publish(OTHER, &[first(&end), later[1].clone()], NOW);
    let report = Audit::of(&log, &[NEXT, OTHER]).run(0).await;
    assert_eq!(rules(&report), ["GB-LOG-007"], "{report}");
}

#[tokio::test]
async fn the_same_receipt_in_two_periods_is_counted_once() {
    let (world, later, end) = world();
    let log = FakeLog::start().await;
    world.publish(&log);
    log.publish(NEXT, &[first(&end), later[0].clone(), world.receipts[1].clone()], NOW);
    let audit = Audit::of(&log, &[NEXT]);
    for _ in 0..2 {
        let report = audit.run(0).await;
        assert_eq!(rules(&report), ["GB-STMT-003"], "{report}");
    }
}
