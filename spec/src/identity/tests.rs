use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    curve::{EcdhSecret, SigningKey},
    leaf::{Beacon, Evidence, Tier},
    seal::KeyConfig,
};

const LIFE: u64 = 1000;

/// An attestation as its provider makes it at a time; the time stands for the beacon.
fn attestation(key: &SigningKey, sealing: u8, at: u64) -> Attestation {
    let secret = EcdhSecret::from_bytes(&[sealing; 32]).unwrap();
    let mut it = Attestation {
        signing_key: key.public_key(),
        key_config: KeyConfig::new(1, PublicKey::from_sec1(&secret.public_key()).unwrap()),
        build: Hash::of(b"build"),
        endpoint: "http://127.0.0.1:1".into(),
        not_after: UnixSeconds::new(at + LIFE),
        models: Vec::new(),
        beacon: Beacon { checkpoint: at.to_be_bytes().to_vec() },
        evidence: Evidence { format: "tpm".into(), bytes: Vec::new() },
        nonce: Hash::of(b""),
        previous: None,
        possession: None,
        countersignature: None,
        release_proof: None,
        enrolment: None,
    };
    it.nonce = it.expected_nonce();
    it.possessed(&secret)
}

fn following(mut it: Attestation, previous: Hash, by: Option<&SigningKey>) -> Attestation {
    it.previous = Some(previous);
    let message = it.rotation_message().unwrap();
    it.countersignature = by.map(|key| key.sign(&message));
    it
}

fn on(device: &str) -> Proven {
    Proven { device: Some(Hash::of(device.as_bytes())), ..Proven::new(Tier::TpmHw) }
}

/// A registry with nothing but attestations; a leaf hash is that of the index.
#[derive(Default)]
struct Log {
    identities: Identities,
    size: u64,
}

impl Log {
    fn push(&mut self, at: u64, it: &Attestation, proven: Option<&Proven>) -> Attested {
        let index = self.size;
        self.size += 1;
        self.identities.push(leaf(index), LeafIndex::new(index), UnixSeconds::new(at), it, proven).clone()
    }
}

fn leaf(index: u64) -> Hash {
    Hash::of(&index.to_be_bytes())
}

fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(name.as_bytes())
}

#[test]
fn a_provider_keeps_its_id_over_renewals_and_rotations() {
    let (a, b) = (key("a"), key("b"));
    let mut log = Log::default();
    let first = log.push(0, &attestation(&a, 1, 0), None);
    assert_eq!((first.provider, first.link), (ProviderId(leaf(0)), Link::First));
    // A reconnection that forgot what it was attested as before.
    let again = log.push(1, &attestation(&a, 1, 1), None);
    assert_eq!((again.provider, again.link), (first.provider, Link::Continued));
    let next = log.push(2, &following(attestation(&b, 2, 2), leaf(1), Some(&a)), None);
    assert_eq!((next.provider, next.link), (first.provider, Link::Rotated));
    let chain: Vec<_> = log.identities.chain(&first.provider).map(|it| it.leaf).collect();
    assert_eq!(chain, [leaf(0), leaf(1), leaf(2)]);
    assert_eq!(log.identities.live(&first.provider, UnixSeconds::new(3)).unwrap().leaf, leaf(2));
    assert_eq!(log.identities.live(&first.provider, UnixSeconds::new(2 + LIFE)), None);
    // And back again, if the present key says so.
    let back = log.push(3, &following(attestation(&a, 1, 3), leaf(2), Some(&b)), None);
    assert_eq!((back.provider, back.link), (first.provider, Link::Rotated));
    assert!(log.identities.attested().iter().all(|it| it.conflicts.is_empty()));
}

#[test]
fn a_name_without_a_countersignature_is_a_discontinuity() {
    let (a, b, c) = (key("a"), key("b"), key("c"));
    for (by, named, why) in [
        (None, leaf(0), Break::NotCountersigned(leaf(0))),
        (Some(&c), leaf(0), Break::NotCountersigned(leaf(0))),
        (Some(&a), leaf(7), Break::Unknown(leaf(7))),
    ] {
        let mut log = Log::default();
        log.push(0, &attestation(&a, 1, 0), None);
        let next = log.push(1, &following(attestation(&b, 2, 1), named, by), None);
        assert_eq!((next.provider, next.link), (ProviderId(leaf(1)), Link::Discontinuity(why)));
        assert_eq!(log.identities.provider_of(&leaf(0)), Some(ProviderId(leaf(0))));
    }
    // A counter-signature is for one key and one beacon.
    let mut log = Log::default();
    log.push(0, &attestation(&a, 1, 0), None);
    let signed = following(attestation(&b, 2, 1), leaf(0), Some(&a));
    let mut later = attestation(&b, 2, 2);
    (later.previous, later.countersignature) = (signed.previous, signed.countersignature);
    let next = log.push(2, &later, None);
    assert_eq!(next.link, Link::Discontinuity(Break::NotCountersigned(leaf(0))));
}

