//! Who is who: which attestations of a registry are of one provider, and which machines and keys they share.
//!
//! A provider is a chain of attestations. The same signing key goes on with its chain; another one joins it only when the
//! key that the chain had counter-signs. Everything else begins a new identity, whatever it names, so that nothing that
//! strangers log changes whom a leaf belongs to. See [Rotation](../leaf.md#rotation).
//!
//! # In scope
//! Chains, provider ids, which attestation of a chain is live, and conflicts between chains ([`Identities`]).
//!
//! # Out of scope
//! Whether an attestation may serve: that is [`crate::judge`]. Whether a conflict is someone's fault: the auditor's rules
//! say what they mean.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    curve::{COMPRESSED_LEN, PublicKey},
    evidence::Proven,
    hash::Hash,
    id::{KeyId, LeafIndex, UnixSeconds},
    judge::holds_sealing_key,
    leaf::Attestation,
    statement::key_id,
};

/// Names a provider for as long as its chain goes on, over any number of connections, keys and coordinators: the leaf
/// hash of its first attestation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ProviderId(pub Hash);

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How an attestation follows those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A key that nobody had before, and that names nobody: a new provider.
    First,
    /// The chain's own signing key, whatever the attestation names.
    Continued,
    /// Another signing key, which the chain's key counter-signed.
    Rotated,
    /// Another signing key, and the chain does not vouch for it: a new identity.
    Discontinuity(Break),
}

impl Link {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Continued => "continued",
            Self::Rotated => "rotated",
            Self::Discontinuity(_) => "discontinuity",
        }
    }
}

/// Why an attestation that claims a past does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It names an attestation that was not logged before it.
    Unknown(Hash),
    /// It names an attestation by another key, which did not counter-sign.
    NotCountersigned(Hash),
    /// The key that counter-signs had been replaced or revoked by then: its word for a successor is worth nothing.
    PowerlessKey(Hash),
    /// Its own key was replaced by another before, and that one did not counter-sign its return.
    Returned(ProviderId),
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(named) => write!(f, "it names attestation {named}, which was not logged before it"),
            Self::NotCountersigned(named) => {
                write!(f, "it names attestation {named} by another key, which did not counter-sign")
            }
            Self::PowerlessKey(named) => {
                write!(
                    f,
                    "it is counter-signed by the key of attestation {named}, which was replaced or revoked by then"
                )
            }
            Self::Returned(provider) => {
                write!(
                    f,
                    "provider {provider} had replaced its key, and the present one did not counter-sign its return"
                )
            }
        }
    }
}

/// Which of a provider's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// What requests are sealed to.
    Sealing,
    /// What signs attestations and receipts.
    Signing,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sealing => "sealing",
            Self::Signing => "signing",
        })
    }
}

/// What cannot be if every key lives in one machine and every machine has one live key. `other` is the leaf hash of the
/// attestation before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The device is that of another provider's live attestation.
    DeviceOfTwo {
        /// The device.
        device: Hash,
        /// The other provider's live attestation.
        other: Hash,
    },
    /// The key was attested for another device.
    KeyOnTwoDevices {
        /// Which key.
        role: Role,
        /// Where it was before.
        other: Hash,
    },
    /// The key is another provider's.
    KeyOfTwoProviders {
        /// Which key.
        role: Role,
        /// Whose it was before.
        other: Hash,
    },
}

/// An attestation in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// Its leaf hash.
    pub leaf: Hash,
    /// Its place in the registry.
    pub index: LeafIndex,
    /// When its beacon was witnessed.
    pub at: UnixSeconds,
    /// From then on its keys must not be used.
    pub not_after: UnixSeconds,
    /// Its signing key.
    pub signing_key: PublicKey,
    /// Names that key.
    pub key: KeyId,
    /// The device that its evidence names, where the evidence holds.
    pub device: Option<Hash>,
    /// Whose it is.
    pub provider: ProviderId,
    /// How it follows those before it.
    pub link: Link,
    /// What it contradicts.
    pub conflicts: Vec<Conflict>,
}

/// Where a key was seen first.
#[derive(Clone, Debug)]
struct Use {
    leaf: Hash,
    provider: ProviderId,
    /// By the format of the evidence that names it: each has names of its own for one device.
    devices: BTreeMap<String, (Hash, Hash)>,
}

