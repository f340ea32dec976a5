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
}
