//! A verified copy of the registry: who is who, and by what rule.
//!
//! The registry is small by design, so a copy holds every statement, and answers questions about it without asking
//! anyone. Entries enter only when they hash up to a checkpoint that a policy accepted. A statement counts only if
//! the key that has the right to say it signed it; others are kept, and ignored by every accessor but
//! [`Registry::entry`].

use std::collections::HashMap;

use futures_util::StreamExt;
use glassbloom_service::LogClient;
use glassbloom_spec::{
    checkpoint::TreeHead,
    curve::PublicKey,
    hash::Hash,
    id::{KeyId, LeafIndex, TreeSize},
    leaf::{
        Attestation, ChallengeBatch, Coordinator, Model, OperatorAction, Payload, PolicyLeaf, PriceTable,
        Release, Revocation, Verdict,
    },
    merkle::Frontier,
    policy::{Checkpoint, Policy},
    statement::{Kind, Statement, key_id},
};

use super::{Damage, Fold, History, Mismatch, ReplayError, Tree, batches, history, index::Index};

/// What a registry entry says, once parsed.
#[derive(Clone, Debug)]
pub enum Leaf {
    /// A provider's keys.
    Attestation(Box<Attestation>),
    /// Who answered in an epoch.
    ChallengeBatch(Box<ChallengeBatch>),
    /// A coordinator's key.
    Coordinator(Coordinator),
    /// A model's files.
    Model(Model),
    /// State that a person changed.
    OperatorAction(OperatorAction),
    /// Rules.
    Policy(PolicyLeaf),
    /// Prices.
    PriceTable(PriceTable),
    /// A provider build.
    Release(Release),
    /// A dead key.
    Revocation(Revocation),
    /// A judgement.
    Verdict(Verdict),
}

/// An entry that does not count, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not a statement in the one accepted form.
    Malformed(String),
    /// It parses, but not with the signature of the key that may say this.
    Signature(String),
    /// It parses, but its kind does not belong in this log.
    WrongLog(Kind),
}

/// One entry of the registry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place.
    pub index: LeafIndex,
    /// Its leaf hash, by which other statements refer to it.
    pub leaf_hash: Hash,
    /// The entry as logged.
    pub bytes: Vec<u8>,
    /// The statement around the payload, where it parses.
    pub statement: Option<Statement>,
    /// What it says, where it counts; otherwise why it does not.
    pub leaf: Result<Leaf, Fault>,
}

/// Why a copy could not follow the log.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Entries do not hash to what was logged.
    #[error("entry {} is not what was logged: its bytes hash to {}, the tree has {}", .0.index, .0.entry, .0.tile)]
    Altered(Mismatch),
    /// The checkpoint is of another log.
    #[error("the checkpoint is for {found}, this copy follows {expected}")]
    OtherLog {
        /// The checkpoint's origin.
        found: String,
        /// The copy's.
        expected: String,
    },
    /// Two checkpoints that contradict each other: keep both.
    #[error("the log has forked: the checkpoint of size {} does not extend the one of size {} seen before", newer.size, older.size)]
    Forked {
        /// What was seen first.
        older: Box<TreeHead>,
        /// What contradicts it.
        newer: Box<TreeHead>,
    },
    /// The checkpoint is older than what this copy has.
    #[error("the log serves size {served}, older than size {seen} seen before")]
    Older {
        /// Size of the checkpoint.
        served: TreeSize,
        /// Size of the copy.
        seen: TreeSize,
    },
    /// The log could not be read.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Neither entries nor hash tiles lead to the root.
    #[error("the entries from {from} on do not lead to the root of the checkpoint of size {to}")]
    Unproven {
        /// First new entry.
        from: LeafIndex,
        /// The checkpoint's size.
        to: TreeSize,
    },
}

/// A verified copy of one registry log.
#[derive(Clone, Debug)]
pub struct Registry {
    origin: String,
    coordinators: Vec<KeyId>,
    policy: Policy,
    keys: HashMap<KeyId, PublicKey>,
    tree: Tree,
    entries: Vec<Entry>,
    by_hash: HashMap<Hash, usize>,
    index: Index,
}

