//! Signed notes and keys: canonical forms, and each rule of the format broken once.

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    note::{
        Algorithm, KeyError, MAX_NOTE, MAX_SIGNATURES, NoteError, NoteSigner, SignError, SignatureLine,
        SignedNote, VerifierKey, parse_signature_lines,
    },
};
use proptest::prelude::*;

use crate::support::{ORIGIN, checkpoint, head, log_key, log_pq_key, witness};

/// From the documentation of Go's note package.
const GO_SECRET: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const GO_PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
/// From the example of c2sp.org/signed-note.
const SPEC_PUBLIC: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

#[test]
fn keys_of_other_implementations() {
    let signer: NoteSigner = GO_SECRET.parse().unwrap();
    assert_eq!(signer.vkey().to_string(), GO_PUBLIC);
    assert_eq!(signer.to_private_string().as_str(), GO_SECRET);
    for text in [GO_PUBLIC, SPEC_PUBLIC] {
        let key: VerifierKey = text.parse().unwrap();
        assert_eq!((key.algorithm(), key.to_string().as_str()), (Algorithm::Ed25519, text));
    }
}

#[test]
fn every_cut_or_changed_key_is_refused() {
    let witness_key = witness(1).vkey().to_string();
    for good in [GO_PUBLIC, SPEC_PUBLIC, &witness_key] {
        for begin in 0..=good.len() {
            for end in begin..=good.len() {
                let cut = &good[begin..end];
                assert_eq!(cut.parse::<VerifierKey>().is_ok(), cut == good, "{cut}");
            }
        }
        for at in 0..good.len() {
            let mut changed = good.as_bytes().to_vec();
            changed[at] += 1;
            assert!(
                String::from_utf8(changed).unwrap().parse::<VerifierKey>().is_err(),
                "byte {at} of {good}"
            );
        }
    }
}

#[test]
fn keys_round_trip_as_text() {
    for signer in [log_key(), log_pq_key(), witness(1)] {
        let secret = signer.to_private_string();
        let again: NoteSigner = secret.parse().unwrap();
        assert_eq!(again.vkey(), signer.vkey());
        assert_eq!(signer.vkey().to_string().parse::<VerifierKey>().as_ref(), Ok(signer.vkey()));
        assert!(secret[..secret.len() - 4].parse::<NoteSigner>().is_err());
        assert!(secret.replacen("PRIVATE", "private", 1).parse::<NoteSigner>().is_err());
    }
}

#[test]
fn unusable_keys_say_why() {
    for name in ["", "a b", "a+b", "a\u{a0}b", "a\u{3000}b", "a\nb", "a\tb"] {
        let error = NoteSigner::ed25519_log(name, [1; 32]).err();
        assert_eq!(error, Some(KeyError::BadName(name.to_owned())));
    }
    let ecdsa = "rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49";
    assert_eq!(ecdsa.parse::<VerifierKey>(), Err(KeyError::UnknownAlgorithm(2)));
    // The neutral element: with it as a key, one signature fits every message.
    let mut weak = [0; 32];
    weak[0] = 1;
    assert_eq!(VerifierKey::new("weak", Algorithm::Ed25519, &weak), Err(KeyError::BadKey));
    assert_eq!(VerifierKey::new("short", Algorithm::MlDsa44, &[0; 1311]), Err(KeyError::BadKey));
}

#[test]
fn keys_sign_only_in_their_role() {
    let (head, time) = (head(3), UnixSeconds::new(1));
    assert_eq!(witness(1).sign_checkpoint(&head), Err(SignError::WrongKey));
    assert_eq!(log_key().cosign(&head, time), Err(SignError::WrongKey));
    assert_eq!(witness(1).cosign(&head, UnixSeconds::new(0)), Err(SignError::BadTime));
    assert_eq!(witness(2).cosign(&head, UnixSeconds::new(1 << 63)), Err(SignError::BadTime));
    let two_lines = TreeHead { origin: format!("{ORIGIN}\n5"), ..head };
    assert_eq!(log_key().sign_checkpoint(&two_lines), Err(SignError::BadHead));
    let long = TreeHead { origin: "o".repeat(256), ..head };
    assert_eq!(log_pq_key().sign_checkpoint(&long), Err(SignError::BadHead));
    let lying = TreeHead { origin: ORIGIN.to_owned(), size: TreeSize::new(0), root: Hash::of(b"") };
    log_key().sign_checkpoint(&lying).unwrap();
    let lying = TreeHead { root: Hash::of(b"x"), ..lying };
    assert_eq!(log_key().sign_checkpoint(&lying), Err(SignError::BadHead));
}

#[test]
fn signatures_do_not_cross_names_times_or_sizes() {
    let head = head(3);
    for number in [1, 2] {
        let signer = witness(number);
        let line = signer.cosign(&head, UnixSeconds::new(7)).unwrap();
        assert_eq!(signer.vkey().verify(&head, &line), Ok(UnixSeconds::new(7)));
        let mut later = line.clone();
        later.signature[7] += 1;
        signer.vkey().verify(&head, &later).unwrap_err();
        let other = TreeHead { origin: "other.example".to_owned(), ..head.clone() };
        signer.vkey().verify(&other, &line).unwrap_err();
        witness(3).vkey().verify(&head, &line).unwrap_err();
    }
    // ML-DSA covers the name of the witness: the same key under another name is another key.
    let renamed = NoteSigner::mldsa44("evil.example", [12; 32]).unwrap();
    let mut line = witness(2).cosign(&head, UnixSeconds::new(7)).unwrap();
    (line.name, line.key_id) = (renamed.vkey().name().to_owned(), renamed.vkey().key_id());
    renamed.vkey().verify(&head, &line).unwrap_err();
}

