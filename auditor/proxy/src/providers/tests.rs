use std::collections::HashMap;

use axum::{Router, extract::State as Files, http::StatusCode, http::Uri};
use glassbloom_auditor::replay::Registry;
use glassbloom_spec::{
    curve::{EcdhSecret, PublicKey, SigningKey},
    id::UnixSeconds,
    leaf::{Attestation, Payload, Revocation},
    policy::Policy,
    seal::KeyConfig,
    statement::key_id,
    tile::{TileLevel, encode_bundle, tiles_for_size},
};
use glassbloom_testdata::{
    mac,
    world::{MODEL, NOW, Plan, REGISTRY, World},
};

use super::*;
use crate::{
    store::Store,
    trust::{TrustError, follow_registry},
};

/// A copy of a world's registry.
pub(crate) fn registry(world: &World) -> Registry {
    let mut registry = Registry::new(REGISTRY, &world.policy());
    for entry in world.registry_entries() {
        registry.push(entry.clone());
    }
    registry
}

/// A network whose rules believe an endorser of Macs, and whose provider has one.
pub(crate) fn of_a_mac() -> World {
    let mut plan = Plan {
        attestation: |it| {
            it.evidence = mac::evidence("mac", it.nonce, NOW);
            false
        },
        verdict: |it| it.tier = Some("mda".to_owned()),
        accept: vec!["mda".to_owned()],
        ..Plan::default()
    };
    plan.rules.tiers = vec!["mda".to_owned()];
    plan.rules.endorsers = vec![mac::endorser().public_key()];
    World::of(plan)
}

fn listed(world: &World, policy: &Policy) -> Vec<Listed> {
    list(&registry(world), policy, None, UnixSeconds::new(NOW + 60))
}

fn believing(world: &World, lines: &str) -> Policy {
    Policy::parse(&format!("{}{lines}\n", world.policy_text())).unwrap()
}

#[test]
fn claims_count_as_far_as_this_policy_believes_them() {
    let world = of_a_mac();
    let [stranger] = &listed(&world, &world.policy())[..] else { panic!("one provider") };
    let reasons = vec!["endorser-unknown".to_owned()];
    assert_eq!(stranger.state, State::Refused { by: By::Policy, reasons });
    assert_eq!((stranger.tier, stranger.tier_by_rules, stranger.device), (None, Some("mda"), None));
    assert!(stranger.claims.iter().all(|claim| claim.by_rules && !claim.by_policy));

    let policy = believing(&world, &format!("endorser {}", mac::endorser().public_key()));
    let [friend] = &listed(&world, &policy)[..] else { panic!("one provider") };
    assert_eq!((&friend.state, friend.tier), (&State::MayServe, Some("mda")));
    assert_eq!(friend.device, Some(mac::device("mac")));
    assert!(friend.claims.iter().all(|claim| claim.by_rules && claim.by_policy));
    let claim = |name| friend.claims.iter().find(|claim| claim.name == name).unwrap();
    assert_eq!((claim("sip").known, claim("sip").by), ("present", "apple"));
    assert_eq!((claim("serial").known, claim("device").by), ("redacted", "endorser"));
    assert_eq!(friend.not_proven, Tier::Mda.does_not_prove());
    assert_eq!(friend.release.as_ref().map(|release| release.version.as_str()), Some("0.1.0"));
}

#[test]
fn a_tier_that_this_policy_does_not_accept_is_refused() {
    let world = World::of(Plan::default());
    let [it] = &listed(&world, &world.policy_accepting("tpm-hw"))[..] else { panic!("one provider") };
    let reasons = vec!["a line `accept self-signed` is not in the policy file".to_owned()];
    assert_eq!(it.state, State::Refused { by: By::Policy, reasons });
    assert_eq!(it.tier, Some("self-signed"));
}

#[test]
fn what_the_coordinator_says_is_recomputed() {
    // A refusal by the rules, with its reasons.
    let mut plan = Plan {
        verdict: |it| (it.tier, it.reasons) = (None, vec!["tier-not-accepted".to_owned()]),
        ..Plan::default()
    };
    plan.rules.tiers.clear();
    let world = World::of(plan);
    let reasons = vec!["tier-not-accepted".to_owned()];
    assert_eq!(listed(&world, &world.policy())[0].state, State::Refused { by: By::Rules, reasons });
    // A verdict that the evidence does not give.
    let mut plan = Plan::default();
    plan.rules.tiers.clear();
    let world = World::of(plan);
    let state = &listed(&world, &world.policy())[0].state;
    assert!(matches!(state, State::Refused { by: By::Log, .. }), "{state:?}");
}

