//! A Merkle tree in memory that knows its root at every earlier size.

use glassbloom_spec::{
    hash::Hash,
    id::TreeSize,
    merkle::{NodeId, Nodes},
};

/// All perfect nodes of a tree, 64 bytes per leaf: for logs that are small by design, such as the registry.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// `levels[k][i]` is the root of leaves `i*2^k .. (i+1)*2^k`.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of leaves.
    pub fn size(&self) -> TreeSize {
        TreeSize::new(self.levels.first().map_or(0, |leaves| leaves.len() as u64))
    }

    /// Adds a leaf at the right.
    pub fn append(&mut self, leaf: Hash) {
        let mut node = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let nodes = &mut self.levels[level];
            nodes.push(node);
            let [.., left, right] = nodes.as_slice() else { return };
            if nodes.len() % 2 == 1 {
                return;
            }
            node = Hash::node(left, right);
        }
    }

    /// The root when the tree had `size` leaves; `None` when it has fewer now.
    pub fn root_at(&self, size: TreeSize) -> Option<Hash> {
        if size > self.size() {
            return None;
        }
        let mut root = None;
        for (level, nodes) in self.levels.iter().enumerate() {
            let count = usize::try_from(size.get() >> level).ok()?;
            if count % 2 == 1 {
                let left = nodes[count - 1];
                root = Some(root.map_or(left, |right| Hash::node(&left, &right)));
            }
        }
        Some(root.unwrap_or(Hash::EMPTY_TREE))
    }

    /// The root now.
    pub fn root(&self) -> Hash {
        self.root_at(self.size()).expect("a tree has its own size")
    }

    /// Leaf hashes in order.
    pub fn leaves(&self) -> &[Hash] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }

    /// Forgets every leaf from `size` on.
    pub fn truncate(&mut self, size: TreeSize) {
        for (level, nodes) in self.levels.iter_mut().enumerate() {
            nodes.truncate(usize::try_from(size.get() >> level).unwrap_or(usize::MAX));
        }
    }
}

impl Nodes for Tree {
    fn node(&self, id: NodeId) -> Option<Hash> {
        self.levels.get(usize::from(id.level))?.get(usize::try_from(id.index).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use glassbloom_spec::merkle::root_of;

    use super::*;

    #[test]
    fn root_at_every_earlier_size() {
        let leaves: Vec<Hash> = (0u8..70).map(|n| Hash::leaf(&[n])).collect();
        let mut tree = Tree::new();
        assert_eq!(tree.root(), Hash::EMPTY_TREE);
        for leaf in &leaves {
            tree.append(*leaf);
        }
        for size in 0..=leaves.len() {
            let expected = root_of(leaves[..size].iter().copied());
            assert_eq!(tree.root_at(TreeSize::new(size as u64)), Some(expected), "size {size}");
        }
        assert_eq!(tree.root_at(TreeSize::new(71)), None);
        tree.truncate(TreeSize::new(33));
        assert_eq!(tree.root(), root_of(leaves[..33].iter().copied()));
        tree.append(leaves[33]);
        assert_eq!(tree.root(), root_of(leaves[..34].iter().copied()));
    }
}