#[test]
fn a_key_that_was_replaced_or_revoked_names_no_successor() {
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let mut log = Log::default();
    log.push(0, &attestation(&a, 1, 0), None);
    log.push(1, &following(attestation(&b, 2, 1), leaf(0), Some(&a)), None);
    // Somebody found the old key.
    let thief = log.push(2, &following(attestation(&c, 3, 2), leaf(0), Some(&a)), None);
    assert_eq!(thief.link, Link::Discontinuity(Break::PowerlessKey(leaf(0))));
    let returned = log.push(3, &attestation(&a, 1, 3), None);
    assert_eq!(returned.link, Link::Discontinuity(Break::Returned(ProviderId(leaf(0)))));
    assert_eq!(returned.provider, ProviderId(leaf(3)));
    let roles = |it: &Attested| {
        let role = |conflict: &Conflict| match conflict {
            Conflict::KeyOfTwoProviders { role, other } if *other == leaf(0) => *role,
            other => panic!("{other:?}"),
        };
        it.conflicts.iter().map(role).collect::<Vec<_>>()
    };
    assert_eq!(roles(&returned), [Role::Signing, Role::Sealing]);

    log.identities.revoke(key_id(&b.public_key()));
    assert_eq!(log.identities.live(&ProviderId(leaf(0)), UnixSeconds::new(4)), None);
    let after = log.push(4, &following(attestation(&key("d"), 4, 4), leaf(1), Some(&b)), None);
    assert_eq!(after.link, Link::Discontinuity(Break::PowerlessKey(leaf(1))));
}

#[test]
fn naming_a_strangers_leaf_changes_nobody() {
    let (a, b) = (key("a"), key("b"));
    let mut log = Log::default();
    log.push(0, &attestation(&a, 1, 0), None);
    log.push(0, &attestation(&b, 2, 0), None);
    // Even with the stranger's blessing, a key with a chain of its own stays in it.
    for by in [None, Some(&a)] {
        let next = log.push(1, &following(attestation(&b, 2, 1), leaf(0), by), None);
        assert_eq!((next.provider, next.link), (ProviderId(leaf(1)), Link::Continued));
    }
    assert_eq!(log.identities.live(&ProviderId(leaf(0)), UnixSeconds::new(1)).unwrap().leaf, leaf(0));
}

#[test]
fn a_device_has_one_live_key() {
    let (a, b) = (key("a"), key("b"));
    let conflict = |at: u64, proven: &Proven, revoke: bool| {
        let mut log = Log::default();
        log.push(0, &attestation(&a, 1, 0), Some(&on("mac")));
        if revoke {
            log.identities.revoke(key_id(&a.public_key()));
        }
        log.push(at, &attestation(&b, 2, at), Some(proven)).conflicts
    };
    let device = Hash::of(b"mac");
    assert_eq!(conflict(1, &on("mac"), false), [Conflict::DeviceOfTwo { device, other: leaf(0) }]);
    assert_eq!(conflict(1, &on("another"), false), []);
    assert_eq!(conflict(LIFE, &on("mac"), false), [], "the first has expired");
    assert_eq!(conflict(1, &on("mac"), true), [], "the first is revoked");

    // A replaced key of the same provider holds nothing.
    let mut log = Log::default();
    log.push(0, &attestation(&a, 1, 0), Some(&on("mac")));
    let next = following(attestation(&b, 2, 1), leaf(0), Some(&a));
    assert_eq!(log.push(1, &next, Some(&on("mac"))).conflicts, []);
}

