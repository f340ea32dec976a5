//! Batches between the commit of their head and the writing of their tiles.
//!
//! ```text
//! "glassbloom staged batch v1\n" || u64 size before || u64 size after || root before || (u16 length || entry)*
//! ```
//! All numbers are big-endian. The name has the root after, so batches are a chain that can be walked back from the head. The entries alone are staged: tiles follow from them and the edge of the tree.

use bytes::Bytes;
use glassbloom_spec::hash::Hash;

use crate::{edge::Leaf, store::BatchName};

const MAGIC: &[u8] = b"glassbloom staged batch v1\n";

pub(crate) fn encode<'a>(
    name: BatchName,
    old_root: Hash,
    leaves: impl IntoIterator<Item = &'a Leaf>,
) -> Bytes {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&name.old.get().to_be_bytes());
    bytes.extend_from_slice(&name.new.get().to_be_bytes());
    bytes.extend_from_slice(old_root.as_bytes());
    for leaf in leaves {
        let length = u16::try_from(leaf.entry.len()).expect("the length was checked when the entry came in");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&leaf.entry);
    }
    bytes.into()
}

/// The root before the batch, and its leaves not yet split; `None` unless it is the one named.
fn open(name: BatchName, bytes: &[u8]) -> Option<(Hash, &[u8])> {
    let (old, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
    let (new, rest) = rest.split_first_chunk()?;
    let (root, rest) = rest.split_first_chunk()?;
    let named = (u64::from_be_bytes(*old), u64::from_be_bytes(*new)) == (name.old.get(), name.new.get());
    named.then_some((Hash::from_bytes(*root), rest))
}

/// The root of the tree that a staged batch continues.
pub(crate) fn old_root(name: BatchName, bytes: &[u8]) -> Option<Hash> {
    open(name, bytes).map(|(root, _)| root)
}

/// The leaves of a staged batch; `None` unless it is whole and the one named.
pub(crate) fn decode(name: BatchName, bytes: &Bytes) -> Option<Vec<Leaf>> {
    let (_, mut rest) = open(name, bytes)?;
    let mut leaves = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk() {
        let (entry, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        leaves.push(Leaf::new(bytes.slice_ref(entry)));
        rest = tail;
    }
    let count = u64::try_from(leaves.len()).ok()?;
    (rest.is_empty() && count == name.new.get().checked_sub(name.old.get())?).then_some(leaves)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    #[test]
    fn survives_the_way_there_and_back_and_nothing_else() {
        let (name, root) =
            (BatchName { old: 3.into(), new: 5.into(), root: Hash::of(b"after") }, Hash::of(b"before"));
        let leaves = [Leaf::new("one".into()), Leaf::new(Bytes::new())];
        let bytes = encode(name, root, &leaves);
        assert_eq!(old_root(name, &bytes), Some(root));
        let back = decode(name, &bytes).unwrap();
        assert_eq!(back.iter().map(|leaf| leaf.hash).collect::<Vec<_>>(), leaves.map(|leaf| leaf.hash));
        for end in 0..bytes.len() {
            assert!(decode(name, &bytes.slice(..end)).is_none(), "cut at {end}");
        }
        assert!(decode(BatchName { new: 6.into(), ..name }, &bytes).is_none());
    }

    proptest! {
        /// Small sizes and lengths, so that some of what is made up is a batch.
        #[test]
        fn a_batch_has_one_spelling(
            (old, count) in (0_u64..3, 0_u64..4),
            root: [u8; 32],
            rest in vec(prop_oneof![Just(0_u8), Just(1_u8), any::<u8>()], 0..24),
        ) {
            let name =
                BatchName { old: old.into(), new: (old + count).into(), root: Hash::of(b"after") };
            let bytes = Bytes::from([encode(name, Hash::from_bytes(root), []).as_ref(), &rest].concat());
            if let Some(leaves) = decode(name, &bytes) {
                prop_assert_eq!(leaves.len() as u64, count);
                prop_assert_eq!(encode(name, old_root(name, &bytes).unwrap(), &leaves), bytes);
            }
        }

        /// What a flipped bit leaves readable is another tree, which the root in the batch's name gives away.
        #[test]
        fn a_flipped_bit_is_refused_or_changes_what_is_hashed(
            entries in vec(vec(any::<u8>(), 0..40), 1..6),
            bit: Index,
        ) {
            let leaves: Vec<_> = entries.into_iter().map(|entry| Leaf::new(entry.into())).collect();
            let new = (leaves.len() as u64).into();
            let (name, root) = (BatchName { old: 0.into(), new, root: Hash::of(b"after") }, Hash::EMPTY_TREE);
            let mut bytes = encode(name, root, &leaves).to_vec();
            let bit = bit.index(8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            let bytes = Bytes::from(bytes);
            if let Some(read) = decode(name, &bytes) {
                let hashes = |leaves: &[Leaf]| leaves.iter().map(|leaf| leaf.hash).collect::<Vec<_>>();
                let same = hashes(&read) == hashes(&leaves) && old_root(name, &bytes) == Some(root);
                prop_assert!(!same);
            }
        }
    }
}
