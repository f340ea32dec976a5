//! RFC 6962 trees: verifying and building inclusion and consistency proofs.
//!
//! A verifier here accepts exactly one proof length for given sizes and uses every hash of it; anything else is an
//! error, never ignored. Proofs are built from [`NodeId`]s, the perfect subtrees that tiles hold.

use core::fmt;
use std::collections::BTreeMap;

use crate::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
};

/// Why a Merkle proof was refused or could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The entry would lie outside the tree.
    #[error("entry {index} is not in a tree of size {size}")]
    IndexOutOfRange {
        /// The entry asked for.
        index: LeafIndex,
        /// The size of the tree.
        size: TreeSize,
    },
    /// A hash needed to build the proof is not at hand.
    #[error("tree node {0} is not available")]
    MissingNode(NodeId),
    /// The proof leads to another subtree than the one it is for.
    #[error("the proof does not lead to the root of the subtree")]
    NotTheSubtree,
    /// The proof does not lead to the root of the tree with this size.
    #[error("the proof does not lead to the root of the tree of size {size}")]
    RootMismatch {
        /// Which of the trees was missed.
        size: TreeSize,
    },
    /// The older tree is larger than the newer one.
    #[error("a tree of size {new} cannot extend one of size {old}")]
    SizesReversed {
        /// Size of the older tree.
        old: TreeSize,
        /// Size of the newer tree.
        new: TreeSize,
    },
    /// The proof has too many or too few hashes.
    #[error("the proof has {got} hashes where {want} belong")]
    WrongLength {
        /// Number of hashes given.
        got: usize,
        /// The only right number.
        want: usize,
    },
}

/// Checks that `leaf` is entry `index` of the tree with this size and root. `[RFC 6962 §2.1.1]`
///
/// # Errors
/// When the index is outside the tree, the proof has the wrong length, or the root is another.
pub fn verify_inclusion(
    leaf: Hash,
    index: LeafIndex,
    size: TreeSize,
    root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if index.get() >= size.get() {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    let (inner, border) = path_shape(index.get(), size.get());
    let want = inner + border;
    if proof.len() != want {
        return Err(ProofError::WrongLength { got: proof.len(), want });
    }
    let (below, above) = proof.split_at(inner);
    if join_left(climb(leaf, below, index.get()), above) != root {
        return Err(ProofError::RootMismatch { size });
    }
    Ok(())
}

/// Checks that the newer tree begins with all entries of the older one. `[RFC 6962 §2.1.2]`
///
/// Every tree extends the empty tree, whose root must then be [`Hash::EMPTY_TREE`]; that and two equal sizes take
/// an empty proof.
///
/// # Errors
/// When the sizes are reversed, the proof has the wrong length, or it misses either root.
pub fn verify_consistency(
    old: TreeSize,
    new: TreeSize,
    old_root: Hash,
    new_root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let (old_size, new_size) = (old.get(), new.get());
    if old_size > new_size {
        return Err(ProofError::SizesReversed { old, new });
    }
    if old_size == 0 || old_size == new_size {
        return match proof.len() {
            0 if old_size == 0 && old_root != Hash::EMPTY_TREE => Err(ProofError::RootMismatch { size: old }),
            0 if old_size == new_size && old_root != new_root => Err(ProofError::RootMismatch { size: new }),
            0 => Ok(()),
            got => Err(ProofError::WrongLength { got, want: 0 }),
        };
    }
    // The proof is the path of the last perfect subtree of the old tree, preceded by that subtree's own hash unless
    // it is the whole old tree.
    let shift = old_size.trailing_zeros();
    let (inner, border) = path_shape(old_size - 1, new_size);
    let inner = inner - shift as usize;
    let whole = old_size.is_power_of_two();
    let want = usize::from(!whole) + inner + border;
    if proof.len() != want {
        return Err(ProofError::WrongLength { got: proof.len(), want });
    }
    let (seed, path) = if whole { (old_root, proof) } else { (proof[0], &proof[1..]) };
    let (below, above) = path.split_at(inner);
    let position = (old_size - 1) >> shift;
    if join_left(climb_right(seed, below, position), above) != old_root {
        return Err(ProofError::RootMismatch { size: old });
    }
    if join_left(climb(seed, below, position), above) != new_root {
        return Err(ProofError::RootMismatch { size: new });
    }
    Ok(())
}

/// Splits the audit path of a leaf: below the point where it parts from the last leaf of the tree (one hash per
/// level), and above it (one hash per left neighbour).
fn path_shape(index: u64, size: u64) -> (usize, usize) {
    let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    (inner as usize, border as usize)
}

/// Folds a path upwards; bit `i` of the position says on which side the `i`th sibling stands.
fn climb(seed: Hash, path: &[Hash], position: u64) -> Hash {
    path.iter().enumerate().fold(seed, |hash, (level, sibling)| match (position >> level) & 1 {
        0 => Hash::node(&hash, sibling),
        _ => Hash::node(sibling, &hash),
    })
}

/// Like [`climb`], but only past left siblings: what the older tree, which ends here, would have.
fn climb_right(seed: Hash, path: &[Hash], position: u64) -> Hash {
    path.iter().enumerate().fold(seed, |hash, (level, sibling)| match (position >> level) & 1 {
        0 => hash,
        _ => Hash::node(sibling, &hash),
    })
}

/// Joins left neighbours, nearest first.
fn join_left(seed: Hash, neighbours: &[Hash]) -> Hash {
    neighbours.iter().fold(seed, |hash, left| Hash::node(left, &hash))
}

/// A perfect subtree: the one over leaves `index * 2^level ..  (index + 1) * 2^level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    /// Height above the leaves, 0 to 63.
    pub level: u8,
    /// Position among the nodes of its level, from the left.
    pub index: u64,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.index)
    }
}

