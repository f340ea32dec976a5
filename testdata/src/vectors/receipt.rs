//! `receipt/`: payloads of receipts, unsigned.

use glassbloom_spec::cbor::Value;

use super::{Folder, leaf::with};
use crate::world::World;

pub(super) fn folder(world: &World) -> Folder {
    let mut folder = Folder::new("receipt", "receipt.md", "cbor");
    let good = Value::decode(world.exchanges[0].receipt.payload()).expect("a payload of ours");
    for (at, exchange) in world.exchanges.iter().enumerate() {
        folder.pass(&format!("receipt_{at}"), "fields", "", exchange.receipt.payload().to_vec());
    }
    folder.pass(
        "with_optional_field",
        "fields",
        "",
        with(&good, 200, "since a later version".into()).encode(),
    );
    let identity = Value::Bytes(vec![0; 32]);
    folder.pass("commitment_to_nothing", "usage-and-charge", "", with(&good, 11, identity.clone()).encode());
    let array = Value::Array;
    for (rule, section, key, value) in [
        ("critical_field", "fields", 16, Value::Null),
        ("attestation_31_bytes", "fields", 1, Value::Bytes(vec![0; 31])),
        ("registry_size_alone", "fields", 5, array(vec![7.into()])),
        ("registry_swapped", "fields", 5, array(vec![Value::Bytes(vec![0; 32]), 7.into()])),
        ("chunks_negative", "fields", 8, Value::Negative(0)),
        ("finish_unknown", "fields", 9, "eos".into()),
        ("usage_of_one", "usage-and-charge", 10, array(vec![identity.clone()])),
        ("usage_in_the_clear", "usage-and-charge", 10, array(vec![12.into(), 3.into()])),
        ("usage_bad_point", "usage-and-charge", 10, array(vec![identity, Value::Bytes(vec![0xff; 32])])),
        ("charge_bad_point", "usage-and-charge", 11, Value::Bytes([&[1u8][..], &[0; 31]].concat())),
        ("attempt_0", "fields", 13, 0.into()),
        ("times_reversed", "fields", 14, array(vec![2.into(), 1.into()])),
        ("sealed_by_nobody", "fields", 15, "nobody".into()),
    ] {
        folder.fail(rule, section, "", with(&good, key, value).encode());
    }
    folder
}
