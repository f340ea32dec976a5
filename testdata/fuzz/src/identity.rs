//! Who is who in a registry, for any order of attestations, rotations and revocations.

use std::{collections::BTreeSet, sync::LazyLock};

use glassbloom_spec::{
    curve::{PublicKey, SigningKey},
    evidence::Proven,
    hash::Hash,
    id::{LeafIndex, UnixSeconds},
    identity::{Attested, Conflict, Identities, Link, ProviderId},
    leaf::{Attestation, Tier, rotation_message},
    seal::{KeyConfig, hpke},
    statement::key_id,
};
use glassbloom_testdata::world::NOW;

use crate::WORLD;

/// Four bytes a step: what happens, to which keys, after which attestation and on whose word, how much later.
///
/// Every attestation has one provider for ever; a chain goes on with its own key or with one that this key, while it had
/// power, signed for; and no key is the present one of two providers.
pub fn identity(data: &[u8]) -> bool {
    let mut identities = Identities::new();
    let mut known: Vec<(Hash, ProviderId)> = Vec::new();
    let mut now = NOW;
    // A registry is longer, and its rules look no further back than at the present key.
    for (number, step) in data.as_chunks::<4>().0.iter().take(48).enumerate() {
        let [what, keys, previous, word] = *step;
        now += u64::from(word >> 4);
        if what & 3 == 0 {
            let key = key_id(&KEYS[usize::from(keys & 3)].public_key());
            identities.revoke(key);
            assert!(identities.is_revoked(&key));
            for provider in identities.providers() {
                let live = identities.live(&provider, UnixSeconds::new(0));
                assert!(live.is_none_or(|live| live.key != key), "a revoked key is live");
            }
            continue;
        }
        let named = match previous {
            0xff => None,
            0xfe => Some(Hash::of(b"what nobody logged")),
            at => known.get(usize::from(at)).map(|(leaf, _)| *leaf),
        };
        let (attestation, proven) = attestation(keys, named, word, now + u64::from(what >> 2));
        let leaf = Hash::of(&(number as u64).to_be_bytes());
        let index = LeafIndex::new(number as u64);
        let revoked: Vec<bool> =
            KEYS.iter().map(|key| identities.is_revoked(&key_id(&key.public_key()))).collect();
        let before = identities.clone();
        let made = identities.push(leaf, index, UnixSeconds::new(now), &attestation, proven.as_ref()).clone();
        placed(&before, &identities, &made, &attestation, &revoked);
        // Logged again, it stays what it was.
        assert_eq!(identities.push(leaf, index, UnixSeconds::new(now + 9), &attestation, None), &made);
        known.push((leaf, made.provider));
        holds(&identities, &known, now);
    }
    !known.is_empty()
}

/// Where the newest attestation belongs, and why.
fn placed(
    before: &Identities,
    after: &Identities,
    made: &Attested,
    attestation: &Attestation,
    revoked: &[bool],
) {
    let last = before.chain(&made.provider).next_back();
    match made.link {
        Link::First | Link::Discontinuity(_) => {
            assert!(last.is_none(), "a new identity has no past");
            assert_eq!(made.provider, ProviderId(made.leaf));
        }
        Link::Continued => assert_eq!(last.unwrap().key, made.key),
        Link::Rotated => {
            let last = last.unwrap();
            assert_ne!(last.key, made.key);
            let message =
                rotation_message(attestation.previous.unwrap(), &made.signing_key, attestation.nonce);
            assert!(last.signing_key.verify(&message, &attestation.countersignature.unwrap()).is_ok());
            let place = KEYS.iter().position(|key| key.public_key() == last.signing_key).unwrap();
            assert!(!revoked[place], "a revoked key named its successor");
        }
    }
    for conflict in &made.conflicts {
        let (Conflict::DeviceOfTwo { other, .. }
        | Conflict::KeyOnTwoDevices { other, .. }
        | Conflict::KeyOfTwoProviders { other, .. }) = conflict;
        assert!(before.get(other).is_some(), "a conflict is with what was there");
        match conflict {
            Conflict::DeviceOfTwo { device, .. } => {
                assert_eq!(made.device, Some(*device));
                assert_eq!(before.get(other).unwrap().device, made.device);
                assert_ne!(after.provider_of(other), Some(made.provider));
            }
            Conflict::KeyOnTwoDevices { .. } => assert_ne!(before.get(other).unwrap().device, made.device),
            Conflict::KeyOfTwoProviders { .. } => assert_ne!(after.provider_of(other), Some(made.provider)),
        }
    }
}

