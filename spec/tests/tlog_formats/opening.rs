//! What a policy makes of checkpoints: who must have signed, and when.

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    merkle::{ProofError, prove_consistency, prove_inclusion},
    note::{NoteError, NoteSigner, SignatureLine},
    policy::{InconsistencyReason, OpenError},
    proof::{MAX_HASHES, ProofFormatError, TlogProof, TlogProofError},
};

use crate::support::{
    ORIGIN, checkpoint, cosigned, entry, head, log_key, log_pq_key, note, policy, tree, witness,
};

const TWO_OF_THREE: &str = "group g 2 w1 w2 w3\nquorum g\n";

#[test]
fn either_key_of_the_log_suffices() {
    let (policy, head) = (policy("quorum none\n"), head(3));
    for key in [log_key(), log_pq_key()] {
        let note = note(&head, [key.sign_checkpoint(&head).unwrap()]);
        let opened = policy.open(Some(ORIGIN), &note).unwrap();
        assert_eq!((opened.head(), opened.cosigned_at().get()), (&head, 0));
        assert_eq!((opened.note_bytes(), opened.digest()), (note.as_slice(), Hash::of(&note)));
    }
    // One valid and one invalid signature by the log: rejected, not half accepted.
    let mut lines = [log_key(), log_pq_key()].map(|key| key.sign_checkpoint(&head).unwrap());
    lines[0].signature[0] ^= 1;
    assert!(matches!(policy.open(None, &note(&head, lines)), Err(OpenError::BadSignature(_))));
}

#[test]
fn the_log_must_be_the_expected_one_and_have_signed() {
    let (policy, head) = (policy("quorum none\n"), head(3));
    let unsigned = note(&head, [cosigned(1, &head, 5)]);
    assert_eq!(policy.open(None, &unsigned), Err(OpenError::Unsigned { origin: ORIGIN.into() }));
    let good = checkpoint(3, &[]);
    let unknown = |origin: &str| Err(OpenError::UnknownLog { origin: origin.into() });
    assert_eq!(policy.open(Some("log.example/receipts"), &good), unknown(ORIGIN));
    let other = TreeHead { origin: "other.example".into(), ..head };
    let key = NoteSigner::ed25519_log("other.example", [70; 32]).unwrap();
    assert_eq!(
        policy.open(None, &note(&other, [key.sign_checkpoint(&other).unwrap()])),
        unknown("other.example")
    );
    // The known log's key under a head with another origin signs nothing for that origin.
    let crossed = note(&other, [log_key().sign_checkpoint(&other).unwrap()]);
    assert_eq!(policy.open(None, &crossed), unknown("other.example"));
    assert_eq!(policy.open(None, b"nonsense"), Err(OpenError::Malformed(NoteError::NoSignatures)));
}

#[test]
fn unknown_signers_are_ignored() {
    let (policy, head) = (policy("quorum w1\n"), head(3));
    let log = log_key().sign_checkpoint(&head).unwrap();
    let good = cosigned(1, &head, 5);
    // The name of one known key with the id of another is neither.
    let crossed = SignatureLine { name: good.name.clone(), ..log.clone() };
    let stranger = NoteSigner::ed25519_witness("stranger.example", [71; 32]).unwrap();
    let stranger = stranger.cosign(&head, UnixSeconds::new(9)).unwrap();
    let opened = policy.open(None, &note(&head, [crossed, stranger, log, good])).unwrap();
    assert_eq!(opened.cosignatures(), [("w1".to_owned(), UnixSeconds::new(5))]);
}

#[test]
fn the_quorum_must_hold() {
    let policy = policy(TWO_OF_THREE);
    for (cosigners, opens) in [
        (vec![], false),
        (vec![(1, 5)], false),
        (vec![(1, 5), (4, 5)], false),
        (vec![(1, 5), (1, 6)], false),
        (vec![(2, 5), (2, 5)], false),
        (vec![(1, 5), (2, 5)], true),
        (vec![(1, 5), (2, 5), (3, 5), (4, 5)], true),
    ] {
        let note = checkpoint(3, &cosigners);
        assert_eq!(policy.open(None, &note).is_ok(), opens, "{cosigners:?}");
        assert!(policy.open_uncosigned(None, &note).is_ok());
    }
    let missing = vec!["w2".to_owned(), "w3".to_owned()];
    let error = policy.open(None, &checkpoint(3, &[(1, 5)])).unwrap_err();
    assert_eq!(error, OpenError::Quorum { have: 1, need: 2, missing });
    assert_eq!(error.to_string(), "1 of 2 needed witnesses or groups cosigned; missing: w2, w3");
}

