//! Who is who: providers that keep their identity, and those that take or share one. Names with a number are attacks of
//! the acceptance list.

use glassbloom_auditor::{
    audit::{Config, Report, audit},
    replay::{Providers, Registry},
};
use glassbloom_service::{ExitCode, MockClock};
use glassbloom_spec::{
    curve::{EcdhSecret, PublicKey, SigningKey},
    hash::Hash,
    id::{LeafIndex, UnixMillis, UnixSeconds},
    identity::{Link, ProviderId},
    leaf::{Attestation, OperatorAction, PolicyLeaf, Release},
    seal::KeyConfig,
};
use glassbloom_testdata::mac;

use crate::support::{
    FakeLog, NOW, RECEIPTS, REGISTRY, World, coordinator_key, head, note, policy, release_key,
};

/// A provider of these tests: its keys, and the Mac that vouches for them.
pub(crate) struct Keys {
    pub(crate) signing: SigningKey,
    sealing: EcdhSecret,
    mac: Option<&'static str>,
}

pub(crate) fn keys(name: &str, mac: Option<&'static str>) -> Keys {
    let sealing = EcdhSecret::from_bytes(Hash::of(name.as_bytes()).as_bytes()).unwrap();
    Keys { signing: SigningKey::from_seed(name.as_bytes()), sealing, mac }
}

impl Keys {
    /// An attestation after the newest checkpoint.
    pub(crate) fn attest(&self, world: &World) -> Attestation {
        let beacon = note(&head(REGISTRY, &world.registry), NOW);
        let mut attestation = Attestation {
            signing_key: self.signing.public_key(),
            key_config: KeyConfig::new(1, PublicKey::from_sec1(&self.sealing.public_key()).unwrap()),
            ..world.attest(&beacon)
        };
        attestation.nonce = attestation.expected_nonce();
        if let Some(name) = self.mac {
            attestation.evidence = mac::evidence(name, attestation.nonce, NOW);
        }
        attestation.possessed(&self.sealing)
    }

    pub(crate) fn after(&self, world: &World, previous: Hash, by: Option<&SigningKey>) -> Attestation {
        let mut attestation = self.attest(world);
        attestation.previous = Some(previous);
        let message = attestation.rotation_message().unwrap();
        attestation.countersignature = by.map(|key| key.sign(&message));
        attestation
    }

    pub(crate) fn log(&self, attestation: &Attestation, world: &mut World) -> Hash {
        world.log(attestation, &self.signing)
    }
}

/// A network whose rules believe the endorser of Macs.
pub(crate) fn world() -> World {
    let mut world = World::new();
    let rules = PolicyLeaf {
        tiers: vec!["self-signed".into(), "mda".into()],
        max_lifetime: 3600,
        plaintext_api: true,
        endorsers: vec![mac::endorser().public_key()],
        ..PolicyLeaf::default()
    };
    world.adopt(&rules);
    world
}

