//! What the registry says, held in memory: rebuilt from the log at every start, never restored from a database.

use std::collections::{BTreeMap, HashMap, HashSet};

use glassbloom_spec::{
    api::ReleaseRecord,
    cbor::Value,
    checkpoint::{Checkpoint, Logged},
    curve::PublicKey,
    hash::Hash,
    id::{KeyId, LeafIndex, TreeSize, UnixSeconds},
    judge::{RegistryView, Released},
    leaf::{
        Attestation, ChallengeBatch, Model, Payload, PolicyLeaf, PriceTable, Release, Revocation, Verdict,
    },
    merkle::{Frontier, NodeId, ProofError, prove_inclusion},
    policy::Policy,
    record::{LeafProof, ProviderRecord},
    statement::{Kind, Statement, key_id},
};

/// A leaf that counts, with what it says.
#[derive(Clone, Debug)]
pub(crate) struct Leaf<T> {
    pub(crate) index: LeafIndex,
    pub(crate) hash: Hash,
    pub(crate) bytes: Vec<u8>,
    pub(crate) says: T,
}

/// Everything in the registry up to one checkpoint.
///
/// Only statements by a key that may make them count: this coordinator's for what it says of itself, any coordinator
/// of the policy for models, a release key for releases, a provider's own for its attestation. The rest is skipped;
/// judging it is the auditor's job.
#[derive(Debug)]
pub(crate) struct View {
    own: PublicKey,
    coordinators: Vec<PublicKey>,
    policy: Policy,
    checkpoint: Option<Checkpoint>,
    frontier: Frontier,
    /// Every perfect subtree, so that proofs need no further fetch; the registry is small by design.
    nodes: BTreeMap<NodeId, Hash>,
    leaf_hashes: HashSet<Hash>,
    attestations: HashMap<Hash, Leaf<Attestation>>,
    /// The latest verdict on each attestation under each policy leaf.
    verdicts: HashMap<(Hash, Hash), Leaf<Verdict>>,
    rules: HashMap<Hash, Leaf<PolicyLeaf>>,
    /// All price tables: a receipt may be priced by one that was in force when the request was sealed.
    prices: HashMap<Hash, Leaf<PriceTable>>,
    models: HashMap<Hash, Leaf<Model>>,
    model_digests: HashSet<Hash>,
    releases: HashMap<Hash, Leaf<Release>>,
    revoked: HashMap<KeyId, Revocation>,
    last_batch: Option<LastBatch>,
    in_force: InForce,
    /// The newest of each, which auditors take to be in force.
    latest: InForce,
}

/// What matters of the newest `challenge-batch` by this coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastBatch {
    /// When its epoch ends.
    pub(crate) ends: UnixSeconds,
    /// Whether anybody was expected.
    pub(crate) expected_somebody: bool,
}

/// Which of its own leaves the coordinator goes by, as leaf hashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct InForce {
    pub(crate) rules: Option<Hash>,
    pub(crate) prices: Option<Hash>,
    pub(crate) models: BTreeMap<String, Hash>,
}

impl View {
    /// The view of an empty registry.
    pub(crate) fn new(own: PublicKey, policy: &Policy) -> Self {
        Self {
            own,
            coordinators: policy.coordinators().to_vec(),
            policy: policy.clone(),
            checkpoint: None,
            frontier: Frontier::new(),
            nodes: BTreeMap::new(),
            leaf_hashes: HashSet::new(),
            attestations: HashMap::new(),
            verdicts: HashMap::new(),
            rules: HashMap::new(),
            prices: HashMap::new(),
            models: HashMap::new(),
            model_digests: HashSet::new(),
            releases: HashMap::new(),
            revoked: HashMap::new(),
            last_batch: None,
            in_force: InForce::default(),
            latest: InForce::default(),
        }
    }

    /// How much of the registry has been read.
    pub(crate) fn size(&self) -> TreeSize {
        self.frontier.size()
    }