#[test]
fn the_quorum_stands_from_the_time_of_its_last_member() {
    let time = |rules: &str, cosigners: &[(u8, u64)]| {
        policy(rules).open(None, &checkpoint(3, cosigners)).unwrap().cosigned_at().get()
    };
    let all = [(1, 100), (2, 300), (3, 200), (4, 400)];
    assert_eq!(time("quorum w3\n", &all), 200);
    assert_eq!(time(TWO_OF_THREE, &all), 200);
    assert_eq!(time("group g any w1 w2 w3\nquorum g\n", &all), 300);
    assert_eq!(time("group g all w1 w2 w3\nquorum g\n", &all), 100);
    assert_eq!(time("group a 2 w1 w2 w3\ngroup b all a w4\nquorum b\n", &all), 200);
    assert_eq!(time("group a 2 w1 w2 w3\ngroup b any a w4\nquorum b\n", &all), 400);
    assert_eq!(time("quorum none\n", &all), 0);
    // A witness that signed twice counts with its newest time.
    assert_eq!(time("quorum w1\n", &[(1, 100), (1, 300), (1, 200)]), 300);
}

#[test]
fn a_cosignature_without_a_time_rejects_the_note() {
    let head = head(3);
    let timeless = witness(2).sign_checkpoint(&head).unwrap();
    let note = note(&head, [log_key().sign_checkpoint(&head).unwrap(), timeless]);
    assert!(matches!(policy("quorum none\n").open(None, &note), Err(OpenError::BadSignature(_))));
}

#[test]
fn the_logs_own_view_lists_all_lines() {
    let policy = policy(TWO_OF_THREE);
    let bytes = checkpoint(3, &[(1, 5)]);
    let signed = policy.open_uncosigned(Some(ORIGIN), &bytes).unwrap();
    assert_eq!((signed.head().size.get(), signed.signatures().len()), (3, 3));
    assert_eq!(signed.cosignatures(), [("w1".to_owned(), UnixSeconds::new(5))]);
    assert_eq!(signed.note_bytes(), bytes);
}

#[test]
fn entries_become_logged_only_with_a_proof() {
    let policy = policy("quorum none\n");
    let opened = policy.open(None, &checkpoint(9, &[])).unwrap();
    let proof = prove_inclusion(LeafIndex::new(4), TreeSize::new(9), &tree(9).1).unwrap();
    let logged = opened.includes(entry(4), LeafIndex::new(4), &proof).unwrap();
    assert_eq!((logged.leaf_hash(), logged.index().get()), (Hash::leaf(&entry(4)), 4));
    assert_eq!((logged.checkpoint(), logged.cosigned_at()), (opened.head(), opened.cosigned_at()));
    let text = logged.try_map(String::from_utf8).unwrap();
    assert_eq!(text.value(), "entry 4");
    assert!(text.clone().try_map(|text| text.parse::<u8>()).is_err());
    assert_eq!(text.into_value(), "entry 4");
    opened.includes(entry(5), LeafIndex::new(4), &proof).unwrap_err();
    opened.includes(entry(4), LeafIndex::new(5), &proof).unwrap_err();
}

#[test]
fn a_replay_proves_every_new_entry() {
    let opened = policy("quorum none\n").open(None, &checkpoint(9, &[])).unwrap();
    let older = tree(5).0;
    let logged = opened.replays(&older, (5..9).map(entry).collect()).unwrap();
    assert_eq!(logged.iter().map(|l| l.index().get()).collect::<Vec<_>>(), [5, 6, 7, 8]);
    let mismatch = ProofError::RootMismatch { size: TreeSize::new(9) };
    assert_eq!(opened.replays(&older, (4..8).map(entry).collect()), Err(mismatch));
    let short = ProofError::WrongLength { got: 3, want: 4 };
    assert_eq!(opened.replays(&older, (5..8).map(entry).collect()), Err(short));
    let reversed = ProofError::SizesReversed { old: TreeSize::new(10), new: TreeSize::new(9) };
    assert_eq!(opened.replays(&tree(10).0, vec![]), Err(reversed));
}

