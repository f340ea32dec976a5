//! Subtrees of a log's tree that a cosigner can sign apart, and the proof that one belongs to a checkpoint.
//! `[c2sp.org/tlog-cosignature]` `[draft-ietf-plants-merkle-tree-certs §4]`
//!
//! A subtree is the Merkle tree over the entries `start..end`. Its proof leads from its root to that of a tree which
//! contains it, and there is exactly one right number of hashes.

use core::ops::Range;

use crate::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::{NodeId, Nodes, ProofError, join, perfect_nodes},
};

/// The bounds of a subtree: `start` is a multiple of the smallest power of two that is not below `end - start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subtree {
    start: u64,
    end: u64,
}

impl Subtree {
    /// The subtree over entries `start..end`; `None` when it is empty or not aligned. `[§4.1]`
    pub fn new(start: LeafIndex, end: TreeSize) -> Option<Self> {
        let (start, end) = (start.get(), end.get());
        let length = end.checked_sub(start).filter(|length| *length > 0)?;
        // A length above 2^63 has no power of two above it; it fits at 0 alone.
        let aligned =
            length.checked_next_power_of_two().map_or(start == 0, |power| start.is_multiple_of(power));
        aligned.then_some(Self { start, end })
    }

    /// Index of the first entry.
    pub const fn start(self) -> LeafIndex {
        LeafIndex::new(self.start)
    }

    /// Index after the last entry.
    pub const fn end(self) -> TreeSize {
        TreeSize::new(self.end)
    }
}

/// The nodes [`prove_subtree`] will ask for.
///
/// # Errors
/// When the subtree ends beyond the tree.
pub fn subtree_nodes(subtree: Subtree, size: TreeSize) -> Result<Vec<NodeId>, ProofError> {
    Ok(Path::new(subtree, size)?.ranges().flat_map(|range| perfect_nodes(range.start, range.end)).collect())
}

/// Builds the proof that [`verify_subtree`] checks. `[§4.4.1]`
///
/// # Errors
/// When the subtree ends beyond the tree or a node is missing.
pub fn prove_subtree(subtree: Subtree, size: TreeSize, nodes: &impl Nodes) -> Result<Vec<Hash>, ProofError> {
    let path = Path::new(subtree, size)?;
    path.ranges().map(|range| join(&perfect_nodes(range.start, range.end), nodes)).collect()
}

/// Checks that the subtree with root `hash` is part of the tree with this size and root. `[§4.4.2]`
///
/// # Errors
/// When the subtree ends beyond the tree, the proof has the wrong length, or it misses either hash.
pub fn verify_subtree(
    subtree: Subtree,
    hash: Hash,
    size: TreeSize,
    root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let path = Path::new(subtree, size)?;
    let want = path.ranges().count();
    if proof.len() != want {
        return Err(ProofError::WrongLength { got: proof.len(), want });
    }
    let (seed, siblings) = match path.seed {
        None => (hash, proof),
        Some(_) => (proof[0], &proof[1..]),
    };
    let (mut part, mut whole) = (seed, seed);
    for ((side, _), sibling) in path.siblings.iter().zip(siblings) {
        match side {
            Side::LeftInside => {
                part = Hash::node(sibling, &part);
                whole = Hash::node(sibling, &whole);
            }
            Side::LeftOutside => whole = Hash::node(sibling, &whole),
            Side::Right => whole = Hash::node(&whole, sibling),
        }
    }
    if part != hash {
        return Err(ProofError::NotTheSubtree);
    }
    if whole != root {
        return Err(ProofError::RootMismatch { size });
    }
    Ok(())
}

/// Where a hash of the proof stands to what was joined before it.
#[derive(Clone, Copy)]
enum Side {
    /// On the left, within the subtree.
    LeftInside,
    /// On the left, before the subtree.
    LeftOutside,
    /// On the right, after what the subtree has of this part of the tree.
    Right,
}

/// The way from the last perfect part of the subtree up to the root of the tree.
struct Path {
    /// Where the way begins, unless that is the whole subtree.
    seed: Option<Range<u64>>,
    /// The nearest first.
    siblings: Vec<(Side, Range<u64>)>,
}

impl Path {
    /// Goes down from the root, as the definition of the proof does.
    fn new(subtree: Subtree, size: TreeSize) -> Result<Self, ProofError> {
        if subtree.end > size.get() {
            let index = LeafIndex::new(subtree.end - 1);
            return Err(ProofError::IndexOutOfRange { index, size });
        }
        let (mut start, end) = (subtree.start, subtree.end);
        let (mut low, mut high) = (0, size.get());
        let mut siblings = Vec::new();
        while (low, high) != (start, end) {
            let middle = low + left_size(high - low);
            if end <= middle {
                siblings.push((Side::Right, middle..high));
                high = middle;
            } else if middle <= start {
                siblings.push((Side::LeftOutside, low..middle));
                low = middle;
            } else {
                // The alignment of a subtree has it begin where this part of the tree does.
                siblings.push((Side::LeftInside, low..middle));
                (low, start) = (middle, middle);
            }
        }
        siblings.reverse();
        Ok(Self { seed: (start != subtree.start).then_some(low..high), siblings })
    }

