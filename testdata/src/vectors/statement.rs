//! `statement/`: the envelope of every leaf. `with` is the key that it is checked with.

use glassbloom_spec::{
    cbor::Value,
    curve::SigningKey,
    hash::Hash,
    id::TreeSize,
    leaf::{Payload, Revocation},
    statement::{Statement, key_id},
};

use super::Folder;
use crate::world::{World, index};

pub(super) fn folder(world: &World) -> Folder {
    let mut folder = Folder::new("statement", "statement.md", "cbor");
    let keys = &world.keys;
    for (name, at, key) in [
        ("coordinator", index::COORDINATOR, &keys.coordinator),
        ("policy", index::POLICY, &keys.coordinator),
        ("price-table", index::PRICES, &keys.coordinator),
        ("model", index::MODEL, &keys.coordinator),
        ("release", index::RELEASE, &keys.release),
        ("attestation", index::ATTESTATION, &keys.provider),
        ("verdict", index::VERDICT, &keys.coordinator),
    ] {
        folder.pass(
            name,
            "the-envelope",
            &key.public_key().to_string(),
            world.registry_entries()[at as usize].clone(),
        );
    }
    let by_provider = keys.provider.public_key().to_string();
    folder.pass("receipt", "the-envelope", &by_provider, world.exchanges[0].receipt.bytes().to_vec());
    let revocation = Revocation {
        key: key_id(&keys.provider.public_key()),
        from: TreeSize::new(3),
        reason: "key lost".to_owned(),
    };
    let revocation = revocation.sign(&keys.provider).expect("software keys sign");
    folder.pass("revocation", "the-envelope", &by_provider, revocation.bytes().to_vec());

    let with = keys.coordinator.public_key().to_string();
    for (rule, section, bytes) in broken(world) {
        folder.fail(rule, section, &with, bytes);
    }
    folder
}

/// The policy leaf, broken in one way each; signed over what it then says unless the signature is what is broken.
fn broken(world: &World) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let good = world.statement(index::POLICY);
    let key = &world.keys.coordinator;
    let kid = Value::from(key_id(&key.public_key()).0);
    let payload = good.payload().to_vec();
    let headers = |alg: Value, content_type: &str, kid: Value| {
        Value::Map(vec![(1.into(), alg), (3.into(), content_type.into()), (4.into(), kid)]).encode()
    };
    let header = || headers(ES256, POLICY, kid.clone());
    let signed = |protected: Vec<u8>| Raw::signed(protected, &payload, key).encode();
    let shape = |edit: fn(&mut Raw)| {
        let mut raw = Raw::signed(header(), &payload, key);
        edit(&mut raw);
        raw.encode()
    };
    let parts = || Raw::signed(header(), &payload, key).parts();
    let array = |parts: Vec<Value>| Value::Tag(18, Box::new(Value::Array(parts))).encode();

    let (envelope, header_, signature) = ("the-envelope", "the-protected-header", "the-signature");
    let mut cases = vec![
        ("wrong_tag", envelope, shape(|raw| raw.tag = Some(98))),
        ("no_tag", envelope, shape(|raw| raw.tag = None)),
        (
            "unprotected_header_not_empty",
            envelope,
            shape(|raw| raw.unprotected = Value::Map(vec![(4.into(), Value::Bytes(vec![1]))])),
        ),
        ("payload_detached", envelope, {
            let mut parts = parts();
            parts[2] = Value::Null;
            array(parts)
        }),
        ("five_elements", envelope, array(parts().into_iter().chain([Value::Null]).collect())),
        ("three_elements", envelope, array(parts().into_iter().take(3).collect())),
        ("not_an_array", envelope, Value::Tag(18, Box::new(Value::Map(Vec::new()))).encode()),
        ("trailing_byte", "encoding", [good.bytes(), &[0]].concat()),
        ("truncated", "encoding", good.bytes()[..good.bytes().len() - 1].to_vec()),
        ("empty", "encoding", Vec::new()),
        ("length_not_shortest", "encoding", not_shortest(good.bytes())),
        ("indefinite_length", "encoding", indefinite(good.bytes())),
        ("alg_es384", header_, signed(headers(Value::Negative(34), POLICY, kid.clone()))),
        (
            "alg_missing",
            header_,
            signed(Value::Map(vec![(3.into(), POLICY.into()), (4.into(), kid.clone())]).encode()),
        ),
        (
            "kid_missing",
            header_,
            signed(Value::Map(vec![(1.into(), ES256), (3.into(), POLICY.into())]).encode()),
        ),
        (
            "header_unknown",
            header_,
            signed({
                let fields = vec![
                    (1.into(), ES256),
                    (3.into(), POLICY.into()),
                    (4.into(), kid.clone()),
                    (15.into(), Value::Map(Vec::new())),
                ];
                Value::Map(fields).encode()
            }),
        ),
        (
            "header_crit",
            header_,
            signed({
                let crit = Value::Array(vec![4.into()]);
                Value::Map(vec![
                    (1.into(), ES256),
                    (2.into(), crit),
                    (3.into(), POLICY.into()),
                    (4.into(), kid.clone()),
                ])
                .encode()
            }),
        ),
        ("header_key_twice", header_, signed(twice(&header()))),
        ("header_keys_out_of_order", header_, signed(out_of_order(&kid))),
        (
            "content_type_unknown_kind",
            header_,
            signed(headers(ES256, "application/vnd.glassbloom.rumour+cbor;v=1", kid.clone())),
        ),
        (
            "content_type_other_version",
            header_,
            signed(headers(ES256, "application/vnd.glassbloom.policy+cbor;v=2", kid.clone())),
        ),
        (
            "content_type_number",
            header_,
            signed(
                Value::Map(vec![(1.into(), ES256), (3.into(), 60.into()), (4.into(), kid.clone())]).encode(),
            ),
        ),
        ("kid_short", header_, signed(headers(ES256, POLICY, Value::Bytes(vec![7; 31])))),
        (
            "kid_of_another_key",
            header_,
            signed(headers(ES256, POLICY, key_id(&world.keys.stranger.public_key()).0.into())),
        ),
        ("signature_63_bytes", signature, shape(|raw| raw.signature.truncate(63))),
        ("signature_zero", signature, shape(|raw| raw.signature = vec![0; 64])),
        ("signature_high_s", signature, shape(|raw| raw.signature = high_s(&raw.signature))),
        (
            "signature_by_another_key",
            signature,
            Raw::signed(header(), &payload, &world.keys.stranger).encode(),
        ),
        ("payload_changed", signature, {
            let mut raw = Raw::signed(header(), &payload, key);
            *raw.payload.last_mut().expect("not empty") ^= 1;
            raw.encode()
        }),
    ];
    // Signed as a policy, shown as a verdict: the content type is under the signature.
    let mut relabelled = Raw::signed(header(), &payload, key);
    relabelled.protected = headers(ES256, "application/vnd.glassbloom.verdict+cbor;v=1", kid.clone());
    cases.push(("content_type_swapped", signature, relabelled.encode()));
    // Signed without the context of COSE_Sign1.
    let mut bare = Raw::signed(header(), &payload, key);
    bare.signature = key.sign(&payload).to_vec();
    cases.push(("signature_over_the_payload_alone", signature, bare.encode()));
    cases
}

