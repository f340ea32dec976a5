//! The registry, replayed: every entry hashed again and compared with the root that witnesses cosigned.
//!
//! It is low-volume by design, so a browser can hold all of it and look up who a key belongs to.

use std::collections::{BTreeMap, BTreeSet};

use glassbloom_spec::{
    checkpoint::{Checkpoint, Logged},
    curve::PublicKey,
    hash::Hash,
    id::{KeyId, LeafIndex, TreeSize},
    leaf::{Attestation, Payload, Revocation},
    merkle::{Frontier, ProofError},
    policy::Policy,
    statement::{Kind, Statement, key_id},
};

/// The most entries that a page replays; a larger registry is for the auditor.
pub const MAX_REPLAYED: u64 = 65_536;

/// One entry of the registry, shown to be in it.
#[derive(Clone, Debug)]
pub struct RegistryEntry {
    /// Where it stands.
    pub index: LeafIndex,
    /// Its leaf hash.
    pub leaf: Hash,
    /// What it says; `None` for bytes that are no statement.
    pub statement: Option<Statement>,
    /// Whether its signature is by a key that may make such a statement.
    pub authority: Authority,
}

/// Whose key signed a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// A coordinator that the policy names.
    Coordinator,
    /// A release key that the policy names.
    Release,
    /// The provider whose attestation has this leaf hash.
    Provider(Hash),
    /// The key is at hand, and the signature is not by it.
    Forged(String),
    /// No key at hand is the one that the statement names.
    Unknown,
}

/// The registry as of one checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    size: TreeSize,
    entries: Vec<RegistryEntry>,
    by_leaf: BTreeMap<Hash, usize>,
    keys: BTreeMap<KeyId, (PublicKey, Hash)>,
}

impl Registry {
    /// Replays all entries and compares the root.
    ///
    /// # Errors
    /// When the entries are not the ones that the checkpoint commits to.
    pub fn replay(
        policy: &Policy,
        checkpoint: &Checkpoint,
        entries: Vec<Vec<u8>>,
    ) -> Result<Self, ProofError> {
        let logged = checkpoint.replays(&Frontier::new(), entries)?;
        let mut registry = Self { size: checkpoint.size(), ..Self::default() };
        for entry in logged {
            registry.push(policy, &entry);
        }
        Ok(registry)
    }

    fn push(&mut self, policy: &Policy, entry: &Logged<Vec<u8>>) {
        let statement = Statement::parse(entry.value()).ok();
        let leaf = entry.leaf_hash();
        if let Some(attestation) = statement.as_ref().and_then(|statement| Attestation::of(statement).ok()) {
            let key = attestation.signing_key;
            self.keys.entry(key_id(&key)).or_insert((key, leaf));
        }
        let authority =
            statement.as_ref().map_or(Authority::Unknown, |statement| self.authority(policy, statement));
        self.by_leaf.entry(leaf).or_insert(self.entries.len());
        self.entries.push(RegistryEntry { index: entry.index(), leaf, statement, authority });
    }

    /// Whose key signed a statement of either log, as far as the policy and the entries so far tell.
    pub fn authority(&self, policy: &Policy, statement: &Statement) -> Authority {
        let kid = statement.key_id();
        let named = |keys: &[PublicKey]| keys.iter().find(|key| key_id(key) == kid).copied();
        let by_coordinator = || Some((named(policy.coordinators())?, Authority::Coordinator));
        let by_release = || Some((named(policy.releases())?, Authority::Release));
        let by_provider = || self.keys.get(&kid).map(|(key, leaf)| (*key, Authority::Provider(*leaf)));
        let signer = match statement.kind() {
            Kind::Attestation | Kind::Receipt => by_provider(),
            Kind::Release => by_release(),
            Kind::Revocation => by_coordinator().or_else(by_provider),
            Kind::ChallengeBatch
            | Kind::Coordinator
            | Kind::Model
            | Kind::OperatorAction
            | Kind::Policy
            | Kind::PriceTable
            | Kind::Verdict => by_coordinator(),
            // Never a leaf: it is part of evidence.
            Kind::Endorsement => None,
        };
        match signer {
            None => Authority::Unknown,
            Some((key, authority)) => match statement.verify(&key) {
                Ok(()) => authority,
                Err(error) => Authority::Forged(error.to_string()),
            },
        }
    }

    /// The number of entries.
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// All entries, in order.
    pub fn entries(&self) -> &[RegistryEntry] {
        &self.entries
    }

    /// The entry with this leaf hash.
    pub fn by_leaf(&self, leaf: &Hash) -> Option<&RegistryEntry> {
        self.by_leaf.get(leaf).map(|at| &self.entries[*at])
    }

    /// Every payload of one kind that a key entitled to it signed, with its entry, in order.
    pub fn all<P: Payload>(&self) -> impl Iterator<Item = (&RegistryEntry, P)> {
        self.entries.iter().filter_map(|entry| {
            let statement = entry.statement.as_ref().filter(|_| entry.authority.is_known())?;
            Some((entry, P::of(statement).ok()?))
        })
    }

    /// The revocation of a key, if there is one.
    pub fn revocation(&self, key: KeyId) -> Option<(&RegistryEntry, Revocation)> {
        self.all::<Revocation>().find(|(_, revocation)| revocation.key == key)
    }

    /// The attestations of providers, newest first.
    pub fn providers(&self) -> Vec<(&RegistryEntry, Attestation)> {
        let mut found: Vec<_> = self.all::<Attestation>().collect();
        let replaced: BTreeSet<Hash> =
            found.iter().filter_map(|(_, attestation)| attestation.previous).collect();
        found.retain(|(entry, _)| !replaced.contains(&entry.leaf));
        found.reverse();
        found
    }
}

impl Authority {
    /// Whether the signature holds under a key that may make such a statement.
    pub const fn is_known(&self) -> bool {
        matches!(self, Self::Coordinator | Self::Release | Self::Provider(_))
    }
}
