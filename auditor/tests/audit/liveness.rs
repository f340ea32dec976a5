//! Who was said to be there, and what the log says about it.

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::UnixSeconds,
    leaf::{Beacon, ChallengeBatch, Transcript},
    statement::key_id,
};

use crate::{
    identity::{Places, found, keys, report},
    support::{NOW, REGISTRY, World, coordinator_key, head, note},
};

const LENGTH: u64 = 300;
const EPOCH: u64 = NOW / LENGTH * LENGTH;

/// A batch for an epoch some lengths after the first, in which some answered and some did not.
fn batch(world: &World, epoch: u64, answered: &[Hash], missing: &[(Hash, &str)]) -> ChallengeBatch {
    let mut answered = answered.to_vec();
    answered.sort();
    let answers: Vec<_> =
        answered.into_iter().map(|attestation| Transcript { attestation, signature: [1; 64] }).collect();
    let mut missing: Vec<_> = missing.iter().map(|(leaf, why)| (*leaf, (*why).to_owned())).collect();
    missing.sort();
    let beacon = Beacon { checkpoint: note(&head(REGISTRY, &world.registry), EPOCH) };
    ChallengeBatch::new(UnixSeconds::new(EPOCH + epoch * LENGTH), LENGTH, beacon, &answers, missing)
}

/// Findings and notices about one batch that `make` logs after an honest one.
async fn judged(make: impl FnOnce(&mut World, Hash) -> ChallengeBatch) -> (Places, Places) {
    let mut world = World::new();
    let provider = world.attestation;
    let first = batch(&world, 0, &[provider], &[]);
    world.log(&first, &coordinator_key());
    let next = make(&mut world, provider);
    world.log(&next, &coordinator_key());
    let last = world.registry.len() as u64 - 1;
    let report = report(&world).await;
    let (findings, notices) = found(&report);
    assert!(findings.iter().chain(&notices).all(|(_, index)| *index == last), "{report}");
    (findings, notices)
}

#[tokio::test]
async fn b4_epochs_follow_each_other_and_silence_is_logged() {
    let fine = (vec![], vec![]);
    assert_eq!(judged(|world, it| batch(world, 1, &[it], &[])).await, fine);
    assert_eq!(judged(|world, it| batch(world, 1, &[], &[(it, "silent")])).await, fine);
    assert_eq!(judged(|world, _| batch(world, 1, &[], &[])).await, fine, "somebody left");
    // After an empty batch nobody has to be spoken for.
    let after_nobody = |world: &mut World, it| {
        let nobody = batch(world, 1, &[], &[]);
        world.log(&nobody, &coordinator_key());
        batch(world, 5, &[it], &[])
    };
    assert_eq!(judged(after_nobody).await, fine);

    let (findings, notices) = judged(|world, it| batch(world, 2, &[it], &[])).await;
    assert_eq!((findings.len(), notices[0].0), (0, "GB-LIV-002"), "a gap");
    let (findings, notices) = judged(|world, it| batch(world, 0, &[], &[(it, "silent")])).await;
    assert_eq!(
        (findings[0].0, notices.len()),
        ("GB-LIV-001", 0),
        "the same epoch again, with another outcome"
    );
}

#[tokio::test]
async fn b4_who_is_expected_was_let_in() {
    let wrong = |judged: (Places, Places)| {
        assert_eq!((judged.0.len(), judged.1.len()), (1, 0));
        assert_eq!(judged.0[0].0, "GB-LIV-001");
    };
    wrong(judged(|world, it| batch(world, 1, &[it, Hash::of(b"nobody")], &[])).await);
    // An attestation that no verdict let in.
    wrong(
        judged(|world, it| {
            let other = keys("other", None);
            let unjudged = other.log(&other.attest(world), world);
            batch(world, 1, &[it, unjudged], &[])
        })
        .await,
    );
    // Two attestations of one key.
    wrong(
        judged(|world, it| {
            let again = world.attest(&note(&head(REGISTRY, &world.registry), NOW));
            let again = world.log(&again, &world.provider.clone());
            world.attestation = again;
            world.log(&world.verdict(Some("self-signed"), &[]), &coordinator_key());
            batch(world, 1, &[it, again], &[])
        })
        .await,
    );
    wrong(judged(|world, it| batch(world, 1, &[], &[(it, "")])).await);
    wrong(
        judged(|world, it| {
            let other = TreeHead { root: Hash::of(b"another"), ..head(REGISTRY, &world.registry) };
            ChallengeBatch {
                beacon: Beacon { checkpoint: note(&other, EPOCH) },
                ..batch(world, 1, &[it], &[])
            }
        })
        .await,
    );
    wrong(
        judged(|world, it| {
            let late = note(&head(REGISTRY, &world.registry), EPOCH + 3 * LENGTH);
            ChallengeBatch { beacon: Beacon { checkpoint: late }, ..batch(world, 1, &[it], &[]) }
        })
        .await,
    );
}

#[tokio::test]
async fn b8_a_dead_key_answers_no_challenge() {
    let revoked = |answers: bool| {
        move |world: &mut World, it: Hash| {
            let revocation = world.revocation(0);
            assert_eq!(revocation.key, key_id(&world.provider.public_key()));
            world.log(&revocation, &coordinator_key());
            match answers {
                true => batch(world, 1, &[it], &[]),
                false => batch(world, 1, &[], &[(it, "revoked")]),
            }
        }
    };
    assert_eq!(judged(revoked(true)).await.0[0].0, "GB-LIV-001");
    assert_eq!(judged(revoked(false)).await, (vec![], vec![]));
    // The attestation of these tests ends half an hour after its beacon.
    let after_its_end = |world: &mut World, it| {
        let nobody = batch(world, 1, &[], &[]);
        world.log(&nobody, &coordinator_key());
        batch(world, 7, &[it], &[])
    };
    assert_eq!(judged(after_its_end).await.0[0].0, "GB-LIV-001");
}