#[test]
fn a_key_lives_in_one_device() {
    let (a, b) = (key("a"), key("b"));
    let mut log = Log::default();
    log.push(0, &attestation(&a, 1, 0), Some(&on("mac")));
    let moved = log.push(1, &attestation(&a, 2, 1), Some(&on("another")));
    assert_eq!(moved.conflicts, [Conflict::KeyOnTwoDevices { role: Role::Signing, other: leaf(0) }]);
    // Each format of evidence has names of its own.
    let mut other = attestation(&a, 2, 2);
    other.evidence.format = "mda".into();
    assert_eq!(log.push(2, &other, Some(&on("third"))).conflicts, []);

    // Copying a sealing key accuses nobody; holding it does.
    let mut copied = attestation(&b, 1, 3);
    copied.possession = None;
    assert_eq!(log.push(3, &copied, Some(&on("b"))).conflicts, []);
    let held = log.push(4, &attestation(&b, 1, 4), Some(&on("b")));
    let other = leaf(0);
    assert_eq!(
        held.conflicts,
        [
            Conflict::KeyOfTwoProviders { role: Role::Sealing, other },
            Conflict::KeyOnTwoDevices { role: Role::Sealing, other }
        ]
    );
}

#[test]
fn evidence_that_was_made_for_other_keys_names_no_device() {
    let mut log = Log::default();
    let mut borrowed = attestation(&key("b"), 2, 0);
    borrowed.nonce = attestation(&key("a"), 1, 0).nonce;
    assert_eq!(log.push(0, &borrowed, Some(&on("mac"))).device, None);
}

/// One step of a random registry.
#[derive(Clone, Debug)]
struct Step {
    key: usize,
    previous: Option<u64>,
    by: Option<usize>,
    revoke: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let previous = proptest::option::weighted(0.7, 0..24u64);
    (0..3usize, previous, proptest::option::weighted(0.7, 0..3usize), proptest::bool::weighted(0.1))
        .prop_map(|(key, previous, by, revoke)| Step { key, previous, by, revoke })
}

/// Runs steps by keys of two disjoint groups; `theirs` of a step says which group.
fn replay(steps: &[(bool, Step)], only_ours: bool) -> (Identities, BTreeMap<u64, Attestation>) {
    let name = |theirs: bool, key: usize| key_of(if theirs { "theirs" } else { "ours" }, key);
    let (mut identities, mut all) = (Identities::new(), BTreeMap::new());
    for (index, (theirs, step)) in (0u64..).zip(steps) {
        if *theirs && only_ours {
            continue;
        }
        let mut it = attestation(&name(*theirs, step.key), step.key as u8 + 1, index);
        if let Some(previous) = step.previous {
            let by = step.by.map(|by| name(*theirs, by));
            it = following(it, leaf(previous), by.as_ref());
        }
        identities.push(leaf(index), LeafIndex::new(index), UnixSeconds::new(index), &it, Some(&on("mac")));
        if step.revoke {
            identities.revoke(key_id(&it.signing_key));
        }
        all.insert(index, it);
    }
    (identities, all)
}

fn key_of(group: &str, key: usize) -> SigningKey {
    SigningKey::from_seed(format!("{group} {key}").as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chains_hold_together_and_strangers_change_nothing(
        steps in proptest::collection::vec((any::<bool>(), step()), 0..24),
    ) {
        let (identities, all) = replay(&steps, false);
        let mut seen = 0;
        for provider in identities.providers() {
            let chain: Vec<_> = identities.chain(&provider).collect();
            prop_assert_eq!(chain[0].leaf, provider.0);
            prop_assert!(matches!(chain[0].link, Link::First | Link::Discontinuity(_)));
            for pair in chain.windows(2) {
                let it = &all[&pair[1].index.get()];
                prop_assert!(pair[0].index < pair[1].index);
                match pair[1].link {
                    Link::Continued => prop_assert_eq!(pair[0].key, pair[1].key),
                    Link::Rotated => {
                        prop_assert_ne!(pair[0].key, pair[1].key);
                        let signature = it.countersignature.unwrap();
                        let message = it.rotation_message().unwrap();
                        prop_assert!(pair[0].signing_key.verify(&message, &signature).is_ok());
                    }
                    link => prop_assert!(false, "{:?} inside a chain", link),
                }
            }
            seen += chain.len();
        }
        prop_assert_eq!(seen, all.len());

        // The same registry without what strangers logged: nobody is anybody else.
        let (alone, _) = replay(&steps, true);
        for attested in alone.attested() {
            let among = identities.get(&attested.leaf).unwrap();
            prop_assert_eq!(among.provider, attested.provider);
            prop_assert_eq!(among.link.name(), attested.link.name());
        }
    }
}