    /// Moves on to a checkpoint with the entries between.
    ///
    /// # Errors
    /// When the entries do not lead from what was read to the checkpoint: the log then shows two histories. Nothing
    /// is changed.
    pub(crate) fn extend(&mut self, checkpoint: Checkpoint, entries: Vec<Vec<u8>>) -> Result<(), ProofError> {
        for logged in checkpoint.replays(&self.frontier, entries)? {
            let nodes = &mut self.nodes;
            self.frontier.append_with(logged.leaf_hash(), |id, hash| {
                nodes.insert(id, hash);
            });
            self.take(logged);
        }
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    fn take(&mut self, logged: Logged<Vec<u8>>) {
        let (index, hash) = (logged.index(), logged.leaf_hash());
        self.leaf_hashes.insert(hash);
        let bytes = logged.into_value();
        let Ok(statement) = Statement::parse(&bytes) else {
            tracing::warn!(%index, "the registry has an entry that is no statement");
            return;
        };
        let own = statement.verify(&self.own).is_ok();
        let signed_by = |keys: &[PublicKey]| keys.iter().any(|key| statement.verify(key).is_ok());
        macro_rules! leaf {
            ($says:expr) => {
                Leaf { index, hash, bytes, says: $says }
            };
        }
        match statement.kind() {
            Kind::Attestation => {
                if let Ok(says) = Attestation::of(&statement)
                    && statement.verify(&says.signing_key).is_ok()
                {
                    self.attestations.insert(hash, leaf!(says));
                }
            }
            Kind::Model => {
                if let Ok(says) = Model::of(&statement)
                    && (own || signed_by(&self.coordinators))
                {
                    self.model_digests.insert(says.digest());
                    if own {
                        self.latest.models.insert(says.alias.clone(), hash);
                        self.models.insert(hash, leaf!(says));
                    }
                }
            }
            Kind::Policy if own => {
                if let Ok(says) = PolicyLeaf::of(&statement) {
                    self.latest.rules = Some(hash);
                    self.rules.insert(hash, leaf!(says));
                }
            }
            Kind::PriceTable if own => {
                if let Ok(says) = PriceTable::of(&statement) {
                    self.latest.prices = Some(hash);
                    self.prices.insert(hash, leaf!(says));
                }
            }
            Kind::Release => {
                if let Ok(says) = Release::of(&statement)
                    && self.policy.trusts_release(&statement, &says)
                {
                    // The first counts, as for auditors.
                    self.releases.entry(says.build).or_insert(leaf!(says));
                }
            }
            Kind::Revocation => {
                if let Ok(says) = Revocation::of(&statement)
                    && (own || signed_by(&self.coordinators) || self.is_by_holder(&statement, says.key))
                {
                    self.revoked.entry(says.key).or_insert(says);
                }
            }
            Kind::Verdict if own => {
                if let Ok(says) = Verdict::of(&statement) {
                    self.verdicts.insert((says.attestation, says.policy), leaf!(says));
                }
            }
            Kind::ChallengeBatch if own => {
                if let Ok(says) = ChallengeBatch::of(&statement) {
                    let ends = UnixSeconds::new(says.epoch.get().saturating_add(says.seconds));
                    let expected_somebody = !says.expected.is_empty();
                    if self.last_batch.is_none_or(|last| last.ends <= ends) {
                        self.last_batch = Some(LastBatch { ends, expected_somebody });
                    }
                }
            }
            Kind::ChallengeBatch
            | Kind::Coordinator
            | Kind::Endorsement
            | Kind::OperatorAction
            | Kind::Policy
            | Kind::PriceTable
            | Kind::Receipt
            | Kind::Verdict => {}
        }
    }

    /// Whether a provider revokes its own key.
    fn is_by_holder(&self, statement: &Statement, key: KeyId) -> bool {
        statement.key_id() == key
            && self.attestations.values().any(|leaf| statement.verify(&leaf.says.signing_key).is_ok())
    }

    /// Whether these very bytes are in the registry.
    pub(crate) fn has(&self, statement: &Statement) -> bool {
        self.leaf_hashes.contains(&statement.leaf_hash())
    }

    /// The newest of the coordinator's own leaves.
    pub(crate) const fn latest(&self) -> &InForce {
        &self.latest
    }

    /// Whether the rules, prices or model of this leaf have this payload.
    pub(crate) fn says(&self, hash: &Hash, payload: &Value) -> bool {
        let rules = self.rules.get(hash).map(|leaf| leaf.says.to_value());
        let prices = || self.prices.get(hash).map(|leaf| leaf.says.to_value());
        let model = || self.models.get(hash).map(|leaf| leaf.says.to_value());
        rules.or_else(prices).or_else(model).is_some_and(|says| says == *payload)
    }

    /// Says which of the coordinator's own leaves it goes by from now on.
    pub(crate) fn put_in_force(&mut self, in_force: InForce) {
        self.in_force = in_force;
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> Option<&Leaf<PolicyLeaf>> {
        self.rules.get(self.in_force.rules.as_ref()?)
    }

    /// A price table that is or was in force.
    pub(crate) fn prices(&self, hash: &Hash) -> Option<&PriceTable> {
        self.prices.get(hash).map(|leaf| &leaf.says)
    }

    /// Rules that are or were in force.
    pub(crate) fn has_rules(&self, hash: &Hash) -> bool {
        self.rules.contains_key(hash)
    }

    /// A model statement that is or was in force.
    pub(crate) fn model_leaf(&self, hash: &Hash) -> Option<&Model> {
        self.models.get(hash).map(|leaf| &leaf.says)
    }

    /// What an alias stands for now.
    pub(crate) fn model(&self, alias: &str) -> Option<&Leaf<Model>> {
        self.models.get(self.in_force.models.get(alias)?)
    }

    /// The verdict on an attestation under the rules in force.
    pub(crate) fn verdict(&self, attestation: Hash) -> Option<&Leaf<Verdict>> {
        self.verdicts.get(&(attestation, self.in_force.rules?))
    }

    /// Whether no release names this build.
    pub(crate) fn release_is_missing(&self, build: &Hash) -> bool {
        !self.releases.contains_key(build)
    }

    /// Why a key is revoked, if it is.
    pub(crate) fn revoked(&self, key: KeyId) -> Option<&Revocation> {
        self.revoked.get(&key)
    }

    /// The newest batch of challenges by this coordinator.
    pub(crate) const fn last_batch(&self) -> Option<LastBatch> {
        self.last_batch
    }

    /// The checkpoint that was read up to, to the byte.
    pub(crate) fn checkpoint_bytes(&self) -> Option<&[u8]> {
        self.checkpoint.as_ref().map(Checkpoint::note_bytes)
    }

    /// Why an attestation must not serve any more.
    pub(crate) fn is_over(&self, attestation: &Hash, now: UnixSeconds) -> Option<&'static str> {
        let says = &self.attestations.get(attestation)?.says;
        if self.revoked.contains_key(&key_id(&says.signing_key)) {
            return Some("revoked");
        }
        (says.not_after <= now).then_some("expired")
    }

    /// The release of a build, with its leaf hash and its proof under the checkpoint held.
    pub(crate) fn release_record(&self, build: &Hash) -> Option<(Hash, ReleaseRecord)> {
        let leaf = self.releases.get(build)?;
        let checkpoint = self.checkpoint_bytes()?.to_vec();
        Some((leaf.hash, ReleaseRecord { checkpoint, release: self.proof(leaf)? }))
    }

    /// Every build that was released.
    pub(crate) fn released(&self) -> Vec<Hash> {
        self.releases.keys().copied().collect()
    }

    /// Everything that a client needs to verify an attestation for a model, under the one checkpoint held. `None`
    /// when a leaf is missing.
    pub(crate) fn record(&self, attestation: &Hash, alias: &str) -> Option<ProviderRecord> {
        let attested = self.attestations.get(attestation)?;
        Some(ProviderRecord {
            checkpoint: self.checkpoint.as_ref()?.note_bytes().to_vec(),
            attestation: self.proof(attested)?,
            verdict: self.proof(self.verdict(*attestation)?)?,
            policy: self.proof(self.rules()?)?,
            prices: self.proof(self.prices.get(self.in_force.prices.as_ref()?)?)?,
            model: self.proof(self.model(alias)?)?,
            release: self.proof(self.releases.get(&attested.says.build)?)?,
            enrolment: match &attested.says.enrolment {
                Some(leaf) => Some(self.proof(self.attestations.get(leaf)?)?),
                None => None,
            },
        })
    }

    fn proof<T>(&self, leaf: &Leaf<T>) -> Option<LeafProof> {
        let proof = prove_inclusion(leaf.index, self.size(), &self.nodes).ok()?;
        Some(LeafProof { leaf: leaf.bytes.clone(), index: leaf.index, proof })
    }
}

impl RegistryView for View {
    fn release(&self, build: &Hash) -> Option<Released> {
        let leaf = self.releases.get(build)?;
        Some(Released { says: leaf.says.clone(), statement: leaf.bytes.clone() })
    }

