//! For each rule about statements, a log that breaks it and the finding that names it.

use crate::support::{FakeLog, NOW, RECEIPTS, REGISTRY, World, coordinator_key, head, note, policy};
use glassbloom_auditor::audit::{Config, Report, audit};
use glassbloom_service::MockClock;
use glassbloom_spec::{
    checkpoint::TreeHead,
    curve::SigningKey,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixMillis, UnixMinutes},
    leaf::{Payload, PolicyLeaf},
    receipt::Receipt,
};

async fn report(world: &World) -> Report {
    let log = FakeLog::start().await;
    world.publish(&log);
    let folder = tempfile::tempdir().unwrap();
    run(&log, folder.path()).await
}

async fn run(log: &FakeLog, state: &std::path::Path) -> Report {
    let config =
        Config { log: log.url.clone(), policy: policy(), state: state.to_owned(), from_genesis: false };
    audit(&config, &MockClock::new(UnixMillis::new(NOW * 1000))).await.unwrap()
}

fn found(report: &Report) -> Vec<(&'static str, &str, u64)> {
    let place = |index: Option<LeafIndex>| index.map_or(u64::MAX, LeafIndex::get);
    report
        .findings
        .iter()
        .map(|finding| (finding.rule, finding.origin.as_str(), place(finding.index)))
        .collect()
}

/// Publishes one receipt that `change` made wrong.
async fn receipt(change: impl FnOnce(&mut World, &mut Receipt)) -> Report {
    let mut world = World::new();
    let mut receipt = world.receipt(0);
    change(&mut world, &mut receipt);
    world.answer(&receipt);
    report(&world).await
}

#[tokio::test]
async fn an_entry_that_is_no_statement() {
    let mut world = World::new();
    world.registry.push(b"junk".to_vec());
    world.receipts.push(Vec::new());
    let report = report(&world).await;
    assert_eq!(found(&report), [("GB-STMT-001", REGISTRY, 7), ("GB-STMT-001", RECEIPTS, 0)], "{report}");
}

#[tokio::test]
async fn people_are_shown_the_first_findings_of_a_rule() {
    let mut world = World::new();
    world.registry.extend((0..25u8).map(|n| vec![n]));
    let report = report(&world).await;
    assert_eq!(report.findings.len(), 25);
    let text = report.to_string();
    assert!(text.contains("index     26") && !text.contains("index     27"), "{text}");
    assert!(text.contains("GB-STMT-001: 5 more") && text.ends_with("25 findings\n"), "{text}");
}

#[tokio::test]
async fn a_statement_by_the_wrong_key() {
    let mut world = World::new();
    let stranger = SigningKey::from_seed(b"stranger");
    world.log(
        &PolicyLeaf { tiers: vec![], max_lifetime: 1, plaintext_api: false, ..PolicyLeaf::default() },
        &stranger,
    );
    // A stranger's revocation must not work either.
    world.log(&world.revocation(0), &stranger);
    world.answer(&world.receipt(0));
    let report = report(&world).await;
    assert_eq!(found(&report), [("GB-STMT-002", REGISTRY, 7), ("GB-STMT-002", REGISTRY, 8)], "{report}");
}

#[tokio::test]
async fn a_signature_that_does_not_verify() {
    let mut world = World::new();
    let last = world.registry[1].len() - 1;
    let mut entry = world.registry[1].clone();
    entry[last] ^= 1;
    world.registry.push(entry);
    let report = report(&world).await;
    assert_eq!(found(&report), [("GB-STMT-002", REGISTRY, 7)], "{report}");
}

#[tokio::test]
async fn a_statement_that_was_logged_before() {
    let mut world = World::new();
    world.registry.push(world.registry[1].clone());
    world.answer(&world.receipt(0));
    world.answer(&world.receipt(1));
    world.receipts.push(world.receipts[0].clone());
    let report = report(&world).await;
    assert_eq!(found(&report), [("GB-STMT-003", REGISTRY, 7), ("GB-STMT-003", RECEIPTS, 2)], "{report}");
    assert!(report.findings[1].detail.contains("index 0"), "{report}");
}

#[tokio::test]
async fn a_statement_in_the_wrong_log() {
    let mut world = World::new();
    world.answer(&world.receipt(0));
    world.registry.push(world.receipts[0].clone());
    world.receipts.push(world.revocation(0).sign(&world.provider).unwrap().bytes().to_vec());
    let report = report(&world).await;
    assert_eq!(found(&report), [("GB-STMT-004", REGISTRY, 7), ("GB-STMT-004", RECEIPTS, 1)], "{report}");
}

#[tokio::test]
async fn an_attestation_whose_beacon_is_not_of_this_history() {
    for beacon in [
        b"no checkpoint".to_vec(),
        note(
            &TreeHead { root: Hash::of(b"another history"), ..head(REGISTRY, &World::new().registry[..3]) },
            NOW,
        ),
        note(&head(RECEIPTS, &[]), NOW),
        // A tree that includes the attestation cannot have been there before it.
        note(&TreeHead { size: TreeSize::new(100), ..head(REGISTRY, &[]) }, NOW),
    ] {
        let mut world = World::new();
        let attestation = world.attest(&beacon);
        world.log(&attestation, &world.provider.clone());
        let report = report(&world).await;
        assert_eq!(found(&report), [("GB-ATT-001", REGISTRY, 7)], "{report}");
    }
}