/// Every attestation of a registry, sorted by provider. Grows in the registry's order; each step takes a time that does
/// not depend on how much came before (but for a logarithm).
#[derive(Clone, Debug, Default)]
pub struct Identities {
    attested: Vec<Attested>,
    by_leaf: BTreeMap<Hash, usize>,
    chains: BTreeMap<ProviderId, Vec<usize>>,
    /// The chain whose present signing key this is.
    present: BTreeMap<KeyId, ProviderId>,
    /// The chain that replaced this key.
    replaced: BTreeMap<KeyId, ProviderId>,
    revoked: BTreeSet<KeyId>,
    uses: BTreeMap<(Role, [u8; COMPRESSED_LEN]), Use>,
    /// Attestations that may still be live, oldest first.
    holders: BTreeMap<Hash, VecDeque<usize>>,
    /// The newest beacon's time: the registry's own clock.
    now: UnixSeconds,
}

impl Identities {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next attestation of the registry, signed by the key in it, and says where it belongs.
    ///
    /// `at` is when its beacon was witnessed. `proven` is what [judging](crate::judge::judge) found its evidence to
    /// prove; a device and a sealing key count only when that is shown, so that nobody is put in conflict by a stranger
    /// who copies public bytes. An attestation that was logged before stays where it is.
    pub fn push(
        &mut self,
        leaf: Hash,
        index: LeafIndex,
        at: UnixSeconds,
        attestation: &Attestation,
        proven: Option<&Proven>,
    ) -> &Attested {
        if let Some(place) = self.by_leaf.get(&leaf) {
            return &self.attested[*place];
        }
        self.now = self.now.max(at);
        // Evidence over another nonce is evidence for other keys.
        let proven = proven.filter(|_| attestation.nonce == attestation.expected_nonce());
        let key = key_id(&attestation.signing_key);
        let (provider, link) = self.place(ProviderId(leaf), key, attestation);
        let place = self.attested.len();
        let mut attested = Attested {
            leaf,
            index,
            at,
            not_after: attestation.not_after,
            signing_key: attestation.signing_key,
            key,
            device: proven.and_then(|proven| proven.device),
            provider,
            link,
            conflicts: Vec::new(),
        };
        self.use_keys(&mut attested, attestation, proven);
        let chain = self.chains.entry(provider).or_default();
        let before = chain.last().map(|before| self.attested[*before].key);
        if let Some(before) = before.filter(|before| *before != key) {
            self.present.remove(&before);
            self.replaced.insert(before, provider);
        }
        chain.push(place);
        self.replaced.remove(&key);
        self.present.insert(key, provider);
        self.by_leaf.insert(leaf, place);
        self.attested.push(attested);
        self.hold_device(place);
        &self.attested[place]
    }

    /// Takes note that the registry revoked a key: it is never live again, and may name no successor.
    pub fn revoke(&mut self, key: KeyId) {
        self.revoked.insert(key);
    }

    /// An attestation by its leaf hash.
    pub fn get(&self, leaf: &Hash) -> Option<&Attested> {
        self.by_leaf.get(leaf).map(|place| &self.attested[*place])
    }

    /// Whose attestation this is.
    pub fn provider_of(&self, leaf: &Hash) -> Option<ProviderId> {
        self.get(leaf).map(|attested| attested.provider)
    }

    /// Every attestation, in the registry's order.
    pub fn attested(&self) -> &[Attested] {
        &self.attested
    }

    /// Every provider.
    pub fn providers(&self) -> impl Iterator<Item = ProviderId> {
        self.chains.keys().copied()
    }

    /// A provider's attestations, in order; empty for an unknown provider.
    pub fn chain(&self, provider: &ProviderId) -> impl DoubleEndedIterator<Item = &Attested> {
        self.chains.get(provider).into_iter().flatten().map(|place| &self.attested[*place])
    }

    /// The newest attestation of a provider, unless its time is over by `now` or its key is revoked.
    pub fn live(&self, provider: &ProviderId, now: UnixSeconds) -> Option<&Attested> {
        self.chain(provider).next_back().filter(|newest| self.is_live(newest, now))
    }