#[test]
fn malformed_notes_are_refused() {
    let good = String::from_utf8(checkpoint(3, &[(1, 5)])).unwrap();
    let parse = |text: &str| SignedNote::parse(text.as_bytes());
    assert_eq!(parse(&good).unwrap().encode(), good.as_bytes());
    for (bad, why) in [
        (good.replace("\n\n", "\n"), NoteError::NoSignatures),
        (good.trim_end().to_owned(), NoteError::NoSignatures),
        (format!("{good}\n"), NoteError::NoSignatures),
        (good.replace("\n\n", "\r\n\r\n"), NoteError::BadText),
        (good.replace("\u{2014} ", "- "), NoteError::SignatureLine { line: 1 }),
        (good.replace("\u{2014} ", "\u{2014}  "), NoteError::SignatureLine { line: 1 }),
        (good.replace("=\n", "\n"), NoteError::SignatureLine { line: 2 }),
        (format!("{good}\u{2014} a+b AAAAAAA=\n"), NoteError::SignatureLine { line: 4 }),
        (format!("{good}\u{2014} short AAAAAA==\n"), NoteError::SignatureLine { line: 4 }),
        (format!("{good}\u{2014} trailing-bits AAAAAAB=\n"), NoteError::SignatureLine { line: 4 }),
        (format!("{good}\u{2014} two words AAAAAAA=\n"), NoteError::SignatureLine { line: 4 }),
        (format!("{}{}", "\n".repeat(MAX_NOTE), good), NoteError::TooLong),
        (good + &"\u{2014} x AAAAAAA=\n".repeat(MAX_SIGNATURES), NoteError::TooManySignatures),
    ] {
        let shown = bad.chars().take(300).collect::<String>();
        match (parse(&bad), why) {
            // Which of the lines is blamed depends on the lengths of the signatures before it.
            (Err(NoteError::SignatureLine { .. }), NoteError::SignatureLine { .. }) => {}
            (got, why) => assert_eq!(got, Err(why), "{shown}"),
        }
    }
    assert_eq!(SignedNote::parse(b"a\n\n\xff\n"), Err(NoteError::BadText));
}

#[test]
fn the_last_blank_line_separates() {
    let line = "\u{2014} name AAAAAAA=\n";
    let note = SignedNote::parse(format!("one\n\ntwo\n\n{line}").as_bytes()).unwrap();
    assert_eq!(note.text, "one\n\ntwo\n");
    assert_eq!(note.signatures, parse_signature_lines(line).unwrap());
    assert_eq!(note.signatures[0], SignatureLine { name: "name".into(), key_id: [0; 4], signature: vec![0] });
    for bad in ["", "\n", "\u{2014} name AAAAAAA=", "\u{2014} name AAAAAAA=\n\n"] {
        assert!(parse_signature_lines(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn sixteen_signatures_are_accepted() {
    let note = format!("text\n\n{}", "\u{2014} name AAAAAAA=\n".repeat(16));
    assert_eq!(SignedNote::parse(note.as_bytes()).unwrap().signatures.len(), 16);
}

#[test]
fn malformed_heads_are_refused() {
    let root = Hash::EMPTY_TREE.to_base64();
    assert_eq!(TreeHead::parse(&format!("o\n0\n{root}\n")).unwrap().to_string(), format!("o\n0\n{root}\n"));
    for bad in [
        format!("\n0\n{root}\n"),
        format!("o\n00\n{root}\n"),
        format!("o\n+1\n{root}\n"),
        format!("o\n-1\n{root}\n"),
        format!("o\n 1\n{root}\n"),
        format!("o\n18446744073709551616\n{root}\n"),
        format!("o\n1\n{root}"),
        format!("o\n1\n{root}\nextension\n"),
        format!("o\n1\n{root}\n\n"),
        format!("o\r\n1\n{root}\n"),
        format!("o\n1\n{}\n", root.trim_end_matches('=')),
        "o\n1\nAAAA\n".to_owned(),
        "o\n1\n".to_owned(),
        String::new(),
    ] {
        assert_eq!(TreeHead::parse(&bad), Err(NoteError::NotACheckpoint), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsers_never_panic_and_accept_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[a\n\u{2014} =+A0/]{0,60}") {
        if let Ok(note) = SignedNote::parse(&bytes) {
            prop_assert_eq!(note.encode(), bytes);
        }
        if let Ok(note) = SignedNote::parse(text.as_bytes()) {
            prop_assert_eq!(note.encode(), text.as_bytes());
        }
        if let Ok(head) = TreeHead::parse(&text) {
            prop_assert_eq!(head.to_string(), text.clone());
        }
        if let Ok(key) = text.parse::<VerifierKey>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }
}
