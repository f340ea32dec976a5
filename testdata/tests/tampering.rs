//! One flipped bit, anywhere: refused, or nothing that is claimed has changed.
//!
//! The bytes that carry no claim are named here: the signature line of one of a log's two keys, which a flip can turn
//! into a line by an unknown key; and the number of a bundle's field 129, which a flip can turn into an unknown field,
//! so that the answer is not disclosed.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::{
    ops::Range,
    sync::{Arc, LazyLock},
};

use glassbloom_spec::{
    bundle::ReceiptBundle,
    cbor::Value,
    curve::PublicKey,
    envelope,
    id::UnixMillis,
    proof::TlogProof,
    record::ProviderRecord,
    statement::Statement,
    verify::State,
    witness::{AddCheckpoint, SignSubtree},
};
use glassbloom_testdata::world::{NOW, World, read, resume};
use proptest::{prelude::*, sample::Index};

static WORLD: LazyLock<World> = LazyLock::new(World::new);

fn flip(bytes: &[u8], bit: Index) -> (Vec<u8>, usize) {
    let bit = bit.index(8 * bytes.len());
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    (bytes, bit / 8)
}

/// Where the signature lines of the log are in `bytes`, which contain the note.
fn log_lines(bytes: &[u8], note: &[u8]) -> Range<usize> {
    let find =
        |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).position(|window| window == part).unwrap();
    let start = find(bytes, note);
    let begin = find(note, b"\n\n") + 2;
    let end = begin + note[begin..].iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0;
    start + begin..start + end
}

fn statements() -> Vec<(Statement, PublicKey)> {
    let keys = &WORLD.keys;
    let by = [
        &keys.coordinator,
        &keys.coordinator,
        &keys.coordinator,
        &keys.coordinator,
        &keys.release,
        &keys.provider,
        &keys.coordinator,
    ];
    let mut statements: Vec<_> =
        by.iter().enumerate().map(|(at, key)| (WORLD.statement(at as u64), key.public_key())).collect();
    statements.push((WORLD.exchanges[0].receipt.clone(), keys.provider.public_key()));
    statements
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn of_a_statement(bit: Index, which: Index) {
        let all = statements();
        let (statement, key) = which.get(&all);
        let (bytes, at) = flip(statement.bytes(), bit);
        let outcome = Statement::parse(&bytes).and_then(|statement| statement.verify(key));
        prop_assert!(outcome.is_err(), "byte {at} of the {} statement", statement.kind());
    }

    #[test]
    fn of_a_record(bit: Index) {
        let record = WORLD.record();
        let good = record.to_value().encode();
        let (bytes, at) = flip(&good, bit);
        let verified = Value::decode(&bytes).ok().and_then(|value| WORLD.verify(&ProviderRecord::from_value(value).ok()?).ok());
        if let Some(verified) = verified {
            prop_assert!(log_lines(&good, &record.checkpoint).contains(&at), "byte {at}");
            let provider = WORLD.provider();
            prop_assert_eq!(verified.attestation_hash(), provider.attestation_hash());
            prop_assert_eq!(verified.registry(), provider.registry());
        }
    }

    #[test]
    fn of_a_bundle(bit: Index) {
        let bundle = WORLD.bundle();
        let good = bundle.to_bytes();
        let now = UnixMillis::new((NOW + 3600) * 1000);
        let sentence = bundle.verify(&WORLD.policy(), now).sentence.unwrap();
        let (bytes, at) = flip(&good, bit);
        let Ok(flipped) = ReceiptBundle::parse(&bytes) else { return Ok(()) };
        let outcome = flipped.verify(&WORLD.policy(), now);
        if let Some(other) = outcome.sentence {
            prop_assert_eq!(outcome.report.state(), State::Verified);
            prop_assert_eq!(sentence, other);
            let proof = TlogProof::parse(&bundle.proof).unwrap();
            let answer_key = good.len() - Value::Array(
                bundle.response.clone().unwrap().iter().map(|chunk| chunk.as_slice().into()).collect()
            ).encode().len() - 1;
            let claims_nothing = [log_lines(&good, &bundle.record.checkpoint), log_lines(&good, &proof.checkpoint), answer_key..answer_key + 1];
            prop_assert!(claims_nothing.iter().any(|range| range.contains(&at)), "byte {at}");
        }
    }

    #[test]
    fn of_a_sealed_request(bit: Index) {
        let (bytes, at) = flip(&WORLD.exchanges[0].sealed_request, bit);
        let attestation = WORLD.provider().attestation_hash();
        let opened = envelope::open(Arc::clone(&WORLD.keys.sealing) as _, &WORLD.keys.key_config(), attestation, &bytes);
        prop_assert!(opened.is_err(), "byte {at}");
    }

    #[test]
    fn of_a_sealed_answer(bit: Index, cut: Index) {
        let good = WORLD.exchanges[0].sealed_answer.concat();
        let (bytes, at) = flip(&good, bit);
        let provider = WORLD.provider();
        // In two pieces, as a network might.
        let (front, back) = bytes.split_at(cut.index(bytes.len()));
        prop_assert!(read(resume(&provider, 0), &provider, &[front.to_vec(), back.to_vec()]).is_err(), "byte {at}");
    }

    /// A request is not signed as a whole: a flip makes it another request or none, and each has one spelling.
    #[test]
    fn of_a_request_to_a_witness(bit: Index) {
        for (endpoint, file) in [("add", "add_checkpoint.body"), ("sign", "sign_subtree.body")] {
            let good = std::fs::read(glassbloom_testdata::vector("witness-request").join(file)).unwrap();
            let (bytes, at) = flip(&good, bit);
            let encoded = match endpoint {
                "add" => AddCheckpoint::parse(&bytes).map(|request| request.encode()),
                _ => SignSubtree::parse(&bytes).map(|request| request.encode()),
            };
            if let Ok(encoded) = encoded {
                prop_assert!(encoded == bytes, "byte {at} of {file}");
            }
        }
    }

    #[test]
    fn what_decodes_is_the_one_encoding(bit: Index) {
        let (bytes, at) = flip(&WORLD.bundle().to_bytes(), bit);
        if let Ok(value) = Value::decode(&bytes) {
            prop_assert!(value.encode() == bytes, "byte {at}");
        }
    }
}
