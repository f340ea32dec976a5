//! Vectors that others wrote, read in place beside the checkout.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    merkle::{
        Frontier, NodeId, Nodes, prove_inclusion, root_from_nodes, verify_consistency, verify_inclusion,
    },
    note::{NoteSigner, SignedNote, VerifierKey},
    policy::{OpenError, Policy},
    proof::{TlogProof, TlogProofError},
    tile::{TilePath, TileSet, decode_bundle, encode_bundle, tiles_for_size},
};
use serde_json::Value;

fn vectors(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/tlog").join(folder);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("GLASSBLOOM_REQUIRE_ALL").is_none_or(|v| v != "1"),
        "skipped, but GLASSBLOOM_REQUIRE_ALL=1: {} is missing",
        path.display()
    );
    // Past the test runner's capture, which keeps what a passing test prints to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {} is missing", path.display());
    None
}

fn json_files(folder: &Path, found: &mut Vec<(String, Value)>) {
    for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.is_dir() {
            json_files(&file, found);
        } else {
            found.push((
                file.display().to_string(),
                serde_json::from_slice(&fs::read(&file).unwrap()).unwrap(),
            ));
        }
    }
}

/// Some vectors put other bytes where a hash belongs; our types have no room for those, so another hash stands in,
/// the same for the same bytes in the same role. What such vectors are about, lengths and equality, stays.
fn hash(role: &str, value: &Value) -> Hash {
    let text = value.as_str().unwrap_or_default();
    Hash::from_base64(text).unwrap_or_else(|| Hash::of_parts(&[role.as_bytes(), text.as_bytes()]))
}