#[test]
fn only_those_that_serve_the_model_and_the_dead_last() {
    let mut world = World::of(Plan::default());
    let next = SigningKey::from_seed(b"next");
    let sealing = EcdhSecret::from_bytes(&[9; 32]).unwrap();
    let old = listed(&world, &world.policy())[0].provider;
    let mut attestation = Attestation {
        signing_key: next.public_key(),
        key_config: KeyConfig::new(1, PublicKey::from_sec1(&sealing.public_key()).unwrap()),
        previous: Some(old.0),
        ..world.attestation.clone()
    };
    attestation.nonce = attestation.expected_nonce();
    let attestation = attestation.possessed(&sealing);
    world.registry.append(attestation.sign(&next).unwrap().bytes());
    let revocation = Revocation {
        key: key_id(&world.keys.provider.public_key()),
        from: TreeSize::new(0),
        reason: "stolen".into(),
    };
    world.registry.append(revocation.sign(&world.keys.coordinator).unwrap().bytes());

    let all = listed(&world, &world.policy());
    assert_eq!(all[0].state, State::NotJudged);
    assert!(all[0].continuity.discontinuity.as_ref().is_some_and(|why| why.contains("did not counter-sign")));
    assert_eq!((all[1].provider, &all[1].state), (old, &State::Revoked { reason: "stolen".into() }));
    assert_eq!(all[1].continuity.claimed_by, [all[0].provider]);
    let policy = world.policy();
    let of = |model| list(&registry(&world), &policy, Some(model), UnixSeconds::new(NOW + 60)).len();
    assert_eq!((of(MODEL), of("another")), (2, 0));
}

/// Serves the registry of a world at a size, and gives a policy that says where.
async fn serve(world: &World, size: u64, at: u64) -> Policy {
    let size_ = TreeSize::new(size);
    let mut files = HashMap::from([("/checkpoint".to_owned(), world.checkpoint(REGISTRY, size, at))]);
    for tile in tiles_for_size(size_) {
        let rows = 0..usize::from(tile.width());
        let bytes = match tile.level() {
            TileLevel::Entries => encode_bundle(&world.registry_entries()[rows]).unwrap(),
            TileLevel::Hashes(_) => {
                world.registry_entries()[rows].iter().flat_map(|it| *Hash::leaf(it).as_bytes()).collect()
            }
        };
        files.insert(format!("/{tile}"), bytes);
    }
    let answer = |Files(files): Files<std::sync::Arc<HashMap<String, Vec<u8>>>>, uri: Uri| async move {
        files.get(uri.path()).cloned().ok_or(StatusCode::NOT_FOUND)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(std::sync::Arc::new(files));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let with_url = |line: &str| match line.starts_with(&format!("log {REGISTRY}+")) {
        true => format!("{} {url}", line.split(' ').take(2).collect::<Vec<_>>().join(" ")),
        false => line.to_owned(),
    };
    let text: Vec<String> = world.policy_text().lines().map(with_url).collect();
    Policy::parse(&text.join("\n")).unwrap()
}

#[tokio::test]
async fn the_registry_is_followed_from_the_log_and_never_back() {
    let world = World::of(Plan::default());
    let size = world.registry.size();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("receipts.db")).await.unwrap();
    let now = UnixSeconds::new(NOW + 60);
    let policy = serve(&world, size, NOW).await;
    let registry = follow_registry(&policy, Some(&store), now).await.unwrap();
    assert_eq!(registry.size(), TreeSize::new(size));
    assert_eq!(list(&registry, &policy, Some(MODEL), now)[0].state, State::MayServe);
    // A log that shows less than before, another history, or one that stands still.
    let shorter = serve(&world, size - 1, NOW).await;
    let older = follow_registry(&shorter, Some(&store), now).await.unwrap_err();
    assert!(matches!(older, TrustError::Older { served: 6, seen: 7, .. }), "{older}");
    let other = World::of(Plan { verdict: |it| it.reasons = vec!["other".into()], ..Plan::default() });
    let other = serve(&other, size, NOW).await;
    let fork = follow_registry(&other, Some(&store), now).await.unwrap_err();
    assert!(matches!(fork, TrustError::Fork { .. }), "{fork}");
    let late = UnixSeconds::new(NOW + policy.checkpoint_age() + 1);
    let aged = follow_registry(&policy, Some(&store), late).await.unwrap_err();
    assert!(matches!(aged, TrustError::Aged { .. }), "{aged}");
}