    fn attestation(&self, leaf: &Hash) -> Option<Attestation> {
        self.attestations.get(leaf).map(|leaf| leaf.says.clone())
    }

    fn has_model(&self, digest: &Hash) -> bool {
        self.model_digests.contains(digest)
    }
}

#[cfg(test)]
mod tests {
    use glassbloom_spec::{
        curve::{Signer, SigningKey},
        leaf::Price,
        merkle::root_of,
        note::NoteSigner,
    };

    use super::*;

    /// A log without witnesses, kept as a list of entries.
    struct Log {
        signer: NoteSigner,
        policy: Policy,
        entries: Vec<Vec<u8>>,
    }

    impl Log {
        fn new(own: &SigningKey, release: &SigningKey) -> Self {
            let signer = NoteSigner::ed25519_log("n/registry", [1; 32]).unwrap();
            let policy = format!(
                "log {}\nquorum none\ncoordinator {}\nrelease {}\n",
                signer.vkey(),
                own.public_key(),
                release.public_key()
            );
            Self { signer, policy: Policy::parse(&policy).unwrap(), entries: Vec::new() }
        }

        fn add(&mut self, payload: &impl Payload, signer: &dyn Signer) -> Statement {
            let statement = payload.sign(signer).unwrap();
            self.entries.push(statement.bytes().to_vec());
            statement
        }

