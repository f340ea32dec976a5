//! CBOR, statements, what they say, and the files that hold them.

use std::collections::HashSet;
use std::sync::LazyLock;

use glassbloom_spec::{
    bundle::{MAX_BUNDLE, ReceiptBundle},
    cbor::{FIRST_OPTIONAL, Value, is_plain},
    curve::PublicKey,
    evidence::endorsement::Endorsement,
    hash::Hash,
    id::UnixMillis,
    leaf::{
        Attestation, ChallengeBatch, Coordinator, Model, OperatorAction, Payload, PolicyLeaf, PriceTable,
        Release, Revocation, Verdict,
    },
    receipt::{Receipt, segments},
    record::ProviderRecord,
    statement::{MAX_STATEMENT, Statement},
    verify::Report,
};
use glassbloom_testdata::world::{MODEL, NOW};

use crate::{WORLD, accepted};

/// A value has one encoding.
pub fn cbor(data: &[u8]) -> bool {
    let Ok(value) = Value::decode(data) else { return false };
    assert_eq!(value.encode(), data);
    true
}

/// Statements of the vectors and the world that the fixed keys did sign, by hash.
static SIGNED: LazyLock<HashSet<Hash>> = LazyLock::new(|| {
    let entries =
        WORLD.registry_entries().iter().chain(WORLD.receipts_entries()).map(|entry| Hash::of(entry));
    entries.chain(accepted("statement").map(|bytes| Hash::of(&bytes))).collect()
});

/// A statement has one spelling, and none verifies but those that were signed, to the byte.
pub fn statement(data: &[u8]) -> bool {
    let Ok(statement) = Statement::parse(data) else { return false };
    assert!(data.len() <= MAX_STATEMENT);
    assert_eq!(statement.bytes(), data);
    let keys = &WORLD.keys;
    for key in [&keys.coordinator, &keys.release, &keys.provider, &keys.stranger] {
        if statement.verify(&key.public_key()).is_ok() {
            assert!(SIGNED.contains(&Hash::of(data)), "a forged {}", statement.kind());
        }
    }
    true
}

/// Every kind of payload: what is read is what is written, and without fields of the future to the byte.
pub fn leaf(data: &[u8]) -> bool {
    let mut accepted = payload::<Attestation>(data);
    accepted |= payload::<Coordinator>(data);
    accepted |= payload::<Model>(data);
    accepted |= payload::<PolicyLeaf>(data);
    accepted |= payload::<PriceTable>(data);
    accepted |= payload::<Release>(data);
    accepted |= payload::<Revocation>(data);
    accepted |= payload::<Verdict>(data);
    accepted |= payload::<ChallengeBatch>(data);
    accepted |= payload::<Endorsement>(data);
    accepted |= payload::<OperatorAction>(data);
    if let Some(key) = core::str::from_utf8(data).ok().and_then(|text| text.parse::<PublicKey>().ok()) {
        assert_eq!(key.to_string().as_bytes(), data);
        accepted = true;
    }
    accepted
}

/// Receipts, and the cutting of a request into the segments that a receipt commits to.
pub fn receipt(data: &[u8]) -> bool {
    let mut end = 0;
    for segment in segments(data) {
        assert_eq!(segment.start, end, "segments join to the body");
        end = segment.end;
    }
    assert_eq!(end, data.len());
    payload::<Receipt>(data)
}

fn payload<P: Payload + PartialEq + std::fmt::Debug>(data: &[u8]) -> bool {
    let Ok(decoded) = P::decode(data) else { return false };
    let encoded = decoded.to_value().encode();
    assert_eq!(P::decode(&encoded).unwrap(), decoded);
    if !has_optional(&Value::decode(data).unwrap()) {
        assert_eq!(encoded, data);
    }
    true
}

/// Whether a payload has fields that a reader of this version may skip.
fn has_optional(value: &Value) -> bool {
    let Value::Map(fields) = value else { return false };
    fields.iter().any(|(key, _)| matches!(key, Value::Unsigned(FIRST_OPTIONAL..)))
}

/// A record that satisfies the policy says only what the registry has.
pub fn record(data: &[u8]) -> bool {
    let Ok(value) = Value::decode(data) else { return false };
    let Ok(record) = ProviderRecord::from_value(value.clone()) else { return false };
    if !has_optional(&value) {
        assert_eq!(record.to_value().encode(), data);
    }
    let json = serde_json::to_vec(&record).unwrap();
    assert_eq!(serde_json::from_slice::<ProviderRecord>(&json).unwrap(), record);
    let mut report = Report::new();
    if WORLD.policy().verify(&record, MODEL, &WORLD.known(), &mut report).is_ok() {
        let ProviderRecord { attestation, verdict, policy, prices, model, release, .. } = record;
        for leaf in [attestation, verdict, policy, prices, model, release] {
            assert_eq!(WORLD.registry_entries().get(leaf.index.get() as usize), Some(&leaf.leaf));
        }
    }
    true
}

/// A bundle that verifies is of an exchange that was, with the text that it had.
pub fn bundle(data: &[u8]) -> bool {
    let Ok(bundle) = ReceiptBundle::parse(data) else { return false };
    assert!(data.len() <= MAX_BUNDLE);
    let bytes = bundle.to_bytes();
    assert_eq!(ReceiptBundle::parse(&bytes).unwrap().to_bytes(), bytes);
    let outcome = bundle.verify(&WORLD.policy(), UnixMillis::new((NOW + 3600) * 1000));
    if let Some(sentence) = outcome.sentence {
        assert!(is_plain(&sentence), "{sentence}");
        let exchange = WORLD.exchanges.iter().find(|exchange| exchange.receipt.bytes() == bundle.receipt);
        let exchange = exchange.expect("a receipt of no exchange");
        assert!(bundle.request.is_none_or(|request| request == exchange.body));
        assert!(bundle.response.is_none_or(|chunks| chunks == exchange.chunks));
    }
    true
}