/// A source of the hashes of perfect subtrees.
pub trait Nodes {
    /// The hash of that subtree, or `None` when it is not at hand.
    fn node(&self, id: NodeId) -> Option<Hash>;
}

impl Nodes for BTreeMap<NodeId, Hash> {
    fn node(&self, id: NodeId) -> Option<Hash> {
        self.get(&id).copied()
    }
}

/// What to look up for a proof: each of its hashes is one perfect node, or the ragged right edge of the tree, which
/// is joined from several.
struct Plan(Vec<Vec<NodeId>>);

impl Plan {
    fn inclusion(index: LeafIndex, size: TreeSize) -> Result<Self, ProofError> {
        if index.get() >= size.get() {
            return Err(ProofError::IndexOutOfRange { index, size });
        }
        Ok(Self(siblings(NodeId { level: 0, index: index.get() }, size.get())))
    }

    fn consistency(old: TreeSize, new: TreeSize) -> Result<Self, ProofError> {
        let size = old.get();
        if size > new.get() {
            return Err(ProofError::SizesReversed { old, new });
        }
        if size == 0 || size == new.get() {
            return Ok(Self(Vec::new()));
        }
        let level = size.trailing_zeros() as u8;
        let last = NodeId { level, index: (size - 1) >> level };
        let mut parts = siblings(last, new.get());
        if !size.is_power_of_two() {
            parts.insert(0, vec![last]);
        }
        Ok(Self(parts))
    }

    fn nodes(self) -> Vec<NodeId> {
        self.0.into_iter().flatten().collect()
    }

    fn hashes(&self, nodes: &impl Nodes) -> Result<Vec<Hash>, ProofError> {
        self.0.iter().map(|part| join(part, nodes)).collect()
    }
}

/// The siblings on the way from a node to the root of the tree with this size, which holds the node.
fn siblings(node: NodeId, size: u64) -> Vec<Vec<NodeId>> {
    let (inner, _) = path_shape(node.index << node.level, size);
    let top = u64::from(u64::BITS - 1);
    let mut parts = Vec::new();
    for level in u64::from(node.level)..=top {
        let index = (node.index << node.level) >> level;
        let sibling = NodeId { level: level as u8, index: index ^ 1 };
        if level < inner as u64 {
            let begin = sibling.index << level;
            // The sibling at the fork may be cut short by the end of the tree.
            let end = begin.saturating_add(1 << level).min(size);
            parts.push(perfect_nodes(begin, end));
        } else if index & 1 == 1 {
            parts.push(vec![sibling]);
        }
    }
    parts
}

/// The perfect subtrees that make up leaves `begin..end`, left to right, where `begin` is aligned to a power of two
/// no smaller than `end - begin`.
pub(crate) fn perfect_nodes(begin: u64, end: u64) -> Vec<NodeId> {
    let (mut at, mut nodes) = (begin, Vec::new());
    while at < end {
        let level = (end - at).ilog2() as u8;
        nodes.push(NodeId { level, index: at >> level });
        at += 1 << level;
    }
    nodes
}

/// The hash over adjacent perfect subtrees of falling size. `[RFC 6962 §2.1]`
pub(crate) fn join(ids: &[NodeId], nodes: &impl Nodes) -> Result<Hash, ProofError> {
    let mut joined: Option<Hash> = None;
    for &id in ids.iter().rev() {
        let left = nodes.node(id).ok_or(ProofError::MissingNode(id))?;
        joined = Some(joined.map_or(left, |right| Hash::node(&left, &right)));
    }
    Ok(joined.unwrap_or(Hash::EMPTY_TREE))
}