        fn checkpoint(&self) -> Checkpoint {
            let head = glassbloom_spec::checkpoint::TreeHead {
                origin: "n/registry".to_owned(),
                size: (self.entries.len() as u64).into(),
                root: root_of(self.entries.iter().map(|entry| Hash::leaf(entry))),
            };
            let line = self.signer.sign_checkpoint(&head).unwrap();
            let note = glassbloom_spec::note::SignedNote { text: head.to_string(), signatures: vec![line] };
            self.policy.open(None, &note.encode()).unwrap()
        }
    }

    fn keys() -> [SigningKey; 3] {
        [1, 2, 3].map(|n| SigningKey::from_seed(&[n; 32]))
    }

    fn prices(prompt: u64) -> PriceTable {
        PriceTable { prices: vec![Price { alias: "m".to_owned(), prompt, completion: 1 }] }
    }

    fn release() -> Release {
        Release {
            version: "1".to_owned(),
            build: Hash::of(b"build"),
            platform: "p".to_owned(),
            commit: "c".to_owned(),
            not_before: UnixSeconds::new(0),
            code: None,
            approvals: Vec::new(),
        }
    }

    #[test]
    fn only_keys_that_may_speak_are_heard() {
        let [own, releaser, stranger] = keys();
        let mut log = Log::new(&own, &releaser);
        log.add(&prices(1), &own);
        log.add(&prices(2), &stranger);
        log.add(&release(), &own);
        log.entries.push(b"no statement".to_vec());
        let mut view = View::new(own.public_key(), &log.policy);
        view.extend(log.checkpoint(), log.entries.clone()).unwrap();
        assert_eq!(view.prices.len(), 1);
        assert_eq!(view.release(&release().build), None, "a coordinator cannot release builds");
        log.add(&release(), &releaser);
        log.add(&prices(3), &own);
        view.extend(log.checkpoint(), log.entries[4..].to_vec()).unwrap();
        assert_eq!(view.release(&release().build).unwrap().says, release());
        assert_eq!(view.prices(&Hash::leaf(&log.entries[5])), Some(&prices(3)));
        assert_eq!(view.prices(&Hash::leaf(&log.entries[0])), Some(&prices(1)), "older prices stay known");
        assert_eq!(view.size().get(), 6);
    }

    #[test]
    fn another_history_is_refused_and_changes_nothing() {
        let [own, releaser, _] = keys();
        let mut log = Log::new(&own, &releaser);
        log.add(&prices(1), &own);
        let mut view = View::new(own.public_key(), &log.policy);
        view.extend(log.checkpoint(), log.entries.clone()).unwrap();
        let mut fork = Log::new(&own, &releaser);
        fork.add(&prices(9), &own);
        fork.add(&prices(10), &own);
        assert!(view.extend(fork.checkpoint(), fork.entries[1..].to_vec()).is_err());
        assert_eq!(view.prices.len(), 1);
        assert_eq!(view.size().get(), 1);
    }

    #[test]
    fn proofs_hold_under_the_checkpoint() {
        let [own, releaser, _] = keys();
        let mut log = Log::new(&own, &releaser);
        for n in 0..11 {
            log.add(&prices(n), &own);
            let mut view = View::new(own.public_key(), &log.policy);
            view.extend(log.checkpoint(), log.entries.clone()).unwrap();
            let proof = view.proof(&view.prices[&Hash::leaf(&log.entries[0])]).unwrap();
            view.checkpoint.as_ref().unwrap().includes(proof.leaf, proof.index, &proof.proof).unwrap();
        }
    }

    #[test]
    fn a_provider_and_its_coordinator_can_revoke_a_key_and_nobody_else() {
        let [own, releaser, stranger] = keys();
        let key = glassbloom_spec::statement::key_id(&stranger.public_key());
        let revocation = Revocation { key, from: TreeSize::new(3), reason: "lost".to_owned() };
        let mut log = Log::new(&own, &releaser);
        log.add(&revocation, &releaser);
        let mut view = View::new(own.public_key(), &log.policy);
        view.extend(log.checkpoint(), log.entries.clone()).unwrap();
        assert!(view.revoked(key).is_none());
        log.add(&revocation, &own);
        view.extend(log.checkpoint(), log.entries[1..].to_vec()).unwrap();
        assert_eq!(view.revoked(key).unwrap().reason, "lost");
    }
}
