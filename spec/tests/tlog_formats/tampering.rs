//! One bit flipped anywhere in what a verifier is given, and it is refused.

use std::sync::LazyLock;

use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::{NodeId, Nodes, inclusion_nodes, prove_inclusion, verify_inclusion},
    policy::Policy,
    proof::TlogProof,
    tile::{TileLevel, TilePath, TileSet, decode_bundle, encode_bundle, tiles_for_size},
};
use proptest::prelude::*;

use crate::support::{
    checkpoint, cosigned, entry, head, log_key, log_pq_key, note, policy, policy_text, tree, witness,
};

/// All that signed must have.
static STRICT: LazyLock<Policy> = LazyLock::new(|| {
    let mut text = format!("log {}\n", log_key().vkey());
    for number in 1..=2 {
        text += &format!("witness w{number} {}\n", witness(number).vkey());
    }
    Policy::parse(&(text + "group both all w1 w2\nquorum both\n")).unwrap()
});

static NOTE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let head = head(9);
    note(&head, [log_key().sign_checkpoint(&head).unwrap(), cosigned(1, &head, 5), cosigned(2, &head, 6)])
});

static PROOF: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let hashes = prove_inclusion(LeafIndex::new(4), TreeSize::new(9), &tree(9).1).unwrap();
    TlogProof { extra: None, index: LeafIndex::new(4), hashes, checkpoint: NOTE.clone() }.encode()
});

const TILED: u64 = 700;

/// The content of every tile of hashes of a tree with more than one level of tiles.
static TILES: LazyLock<Vec<(TilePath, Vec<u8>)>> = LazyLock::new(|| {
    let nodes = tree(TILED).1;
    let content = |path: TilePath| {
        let TileLevel::Hashes(level) = path.level() else { return None };
        let rows = path.index() * 256..path.index() * 256 + u64::from(path.width());
        let hash = |index| nodes.node(NodeId { level: 8 * level, index }).unwrap();
        Some((path, rows.flat_map(|index| *hash(index).as_bytes()).collect()))
    };
    tiles_for_size(TreeSize::new(TILED)).filter_map(content).collect()
});

fn tile_set(tiles: &[(TilePath, Vec<u8>)]) -> TileSet {
    let mut set = TileSet::new();
    for (path, bytes) in tiles {
        set.insert(*path, bytes).unwrap();
    }
    set
}

