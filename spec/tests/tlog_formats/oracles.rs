//! Two independent implementations of RFC 6962 trees must agree with ours, on roots and on every hash of a proof.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::{
        prove_consistency, prove_inclusion, root_from_nodes, root_of, verify_consistency, verify_inclusion,
    },
};
use proptest::prelude::*;
use rs_merkle::MerkleTree;
use sha2::Sha256;

use crate::support::{entry, tree};

/// RFC 6962 hashing for rs_merkle: leaves come hashed, and a node without a sibling is promoted, which is its default.
#[derive(Clone)]
struct Rfc6962;

impl rs_merkle::Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        *Hash::of_parts(&[&[1], data]).as_bytes()
    }
}

fn concat(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn roots_and_inclusion_proofs_agree(size in 1_u64..400, at: prop::sample::Index) {
        let (frontier, nodes) = tree(size);
        let leaves: Vec<Hash> = (0..size).map(|i| Hash::leaf(&entry(i))).collect();
        let raw: Vec<[u8; 32]> = leaves.iter().map(|leaf| *leaf.as_bytes()).collect();
        let theirs = MerkleTree::<Rfc6962>::from_leaves(&raw);
        let mut ct = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        (0..size).for_each(|i| ct.push(entry(i)));

        let root = frontier.root();
        prop_assert_eq!(theirs.root(), Some(*root.as_bytes()));
        prop_assert_eq!(ct.root().as_bytes().to_vec(), root.as_bytes().to_vec());
        prop_assert_eq!(root_of(leaves.iter().copied()), root);

        let at = at.index(size as usize);
        let (index, size) = (LeafIndex::new(at as u64), TreeSize::new(size));
        let proof = prove_inclusion(index, size, &nodes).unwrap();
        prop_assert_eq!(theirs.proof(&[at]).to_bytes(), concat(&proof));
        prop_assert_eq!(ct.prove_inclusion(at).as_bytes().to_vec(), concat(&proof));
        verify_inclusion(leaves[at], index, size, root, &proof).unwrap();

        // What rs_merkle's own verifier lets pass.
        let surplus: Vec<Hash> = proof.iter().copied().chain([Hash::EMPTY_TREE]).collect();
        prop_assert!(verify_inclusion(leaves[at], index, size, root, &surplus).is_err());
    }

    #[test]
    fn consistency_proofs_agree(old in 1_u64..300, grown in 0_u64..300) {
        let new = old + grown;
        let (frontier, nodes) = tree(new);
        let old_root = root_from_nodes(TreeSize::new(old), &nodes).unwrap();
        let mut ct = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        (0..new).for_each(|i| ct.push(entry(i)));

        let (old, new) = (TreeSize::new(old), TreeSize::new(new));
        let proof = prove_consistency(old, new, &nodes).unwrap();
        if grown > 0 {
            prop_assert_eq!(ct.prove_consistency(grown as usize).as_bytes().to_vec(), concat(&proof));
        }
        verify_consistency(old, new, old_root, frontier.root(), &proof).unwrap();
        prop_assert!(verify_consistency(old, new, Hash::EMPTY_TREE, frontier.root(), &proof).is_err());
        prop_assert!(verify_consistency(old, new, old_root, Hash::EMPTY_TREE, &proof).is_err());
        if grown > 0 {
            let short = &proof[..proof.len() - 1];
            prop_assert!(verify_consistency(old, new, old_root, frontier.root(), short).is_err());
            prop_assert!(verify_consistency(new, old, frontier.root(), old_root, &proof).is_err());
        }
    }
}