    fn ranges(&self) -> impl Iterator<Item = &Range<u64>> {
        self.seed.iter().chain(self.siblings.iter().map(|(_, range)| range))
    }
}

/// The size of the left subtree: the largest power of two below `size`, which is at least 2. `[RFC 6962 §2.1]`
fn left_size(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::merkle::{Frontier, root_of};

    fn leaf(index: u64) -> Hash {
        Hash::leaf(&index.to_be_bytes())
    }

    fn nodes(size: u64) -> BTreeMap<NodeId, Hash> {
        let (mut frontier, mut nodes) = (Frontier::new(), BTreeMap::new());
        for index in 0..size {
            frontier.append_with(leaf(index), |id, hash| {
                nodes.insert(id, hash);
            });
        }
        nodes
    }

    fn subtrees(size: u64) -> impl Iterator<Item = Subtree> {
        let range = move |start| {
            (start..=size).filter_map(move |end| Subtree::new(LeafIndex::new(start), end.into()))
        };
        (0..size).flat_map(range)
    }

    /// The definition of the proof, word for word, over leaf hashes. `[§4.4.1]`
    fn defined(start: usize, end: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
        let root = |leaves: &[Hash]| root_of(leaves.iter().copied());
        if start == 0 && end == leaves.len() {
            return if known { Vec::new() } else { vec![root(leaves)] };
        }
        let (left, right) = leaves.split_at(left_size(leaves.len() as u64) as usize);
        let (mut proof, sibling) = if end <= left.len() {
            (defined(start, end, left, known), root(right))
        } else if left.len() <= start {
            (defined(start - left.len(), end - left.len(), right, known), root(left))
        } else {
            assert_eq!(start, 0);
            (defined(0, end - left.len(), right, false), root(left))
        };
        proof.push(sibling);
        proof
    }

    #[test]
    fn every_subtree_of_every_small_tree() {
        let all = nodes(40);
        for size in 1..=40_u64 {
            let leaves: Vec<Hash> = (0..size).map(leaf).collect();
            let root = root_of(leaves.iter().copied());
            for subtree in subtrees(size) {
                let (start, end) = (subtree.start as usize, subtree.end as usize);
                let hash = root_of(leaves[start..end].iter().copied());
                let proof = prove_subtree(subtree, size.into(), &all).unwrap();
                assert_eq!(proof, defined(start, end, &leaves, true), "{subtree:?} of {size}");
                verify_subtree(subtree, hash, size.into(), root, &proof).unwrap();
                for at in 0..proof.len() {
                    let mut wrong = proof.clone();
                    wrong[at] = Hash::node(&wrong[at], &hash);
                    verify_subtree(subtree, hash, size.into(), root, &wrong).unwrap_err();
                }
                let longer = [proof.as_slice(), &[hash]].concat();
                verify_subtree(subtree, hash, size.into(), root, &longer).unwrap_err();
                if let Some((_, shorter)) = proof.split_last() {
                    verify_subtree(subtree, hash, size.into(), root, shorter).unwrap_err();
                }
                verify_subtree(subtree, leaf(99), size.into(), root, &proof).unwrap_err();
                verify_subtree(subtree, hash, size.into(), leaf(99), &proof).unwrap_err();
            }
        }
    }

    #[test]
    fn what_is_a_subtree() {
        let valid = |start: u64, end: u64| Subtree::new(start.into(), end.into()).is_some();
        assert!(valid(0, 1) && valid(8, 13) && valid(4, 8) && valid(6, 8) && valid(0, u64::MAX));
        assert!(valid(1 << 63, u64::MAX));
        assert!(!valid(0, 0) && !valid(5, 5) && !valid(6, 5) && !valid(1, 3) && !valid(2, 5) && !valid(2, 6));
        assert!(!valid(1, u64::MAX));
    }

    #[test]
    fn extreme_sizes_do_not_overflow() {
        let size = TreeSize::new(u64::MAX);
        for (start, end) in
            [(0, 1), (u64::MAX - 1, u64::MAX), (1 << 63, u64::MAX), (0, u64::MAX), (0, 1 << 63)]
        {
            let subtree = Subtree::new(LeafIndex::new(start), TreeSize::new(end)).unwrap();
            assert!(subtree_nodes(subtree, size).unwrap().len() <= 64 * 64);
            verify_subtree(subtree, Hash::EMPTY_TREE, size, leaf(1), &[]).unwrap_err();
        }
        let beyond = Subtree::new(LeafIndex::new(4), TreeSize::new(6)).unwrap();
        assert!(matches!(subtree_nodes(beyond, 5.into()), Err(ProofError::IndexOutOfRange { .. })));
    }
}
