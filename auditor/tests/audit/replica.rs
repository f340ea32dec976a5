//! The verified copy of the registry that other checkers keep.

use glassbloom_auditor::replay::{Registry, SyncError};
use glassbloom_service::LogClient;
use glassbloom_spec::{
    checkpoint::TreeHead, hash::Hash, leaf::PolicyLeaf, policy::Checkpoint, statement::key_id,
};

use crate::support::{FakeLog, NOW, REGISTRY, World, coordinator_key, head, note, policy};

fn checkpoint(head: &TreeHead) -> Checkpoint {
    policy().open(Some(REGISTRY), &note(head, NOW)).unwrap()
}

async fn synced() -> (World, FakeLog, LogClient, Registry) {
    let world = World::new();
    let log = FakeLog::start().await;
    world.publish(&log);
    let client = LogClient::new(&format!("{}/registry", log.url));
    let mut registry = Registry::new(REGISTRY, &policy());
    assert_eq!(registry.sync(&client, &checkpoint(&head(REGISTRY, &world.registry))).await.unwrap(), 7);
    (world, log, client, registry)
}

#[tokio::test]
async fn answers_from_what_it_verified() {
    let (mut world, log, client, mut registry) = synced().await;
    let key = key_id(&world.provider.public_key());
    assert_eq!(registry.attestations().count(), 1);
    assert_eq!(registry.verdicts(&world.attestation).last().unwrap().1.tier.as_deref(), Some("self-signed"));
    assert!(registry.latest_policy().unwrap().1.plaintext_api);
    assert_eq!(registry.latest_price_table().unwrap().1.price("bloom").unwrap().completion, 3);
    assert_eq!(registry.coordinator().unwrap().1.name, "test");
    assert!(registry.release(&Hash::of(b"build")).is_some());
    assert!(registry.model(&registry.models().next().unwrap().0.leaf_hash).is_some());
    assert!(!registry.is_revoked(&key));

    // Only the new entries are fetched, and a revocation counts from then on.
    log.requests();
    let size = world.registry.len();
    world.log(&world.revocation(3), &world.provider.clone());
    world.publish(&log);
    assert_eq!(registry.sync(&client, &checkpoint(&head(REGISTRY, &world.registry))).await.unwrap(), 1);
    assert!(log.requests().iter().all(|path| path.ends_with(".p/8")));
    assert!(registry.is_revoked(&key));
    assert_eq!(registry.revocation(&key).unwrap().1.from.get(), 3);
    assert_eq!(registry.root_at((size as u64).into()), Some(head(REGISTRY, &world.registry[..size]).root));

    // The same again costs nothing.
    assert_eq!(registry.sync(&client, &checkpoint(&head(REGISTRY, &world.registry))).await.unwrap(), 0);
    assert!(log.requests().is_empty());
}

#[tokio::test]
async fn refuses_what_does_not_follow_and_stays_as_it_was() {
    let (mut world, log, client, mut registry) = synced().await;
    let before = registry.head();
    let older = registry.sync(&client, &checkpoint(&head(REGISTRY, &world.registry[..3]))).await;
    assert!(matches!(older, Err(SyncError::Older { .. })), "{older:?}");
    let fork = TreeHead { root: Hash::of(b"other"), ..head(REGISTRY, &world.registry) };
    let forked = registry.sync(&client, &checkpoint(&fork)).await;
    assert!(matches!(forked, Err(SyncError::Forked { .. })), "{forked:?}");

    // A larger tree with another beginning.
    let mut other = world.registry.clone();
    other[0] = b"another beginning".to_vec();
    other.push(b"more".to_vec());
    log.publish(REGISTRY, &other, NOW);
    let forked = registry.sync(&client, &checkpoint(&head(REGISTRY, &other))).await;
    assert!(matches!(forked, Err(SyncError::Forked { .. })), "{forked:?}");

    // One byte of a new entry.
    let rules = PolicyLeaf { tiers: vec![], max_lifetime: 1, plaintext_api: false, ..PolicyLeaf::default() };
    world.log(&rules, &coordinator_key());
    world.publish(&log);
    let path = "/registry/tile/entries/000.p/8";
    let right = log.file(path);
    let mut wrong = right.clone();
    *wrong.last_mut().unwrap() ^= 1;
    log.put(path, Some(wrong));
    let altered = registry.sync(&client, &checkpoint(&head(REGISTRY, &world.registry))).await;
    assert!(matches!(altered, Err(SyncError::Altered(mismatch)) if mismatch.index.get() == 7), "{altered:?}");
    assert_eq!(registry.head(), before);

    log.put(path, Some(right));
    assert_eq!(registry.sync(&client, &checkpoint(&head(REGISTRY, &world.registry))).await.unwrap(), 1);
    assert!(!registry.latest_policy().unwrap().1.plaintext_api);
}

#[tokio::test]
async fn a_copy_on_disk_is_taken_back_only_under_its_checkpoint() {
    let (world, _log, client, registry) = synced().await;
    let now = checkpoint(&head(REGISTRY, &world.registry));
    let saved = registry.to_bytes();
    let mut copy = Registry::from_bytes(REGISTRY, &policy(), &saved).unwrap();
    assert_eq!(copy.head(), registry.head());
    assert_eq!(copy.sync(&client, &now).await.unwrap(), 0);
    for cut in [0, 1, 10, saved.len() - 1] {
        // Cut or altered, it is refused or it is a copy of something that no checkpoint matches.
        let mut altered = saved.clone();
        altered[cut] ^= 1;
        let copy = Registry::from_bytes(REGISTRY, &policy(), &altered);
        assert!(copy.is_none_or(|copy| copy.head() != registry.head()), "{cut}");
        let copy = Registry::from_bytes(REGISTRY, &policy(), &saved[..cut]);
        assert!(copy.is_none_or(|copy| copy.head() != registry.head()), "{cut}");
    }
}
