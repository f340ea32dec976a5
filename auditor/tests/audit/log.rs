//! Audits of a log that tells the truth, and of logs that do not.

use std::{fs, process::Command};

use crate::support::{FakeLog, NOW, RECEIPTS, REGISTRY, World, coordinator_key, head, log_key, note, policy};
use glassbloom_auditor::audit::{Config, ProblemKind, Report, audit};
use glassbloom_service::{ExitCode, MockClock};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, UnixMillis},
    leaf::{Payload, PolicyLeaf},
    note::{NoteSigner, SignedNote},
};

struct Audit {
    config: Config,
    clock: MockClock,
    _folder: tempfile::TempDir,
}

impl Audit {
    fn of(log: &FakeLog) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let config = Config { log: log.url.clone(), policy: policy(), state, from_genesis: false };
        Self { config, clock: MockClock::new(UnixMillis::new((NOW + 5) * 1000)), _folder: folder }
    }

    async fn run(&self) -> Report {
        audit(&self.config, &self.clock).await.unwrap()
    }
}

fn rules(report: &Report) -> Vec<(&'static str, Option<u64>)> {
    report.findings.iter().map(|finding| (finding.rule, finding.index.map(LeafIndex::get))).collect()
}

fn problems(report: &Report) -> Vec<ProblemKind> {
    report.problems.iter().map(|problem| problem.kind).collect()
}

/// A world with `receipts` receipts, published, and audited once without findings.
async fn audited(receipts: u64) -> (World, FakeLog, Audit) {
    let mut world = World::new();
    for number in 0..receipts {
        world.answer(&world.receipt(number));
    }
    let log = FakeLog::start().await;
    world.publish(&log);
    let audit = Audit::of(&log);
    let report = audit.run().await;
    assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    log.requests();
    (world, log, audit)
}

#[tokio::test]
async fn a_truthful_log_has_no_findings_and_the_second_run_reads_only_what_is_new() {
    let mut world = World::new();
    for number in 0..600 {
        world.answer(&world.receipt(number));
    }
    let log = FakeLog::start().await;
    world.publish(&log);
    let audit = Audit::of(&log);
    let report = audit.run().await;
    assert_eq!((report.exit_code(), rules(&report)), (ExitCode::Ok, vec![]), "{report}");
    assert_eq!(report.logs.iter().map(|log| log.new_entries).collect::<Vec<_>>(), [7, 600]);
    assert!(log.requests().iter().any(|path| path == "/receipts/tile/entries/000"));

    // Nothing new: two checkpoints are all that is read.
    let report = audit.run().await;
    assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    assert_eq!(log.requests(), ["/receipts/checkpoint", "/registry/checkpoint"]);

    world.answer(&world.receipt(600));
    world.publish(&log);
    let report = audit.run().await;
    assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    assert_eq!(report.logs.iter().map(|log| log.new_entries).collect::<Vec<_>>(), [0, 1]);
    let requests = log.requests();
    assert!(
        requests.iter().all(|path| !path.ends_with("entries/000") && !path.ends_with("entries/001")),
        "{requests:?}"
    );

    let again = Config { from_genesis: true, ..audit.config.clone() };
    let report = glassbloom_auditor::audit::audit(&again, &audit.clock).await.unwrap();
    assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    assert_eq!(report.logs.iter().map(|log| log.new_entries).collect::<Vec<_>>(), [7, 601]);
}