fn proof(value: &Value) -> Vec<Hash> {
    value["proof"]
        .as_array()
        .map(|hashes| hashes.iter().map(|value| hash("node", value)).collect())
        .unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn transparency_dev_inclusion_proofs() {
    let Some(folder) = vectors("transparency-dev-merkle/inclusion") else { return };
    let mut cases = Vec::new();
    json_files(&folder, &mut cases);
    assert_eq!(cases.len(), 98);
    for (name, case) in cases {
        let (index, size) =
            (LeafIndex::new(number(&case["leafIdx"])), TreeSize::new(number(&case["treeSize"])));
        let result = verify_inclusion(
            hash("leaf", &case["leafHash"]),
            index,
            size,
            hash("root", &case["root"]),
            &proof(&case),
        );
        assert_eq!(result.is_err(), case["wantErr"].as_bool().unwrap(), "{name}: {result:?}");
    }
}

/// Its authors refuse a proof from the empty tree as meaningless. tlog-witness begins every log with one, and an
/// empty log is a prefix of every log, so that we accept it.
const FROM_EMPTY: &str = "size1-is-zero-and-size2-is-not-zero.json";

#[test]
fn transparency_dev_consistency_proofs() {
    let Some(folder) = vectors("transparency-dev-merkle/consistency") else { return };
    let mut cases = Vec::new();
    json_files(&folder, &mut cases);
    assert_eq!(cases.len(), 98);
    for (name, case) in cases {
        let (old, new) = (TreeSize::new(number(&case["size1"])), TreeSize::new(number(&case["size2"])));
        let result = verify_consistency(
            old,
            new,
            hash("root", &case["root1"]),
            hash("root", &case["root2"]),
            &proof(&case),
        );
        let refused = case["wantErr"].as_bool().unwrap() && !name.ends_with(FROM_EMPTY);
        assert_eq!(result.is_err(), refused, "{name}: {result:?}");
    }
}

#[test]
fn golden_checkpoints_and_inclusion_proofs() {
    let Some(file) = vectors("golden.json") else { return };
    let golden: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    for row in golden["checkpoints"].as_array().unwrap() {
        let bytes = row["note"].as_str().unwrap().as_bytes();
        let note = SignedNote::parse(bytes).unwrap();
        assert_eq!(note.encode(), bytes);
        let head = TreeHead::parse(&note.text).unwrap();
        for vkey in row["vkeys"].as_array().unwrap() {
            let key: VerifierKey = vkey.as_str().unwrap().parse().unwrap();
            assert_eq!(key.to_string(), vkey.as_str().unwrap());
            let lines: Vec<_> = note.signatures.iter().filter(|line| key.claims(line)).collect();
            assert_eq!(lines.len(), 1, "{key}");
            key.verify(&head, lines[0]).unwrap();
            let other = TreeHead { size: TreeSize::new(head.size.get() + 1), ..head.clone() };
            key.verify(&other, lines[0]).unwrap_err();
        }
    }
    let inclusion = golden["inclusion"].as_array().unwrap();
    assert_eq!(inclusion.len(), 2);
    for row in inclusion {
        let hex = |value: &Value| value.as_str().unwrap().parse::<Hash>().unwrap();
        let proof: Vec<Hash> = row["proof"].as_array().unwrap().iter().map(hex).collect();
        let (index, size) = (LeafIndex::new(number(&row["index"])), TreeSize::new(number(&row["size"])));
        verify_inclusion(hex(&row["leaf_hash"]), index, size, hex(&row["root"]), &proof).unwrap();
    }
}

/// A real checkpoint of Rekor with two witnesses of its network, as a policy sees it.
fn rekor_policy(folder: &Path, quorum: &str) -> Policy {
    let keys = fs::read_to_string(folder.join("VKEYS.txt")).unwrap();
    let key = |name: &str| keys.lines().find(|key| key.starts_with(name)).unwrap().to_owned();
    let text = format!(
        "log {}\nwitness mole {}\nwitness geomys {}\nwitness remora {}\ngroup two 2 mole geomys remora\nquorum {quorum}\n",
        key("log2025-alpha3.rekor.sigstage.dev"),
        key("witness.stagemole.eu"),
        key("witness.navigli.sunlight.geomys.org"),
        key("remora.n621.de"),
    );
    Policy::parse(&text).unwrap()
}

#[test]
fn rekor_proof_opens_under_its_witnesses() {
    let Some(folder) = vectors("tlog-proof") else { return };
    let bytes = fs::read(folder.join("rekor2-dsse-happy-path.tlog-proof")).unwrap();
    let leaf = fs::read(folder.join("rekor2-dsse-happy-path.leaf")).unwrap();
    let proof = TlogProof::parse(&bytes).unwrap();
    assert_eq!((proof.encode(), proof.to_string().into_bytes()), (bytes.clone(), bytes));

    let logged = proof.open(&rekor_policy(&folder, "two"), &leaf).unwrap();
    assert_eq!((logged.index().get(), logged.checkpoint().size.get()), (4_026_478, 4_026_479));
    assert_eq!(logged.cosigned_at(), UnixSeconds::new(0x6a04_cfb6));

    proof.open(&rekor_policy(&folder, "two"), &leaf[1..]).unwrap_err();
    let missing = proof.open(&rekor_policy(&folder, "remora"), &leaf);
    let quorum = OpenError::Quorum { have: 0, need: 1, missing: vec!["remora".to_owned()] };
    assert_eq!(missing, Err(TlogProofError::Checkpoint(quorum)));
}

#[test]
fn rekor_proof_under_a_key_type_that_is_not_known_here() {
    let Some(folder) = vectors("tlog-proof") else { return };
    let bytes = fs::read(folder.join("happy-path-v0.3.tlog-proof")).unwrap();
    let leaf = fs::read(folder.join("happy-path-v0.3.leaf")).unwrap();
    let proof = TlogProof::parse(&bytes).unwrap();
    assert_eq!(proof.encode(), bytes);
    let head = TreeHead::parse(&SignedNote::parse(&proof.checkpoint).unwrap().text).unwrap();
    verify_inclusion(Hash::leaf(&leaf), proof.index, head.size, head.root, &proof.hashes).unwrap();
    let origin = head.origin;
    let unknown = TlogProofError::Checkpoint(OpenError::UnknownLog { origin });
    assert_eq!(proof.open(&rekor_policy(&folder, "none"), &leaf), Err(unknown));
}

#[test]
fn ml_dsa_checkpoint_of_another_implementation() {
    let Some(folder) = vectors("mldsa") else { return };
    let key: VerifierKey = fs::read_to_string(folder.join("log.vkey")).unwrap().trim().parse().unwrap();
    let body = fs::read_to_string(folder.join("add-checkpoint.body")).unwrap();
    let note = body.strip_prefix("old 0\n\n").unwrap();
    let policy = Policy::parse(&format!("log {key}\nquorum none\n")).unwrap();
    let checkpoint = policy.open(Some(key.name()), note.as_bytes()).unwrap();
    assert_eq!((checkpoint.size().get(), checkpoint.cosigned_at().get()), (1, 0));
    let altered = note.replacen("\n1\n", "\n2\n", 1);
    assert!(matches!(policy.open(None, altered.as_bytes()), Err(OpenError::BadSignature(_))));
}

/// The published test key of that log.
const TESSERA_KEY: &str =
    "PRIVATE+KEY+example.com/log/testdata+33d7b496+AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg";

#[test]
fn tessera_log_is_rebuilt_byte_for_byte() {
    let Some(folder) = vectors("tessera-testdata-log") else { return };
    let signer: NoteSigner = TESSERA_KEY.parse().unwrap();
    let read = |path: TilePath| fs::read(folder.join(path.to_string())).unwrap();
    let (mut frontier, mut tile) = (Frontier::new(), Vec::new());
    for size in (0..=15).map(TreeSize::new) {
        if size.get() > 0 {
            let bundle = read(TilePath::entries(0, size).unwrap());
            let entries = decode_bundle(&bundle, size.get() as u16).unwrap();
            assert_eq!(encode_bundle(&entries).unwrap(), bundle);
            let leaf = Hash::leaf(entries.last().unwrap());
            frontier.append(leaf);
            tile.extend_from_slice(leaf.as_bytes());
            assert_eq!(read(TilePath::hashes(0, 0, size).unwrap()), tile);
        }
        let head = TreeHead { origin: signer.vkey().name().to_owned(), size, root: frontier.root() };
        let note =
            SignedNote { text: head.to_string(), signatures: vec![signer.sign_checkpoint(&head).unwrap()] };
        assert_eq!(note.encode(), fs::read(folder.join(format!("checkpoint.{size}"))).unwrap());

        let mut tiles = TileSet::new();
        for path in tiles_for_size(size).filter(|path| path.to_string().starts_with("tile/0/")) {
            tiles.insert(path, &read(path)).unwrap();
        }
        assert_eq!(root_from_nodes(size, &tiles).unwrap(), head.root);
        for index in (0..size.get()).map(LeafIndex::new) {
            let proof = prove_inclusion(index, size, &tiles).unwrap();
            let leaf = tiles.node(NodeId { level: 0, index: index.get() }).unwrap();
            verify_inclusion(leaf, index, size, head.root, &proof).unwrap();
        }
    }
}