#[test]
fn a_head_that_does_not_extend_is_returned_as_evidence() {
    let opened = policy("quorum none\n").open(None, &checkpoint(9, &[])).unwrap();
    let nodes = tree(9).1;
    for old in 0..=9 {
        let proof = prove_consistency(TreeSize::new(old), TreeSize::new(9), &nodes).unwrap();
        opened.extends(&head(old), &proof).unwrap();
    }
    let forked = TreeHead { root: Hash::of(b"fork"), ..head(9) };
    let evidence = opened.extends(&forked, &[]).unwrap_err();
    assert!(evidence.is_fork());
    assert_eq!((&evidence.older, evidence.newer.as_slice()), (&forked, opened.note_bytes()));
    let proof = prove_consistency(TreeSize::new(5), TreeSize::new(9), &nodes).unwrap();
    let forked = TreeHead { root: Hash::of(b"fork"), ..head(5) };
    let evidence = opened.extends(&forked, &proof).unwrap_err();
    assert!(!evidence.is_fork(), "a wrong proof alone proves nothing");
    assert_eq!(evidence.proof, proof);
    opened.extends(&head(10), &[]).unwrap_err();
    let other = TreeHead { origin: "other.example".into(), ..head(9) };
    assert_eq!(opened.extends(&other, &[]).unwrap_err().reason, InconsistencyReason::OtherLog);
}

fn proof_of(index: u64, size: u64, extra: Option<Vec<u8>>) -> TlogProof {
    let (at, tree_size) = (LeafIndex::new(index), TreeSize::new(size));
    let hashes = prove_inclusion(at, tree_size, &tree(size).1).unwrap();
    TlogProof { extra, index: at, hashes, checkpoint: checkpoint(size, &[(1, 5)]) }
}

#[test]
fn proofs_round_trip_and_open() {
    for (index, size, extra) in
        [(0, 1, None), (4, 9, None), (8, 9, Some(vec![])), (3, 7, Some(b"context".to_vec()))]
    {
        let proof = proof_of(index, size, extra);
        let bytes = proof.encode();
        assert_eq!(TlogProof::parse(&bytes).as_ref(), Ok(&proof));
        assert_eq!(proof.to_string().into_bytes(), bytes);
        let policy = policy("quorum w1\n");
        assert_eq!(proof.open(&policy, &entry(index)).unwrap().value(), &entry(index));
        proof.open_from(&policy, ORIGIN, &entry(index)).unwrap();
        assert!(proof.open_from(&policy, "other.example", &entry(index)).is_err());
        assert!(matches!(proof.open(&policy, b"other"), Err(TlogProofError::Proof(_))));
    }
}

#[test]
fn malformed_proofs_are_refused() {
    let good = proof_of(4, 9, Some(b"context".to_vec())).to_string();
    let hash = Hash::EMPTY_TREE.to_base64();
    for (bad, why) in [
        (good.replacen("@v1", "@v2", 1), ProofFormatError::BadHeader),
        (format!("\n\n{good}"), ProofFormatError::BadHeader),
        (good.replacen("index 4\n", "", 1), ProofFormatError::BadIndex),
        (good.replacen("index 4", "index x", 1), ProofFormatError::BadIndex),
        (good.replacen("index 4", "index -1", 1), ProofFormatError::BadIndex),
        (good.replacen("index 4", "index 04", 1), ProofFormatError::BadIndex),
        (good.replacen("index 4", "index  4", 1), ProofFormatError::BadIndex),
        (good.replacen("extra ", "extra %", 1), ProofFormatError::BadExtra),
        (good.replacen("extra ", "extra", 1), ProofFormatError::BadIndex),
        (
            good.replacen("index 4\n", "index 4\nAAAAAAAAAAAAAAAAAAAAAA==\n", 1),
            ProofFormatError::BadHash { line: 4 },
        ),
        (good.replacen("index 4\n", "index 4\n%%%%\n", 1), ProofFormatError::BadHash { line: 4 }),
        (
            good.replacen("index 4\n", &format!("index 4\n{}", format!("{hash}\n").repeat(MAX_HASHES)), 1),
            ProofFormatError::BadHash { line: MAX_HASHES + 4 },
        ),
        (good.split("\n\n").next().unwrap().to_owned() + "\n\n", ProofFormatError::NoCheckpoint),
        (good.split("\n\n").next().unwrap().to_owned() + "\n", ProofFormatError::NoCheckpoint),
        (String::new(), ProofFormatError::NoCheckpoint),
        ("x".repeat(glassbloom_spec::proof::MAX_PROOF + 1), ProofFormatError::NotText),
    ] {
        let shown: String = bad.chars().take(120).collect();
        assert_eq!(TlogProof::parse(bad.as_bytes()), Err(why), "{shown}");
    }
}
