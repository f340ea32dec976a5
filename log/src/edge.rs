//! The right edge of the tree: what is needed to turn appended entries into tiles.

use bytes::Bytes;
use glassbloom_spec::{
    hash::Hash,
    id::TreeSize,
    merkle::{Frontier, Nodes, ProofError},
    tile::{FULL_WIDTH, TileLevel, TilePath},
};

/// An entry and its leaf hash.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) entry: Bytes,
    pub(crate) hash: Hash,
}

impl Leaf {
    pub(crate) fn new(entry: Bytes) -> Self {
        let hash = Hash::leaf(&entry);
        Self { entry, hash }
    }
}

/// The partial tile of each level, the partial bundle, and the frontier: at most 255 entries and a few hundred hashes,
/// whatever the size of the tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    frontier: Frontier,
    rows: Vec<Vec<Hash>>,
    bundle: Vec<u8>,
}

impl Edge {
    /// Restores the edge of a tree from the hash tiles on its right edge and the content of its partial bundle, which
    /// is empty when the size is a multiple of 256. The caller checks `root()` and the bundle.
    pub(crate) fn restore(size: TreeSize, nodes: &impl Nodes, bundle: Vec<u8>) -> Result<Self, ProofError> {
        let frontier = Frontier::from_nodes(size, nodes)?;
        let mut rows = Vec::new();
        for level in 0..8_u8 {
            let count = size.get() >> (8 * u32::from(level));
            let first = count - count % u64::from(FULL_WIDTH);
            let row = (first..count).map(|index| {
                let id = glassbloom_spec::merkle::NodeId { level: 8 * level, index };
                nodes.node(id).ok_or(ProofError::MissingNode(id))
            });
            rows.push(row.collect::<Result<_, _>>()?);
        }
        Ok(Self { frontier, rows, bundle })
    }

    pub(crate) fn size(&self) -> TreeSize {
        self.frontier.size()
    }

    pub(crate) fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Appends leaves and returns every tile and bundle that changed, in its final width.
    pub(crate) fn append<'a>(
        &mut self,
        leaves: impl IntoIterator<Item = &'a Leaf>,
    ) -> Vec<(TilePath, Bytes)> {
        let mut objects = Vec::new();
        self.rows.resize(8, Vec::new());
        let mut touched = [false; 8];
        for leaf in leaves {
            let length =
                u16::try_from(leaf.entry.len()).expect("the length was checked when the entry came in");
            self.bundle.extend_from_slice(&length.to_be_bytes());
            self.bundle.extend_from_slice(&leaf.entry);
            let rows = &mut self.rows;
            self.frontier.append_with(leaf.hash, |node, hash| {
                if node.level.is_multiple_of(8) {
                    let level = usize::from(node.level / 8);
                    rows[level].push(hash);
                    touched[level] = true;
                }
            });
            for (level, touched) in touched.iter_mut().enumerate() {
                if self.rows[level].len() == usize::from(FULL_WIDTH) {
                    self.emit(level, &mut objects);
                    self.rows[level].clear();
                    *touched = false;
                    if level == 0 {
                        self.bundle.clear();
                    }
                }
            }
        }
        for (level, touched) in touched.into_iter().enumerate() {
            if touched {
                self.emit(level, &mut objects);
            }
        }
        objects
    }

    fn emit(&self, level: usize, objects: &mut Vec<(TilePath, Bytes)>) {
        let rows = &self.rows[level];
        let count = self.size().get() >> (8 * level);
        let index = (count - 1) / u64::from(FULL_WIDTH);
        let width = u16::try_from(rows.len()).expect("a tile has at most 256 rows");
        let path = |level| TilePath::new(level, index, width).expect("a tile with rows has a name");
        let bytes: Vec<u8> = rows.iter().flat_map(|hash| *hash.as_bytes()).collect();
        objects.push((path(TileLevel::Hashes(level as u8)), bytes.into()));
        if level == 0 {
            objects.push((path(TileLevel::Entries), Bytes::copy_from_slice(&self.bundle)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use glassbloom_spec::{
        merkle::{frontier_nodes, root_of},
        tile::{TileSet, decode_bundle, tiles_between},
    };

    use super::*;

    fn leaf(n: u64) -> Leaf {
        Leaf::new(n.to_string().into_bytes().into())
    }

    #[test]
    fn writes_what_changed_and_restores_anywhere() {
        let mut store = BTreeMap::new();
        let mut edge = Edge::default();
        let mut size = 0;
        for step in [1, 1, 3, 250, 1, 1, 255, 256, 1000, 64_000, 7, 0, 513] {
            let leaves: Vec<_> = (size..size + step).map(leaf).collect();
            let objects = edge.append(&leaves);
            let paths: BTreeSet<_> = objects.iter().map(|(path, _)| *path).collect();
            let expected: BTreeSet<_> = tiles_between(size.into(), (size + step).into()).collect();
            assert_eq!(paths, expected, "{size} + {step}");
            assert_eq!(paths.len(), objects.len());
            store.extend(objects);
            size += step;
            let now = TreeSize::new(size);
            assert_eq!(edge.size(), now);
            assert_eq!(edge.root(), root_of((0..size).map(|n| leaf(n).hash)));

            let mut tiles = TileSet::new();
            for path in TileSet::needed(&frontier_nodes(now), now) {
                tiles.insert(path, &store[&path]).unwrap();
            }
            let bundle = TilePath::entries(size / 256, now).map(|path| {
                assert_eq!(
                    decode_bundle(&store[&path], path.width()).unwrap().len(),
                    usize::from(path.width())
                );
                store[&path].to_vec()
            });
            // Continue from what was restored, so that every later step checks it.
            edge = Edge::restore(now, &tiles, bundle.unwrap_or_default()).unwrap();
        }
    }
}