/// The nodes [`prove_inclusion`] will ask for.
///
/// # Errors
/// When the index is outside the tree.
pub fn inclusion_nodes(index: LeafIndex, size: TreeSize) -> Result<Vec<NodeId>, ProofError> {
    Plan::inclusion(index, size).map(Plan::nodes)
}

/// Builds the proof that [`verify_inclusion`] checks.
///
/// # Errors
/// When the index is outside the tree or a node is missing.
pub fn prove_inclusion(
    index: LeafIndex,
    size: TreeSize,
    nodes: &impl Nodes,
) -> Result<Vec<Hash>, ProofError> {
    Plan::inclusion(index, size)?.hashes(nodes)
}

/// The nodes [`prove_consistency`] will ask for.
///
/// # Errors
/// When the sizes are reversed.
pub fn consistency_nodes(old: TreeSize, new: TreeSize) -> Result<Vec<NodeId>, ProofError> {
    Plan::consistency(old, new).map(Plan::nodes)
}

/// Builds the proof that [`verify_consistency`] checks.
///
/// # Errors
/// When the sizes are reversed or a node is missing.
pub fn prove_consistency(old: TreeSize, new: TreeSize, nodes: &impl Nodes) -> Result<Vec<Hash>, ProofError> {
    Plan::consistency(old, new)?.hashes(nodes)
}

/// The perfect subtrees of which the tree of this size consists, largest first: the nodes of its [`Frontier`].
pub fn frontier_nodes(size: TreeSize) -> Vec<NodeId> {
    perfect_nodes(0, size.get())
}

/// The root of the tree of this size.
///
/// # Errors
/// When a node is missing.
pub fn root_from_nodes(size: TreeSize, nodes: &impl Nodes) -> Result<Hash, ProofError> {
    join(&frontier_nodes(size), nodes)
}

/// The root over these leaf hashes. `[RFC 6962 §2.1]`
pub fn root_of(leaf_hashes: impl IntoIterator<Item = Hash>) -> Hash {
    let mut frontier = Frontier::new();
    for leaf in leaf_hashes {
        frontier.append(leaf);
    }
    frontier.root()
}

/// All that is needed of a tree to append to it: the hashes of its perfect subtrees, largest first.
///
/// Serialises as `{"size": n, "hashes": [..]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "FrontierParts")]
pub struct Frontier {
    size: TreeSize,
    hashes: Vec<Hash>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontierParts {
    size: TreeSize,
    hashes: Vec<Hash>,
}

impl TryFrom<FrontierParts> for Frontier {
    type Error = &'static str;

    fn try_from(parts: FrontierParts) -> Result<Self, Self::Error> {
        Self::from_parts(parts.size, parts.hashes).ok_or("a frontier has one hash per one bit of its size")
    }
}

impl Frontier {
    /// The frontier of the empty tree.
    pub const fn new() -> Self {
        Self { size: TreeSize::new(0), hashes: Vec::new() }
    }

    /// Restores a frontier; `None` unless there is one hash per one bit of the size.
    pub fn from_parts(size: TreeSize, hashes: Vec<Hash>) -> Option<Self> {
        (hashes.len() == size.get().count_ones() as usize).then_some(Self { size, hashes })
    }

    /// Reads the frontier of the tree of this size.
    ///
    /// # Errors
    /// When a node is missing.
    pub fn from_nodes(size: TreeSize, nodes: &impl Nodes) -> Result<Self, ProofError> {
        let hash = |id| nodes.node(id).ok_or(ProofError::MissingNode(id));
        Ok(Self { size, hashes: frontier_nodes(size).into_iter().map(hash).collect::<Result<_, _>>()? })
    }

    /// Appends one leaf hash.
    pub fn append(&mut self, leaf_hash: Hash) {
        self.append_with(leaf_hash, |_, _| ());
    }

    /// Appends one leaf hash and shows every node that this completes, the leaf first.
    ///
    /// # Panics
    /// When the tree already has 2^64 - 1 leaves.
    pub fn append_with(&mut self, leaf_hash: Hash, completed: impl FnMut(NodeId, Hash)) {
        self.append_subtree(0, leaf_hash, completed);
    }

