//! Who is who in a registry, each attestation judged as of its own place.

use std::collections::HashMap;

use glassbloom_spec::{
    evidence::Proven,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    identity::{Attested, Identities},
    judge::{Judgement, RegistryView, Released, judge},
    leaf::{Attestation, PolicyLeaf},
    policy::Policy,
};

use super::{Entry, Leaf, Registry};

/// A registry as it was when it had this size: what a verdict at that place could know.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The copy, at least of that size.
    pub registry: &'a Registry,
    /// The size.
    pub size: TreeSize,
}

impl RegistryView for Before<'_> {
    fn release(&self, build: &Hash) -> Option<Released> {
        let (entry, release) = self.registry.release(build).filter(|(entry, _)| self.has(entry))?;
        Some(Released { says: release.clone(), statement: entry.bytes.clone() })
    }

    fn attestation(&self, leaf: &Hash) -> Option<Attestation> {
        let (_, attestation) = self.registry.attestation(leaf).filter(|(entry, _)| self.has(entry))?;
        Some(attestation.clone())
    }

    fn has_model(&self, digest: &Hash) -> bool {
        self.registry.model_of(digest).is_some_and(|(entry, _)| self.has(entry))
    }
}

impl Before<'_> {
    fn has(&self, entry: &Entry) -> bool {
        entry.index.get() < self.size.get()
    }
}

/// The providers of a registry: grows with it, entry by entry.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    identities: Identities,
    judgements: HashMap<Hash, Judgement>,
    next: u64,
}

impl Providers {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The providers of a whole copy.
    pub fn of(registry: &Registry, policy: &Policy) -> Self {
        let mut providers = Self::new();
        providers.follow(registry, policy);
        providers
    }

    /// Takes every entry of the copy that was not taken before.
    pub fn follow(&mut self, registry: &Registry, policy: &Policy) {
        while let Some(entry) = registry.entry(LeafIndex::new(self.next)) {
            self.push(registry, policy, entry);
        }
    }

    /// Takes the next entry of the copy, which may have more. Says where it belongs if it is an attestation that counts.
    pub fn push(&mut self, registry: &Registry, policy: &Policy, entry: &Entry) -> Option<&Attested> {
        self.next = entry.index.get() + 1;
        match (&entry.leaf, &entry.statement) {
            (Ok(Leaf::Attestation(attestation)), Some(statement)) => {
                let size = TreeSize::new(entry.index.get());
                let nobody = PolicyLeaf::default();
                let rules = registry.policy_at(size).map_or(&nobody, |(_, rules)| rules);
                let judgement = judge(statement, rules, policy, &Before { registry, size });
                let made = policy
                    .open(Some(registry.origin()), &attestation.beacon.checkpoint)
                    .map_or(UnixSeconds::new(0), |beacon| beacon.cosigned_at());
                let proven = judgement.proven.as_ref();
                let attested = self.identities.push(entry.leaf_hash, entry.index, made, attestation, proven);
                self.judgements.entry(entry.leaf_hash).or_insert(judgement);
                Some(attested).filter(|attested| attested.index == entry.index)
            }
            (Ok(Leaf::Revocation(revocation)), _) => {
                self.identities.revoke(revocation.key);
                None
            }
            _ => None,
        }
    }

    /// Who is who.
    pub const fn identities(&self) -> &Identities {
        &self.identities
    }

    /// How an attestation is judged by the rules in force at its place.
    pub fn judgement(&self, leaf: &Hash) -> Option<&Judgement> {
        self.judgements.get(leaf)
    }

    /// What an attestation's evidence proves under the rules in force at its place.
    pub fn proven(&self, leaf: &Hash) -> Option<&Proven> {
        self.judgement(leaf)?.proven.as_ref()
    }
}