impl Registry {
    /// An empty copy of the log with this origin, which believes the coordinator and release keys of the policy.
    pub fn new(origin: &str, policy: &Policy) -> Self {
        let pinned = |keys: &[PublicKey]| keys.iter().map(key_id).collect::<Vec<_>>();
        let keys = policy.coordinators().iter().chain(policy.releases()).map(|key| (key_id(key), *key));
        Self {
            origin: origin.to_owned(),
            coordinators: pinned(policy.coordinators()),
            policy: policy.clone(),
            keys: keys.collect(),
            tree: Tree::new(),
            entries: Vec::new(),
            by_hash: HashMap::new(),
            index: Index::default(),
        }
    }

    /// Fetches what is new up to the checkpoint, and takes it over if it leads to the checkpoint's root.
    ///
    /// Returns the number of new entries. On an error the copy is as it was.
    ///
    /// # Errors
    /// When the log cannot be read, contradicts what this copy has, or is not what its checkpoint says.
    pub async fn sync(&mut self, client: &LogClient, checkpoint: &Checkpoint) -> Result<u64, SyncError> {
        let head = checkpoint.head();
        if head.origin != self.origin {
            return Err(SyncError::OtherLog { found: head.origin.clone(), expected: self.origin.clone() });
        }
        let seen = self.head();
        if let Some(root) = self.tree.root_at(head.size) {
            return match root == head.root {
                false => Err(SyncError::Forked { older: Box::new(seen), newer: Box::new(head.clone()) }),
                true if head.size == seen.size => Ok(0),
                true => Err(SyncError::Older { served: head.size, seen: seen.size }),
            };
        }
        let mut fold = Fold::new(self.frontier());
        let mut fresh = Vec::new();
        let mut stream = core::pin::pin!(batches(client, seen.size, head.size));
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            fold.absorb(&batch);
            fresh.extend(batch.entries);
        }
        match fold.finish(head) {
            // Damaged hash tiles are the log's problem: the entries themselves lead to the root.
            Ok(_) | Err((Damage::Tiles(_), _)) => {}
            Err((Damage::Entries(mismatches), _)) if !mismatches.is_empty() => {
                return Err(SyncError::Altered(mismatches[0]));
            }
            Err(_) => {
                if let History::Forks(_) = history(client, &seen, head).await? {
                    return Err(SyncError::Forked { older: Box::new(seen), newer: Box::new(head.clone()) });
                }
                return Err(SyncError::Unproven { from: LeafIndex::new(seen.size.get()), to: head.size });
            }
        }
        let count = fresh.len() as u64;
        for entry in fresh {
            self.push(entry);
        }
        Ok(count)
    }

    /// Adds an entry that is known to be next in the log: from a replay that checks the root itself, or from disk.
    pub fn push(&mut self, bytes: Vec<u8>) -> &Entry {
        let leaf_hash = Hash::leaf(&bytes);
        let index = LeafIndex::new(self.entries.len() as u64);
        let (statement, leaf) = self.judge(&bytes);
        self.tree.append(leaf_hash);
        // The first of several equal entries is the one that others refer to.
        self.by_hash.entry(leaf_hash).or_insert(self.entries.len());
        if let (Some(statement), Ok(leaf)) = (&statement, &leaf) {
            self.index.add(self.entries.len(), statement, leaf);
        }
        self.entries.push(Entry { index, leaf_hash, bytes, statement, leaf });
        self.entries.last().expect("pushed above")
    }

    /// Takes back every entry from `size` on.
    pub fn truncate(&mut self, size: TreeSize) {
        let keep = usize::try_from(size.get()).unwrap_or(usize::MAX);
        self.tree.truncate(size);
        self.entries.truncate(keep);
        self.by_hash.retain(|_, place| *place < keep);
        self.index.truncate(keep);
    }

    /// The copy as bytes to keep: the head it stands at, then every entry with its length before it.
    ///
    /// Nothing in it needs to be believed: [`from_bytes`](Self::from_bytes) hashes everything again.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.tree.root().as_bytes().to_vec();
        for entry in &self.entries {
            // An entry came in a bundle, which gives its length in two bytes.
            bytes.extend_from_slice(&(entry.bytes.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&entry.bytes);
        }
        bytes
    }

    /// Takes back a copy; `None` when the bytes are damaged, and then replaying from the log is the remedy.
    ///
    /// The caller compares [`head`](Self::head) with a checkpoint that it kept, or lets the next
    /// [`sync`](Self::sync) find out: whoever can write the file can only make that fail.
    pub fn from_bytes(origin: &str, policy: &Policy, bytes: &[u8]) -> Option<Self> {
        let mut registry = Self::new(origin, policy);
        let (root, mut rest) = bytes.split_first_chunk::<{ Hash::LEN }>()?;
        while let Some((length, tail)) = rest.split_first_chunk() {
            let (entry, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            registry.push(entry.to_vec());
            rest = tail;
        }
        (rest.is_empty() && registry.tree.root() == Hash::from_bytes(*root)).then_some(registry)
    }

    /// The log that this is a copy of.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of entries.
    pub fn size(&self) -> TreeSize {
        self.tree.size()
    }

    /// The head that this copy stands at.
    pub fn head(&self) -> TreeHead {
        TreeHead { origin: self.origin.clone(), size: self.tree.size(), root: self.tree.root() }
    }

    /// The root that the log had at an earlier size; `None` when this copy is not that far.
    pub fn root_at(&self, size: TreeSize) -> Option<Hash> {
        self.tree.root_at(size)
    }

    /// The entry in this place, whether it counts or not.
    pub fn entry(&self, index: LeafIndex) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.get()).ok()?)
    }

    /// Every entry in order, whether it counts or not.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The first entry with this leaf hash, whether it counts or not.
    pub fn find(&self, leaf_hash: &Hash) -> Option<&Entry> {
        self.by_hash.get(leaf_hash).map(|place| &self.entries[*place])
    }

    /// The attestation with this leaf hash, if it counts.
    pub fn attestation(&self, leaf_hash: &Hash) -> Option<(&Entry, &Attestation)> {
        match self.find(leaf_hash)? {
            entry @ Entry { leaf: Ok(Leaf::Attestation(attestation)), .. } => Some((entry, attestation)),
            _ => None,
        }
    }

    /// The model manifest with this leaf hash, if it counts.
    pub fn model(&self, leaf_hash: &Hash) -> Option<(&Entry, &Model)> {
        match self.find(leaf_hash)? {
            entry @ Entry { leaf: Ok(Leaf::Model(model)), .. } => Some((entry, model)),
            _ => None,
        }
    }

    /// The policy with this leaf hash, if it counts.
    pub fn policy(&self, leaf_hash: &Hash) -> Option<(&Entry, &PolicyLeaf)> {
        match self.find(leaf_hash)? {
            entry @ Entry { leaf: Ok(Leaf::Policy(policy)), .. } => Some((entry, policy)),
            _ => None,
        }
    }

    /// The price table with this leaf hash, if it counts.
    pub fn price_table(&self, leaf_hash: &Hash) -> Option<(&Entry, &PriceTable)> {
        match self.find(leaf_hash)? {
            entry @ Entry { leaf: Ok(Leaf::PriceTable(prices)), .. } => Some((entry, prices)),
            _ => None,
        }
    }

    /// Attestations that count, in order.
    pub fn attestations(&self) -> impl Iterator<Item = (&Entry, &Attestation)> {
        self.entries.iter().filter_map(|entry| match &entry.leaf {
            Ok(Leaf::Attestation(attestation)) => Some((entry, &**attestation)),
            _ => None,
        })
    }

    /// Attestations by a key that count, in order.
    pub fn attestations_by(&self, key: &KeyId) -> impl Iterator<Item = (&Entry, &Attestation)> {
        self.at(self.index.keys.get(key)).filter_map(|entry| match &entry.leaf {
            Ok(Leaf::Attestation(attestation)) => Some((entry, &**attestation)),
            _ => None,
        })
    }

    /// Verdicts about an attestation that count, in order: the last one stands.
    pub fn verdicts(&self, attestation: &Hash) -> impl DoubleEndedIterator<Item = (&Entry, &Verdict)> {
        self.at(self.index.verdicts.get(attestation)).filter_map(|entry| match &entry.leaf {
            Ok(Leaf::Verdict(verdict)) => Some((entry, verdict)),
            _ => None,
        })
    }

    /// Revocations that count, in order.
    pub fn revocations(&self) -> impl Iterator<Item = (&Entry, &Revocation)> {
        self.entries.iter().filter_map(|entry| match &entry.leaf {
            Ok(Leaf::Revocation(revocation)) => Some((entry, revocation)),
            _ => None,
        })
    }

    /// The revocation of a key that takes effect first, if there is one.
    pub fn revocation(&self, key: &KeyId) -> Option<(&Entry, &Revocation)> {
        let about = self.at(self.index.revocations.get(key)).filter_map(|entry| match &entry.leaf {
            Ok(Leaf::Revocation(revocation)) => Some((entry, revocation)),
            _ => None,
        });
        about.min_by_key(|(_, revocation)| revocation.from)
    }

    /// Whether a key has been revoked at all, from whatever receipt on: do not seal to its provider.
    pub fn is_revoked(&self, key: &KeyId) -> bool {
        self.revocation(key).is_some()
    }

    /// Model manifests that count, in order: of several with one alias the last one stands.
    pub fn models(&self) -> impl Iterator<Item = (&Entry, &Model)> {
        self.entries.iter().filter_map(|entry| match &entry.leaf {
            Ok(Leaf::Model(model)) => Some((entry, model)),
            _ => None,
        })
    }

    /// Releases that count, in order.
    pub fn releases(&self) -> impl Iterator<Item = (&Entry, &Release)> {
        self.entries.iter().filter_map(|entry| match &entry.leaf {
            Ok(Leaf::Release(release)) => Some((entry, release)),
            _ => None,
        })
    }

    /// The first release that covers a build, if there is one.
    pub fn release(&self, build: &Hash) -> Option<(&Entry, &Release)> {
        match self.at(self.index.releases.get(build)).next()? {
            entry @ Entry { leaf: Ok(Leaf::Release(release)), .. } => Some((entry, release)),
            _ => None,
        }
    }

    /// The first model manifest with these files, if there is one.
    pub fn model_of(&self, digest: &Hash) -> Option<(&Entry, &Model)> {
        match self.at(self.index.models.get(digest)).next()? {
            entry @ Entry { leaf: Ok(Leaf::Model(model)), .. } => Some((entry, model)),
            _ => None,
        }
    }

    /// The policy in force when the log had `size` entries: the last one before.
    pub fn policy_at(&self, size: TreeSize) -> Option<(&Entry, &PolicyLeaf)> {
        let before = usize::try_from(size.get()).unwrap_or(usize::MAX);
        let count = self.index.policies.partition_point(|place| *place < before);
        match &self.entries[*self.index.policies[..count].last()?] {
            entry @ Entry { leaf: Ok(Leaf::Policy(policy)), .. } => Some((entry, policy)),
            _ => None,
        }
    }

    /// The policy in force now.
    pub fn latest_policy(&self) -> Option<(&Entry, &PolicyLeaf)> {
        self.policy_at(self.size())
    }

    /// The prices in force now.
    pub fn latest_price_table(&self) -> Option<(&Entry, &PriceTable)> {
        self.entries.iter().rev().find_map(|entry| match &entry.leaf {
            Ok(Leaf::PriceTable(prices)) => Some((entry, prices)),
            _ => None,
        })
    }

    /// The last statement of a coordinator about itself.
    pub fn coordinator(&self) -> Option<(&Entry, &Coordinator)> {
        self.entries.iter().rev().find_map(|entry| match &entry.leaf {
            Ok(Leaf::Coordinator(coordinator)) => Some((entry, coordinator)),
            _ => None,
        })
    }

    /// The frontier of the copy's tree.
    pub fn frontier(&self) -> Frontier {
        Frontier::from_nodes(self.size(), &self.tree)
            .expect("the tree has every perfect node of its own size")
    }

    fn at<'a>(&'a self, places: Option<&'a Vec<usize>>) -> impl DoubleEndedIterator<Item = &'a Entry> {
        places.into_iter().flatten().map(|place| &self.entries[*place])
    }

    fn judge(&self, bytes: &[u8]) -> (Option<Statement>, Result<Leaf, Fault>) {
        let statement = match Statement::parse(bytes) {
            Ok(statement) => statement,
            Err(error) => return (None, Err(Fault::Malformed(error.to_string()))),
        };
        let leaf = read(&statement).and_then(|leaf| {
            self.authorise(&statement, &leaf).map_err(Fault::Signature)?;
            Ok(leaf)
        });
        (Some(statement), leaf)
    }

    /// Who may say what, and that they did.
    fn authorise(&self, statement: &Statement, leaf: &Leaf) -> Result<(), String> {
        let signer = statement.key_id();
        let pinned = |keys: &[KeyId], whose: &str| {
            let key = keys.contains(&signer).then(|| &self.keys[&signer]);
            key.ok_or_else(|| {
                format!("signed by key {signer}, which is not a {whose} key of the policy file")
            })
        };
        let key = match leaf {
            Leaf::Attestation(attestation) => &attestation.signing_key,
            Leaf::Coordinator(coordinator) => {
                pinned(&self.coordinators, "coordinator")?;
                &coordinator.key
            }
            Leaf::Release(release) => {
                let (have, need) =
                    (release.approved_by(statement, self.policy.releases()), self.policy.release_threshold());
                if have < need {
                    return Err(format!(
                        "signed by key {signer}: {have} release keys of the policy file stand behind it, and it asks for {need}"
                    ));
                }
                return Ok(());
            }
            Leaf::Revocation(revocation) if revocation.key == signer => {
                // A key may always revoke itself; the attestation that brought it holds the point.
                let own = self.attestations_by(&signer).next();
                own.map(|(_, attestation)| &attestation.signing_key)
                    .ok_or_else(|| format!("key {signer} revokes itself but no attestation brought it"))?
            }
            Leaf::ChallengeBatch(_)
            | Leaf::Model(_)
            | Leaf::OperatorAction(_)
            | Leaf::Policy(_)
            | Leaf::PriceTable(_)
            | Leaf::Revocation(_)
            | Leaf::Verdict(_) => pinned(&self.coordinators, "coordinator")?,
        };
        statement.verify(key).map_err(|error| error.to_string())
    }
}

fn read(statement: &Statement) -> Result<Leaf, Fault> {
    let leaf = match statement.kind() {
        Kind::Attestation => Attestation::of(statement).map(|leaf| Leaf::Attestation(Box::new(leaf))),
        Kind::ChallengeBatch => {
            ChallengeBatch::of(statement).map(|leaf| Leaf::ChallengeBatch(Box::new(leaf)))
        }
        Kind::Coordinator => Coordinator::of(statement).map(Leaf::Coordinator),
        Kind::OperatorAction => OperatorAction::of(statement).map(Leaf::OperatorAction),
        Kind::Model => Model::of(statement).map(Leaf::Model),
        Kind::Policy => PolicyLeaf::of(statement).map(Leaf::Policy),
        Kind::PriceTable => PriceTable::of(statement).map(Leaf::PriceTable),
        Kind::Release => Release::of(statement).map(Leaf::Release),
        Kind::Revocation => Revocation::of(statement).map(Leaf::Revocation),
        Kind::Verdict => Verdict::of(statement).map(Leaf::Verdict),
        kind @ (Kind::Endorsement | Kind::Receipt) => return Err(Fault::WrongLog(kind)),
    };
    leaf.map_err(|error| Fault::Malformed(error.to_string()))
}