pub(crate) async fn report(world: &World) -> Report {
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

/// Rules and where they do not hold.
pub(crate) type Places = Vec<(&'static str, u64)>;

/// Findings and notices.
pub(crate) fn found(report: &Report) -> (Places, Places) {
    let places = |found: &[glassbloom_auditor::finding::Finding]| {
        found.iter().map(|it| (it.rule, it.index.map_or(u64::MAX, LeafIndex::get))).collect()
    };
    (places(&report.findings), places(&report.notices))
}

fn providers(world: &World) -> Providers {
    let mut registry = Registry::new(REGISTRY, &policy());
    for entry in &world.registry {
        registry.push(entry.clone());
    }
    Providers::of(&registry, &policy())
}

#[tokio::test]
async fn a6_a_provider_id_survives_reconnects() {
    let mut world = world();
    let (old, new) = (keys("old", Some("mac")), keys("new", Some("mac")));
    let first = old.log(&old.attest(&world), &mut world);
    // It comes back without knowing what it was, and then with another key that the old one vouches for.
    let again = old.log(&old.attest(&world), &mut world);
    let rotated = new.after(&world, again, Some(&old.signing));
    let rotated = new.log(&rotated, &mut world);
    let providers = providers(&world);
    let id = ProviderId(first);
    let links: Vec<_> = providers.identities().chain(&id).map(|it| (it.leaf, it.link)).collect();
    assert_eq!(links, [(first, Link::First), (again, Link::Continued), (rotated, Link::Rotated)]);
    let live = providers.identities().live(&id, UnixSeconds::new(NOW)).unwrap();
    assert_eq!((live.leaf, live.device), (rotated, Some(mac::device("mac"))));
    let report = report(&world).await;
    assert_eq!(found(&report), (vec![], vec![]), "{report}");
    assert!(report.to_string().ends_with("every entry follows from the log: no findings\n"), "{report}");
}

#[tokio::test]
async fn a_discontinuity_is_shown_and_held_against_nobody() {
    let mut world = world();
    let (old, new) = (keys("old", None), keys("new", None));
    let first = old.log(&old.attest(&world), &mut world);
    let taken = new.after(&world, first, None);
    let taken = new.log(&taken, &mut world);
    let index = world.registry.len() as u64 - 1;
    let report = report(&world).await;
    assert_eq!(found(&report), (vec![], vec![("GB-ATT-002", index)]), "{report}");
    assert_eq!(report.exit_code(), ExitCode::Ok);
    let text = report.to_string();
    assert!(text.contains("notice: GB-ATT-002") && text.ends_with("no findings, 1 notice\n"), "{text}");
    assert!(text.contains("did not counter-sign"), "{text}");
    let providers = providers(&world);
    assert_eq!(providers.identities().provider_of(&taken), Some(ProviderId(taken)));
}

#[tokio::test]
async fn a3_a_second_live_key_of_a_device_is_found() {
    let mut world = world();
    let (owner, relay) = (keys("owner", Some("mac")), keys("relay", Some("mac")));
    owner.log(&owner.attest(&world), &mut world);
    let log = FakeLog::start().await;
    world.publish(&log);
    let folder = tempfile::tempdir().unwrap();
    let report = run(&log, folder.path()).await;
    assert_eq!(found(&report), (vec![], vec![]), "{report}");
    // A later run knows what came before, and so does every one after it.
    relay.log(&relay.attest(&world), &mut world);
    world.publish(&log);
    let index = world.registry.len() as u64 - 1;
    for _ in 0..2 {
        let report = run(&log, folder.path()).await;
        assert_eq!(found(&report), (vec![("GB-ATT-003", index)], vec![]), "{report}");
    }
}

#[tokio::test]
async fn one_key_in_two_machines_is_found() {
    // One signing key, two devices.
    let mut world = world();
    let (here, there) = (keys("provider", Some("mac")), keys("provider", Some("another")));
    here.log(&here.attest(&world), &mut world);
    let second = there.attest(&world);
    there.log(&second, &mut world);
    let index = world.registry.len() as u64 - 1;
    let report_ = report(&world).await;
    assert_eq!(found(&report_), (vec![("GB-ATT-004", index)], vec![]), "{report_}");

    // One sealing key, two providers; the one who only copied it is not held against the holder.
    let mut world = self::world();
    let (honest, mut thief) = (keys("honest", None), keys("thief", None));
    honest.log(&honest.attest(&world), &mut world);
    thief.sealing = keys("honest", None).sealing;
    let stolen = thief.attest(&world);
    let copied = Attestation { possession: None, ..stolen.clone() };
    thief.log(&copied, &mut world);
    thief.log(&stolen, &mut world);
    let index = world.registry.len() as u64 - 1;
    let report = report(&world).await;
    assert_eq!(found(&report), (vec![("GB-ATT-004", index)], vec![]), "{report}");
    assert!(report.findings[0].detail.contains("sealing key"), "{report}");
}

#[tokio::test]
async fn b3_replayed_evidence_is_found() {
    let mut world = world();
    let (owner, thief) = (keys("owner", Some("mac")), keys("thief", None));
    let first = owner.attest(&world);
    let enrolled = owner.log(&first, &mut world);
    // A renewal shows the part that lasts again, by the same key.
    let mut renewed = owner.attest(&world);
    (renewed.evidence, renewed.enrolment) = (first.evidence.clone(), Some(enrolled));
    owner.log(&renewed, &mut world);
    // Somebody else shows it for keys of their own.
    let mut replayed = thief.attest(&world);
    (replayed.evidence, replayed.enrolment) = (first.evidence, Some(enrolled));
    let replayed_leaf = thief.log(&replayed, &mut world);
    let index = world.registry.len() as u64 - 1;
    let report = report(&world).await;
    assert_eq!(found(&report), (vec![("GB-ATT-005", index)], vec![]), "{report}");
    let refused = providers(&world).judgement(&replayed_leaf).unwrap().reasons.clone();
    assert_eq!(refused, ["mda-other-key"], "and it may not serve");
}

#[tokio::test]
async fn b8_a_receipt_of_a_revoked_key_is_found() {
    let mut world = World::new();
    world.log(&world.revocation(1), &coordinator_key());
    world.answer(&world.receipt(0));
    world.answer(&world.receipt(1));
    let report = report(&world).await;
    assert_eq!(found(&report), (vec![("GB-REC-003", 1)], vec![]), "{report}");
    assert_eq!(report.findings[0].origin, RECEIPTS);
}

#[tokio::test]
async fn b9_state_that_was_changed_by_hand_is_found() {
    // A verdict is turned around and no new evidence says why.
    let mut world = World::new();
    world.log(&world.verdict(None, &["operator"]), &coordinator_key());
    let report_ = report(&world).await;
    assert_eq!(found(&report_), (vec![("GB-VER-001", 7)], vec![]), "{report_}");

    // An action is logged with an approval that nobody gave.
    let mut world = World::new();
    let approver = SigningKey::from_seed(b"approver");
    let mut action = OperatorAction {
        what: "accounts credited".into(),
        scope: "998 accounts".into(),
        change: Hash::of(b"change set"),
        reason: "incident".into(),
        approvals: Vec::new(),
    };
    let signature = approver.sign(&action.approval_message());
    action.approvals = vec![(approver.public_key(), signature)];
    world.log(&action, &coordinator_key());
    action.scope = "998 accounts and one more".into();
    world.log(&action, &coordinator_key());
    let report = report(&world).await;
    assert_eq!(found(&report), (vec![("GB-OPS-001", 8)], vec![]), "{report}");
    assert!(report.findings[0].detail.contains(&approver.public_key().to_string()), "{report}");
}

#[tokio::test]
async fn c1_one_version_with_two_builds_is_found() {
    let mut world = World::new();
    let release = Release {
        version: "0.1.0".into(),
        build: Hash::of(b"another build"),
        platform: "another".into(),
        commit: "0".into(),
        not_before: UnixSeconds::new(0),
        code: None,
        approvals: Vec::new(),
    };
    world.log(&release, &release_key());
    world.log(&Release { platform: "test".into(), ..release.clone() }, &release_key());
    world.log(&Release { code: Some(Hash::of(b"code")), ..release }, &release_key());
    let report = report(&world).await;
    assert_eq!(found(&report), (vec![("GB-REL-001", 8), ("GB-REL-001", 9)], vec![]), "{report}");
}