#[tokio::test]
async fn a_flipped_leaf_byte_is_named_by_its_index() {
    let mut world = World::new();
    for number in 0..300 {
        world.answer(&world.receipt(number));
    }
    let log = FakeLog::start().await;
    world.publish(&log);
    let path = "/receipts/tile/entries/001.p/44";
    let right = log.file(path);
    // Some byte in the middle of the last entry.
    let mut wrong = right.clone();
    let at = wrong.len() - 100;
    wrong[at] ^= 1;
    log.put(path, Some(wrong));
    let audit = Audit::of(&log);
    let report = audit.run().await;
    assert_eq!(
        (report.exit_code(), rules(&report)),
        (ExitCode::Rejected, vec![("GB-LOG-003", Some(299))]),
        "{report}"
    );
    assert_eq!(report.findings[0].leaf, Some(Hash::leaf(&world.receipts[299])));
    let text = report.to_string();
    for part in ["GB-LOG-003", "index     299", RECEIPTS, "fsck", "explain GB-LOG-003"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    // Nothing was remembered of the damaged log, so a repaired one is audited from the beginning.
    log.put(path, Some(right));
    let report = audit.run().await;
    assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    assert_eq!(report.logs[1].new_entries, 300);
}

#[tokio::test]
async fn damage_to_tiles_is_told_from_damage_to_entries() {
    let (_, log, audit) = audited(3).await;
    let mut tile = log.file("/receipts/tile/0/000.p/3");
    tile[40] ^= 1;
    log.put("/receipts/tile/0/000.p/3", Some(tile.clone()));
    let again = Config { from_genesis: true, ..audit.config.clone() };
    let report = glassbloom_auditor::audit::audit(&again, &audit.clock).await.unwrap();
    assert_eq!(
        (report.exit_code(), rules(&report)),
        (ExitCode::Rejected, vec![("GB-LOG-004", Some(1))]),
        "{report}"
    );

    // Both: the root is out of reach, and the first place where they differ is named.
    let mut bundle = log.file("/receipts/tile/entries/000.p/3");
    let last = bundle.len() - 1;
    bundle[last] ^= 1;
    log.put("/receipts/tile/entries/000.p/3", Some(bundle));
    let report = glassbloom_auditor::audit::audit(&again, &audit.clock).await.unwrap();
    assert_eq!(
        (report.exit_code(), rules(&report)),
        (ExitCode::Rejected, vec![("GB-LOG-005", None)]),
        "{report}"
    );
    assert!(report.findings[0].detail.contains("index 1"), "{report}");
}

#[tokio::test]
async fn damage_to_entry_and_tile_alike_is_narrowed_down_to_a_bundle() {
    let mut world = World::new();
    for number in 0..520 {
        world.answer(&world.receipt(number));
    }
    let log = FakeLog::start().await;
    world.publish(&log);
    // Someone replaced an entry in its bundle and in the hash tile, but could not sign another root.
    let mut entries = world.receipts.clone();
    entries[300] = entries[301].clone();
    let forger = FakeLog::start().await;
    forger.publish(RECEIPTS, &entries, NOW);
    for path in ["/receipts/tile/entries/001", "/receipts/tile/0/001"] {
        log.put(path, Some(forger.file(path)));
    }
    let report = Audit::of(&log).run().await;
    assert_eq!(
        (report.exit_code(), rules(&report)),
        (ExitCode::Rejected, vec![("GB-LOG-005", None)]),
        "{report}"
    );
    assert!(report.findings[0].detail.contains("entries 256 to 511"), "{report}");
}

#[tokio::test]
async fn a_fork_is_kept_as_two_notes_in_one_file() {
    let (world, log, audit) = audited(5).await;
    let other: Vec<Vec<u8>> = {
        let mut other = World::new();
        for number in 100..105 {
            other.answer(&other.receipt(number));
        }
        other.receipts
    };
    // Same size, another root; then larger, not containing what was seen.
    for size in [5, 8] {
        let mut entries = other.clone();
        entries.extend(
            (5..size)
                .map(|number| World::new().receipt(number).sign(&world.provider).unwrap().bytes().to_vec()),
        );
        log.publish(RECEIPTS, &entries, NOW);
        let report = audit.run().await;
        assert_eq!(
            (report.exit_code(), rules(&report)),
            (ExitCode::Rejected, vec![("GB-LOG-001", None)]),
            "{report}"
        );
        let path = report.findings[0].evidence.clone().unwrap();
        let file: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let kept = |name: &str| file[name].as_str().unwrap().as_bytes().to_vec();
        assert_eq!(kept("first_seen"), note(&head(RECEIPTS, &world.receipts), NOW));
        assert_eq!(kept("then_served"), note(&head(RECEIPTS, &entries), NOW));
    }
    // The true history goes on being accepted.
    world.publish(&log);
    assert_eq!(audit.run().await.exit_code(), ExitCode::Ok);
}

#[tokio::test]
async fn an_older_head_is_stale_when_it_is_part_of_what_was_seen_and_a_finding_when_not() {
    let (world, log, audit) = audited(5).await;
    log.put("/receipts/checkpoint", Some(note(&head(RECEIPTS, &world.receipts[..3]), NOW)));
    let report = audit.run().await;
    assert_eq!(
        (report.exit_code(), problems(&report)),
        (ExitCode::Stale, vec![ProblemKind::Stale]),
        "{report}"
    );

    let fork = TreeHead { root: Hash::of(b"other"), ..head(RECEIPTS, &world.receipts[..3]) };
    log.put("/receipts/checkpoint", Some(note(&fork, NOW)));
    let report = audit.run().await;
    assert_eq!(
        (report.exit_code(), rules(&report)),
        (ExitCode::Rejected, vec![("GB-LOG-001", None)]),
        "{report}"
    );

    // Tiles of the larger tree are gone, so the log shows nothing.
    log.put("/receipts/tile/0/000.p/5", None);
    let report = audit.run().await;
    assert_eq!(
        (report.exit_code(), rules(&report)),
        (ExitCode::Rejected, vec![("GB-LOG-002", None)]),
        "{report}"
    );
    assert!(report.findings[0].evidence.is_some());
}

#[tokio::test]
async fn stale_or_too_few_witnesses() {
    let (world, log, audit) = audited(1).await;
    audit.clock.advance_millis(3600 * 1000);
    let report = audit.run().await;
    assert_eq!(
        (report.exit_code(), problems(&report)),
        (ExitCode::Stale, vec![ProblemKind::Stale; 2]),
        "{report}"
    );
    audit.clock.set(UnixMillis::new(NOW * 1000));

    let head = head(REGISTRY, &world.registry);
    let uncosigned = SignedNote {
        text: head.to_string(),
        signatures: vec![log_key(REGISTRY).sign_checkpoint(&head).unwrap()],
    };
    log.put("/registry/checkpoint", Some(uncosigned.encode()));
    let report = audit.run().await;
    assert_eq!(
        (report.exit_code(), problems(&report)),
        (ExitCode::Stale, vec![ProblemKind::Stale]),
        "{report}"
    );
    assert!(report.to_string().contains("w1"), "{report}");
}

#[tokio::test]
async fn a_log_without_a_checkpoint_is_new_once_and_a_failure_afterwards() {
    let (_, log, audit) = audited(0).await;
    log.put("/receipts/checkpoint", None);
    assert_eq!(audit.run().await.exit_code(), ExitCode::Unreachable);
    let report = Audit::of(&log).run().await;
    assert_eq!(
        (report.exit_code(), report.unpublished.as_slice()),
        (ExitCode::Ok, &[RECEIPTS.to_owned()][..]),
        "{report}"
    );
    assert!(report.to_string().contains("nothing to check"), "{report}");
}

#[tokio::test]
async fn malformed_and_unreachable() {
    let (mut world, log, audit) = audited(1).await;
    let checkpoint = log.put("/registry/checkpoint", Some(b"not a note".to_vec()));
    let report = audit.run().await;
    assert_eq!(
        (report.exit_code(), problems(&report)),
        (ExitCode::Malformed, vec![ProblemKind::Malformed]),
        "{report}"
    );
    log.put("/registry/checkpoint", checkpoint);

    world.answer(&world.receipt(1));
    world.publish(&log);
    let bundle = log.put("/receipts/tile/entries/000.p/2", Some(b"\xff\xffshort".to_vec()));
    let report = audit.run().await;
    assert_eq!(
        (report.exit_code(), problems(&report)),
        (ExitCode::Malformed, vec![ProblemKind::Malformed]),
        "{report}"
    );
    log.put("/receipts/tile/entries/000.p/2", None);
    assert_eq!(audit.run().await.exit_code(), ExitCode::Unreachable);
    log.put("/receipts/tile/entries/000.p/2", bundle);
    assert_eq!(audit.run().await.exit_code(), ExitCode::Ok);

    drop(log);
    let report = audit.run().await;
    assert_eq!(
        (report.exit_code(), problems(&report)),
        (ExitCode::Unreachable, vec![ProblemKind::Unreachable; 2]),
        "{report}"
    );
}

#[tokio::test]
async fn a_checkpoint_by_another_key_or_of_another_log_is_a_finding() {
    let (world, log, audit) = audited(1).await;
    let head = head(REGISTRY, &world.registry);
    let impostor = NoteSigner::ed25519_log(REGISTRY, [77; 32]).unwrap();
    let forged =
        SignedNote { text: head.to_string(), signatures: vec![impostor.sign_checkpoint(&head).unwrap()] };
    for note in [forged.encode(), log.file("/receipts/checkpoint")] {
        log.put("/registry/checkpoint", Some(note));
        let report = audit.run().await;
        assert_eq!(
            (report.exit_code(), rules(&report)),
            (ExitCode::Rejected, vec![("GB-LOG-006", None)]),
            "{report}"
        );
    }
}

#[tokio::test]
async fn findings_about_entries_are_repeated_by_later_runs() {
    let (mut world, log, audit) = audited(0).await;
    world.registry.push(b"not a statement".to_vec());
    world.publish(&log);
    for _ in 0..2 {
        let report = audit.run().await;
        assert_eq!(
            (report.exit_code(), rules(&report)),
            (ExitCode::Rejected, vec![("GB-STMT-001", Some(7))]),
            "{report}"
        );
    }
}

#[tokio::test]
async fn another_policy_file_judges_everything_again() {
    let (mut world, log, audit) = audited(0).await;
    // Under a policy that knows another release key, the verdict does not follow from the evidence.
    let text = crate::support::policy_text();
    let line = text.lines().find(|line| line.starts_with("release ")).unwrap();
    let coordinator = text.lines().find_map(|line| line.strip_prefix("coordinator ")).unwrap();
    let other = Config {
        policy: text.replace(line, &format!("release {coordinator}")).parse().unwrap(),
        ..audit.config.clone()
    };
    let report = glassbloom_auditor::audit::audit(&other, &audit.clock).await.unwrap();
    assert_eq!(rules(&report), [("GB-STMT-002", Some(4)), ("GB-VER-001", Some(6))], "{report}");
    // And the first policy again.
    world.log(
        &PolicyLeaf { tiers: vec![], max_lifetime: 1, plaintext_api: false, ..PolicyLeaf::default() },
        &coordinator_key(),
    );
    world.publish(&log);
    let report = audit.run().await;
    assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    assert_eq!(report.logs[0].new_entries, 8);
}

#[tokio::test]
async fn the_command_prints_what_to_do_and_exits_with_the_code() {
    let (mut world, log, audit) = audited(0).await;
    world.registry.push(b"not a statement".to_vec());
    // The command reads the real clock.
    let policy = crate::support::policy_text().replace("checkpoint-age 1h", "checkpoint-age 99999d");
    world.publish(&log);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy"), policy).unwrap();
    let run = async |extra: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbloom-auditor"));
        command.args(["audit", "--log", &log.url, "--policy", "policy", "--state", "state"]).args(extra);
        command.current_dir(folder.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text, _) = run(&[]).await;
    assert_eq!(code, 10, "{text}");
    for part in ["GB-STMT-001", "index     7", "leaf hash", "do  ", "explain GB-STMT-001", "1 finding"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    let (code, json, _) = run(&["--json", "--from-genesis"]).await;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, report["findings"][0]["rule"].as_str()), (10, Some("GB-STMT-001")), "{json}");
    let (code, _, error) = run(&["--state"]).await;
    assert_eq!(code, 1, "{error}");
    fs::write(folder.path().join("policy"), "quorum none\n").unwrap();
    let (code, _, error) = run(&[]).await;
    assert_eq!(code, 1);
    assert!(error.contains("no log line"), "{error}");
    drop(audit);
}