    /// Appends a perfect subtree of `2^level` leaves by its root and shows every node that this completes, the root
    /// first: the nodes inside it are the caller's.
    ///
    /// # Panics
    /// When the size is no multiple of `2^level`, or the tree would have more than 2^64 - 1 leaves.
    pub fn append_subtree(&mut self, level: u8, root: Hash, mut completed: impl FnMut(NodeId, Hash)) {
        let size = self.size.get();
        let leaves = 1_u64.checked_shl(u32::from(level)).expect("no tree is higher than 63 levels");
        assert!(size.is_multiple_of(leaves), "a subtree of {leaves} leaves cannot begin at {size}");
        let index = size >> level;
        let mut hash = root;
        completed(NodeId { level, index }, hash);
        // Each trailing one bit of the old size is a subtree as large as the one in hand.
        for up in 1..=index.trailing_ones() {
            let left = self.hashes.pop().expect("one hash per one bit of the size");
            hash = Hash::node(&left, &hash);
            completed(NodeId { level: level + up as u8, index: index >> up }, hash);
        }
        self.hashes.push(hash);
        self.size = TreeSize::new(size.checked_add(leaves).expect("no log reaches 2^64 entries"));
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut hashes = self.hashes.iter().rev().copied();
        let Some(last) = hashes.next() else { return Hash::EMPTY_TREE };
        hashes.fold(last, |right, left| Hash::node(&left, &right))
    }

    /// The number of leaves.
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// The hashes of the perfect subtrees, largest first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(size: u64) -> (Frontier, BTreeMap<NodeId, Hash>) {
        let (mut frontier, mut nodes) = (Frontier::new(), BTreeMap::new());
        for i in 0..size {
            frontier.append_with(Hash::leaf(&i.to_be_bytes()), |id, hash| {
                nodes.insert(id, hash);
            });
        }
        (frontier, nodes)
    }

    #[test]
    fn every_proof_of_every_small_tree_verifies() {
        let (_, nodes) = tree(40);
        for size in (0..=40).map(TreeSize::new) {
            let root = root_from_nodes(size, &nodes).unwrap();
            assert_eq!(root, tree(size.get()).0.root());
            for index in (0..size.get()).map(LeafIndex::new) {
                let leaf = Hash::leaf(&index.get().to_be_bytes());
                let proof = prove_inclusion(index, size, &nodes).unwrap();
                verify_inclusion(leaf, index, size, root, &proof).unwrap();
            }
            for old in (0..=size.get()).map(TreeSize::new) {
                let old_root = root_from_nodes(old, &nodes).unwrap();
                let proof = prove_consistency(old, size, &nodes).unwrap();
                verify_consistency(old, size, old_root, root, &proof).unwrap();
            }
        }
    }

    #[test]
    fn subtrees_and_leaves_make_the_same_tree() {
        for size in 0..70_u64 {
            let (by_leaf, nodes) = tree(size);
            for level in 0..4_u8 {
                let (mut frontier, mut seen) = (Frontier::new(), BTreeMap::new());
                for index in 0..size >> level {
                    let node = NodeId { level, index };
                    frontier.append_subtree(level, nodes[&node], |id, hash| {
                        seen.insert(id, hash);
                    });
                }
                for index in (size >> level) << level..size {
                    frontier.append_with(nodes[&NodeId { level: 0, index }], |id, hash| {
                        seen.insert(id, hash);
                    });
                }
                assert_eq!(frontier, by_leaf, "{size} leaves, subtrees of level {level}");
                assert!(seen.iter().all(|(id, hash)| nodes[id] == *hash));
                assert!(nodes.keys().filter(|id| id.level >= level).all(|id| seen.contains_key(id)));
            }
        }
    }

    #[test]
    #[should_panic(expected = "cannot begin at 1")]
    fn a_subtree_begins_where_one_can() {
        let (mut frontier, _) = tree(1);
        frontier.append_subtree(1, Hash::EMPTY_TREE, |_, _| ());
    }

    #[test]
    fn extreme_sizes_do_not_overflow() {
        let size = TreeSize::new(u64::MAX);
        for index in [0, 1, u64::MAX / 2, u64::MAX - 1] {
            let nodes = inclusion_nodes(LeafIndex::new(index), size).unwrap();
            assert!(!nodes.is_empty());
            verify_inclusion(Hash::EMPTY_TREE, LeafIndex::new(index), size, Hash::EMPTY_TREE, &[])
                .unwrap_err();
        }
        for old in [1, 2, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1] {
            consistency_nodes(TreeSize::new(old), size).unwrap();
            let (old, root) = (TreeSize::new(old), Hash::EMPTY_TREE);
            verify_consistency(old, size, root, root, &[]).unwrap_err();
        }
        assert_eq!(frontier_nodes(size).len(), 64);
    }

    #[test]
    fn a_frontier_survives_json_and_refuses_a_wrong_count() {
        let (frontier, nodes) = tree(7);
        let json = serde_json::to_string(&frontier).unwrap();
        assert_eq!(serde_json::from_str::<Frontier>(&json).unwrap(), frontier);
        assert_eq!(Frontier::from_nodes(TreeSize::new(7), &nodes).unwrap(), frontier);
        assert!(serde_json::from_str::<Frontier>(&json.replace(":7,", ":8,")).is_err());
        assert_eq!(Frontier::from_parts(TreeSize::new(3), Vec::new()), None);
    }
}
