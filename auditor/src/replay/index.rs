//! Finds statements of a registry without walking through all of it.

use std::collections::HashMap;

use glassbloom_spec::{hash::Hash, id::KeyId, statement::Statement};

use super::Leaf;

/// Places of entries that count, each list in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// Releases by the build that they name.
    pub(super) releases: HashMap<Hash, Vec<usize>>,
    /// Model manifests by the digest of their files.
    pub(super) models: HashMap<Hash, Vec<usize>>,
    /// Verdicts by the attestation that they are about.
    pub(super) verdicts: HashMap<Hash, Vec<usize>>,
    /// Attestations by their signing key.
    pub(super) keys: HashMap<KeyId, Vec<usize>>,
    /// Revocations by the key that they are about.
    pub(super) revocations: HashMap<KeyId, Vec<usize>>,
    /// Policies.
    pub(super) policies: Vec<usize>,
}

impl Index {
    pub(super) fn add(&mut self, place: usize, statement: &Statement, leaf: &Leaf) {
        let places = match leaf {
            // It counts, so the key that signed it is the one in it.
            Leaf::Attestation(_) => self.keys.entry(statement.key_id()).or_default(),
            Leaf::Model(model) => self.models.entry(model.digest()).or_default(),
            Leaf::Policy(_) => &mut self.policies,
            Leaf::Release(release) => self.releases.entry(release.build).or_default(),
            Leaf::Revocation(revocation) => self.revocations.entry(revocation.key).or_default(),
            Leaf::Verdict(verdict) => self.verdicts.entry(verdict.attestation).or_default(),
            Leaf::ChallengeBatch(_)
            | Leaf::Coordinator(_)
            | Leaf::OperatorAction(_)
            | Leaf::PriceTable(_) => return,
        };
        places.push(place);
    }

    /// Forgets everything from `keep` on.
    pub(super) fn truncate(&mut self, keep: usize) {
        fn cut<K>(lists: &mut HashMap<K, Vec<usize>>, keep: usize) {
            lists.retain(|_, places| {
                places.retain(|place| *place < keep);
                !places.is_empty()
            });
        }
        cut(&mut self.releases, keep);
        cut(&mut self.models, keep);
        cut(&mut self.verdicts, keep);
        cut(&mut self.keys, keep);
        cut(&mut self.revocations, keep);
        self.policies.retain(|place| *place < keep);
    }
}
