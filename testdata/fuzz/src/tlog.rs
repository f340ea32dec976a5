//! Notes, keys, checkpoints, proofs, tiles and policies.

use std::sync::LazyLock;

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds, parse_decimal},
    merkle::{self, Frontier},
    note::{
        MAX_NOTE, MAX_SIGNATURES, NoteSigner, SignatureLine, SignedNote, VerifierKey, parse_signature_lines,
    },
    policy::Policy,
    promise::MAX_PROMISE,
    proof::{MAX_HASHES, MAX_PROOF, TlogProof},
    subtree::{Subtree, prove_subtree, verify_subtree},
    succession::Succession,
    tile::{FULL_WIDTH, MAX_ENTRY, TileLevel, TilePath, TileSet, decode_bundle, encode_bundle},
    witness::{AddCheckpoint, MAX_PROOF_LINES, SignSubtree},
};
use glassbloom_testdata::world::{RECEIPTS, REGISTRY};

use crate::WORLD;

/// Notes, their lines and their text as a tree head: each has one spelling.
pub fn note(data: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(note) = SignedNote::parse(data) {
        accepted = true;
        assert!(data.len() <= MAX_NOTE);
        assert!((1..=MAX_SIGNATURES).contains(&note.signatures.len()));
        assert_eq!(note.encode(), data);
        if let Ok(head) = TreeHead::parse(&note.text) {
            assert_eq!(head.to_string(), note.text);
        }
    }
    let Ok(text) = core::str::from_utf8(data) else { return accepted };
    if let Ok(line) = text.parse::<SignatureLine>() {
        accepted = true;
        assert_eq!(line.to_string(), text);
    }
    if let Ok(lines) = parse_signature_lines(text) {
        accepted = true;
        assert!((1..=MAX_SIGNATURES).contains(&lines.len()));
        assert_eq!(lines.iter().map(|line| format!("{line}\n")).collect::<String>(), text);
    }
    if let Ok(head) = TreeHead::parse(text) {
        accepted = true;
        assert_eq!(head.to_string(), text);
    }
    if let Some(hash) = Hash::from_base64(text) {
        accepted = true;
        assert_eq!(hash.to_base64(), text);
    }
    if let Ok(hash) = text.parse::<Hash>() {
        accepted = true;
        assert_eq!(hash.to_string(), text);
    }
    if let Ok(number) = parse_decimal(text) {
        accepted = true;
        assert_eq!(number.to_string(), text);
    }
    accepted
}

/// Public and private keys as text: one spelling, and a key made from a text is the key that the text names.
pub fn key(data: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(data) else { return false };
    let mut accepted = false;
    if let Ok(key) = text.parse::<VerifierKey>() {
        accepted = true;
        assert_eq!(key.to_string(), text);
        assert_eq!(VerifierKey::new(key.name(), key.algorithm(), key.public_bytes()).unwrap(), key);
    }
    if let Ok(signer) = text.parse::<NoteSigner>() {
        accepted = true;
        assert_eq!(signer.to_private_string().as_str(), text);
        let head =
            TreeHead { origin: "example.org/log".to_owned(), size: TreeSize::new(0), root: Hash::EMPTY_TREE };
        let time = UnixSeconds::new(1);
        let line = signer.sign_checkpoint(&head).or_else(|_| signer.cosign(&head, time));
        // A name of more than 255 bytes cannot sign with ML-DSA.
        if let Ok(line) = line {
            signer.vkey().verify(&head, &line).unwrap();
        }
    }
    accepted
}