/// What is so after every step.
fn holds(identities: &Identities, known: &[(Hash, ProviderId)], now: u64) {
    for (leaf, provider) in known {
        assert_eq!(identities.provider_of(leaf), Some(*provider), "an attestation went to another provider");
    }
    let chained: usize = identities.providers().map(|provider| identities.chain(&provider).count()).sum();
    assert_eq!((chained, identities.attested().len()), (known.len(), known.len()));
    let mut present = BTreeSet::new();
    for provider in identities.providers() {
        assert_eq!(
            identities.chain(&provider).next().unwrap().leaf,
            provider.0,
            "a chain begins with its name"
        );
        let newest = identities.chain(&provider).next_back().unwrap();
        assert!(present.insert(newest.key), "a key is the present one of two providers");
        let at = UnixSeconds::new(now);
        let is_live = newest.not_after > at && !identities.is_revoked(&newest.key);
        assert_eq!(identities.live(&provider, at), is_live.then_some(newest));
    }
}

fn attestation(keys: u8, named: Option<Hash>, word: u8, not_after: u64) -> (Attestation, Option<Proven>) {
    let signer = &KEYS[usize::from(keys & 3)];
    let mut attestation = Attestation {
        signing_key: signer.public_key(),
        key_config: KeyConfig::new(1, SEALING[usize::from(keys >> 2 & 1)]),
        not_after: UnixSeconds::new(not_after),
        previous: named,
        ..WORLD.attestation.clone()
    };
    attestation.nonce = attestation.expected_nonce();
    let message = attestation.rotation_message();
    let by = KEYS.get(usize::from(word & 7));
    attestation.countersignature = by.zip(message).map(|(key, message)| key.sign(&message));
    let device = keys >> 3 & 3;
    let proven = (device != 0).then(|| {
        let mut proven = Proven::new(Tier::TpmHw);
        proven.device = Some(Hash::of(&[device]));
        proven.holds_sealing_key = keys & 0x20 != 0;
        proven
    });
    (attestation, proven)
}

/// What the fuzzer starts from: name and content.
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    // An attestation with a long life, no countersignature and no time gone by, unless said.
    const ATTEST: u8 = 0xfd;
    const NOBODY: u8 = 7;
    let program = |steps: &[[u8; 4]]| steps.concat();
    vec![
        ("identity", "continued", program(&[[ATTEST, 0x28, 0xff, NOBODY], [ATTEST, 0x2c, 0, NOBODY]])),
        (
            "identity",
            "rotated",
            program(&[[ATTEST, 0x28, 0xff, NOBODY], [ATTEST, 0x29, 0, 0], [ATTEST, 0x2a, 1, 0x11]]),
        ),
        (
            "identity",
            "returned",
            program(&[
                [ATTEST, 0x28, 0xff, NOBODY],
                [ATTEST, 0x29, 0, 0],
                [ATTEST, 0x28, 0xff, NOBODY],
                [ATTEST, 0x2a, 0, 0],
            ]),
        ),
        (
            "identity",
            "not-countersigned",
            program(&[[ATTEST, 0, 0xff, NOBODY], [ATTEST, 1, 0, 2], [ATTEST, 2, 0xfe, 1]]),
        ),
        (
            "identity",
            "revoked",
            program(&[[ATTEST, 0, 0xff, NOBODY], [0, 0, 0, 0], [ATTEST, 1, 0, 0], [ATTEST, 0, 0, NOBODY]]),
        ),
        (
            "identity",
            "device-of-two",
            program(&[[ATTEST, 0x28, 0xff, NOBODY], [ATTEST, 0x2d, 0xff, NOBODY], [ATTEST, 0x30, 0, NOBODY]]),
        ),
        (
            "identity",
            "ended",
            program(&[[5, 0x28, 0xff, NOBODY], [5, 0x29, 0xff, 0xf7], [5, 0x2a, 0xff, NOBODY]]),
        ),
    ]
}

static KEYS: LazyLock<[SigningKey; 4]> =
    LazyLock::new(|| [0x41, 0x42, 0x43, 0x44].map(|seed| SigningKey::from_seed(&[seed; 32])));

static SEALING: LazyLock<[PublicKey; 2]> = LazyLock::new(|| {
    [0x45, 0x46].map(|seed| PublicKey::from_sec1(&hpke::derive_key_pair(&[seed; 32]).public_key()).unwrap())
});