#[tokio::test]
async fn a_verdict_that_does_not_follow_from_the_evidence() {
    // Evidence that expired before it was made gets a tier nevertheless.
    let mut world = World::new();
    let mut attestation = world.attest(&note(&head(REGISTRY, &world.registry), NOW));
    attestation.not_after = (NOW - 1).into();
    world.attestation = world.log(&attestation, &world.provider.clone());
    world.log(&world.verdict(Some("self-signed"), &[]), &coordinator_key());
    world.log(&world.verdict(None, &["expired"]), &coordinator_key());
    let report_ = report(&world).await;
    assert_eq!(found(&report_), [("GB-VER-001", REGISTRY, 8)], "{report_}");
    assert!(report_.findings[0].detail.contains("expired"), "{report_}");

    // Given under a policy that is no longer in force, or about nothing.
    let mut world = World::new();
    world.log(
        &PolicyLeaf { tiers: vec![], max_lifetime: 3600, plaintext_api: true, ..PolicyLeaf::default() },
        &coordinator_key(),
    );
    world.log(&world.verdict(Some("self-signed"), &["again"]), &coordinator_key());
    world.attestation = Hash::of(b"nothing");
    world.log(&world.verdict(Some("self-signed"), &[]), &coordinator_key());
    let report = report(&world).await;
    assert_eq!(found(&report), [("GB-VER-001", REGISTRY, 8), ("GB-VER-001", REGISTRY, 9)], "{report}");
}

#[tokio::test]
async fn a_receipt_that_refers_to_nothing() {
    for field in [
        |receipt: &mut Receipt| receipt.model = Hash::of(b"nothing"),
        |receipt: &mut Receipt| receipt.policy = receipt.model,
        |receipt: &mut Receipt| receipt.prices = Hash::of(b"nothing"),
        |receipt: &mut Receipt| receipt.attestation = Hash::of(b"nothing"),
        |receipt: &mut Receipt| receipt.times = [UnixMinutes::new(NOW / 60 + 31); 2],
    ] {
        let report = receipt(|_, receipt| field(receipt)).await;
        assert_eq!(found(&report), [("GB-REC-001", RECEIPTS, 0)], "{report}");
    }
    // An attestation that a later verdict rejected is not live.
    let mut world = World::new();
    let mut attestation = world.attest(&note(&head(REGISTRY, &world.registry), NOW));
    attestation.models = vec![];
    world.attestation = world.log(&attestation, &world.provider.clone());
    world.log(&world.verdict(None, &["no-models"]), &coordinator_key());
    world.answer(&world.receipt(0));
    let report = report(&world).await;
    assert_eq!(found(&report), [("GB-REC-001", RECEIPTS, 0)], "{report}");
}

#[tokio::test]
async fn a_receipt_by_another_key() {
    let report = receipt(|world, _| world.provider = SigningKey::from_seed(b"stranger")).await;
    assert_eq!(found(&report), [("GB-REC-002", RECEIPTS, 0)], "{report}");
}

#[tokio::test]
async fn a_receipt_after_its_key_was_revoked() {
    let mut world = World::new();
    world.answer(&world.receipt(0));
    world.log(&world.revocation(1), &world.provider.clone());
    world.answer(&world.receipt(1));
    let report = report(&world).await;
    assert_eq!(found(&report), [("GB-REC-003", RECEIPTS, 1)], "{report}");
    assert!(report.findings[0].detail.contains("lost"), "{report}");
}

#[tokio::test]
async fn a_revocation_that_comes_after_the_receipts_were_audited() {
    let mut world = World::new();
    for number in 0..3 {
        world.answer(&world.receipt(number));
    }
    let log = FakeLog::start().await;
    world.publish(&log);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(found(&run(&log, folder.path()).await), []);
    world.log(&world.revocation(2), &coordinator_key());
    world.publish(&log);
    for _ in 0..2 {
        let report = run(&log, folder.path()).await;
        assert_eq!(found(&report), [("GB-REC-003", RECEIPTS, 2)], "{report}");
    }
}

#[tokio::test]
async fn a_charge_that_is_not_the_price() {
    let report = receipt(|_, receipt| receipt.charge = receipt.usage[0]).await;
    assert_eq!(found(&report), [("GB-REC-004", RECEIPTS, 0)], "{report}");
}

#[tokio::test]
async fn a_receipt_that_relies_on_another_registry() {
    let report = receipt(|_, receipt| receipt.registry.1 = Hash::of(b"another")).await;
    assert_eq!(found(&report), [("GB-REC-005", RECEIPTS, 0)], "{report}");
    let report = receipt(|_, receipt| receipt.registry.0 = TreeSize::new(1000)).await;
    assert_eq!(found(&report), [("GB-REC-005", RECEIPTS, 0)], "{report}");
}
