//! A signed log in a folder, made without the code under test: from nodes, not from an edge.

use std::{collections::BTreeMap, fs, path::Path};

use glassbloom_log::LogKeys;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::TreeSize,
    merkle::{Frontier, NodeId},
    note::SignedNote,
    tile::{TileLevel, TilePath, encode_bundle, tiles_for_size},
};

/// Writes every tile and bundle of these entries and a checkpoint by all of the keys.
pub(crate) fn write_log(folder: &Path, keys: &LogKeys, entries: &[Vec<u8>]) -> TreeHead {
    let (mut frontier, mut nodes) = (Frontier::new(), BTreeMap::new());
    for entry in entries {
        frontier.append_with(Hash::leaf(entry), |id, hash| {
            nodes.insert(id, hash);
        });
    }
    let size = TreeSize::new(entries.len() as u64);
    for path in tiles_for_size(size) {
        let file = folder.join(path.to_string());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, object(path, entries, &nodes)).unwrap();
    }
    let head = TreeHead { origin: keys.origin().to_owned(), size, root: frontier.root() };
    let signatures = keys.signers().iter().map(|key| key.sign_checkpoint(&head).unwrap()).collect();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("checkpoint"), SignedNote { text: head.to_string(), signatures }.encode()).unwrap();
    head
}

fn object(path: TilePath, entries: &[Vec<u8>], nodes: &BTreeMap<NodeId, Hash>) -> Vec<u8> {
    let first = path.index() * 256;
    let range = first..first + u64::from(path.width());
    match path.level() {
        TileLevel::Entries => encode_bundle(&entries[range.start as usize..range.end as usize]).unwrap(),
        TileLevel::Hashes(level) => {
            range.flat_map(|index| *nodes[&NodeId { level: 8 * level, index }].as_bytes()).collect()
        }
    }
}
