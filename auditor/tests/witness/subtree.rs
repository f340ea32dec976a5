//! `sign-subtree`: a cosignature on part of a tree that the witness cosigned. `[c2sp.org/tlog-witness]`

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    merkle::root_of,
    note::{NoteSigner, SignedNote, parse_signature_lines},
    subtree::{Subtree, prove_subtree},
    witness::SignSubtree,
};

use crate::support::*;

fn subtree(start: u64, end: u64) -> Subtree {
    Subtree::new(LeafIndex::new(start), TreeSize::new(end)).unwrap()
}

fn part(start: u64, end: u64) -> Hash {
    root_of((start..end).map(leaf))
}

fn ask(start: u64, end: u64, note: &[u8]) -> SignSubtree {
    let note = SignedNote::parse(note).unwrap();
    let head = TreeHead::parse(&note.text).unwrap();
    let subtree = subtree(start, end);
    let proof = prove_subtree(subtree, head.size, &nodes()).unwrap();
    SignSubtree { subtree, hash: part(start, end), proof, note, head }
}

#[tokio::test]
async fn a_part_of_a_cosigned_tree_is_signed_without_a_time() {
    let (data, vkeys) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.status(growth(0, 14)).await, 200);
    let reference = running.published(ORIGIN).await.unwrap().into_bytes();
    for (start, end) in [(8, 13), (0, 14), (0, 1), (12, 14), (13, 14), (0, 8)] {
        let response = running.send("sign-subtree", ask(start, end, &reference).encode()).await;
        assert_eq!(response.status(), 200, "{start} to {end}");
        let lines = parse_signature_lines(&response.text().await.unwrap()).unwrap();
        let [line] = lines.as_slice() else { panic!("one key signs subtrees") };
        let time = vkeys[1].verify_subtree(ORIGIN, subtree(start, end), part(start, end), line).unwrap();
        assert_eq!(time, UnixSeconds::new(0));
        vkeys[1].verify_subtree(ORIGIN, subtree(start, end), part(0, 3), line).unwrap_err();
        vkeys[1]
            .verify_subtree("log.example/other", subtree(start, end), part(start, end), line)
            .unwrap_err();
        vkeys[0].verify_subtree(ORIGIN, subtree(start, end), part(start, end), line).unwrap_err();
    }
    // An older checkpoint, and one with the Ed25519 line alone, are references as well.
    let mut older = SignedNote::parse(&reference).unwrap();
    assert_eq!(running.status(growth(14, 20)).await, 200);
    older.signatures.truncate(2);
    let response = running.send("sign-subtree", ask(8, 12, &older.encode()).encode()).await;
    assert_eq!(response.status(), 200);
    running.stop().await;
}

#[tokio::test]
async fn every_refusal() {
    let (data, _) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.status(growth(0, 14)).await, 200);
    let reference = running.published(ORIGIN).await.unwrap().into_bytes();
    let status = async |body: Vec<u8>| {
        let response = running.send("sign-subtree", body).await;
        let status = response.status().as_u16();
        assert!(!response.text().await.unwrap().contains("\u{2014} "), "a signature came with an error");
        status
    };
    let good = ask(8, 13, &reference);
    let text = String::from_utf8(good.encode()).unwrap();
    for range in ["8 15", "9 13", "13 8", "8 8", "08 13", "8 013", "8  13", "8", "8 13 14", "4 10"] {
        assert_eq!(status(text.replacen("8 13", range, 1).into_bytes()).await, 400, "{range}");
    }
    let hash = good.hash.to_base64();
    assert_eq!(
        status(text.replacen(&format!("{hash}\n"), "", 1).into_bytes()).await,
        422,
        "a proof line too few"
    );
    assert_eq!(status(text.replacen(&hash, "AAAA", 1).into_bytes()).await, 400);
    assert_eq!(status(Vec::new()).await, 400);
    let many = SignSubtree { proof: vec![root(1); 64], ..good.clone() };
    assert_eq!(status(many.encode()).await, 400);

    let mut unknown = good.clone();
    unknown.head.origin = "other.example/log".to_owned();
    unknown.note.text = unknown.head.to_string();
    assert_eq!(status(unknown.encode()).await, 404);

    // 403: the log's line alone, another witness's, a line of ours over another tree.
    let lines = &good.note.signatures;
    let other = NoteSigner::mldsa44("witness.example/w2", [4; 32]).unwrap();
    let other = other.cosign(&good.head, UnixSeconds::new(NOW)).unwrap();
    for signatures in [vec![lines[0].clone()], vec![lines[0].clone(), other]] {
        let note = SignedNote { signatures, ..good.note.clone() };
        assert_eq!(status(SignSubtree { note, ..good.clone() }.encode()).await, 403);
    }
    let mut moved = good.clone();
    moved.head.root = root(13);
    moved.note.text = moved.head.to_string();
    assert_eq!(status(moved.encode()).await, 403);

    // 422: another hash, another proof.
    assert_eq!(status(SignSubtree { hash: part(0, 5), ..good.clone() }.encode()).await, 422);
    let mut proof = good.proof.clone();
    proof.swap(0, 1);
    assert_eq!(status(SignSubtree { proof, ..good.clone() }.encode()).await, 422);
    running.stop().await;
}