/// A COSE_Sign1 to take apart and put together wrongly.
pub(super) struct Raw {
    tag: Option<u64>,
    protected: Vec<u8>,
    unprotected: Value,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Raw {
    pub(super) fn signed(protected: Vec<u8>, payload: &[u8], key: &SigningKey) -> Self {
        let context: [Value; 4] =
            ["Signature1".into(), protected.as_slice().into(), Value::Bytes(Vec::new()), payload.into()];
        let signature = key.sign(&Value::Array(context.to_vec()).encode()).to_vec();
        Self {
            tag: Some(18),
            protected,
            unprotected: Value::Map(Vec::new()),
            payload: payload.to_vec(),
            signature,
        }
    }

    fn parts(&self) -> Vec<Value> {
        vec![
            self.protected.as_slice().into(),
            self.unprotected.clone(),
            self.payload.as_slice().into(),
            self.signature.as_slice().into(),
        ]
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let array = Value::Array(self.parts());
        match self.tag {
            Some(tag) => Value::Tag(tag, Box::new(array)).encode(),
            None => array.encode(),
        }
    }
}

/// A statement by `key` whose payload is any value.
pub(super) fn with_payload(of: &Statement, payload: &Value, key: &SigningKey) -> Statement {
    Statement::sign(of.kind(), payload, key).expect("software keys sign")
}

/// The other signature that ECDSA accepts: s becomes n - s.
fn high_s(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    let mut out = [0; 32];
    let mut borrow = 0i32;
    for at in (0..32).rev() {
        let difference = i32::from(ORDER[at]) - i32::from(s[at]) - borrow;
        borrow = i32::from(difference < 0);
        out[at] = (difference & 0xff) as u8;
    }
    [r, &out].concat()
}

/// The array's length in two bytes where half of one does.
fn not_shortest(good: &[u8]) -> Vec<u8> {
    [&good[..1], &[0x98, 4], &good[2..]].concat()
}

fn indefinite(good: &[u8]) -> Vec<u8> {
    [&good[..1], &[0x9f], &good[2..], &[0xff]].concat()
}

/// The first entry of an encoded map with three entries, again.
fn twice(header: &[u8]) -> Vec<u8> {
    [&[0xa4], &header[1..3], &header[1..]].concat()
}

fn out_of_order(kid: &Value) -> Vec<u8> {
    let entry = |key: u64, value: &Value| [Value::from(key).encode(), value.encode()].concat();
    [vec![0xa3], entry(3, &POLICY.into()), entry(1, &ES256), entry(4, kid)].concat()
}

/// A leaf hash of nothing in particular.
pub(super) fn no_leaf() -> Hash {
    Hash::leaf(b"no such leaf")
}

const ES256: Value = Value::Negative(6);
const POLICY: &str = "application/vnd.glassbloom.policy+cbor;v=1";
/// Of the group of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
