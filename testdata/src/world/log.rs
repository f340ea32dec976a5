//! A log in memory, with proofs and checkpoints.

use std::{collections::BTreeMap, ops::Range};

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    merkle::{Frontier, NodeId, prove_consistency, prove_inclusion, root_of},
    note::SignedNote,
    subtree::{Subtree, prove_subtree},
};

use super::Keys;

/// Origin of the registry.
pub const REGISTRY: &str = "glassbloom.test/registry";

/// Origin of the receipts log.
pub const RECEIPTS: &str = "glassbloom.test/receipts";

/// A log.
pub struct Log {
    origin: &'static str,
    entries: Vec<Vec<u8>>,
    nodes: BTreeMap<NodeId, Hash>,
    /// Before each entry and after the last.
    roots: Vec<Hash>,
    frontier: Frontier,
}

impl Log {
    pub(super) fn new(keys: &Keys, origin: &'static str) -> Self {
        // Fails here rather than at the first checkpoint when a log has no keys.
        keys.log(origin);
        let frontier = Frontier::new();
        Self { origin, entries: Vec::new(), nodes: BTreeMap::new(), roots: vec![frontier.root()], frontier }
    }

    /// Adds an entry.
    pub fn append(&mut self, entry: &[u8]) {
        let nodes = &mut self.nodes;
        self.frontier.append_with(Hash::leaf(entry), |id, hash| {
            nodes.insert(id, hash);
        });
        self.roots.push(self.frontier.root());
        self.entries.push(entry.to_vec());
    }

    /// What it is called.
    pub const fn origin(&self) -> &'static str {
        self.origin
    }

    /// Its entries.
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// How many entries it has.
    pub const fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The head of its first entries.
    ///
    /// # Panics
    /// When it has fewer.
    pub fn head(&self, size: u64) -> TreeHead {
        TreeHead {
            origin: self.origin.to_owned(),
            size: TreeSize::new(size),
            root: self.roots[size as usize],
        }
    }

    /// Shows that an entry is among the first.
    ///
    /// # Panics
    /// When it is not.
    pub fn inclusion(&self, at: u64, size: u64) -> Vec<Hash> {
        prove_inclusion(LeafIndex::new(at), TreeSize::new(size), &self.nodes).expect("every node is at hand")
    }

    /// Shows that the larger tree begins with the smaller.
    ///
    /// # Panics
    /// When the sizes are reversed.
    pub fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        prove_consistency(TreeSize::new(old), TreeSize::new(new), &self.nodes).expect("every node is at hand")
    }

    /// Shows that a subtree is part of the first entries' tree.
    ///
    /// # Panics
    /// When it is not.
    pub fn subtree(&self, subtree: Subtree, size: u64) -> Vec<Hash> {
        prove_subtree(subtree, TreeSize::new(size), &self.nodes).expect("every node is at hand")
    }

    /// The root of some of the entries.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn root_of(&self, entries: Range<usize>) -> Hash {
        root_of(self.entries[entries].iter().map(|entry| Hash::leaf(entry)))
    }

    /// A checkpoint signed by both keys of the log and cosigned by both witnesses at `time`.
    ///
    /// # Panics
    /// When the log is smaller.
    pub fn checkpoint(&self, keys: &Keys, size: u64, time: u64) -> Vec<u8> {
        sign(keys, &self.head(size), time)
    }
}

/// Signs any head as its log and both witnesses would.
///
/// # Panics
/// When no log of the network has this origin.
pub fn sign(keys: &Keys, head: &TreeHead, time: u64) -> Vec<u8> {
    let signed = keys.log(&head.origin).iter().map(|key| key.sign_checkpoint(head).expect("a head of ours"));
    let time = UnixSeconds::new(time);
    let cosigned = keys.witnesses().iter().map(|witness| witness.cosign(head, time).expect("a head of ours"));
    SignedNote { text: head.to_string(), signatures: signed.chain(cosigned).collect() }.encode()
}