/// Nothing opens as a checkpoint of the two logs but a head that they have.
pub fn checkpoint(data: &[u8]) -> bool {
    static POLICY: LazyLock<Policy> = LazyLock::new(|| WORLD.policy());
    let Ok(signed) = POLICY.open_uncosigned(None, data) else {
        assert!(POLICY.open(None, data).is_err());
        return false;
    };
    assert_eq!(signed.note_bytes(), data);
    let head = signed.head();
    let log = [&WORLD.registry, &WORLD.receipts].into_iter().find(|log| log.origin() == head.origin);
    let log = log.expect("no other log is in the policy");
    assert!(head.size.get() <= log.size());
    assert_eq!(&log.head(head.size.get()), head);
    if let Ok(opened) = POLICY.open(None, data) {
        assert_eq!(opened.cosignatures().len(), 2, "the policy asks for both witnesses");
        assert!(opened.cosigned_at().get() > 0);
        let other = if head.origin == REGISTRY { RECEIPTS } else { REGISTRY };
        assert!(POLICY.open(Some(other), data).is_err());
    }
    true
}

/// Nothing opens as a promise but with the very line that the log's key makes for it.
pub fn promise(data: &[u8]) -> bool {
    static POLICY: LazyLock<Policy> = LazyLock::new(|| WORLD.policy());
    let Ok(promised) = POLICY.open_promise(None, data) else { return false };
    assert!(data.len() <= MAX_PROMISE);
    assert_eq!(promised.note_bytes(), data);
    let SignedNote { text, signatures } = SignedNote::parse(data).unwrap();
    let promise = promised.promise();
    assert_eq!(promise.to_string(), text);
    let [key, _] = WORLD.keys.log(&promise.origin);
    assert!(signatures.contains(&promise.sign(key).unwrap().signatures[0]));
    true
}

/// A succession has one spelling, and none holds but for a head with the very line that the log's key makes for it.
pub fn succession(data: &[u8]) -> bool {
    let Ok(succession) = Succession::parse(data) else { return false };
    assert!(Succession::is_claimed(data) && data.len() <= MAX_ENTRY);
    assert_eq!(succession.encode(), data);
    for successor in ["next.example/registry", "next.example/receipts", REGISTRY] {
        let Ok(checkpoint) = succession.verify(&WORLD.policy(), successor) else { continue };
        assert_ne!(checkpoint.origin(), successor);
        let lines = SignedNote::parse(succession.note_bytes()).unwrap().signatures;
        let mut keys = WORLD.keys.log(checkpoint.origin()).iter();
        assert!(keys.any(|key| lines.contains(&key.sign_checkpoint(checkpoint.head()).unwrap())));
    }
    true
}

/// Proofs have one spelling, and prove of each log only what it has at that place.
pub fn proof(data: &[u8]) -> bool {
    let Ok(proof) = TlogProof::parse(data) else { return false };
    assert!(data.len() <= MAX_PROOF && proof.hashes.len() <= MAX_HASHES);
    assert_eq!(proof.encode(), data);
    assert_eq!(proof.to_string().as_bytes(), data);
    let at = proof.index.get() as usize;
    let policy = WORLD.policy();
    for log in [&WORLD.registry, &WORLD.receipts] {
        for entry in [at, at ^ 1, 0].into_iter().filter_map(|at| log.entries().get(at)) {
            if let Ok(logged) = proof.open(&policy, entry) {
                assert_eq!(logged.checkpoint().origin, log.origin());
                assert_eq!(log.entries().get(at), Some(entry));
            }
        }
    }
    true
}

/// Paths of tiles have one spelling.
pub fn tile_path(data: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(data) else { return false };
    let Ok(path) = text.parse::<TilePath>() else { return false };
    assert_eq!(path.to_string(), text);
    assert!((1..=FULL_WIDTH).contains(&path.width()));
    assert!(matches!(path.level(), TileLevel::Entries | TileLevel::Hashes(0..=63)));
    assert_eq!(TilePath::new(path.level(), path.index(), path.width()), Some(path));
    assert!(path.to_full().is_full());
    true
}