fn flipped(bytes: &[u8], at: prop::sample::Index) -> Vec<u8> {
    let (mut bytes, bit) = (bytes.to_vec(), at.index(bytes.len() * 8));
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

#[test]
fn the_untampered_originals_open() {
    STRICT.open(None, &NOTE).unwrap();
    TlogProof::parse(&PROOF).unwrap().open(&STRICT, &entry(4)).unwrap();
    let (set, size, root) = (tile_set(&TILES), TreeSize::new(TILED), tree(TILED).0.root());
    for index in 0..TILED {
        let at = LeafIndex::new(index);
        let needed = TileSet::needed(&inclusion_nodes(at, size).unwrap(), size);
        let some: Vec<_> = TILES.iter().filter(|(path, _)| needed.contains(path)).cloned().collect();
        let proof = prove_inclusion(at, size, &tile_set(&some)).unwrap();
        assert_eq!(proof, prove_inclusion(at, size, &set).unwrap());
        verify_inclusion(Hash::leaf(&entry(index)), at, size, root, &proof).unwrap();
    }
}

#[test]
fn a_full_tile_stands_in_for_a_partial_one() {
    let (grown, size) = (tree(1024).1, TreeSize::new(TILED));
    let full: Vec<u8> = (512..768).flat_map(|index| *grown[&NodeId { level: 0, index }].as_bytes()).collect();
    let mut tiles = TILES.clone();
    for (path, bytes) in &mut tiles {
        if (path.level(), path.index()) == (TileLevel::Hashes(0), 2) {
            (*path, *bytes) = (path.to_full(), full.clone());
        }
    }
    let at = LeafIndex::new(TILED - 1);
    let proof = prove_inclusion(at, size, &tile_set(&tiles)).unwrap();
    verify_inclusion(Hash::leaf(&entry(TILED - 1)), at, size, tree(TILED).0.root(), &proof).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn checkpoints(at: prop::sample::Index) {
        prop_assert!(STRICT.open(None, &flipped(&NOTE, at)).is_err());
    }

    /// With spare signatures a bit may turn one into a stranger's, which is ignored; the head is the signed one still.
    #[test]
    fn checkpoints_with_spare_signatures(at: prop::sample::Index) {
        let policy = policy("group g 1 w1 w2\nquorum g\n");
        let original = checkpoint(9, &[(1, 5), (2, 6)]);
        if let Ok(opened) = policy.open(None, &flipped(&original, at)) {
            prop_assert_eq!(opened.head(), &head(9));
            prop_assert_ne!(opened.digest(), Hash::of(&original));
        }
    }

    #[test]
    fn proofs(at: prop::sample::Index) {
        let opened = TlogProof::parse(&flipped(&PROOF, at)).map(|proof| proof.open(&STRICT, &entry(4)));
        prop_assert!(!matches!(opened, Ok(Ok(_))));
    }

    #[test]
    fn entries(at: prop::sample::Index) {
        let proof = TlogProof::parse(&PROOF).unwrap();
        prop_assert!(proof.open(&STRICT, &flipped(&entry(4), at)).is_err());
    }

    #[test]
    fn signatures(which in 0_usize..4, at: prop::sample::Index) {
        let head = head(9);
        let (key, mut line) = match which {
            0 => (log_key(), log_key().sign_checkpoint(&head).unwrap()),
            1 => (log_pq_key(), log_pq_key().sign_checkpoint(&head).unwrap()),
            number => (witness(number as u8 - 1), cosigned(number as u8 - 1, &head, 5)),
        };
        key.vkey().verify(&head, &line).unwrap();
        line.signature = flipped(&line.signature, at);
        prop_assert!(key.vkey().verify(&head, &line).is_err());
    }

    /// A proof from a tampered tile either does not touch the bit or does not verify.
    #[test]
    fn tiles(tile: prop::sample::Index, at: prop::sample::Index, entry_at in 0..TILED) {
        let (mut tiles, size) = (TILES.clone(), TreeSize::new(TILED));
        let tile = tile.index(tiles.len());
        tiles[tile].1 = flipped(&tiles[tile].1, at);
        let index = LeafIndex::new(entry_at);
        let honest = prove_inclusion(index, size, &tile_set(&TILES)).unwrap();
        let proof = prove_inclusion(index, size, &tile_set(&tiles)).unwrap();
        let verified = verify_inclusion(Hash::leaf(&entry(entry_at)), index, size, tree(TILED).0.root(), &proof);
        prop_assert_eq!(verified.is_ok(), proof == honest);
    }

    #[test]
    fn bundles(at: prop::sample::Index) {
        let bundle = encode_bundle(&(0..9).map(entry).collect::<Vec<_>>()).unwrap();
        let bundle = flipped(&bundle, at);
        if let Ok(entries) = decode_bundle(&bundle, 9).ok_or(()) {
            let leaves: Vec<Vec<u8>> = entries.into_iter().map(<[u8]>::to_vec).collect();
            let opened = STRICT.open(None, &NOTE).unwrap();
            prop_assert!(opened.replays(&tree(0).0, leaves).is_err());
        }
    }

    /// Names, keys and rules of a policy hang together so tightly that no single bit gives another policy.
    #[test]
    fn policies(at: prop::sample::Index) {
        let text = STRICT.to_string();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("checkpoint-age")).collect();
        let bytes = flipped((lines.join("\n") + "\n").as_bytes(), at);
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(Policy::parse(&text).is_err(), "{}", text);
        }
    }

    #[test]
    fn keys_in_a_policy(at: prop::sample::Index) {
        let text = policy_text("quorum none\n");
        let line = text.lines().next().unwrap();
        let key = line.split(' ').nth(1).unwrap();
        if let Ok(key) = String::from_utf8(flipped(key.as_bytes(), at)) {
            let text = format!("log {key}\nquorum none\n");
            prop_assert!(Policy::parse(&text).is_err(), "{}", text);
        }
    }
}