    /// The provider whose past an attestation claims without right.
    pub fn claimed_past(&self, attested: &Attested) -> Option<ProviderId> {
        match attested.link {
            Link::Continued | Link::First | Link::Rotated => None,
            Link::Discontinuity(Break::Returned(past)) => Some(past),
            Link::Discontinuity(
                Break::NotCountersigned(named) | Break::PowerlessKey(named) | Break::Unknown(named),
            ) => self.provider_of(&named),
        }
    }

    /// Whether a key is revoked.
    pub fn is_revoked(&self, key: &KeyId) -> bool {
        self.revoked.contains(key)
    }

    fn is_live(&self, attested: &Attested, now: UnixSeconds) -> bool {
        let newest = self.chains.get(&attested.provider).and_then(|chain| chain.last());
        newest.is_some_and(|newest| self.attested[*newest].leaf == attested.leaf)
            && attested.not_after > now
            && !self.revoked.contains(&attested.key)
    }

    fn place(&self, own: ProviderId, key: KeyId, attestation: &Attestation) -> (ProviderId, Link) {
        // Whatever it names: a key that has a chain goes on with it.
        if let Some(provider) = self.present.get(&key) {
            return (*provider, Link::Continued);
        }
        let returned = self.replaced.get(&key).map(|provider| Break::Returned(*provider));
        let named = attestation.previous.map(|named| (named, self.get(&named)));
        let why = match named {
            None => match returned {
                None => return (own, Link::First),
                Some(why) => why,
            },
            Some((named, None)) => Break::Unknown(named),
            Some((named, Some(before))) => match self.vouches(before, attestation) {
                None => returned.unwrap_or(Break::NotCountersigned(named)),
                Some(false) => Break::PowerlessKey(named),
                Some(true) => return (before.provider, Link::Rotated),
            },
        };
        (own, Link::Discontinuity(why))
    }

    /// Whether the key of an earlier attestation may vouch for this one; `None` when it does not even try.
    fn vouches(&self, before: &Attested, attestation: &Attestation) -> Option<bool> {
        let (message, signature) = (attestation.rotation_message()?, attestation.countersignature?);
        before.signing_key.verify(&message, &signature).ok()?;
        let is_present = self.present.get(&before.key) == Some(&before.provider);
        Some(is_present && !self.revoked.contains(&before.key))
    }

    fn use_keys(&mut self, attested: &mut Attested, attestation: &Attestation, proven: Option<&Proven>) {
        let sealing = attestation.key_config.public_key();
        let held = holds_sealing_key(attestation, proven);
        let keys = [(Role::Signing, &attestation.signing_key, true), (Role::Sealing, sealing, held)];
        for (role, key, _) in keys.into_iter().filter(|(.., held)| *held) {
            let used = self.uses.entry((role, key.to_compressed())).or_insert_with(|| Use {
                leaf: attested.leaf,
                provider: attested.provider,
                devices: BTreeMap::new(),
            });
            if used.provider != attested.provider {
                attested.conflicts.push(Conflict::KeyOfTwoProviders { role, other: used.leaf });
            }
            let Some(device) = attested.device else { continue };
            let format = attestation.evidence.format.clone();
            let (before, other) = *used.devices.entry(format).or_insert((device, attested.leaf));
            if before != device {
                attested.conflicts.push(Conflict::KeyOnTwoDevices { role, other });
            }
        }
    }

    /// One live key per device: finds another provider's live attestation that names the same one.
    fn hold_device(&mut self, place: usize) {
        let Some(device) =
            self.attested[place].device.filter(|_| self.is_live(&self.attested[place], self.now))
        else {
            return;
        };
        let mut holders = self.holders.remove(&device).unwrap_or_default();
        // What is not live now never is again, as the registry's clock does not go back. This provider's own earlier
        // ones are not, so the first that is left is another's.
        while holders.pop_front_if(|holder| !self.is_live(&self.attested[*holder], self.now)).is_some() {}
        if let Some(other) = holders.front().map(|holder| self.attested[*holder].leaf) {
            self.attested[place].conflicts.push(Conflict::DeviceOfTwo { device, other });
        }
        holders.push_back(place);
        self.holders.insert(device, holders);
    }
}

#[cfg(test)]
mod tests;