/// Bundles have one spelling per width, and tiles hold what they are made of.
pub fn tile(data: &[u8]) -> bool {
    let mut widths = 0;
    for width in 0..=FULL_WIDTH {
        if let Some(entries) = decode_bundle(data, width) {
            assert_eq!(entries.len(), usize::from(width));
            assert_eq!(encode_bundle(&entries).unwrap(), data);
            widths += 1;
        }
    }
    assert!(widths <= 1, "a bundle that can be read in two ways");
    let mut accepted = widths > 0;
    let rows = data.len() / Hash::LEN;
    for width in [rows, rows + 1].into_iter().filter_map(|width| u16::try_from(width).ok()) {
        let Some(path) = TilePath::new(TileLevel::Hashes(0), 0, width) else { continue };
        let mut tiles = TileSet::new();
        if tiles.insert(path, data).is_ok() {
            let hashes = tiles.get(path).unwrap();
            assert_eq!(hashes.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>(), data);
            let size = TreeSize::new(u64::from(width));
            let root = merkle::root_from_nodes(size, &tiles).unwrap();
            assert_eq!(root, merkle::root_of(hashes.iter().copied()));
            accepted = true;
        }
    }
    accepted
}

/// What proves a leaf or an older tree is what this crate would build, to the hash: nothing more, nothing less.
///
/// Read as two sizes, an index and hashes, for a tree whose leaves are the numbers; a subtree goes from the first size to
/// the index.
pub fn merkle(data: &[u8]) -> bool {
    let Some((&[old, new, index], rest)) = data.split_first_chunk() else { return false };
    let proof: Vec<Hash> =
        rest.as_chunks::<{ Hash::LEN }>().0.iter().copied().map(Hash::from_bytes).collect();
    let (mut tree, mut nodes) = (Frontier::new(), std::collections::BTreeMap::new());
    let mut roots = vec![tree.root()];
    for leaf in 0..new.max(old) {
        tree.append_with(Hash::leaf(&[leaf]), |id, hash| {
            nodes.insert(id, hash);
        });
        roots.push(tree.root());
    }
    let (old_root, new_root) = (roots[usize::from(old)], roots[usize::from(new)]);
    let (old, new) = (TreeSize::new(old.into()), TreeSize::new(new.into()));
    let mut accepted = false;
    if merkle::verify_consistency(old, new, old_root, new_root, &proof).is_ok() {
        assert_eq!(merkle::prove_consistency(old, new, &nodes).unwrap(), proof);
        accepted = true;
    }
    let at = LeafIndex::new(index.into());
    if merkle::verify_inclusion(Hash::leaf(&[index]), at, new, new_root, &proof).is_ok() {
        assert_eq!(merkle::prove_inclusion(at, new, &nodes).unwrap(), proof);
        accepted = true;
    }
    if let Some(subtree) = Subtree::new(old.get().into(), TreeSize::new(index.into())) {
        let within = (old.get() as u8..index).map(|leaf| Hash::leaf(&[leaf]));
        if verify_subtree(subtree, merkle::root_of(within), new, new_root, &proof).is_ok() {
            assert_eq!(prove_subtree(subtree, new, &nodes).unwrap(), proof);
            accepted = true;
        }
    }
    // And no tree says what another one does.
    let stranger = Hash::leaf(b"not there");
    assert!(merkle::verify_inclusion(stranger, at, new, new_root, &proof).is_err());
    accepted
}

/// What is sent to a witness has one spelling, and asks for nothing that is outside its checkpoint.
pub fn witness_request(data: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(request) = AddCheckpoint::parse(data) {
        assert_eq!(request.encode(), data);
        assert!(request.proof.len() <= MAX_PROOF_LINES && request.old <= request.head.size);
        accepted = true;
    }
    if let Ok(request) = SignSubtree::parse(data) {
        assert_eq!(request.encode(), data);
        assert!(request.proof.len() <= MAX_PROOF_LINES && request.subtree.end() <= request.head.size);
        accepted = true;
    }
    accepted
}

/// A policy that parses is the same policy once it is written and parsed again.
pub fn policy(data: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(data) else { return false };
    let Ok(policy) = Policy::parse(text) else { return false };
    let written = policy.to_string();
    assert_eq!(Policy::parse(&written).unwrap(), policy, "{written}");
    assert!(policy.checkpoint_age() > 0);
    assert!(!policy.quorum().is_empty());
    true
}
