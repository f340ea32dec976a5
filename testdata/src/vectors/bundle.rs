//! `bundle/`: receipt bundles, judged an hour later.

use glassbloom_spec::{
    bundle::ReceiptBundle,
    cbor::Value,
    hash::Hash,
    id::{LeafIndex, UnixMinutes},
    leaf::Payload,
    pedersen::Commitment,
    proof::TlogProof,
    receipt::{Receipt, ReceiptSecret, Usage},
    statement::Statement,
};

use super::{Folder, leaf::with, record::uncosigned};
use crate::world::{NOW, RECEIPTS, REGISTRY, World, index};

pub(super) fn folder(world: &World) -> Folder {
    let mut folder = Folder::new("bundle", "bundle.md", "cbor");
    let good = world.bundle();
    for at in 0..world.exchanges.len() {
        folder.pass(&format!("bundle_{at}"), "steps", "", world.bundle_of(at).to_bytes().to_vec());
    }
    let edit = |edit: &dyn Fn(&mut ReceiptBundle)| {
        let mut bundle = good.clone();
        edit(&mut bundle);
        bundle.to_bytes().to_vec()
    };
    folder.pass("without_text", "steps", "", edit(&|it| (it.request, it.response) = (None, None)));
    folder.pass("without_the_answer", "steps", "", edit(&|it| it.response = None));
    let value = Value::decode(&good.to_bytes()).expect("a bundle of ours");
    folder.pass("with_optional_field", "fields", "", with(&value, 200, Value::Null).encode());
    for (rule, section, bytes) in [
        ("critical_field", "fields", with(&value, 7, Value::Null).encode()),
        (
            "magic_of_another_version",
            "fields",
            with(&value, 1, "glassbloom receipt bundle v2".into()).encode(),
        ),
        ("secret_31_bytes", "fields", with(&value, 5, Value::Bytes(vec![0; 31])).encode()),
        ("trailing_byte", "fields", [&good.to_bytes()[..], &[0]].concat()),
        ("cut", "fields", good.to_bytes()[..1000].to_vec()),
        ("empty", "fields", Vec::new()),
        ("model_leaf_unreadable", "steps", edit(&|it| it.record.model.leaf = b"bloom-tiny".to_vec())),
        (
            "receipt_of_another_exchange",
            "steps",
            edit(&|it| it.receipt = world.exchanges[1].receipt.bytes().to_vec()),
        ),
        ("proof_of_another_receipt", "steps", edit(&|it| it.proof = world.receipt_proof(1))),
        (
            "proof_by_the_registry",
            "steps",
            edit(&|it| {
                it.receipt = world.registry_entries()[index::VERDICT as usize].clone();
                it.proof = registry_proof(world);
            }),
        ),
        (
            "proof_without_a_witness",
            "steps",
            edit(&|it| {
                let mut proof = TlogProof::parse(&it.proof).expect("a proof of ours");
                proof.checkpoint = uncosigned(&proof.checkpoint);
                it.proof = proof.encode();
            }),
        ),
        (
            "registry_stale_when_it_was_logged",
            "steps",
            edit(&|it| {
                let mut proof = TlogProof::parse(&it.proof).expect("a proof of ours");
                proof.checkpoint = world.checkpoint(RECEIPTS, 3, NOW + 2 * 3600);
                it.proof = proof.encode();
            }),
        ),
        (
            "record_of_an_older_registry",
            "steps",
            edit(&|it| {
                let size = world.registry.size();
                it.record.checkpoint = world.checkpoint(REGISTRY, size, NOW - 3600);
            }),
        ),
        (
            "tokens_not_the_committed",
            "usage-and-charge",
            edit(&|it| it.usage = Usage { prompt: 12, completion: 4 }),
        ),
        (
            "secret_of_another_exchange",
            "usage-and-charge",
            edit(&|it| it.secret = ReceiptSecret::new(world.bundle_of(1).secret.to_bytes())),
        ),
        ("request_changed", "text", edit(&|it| it.request = Some(world.exchanges[1].body.clone()))),
        ("chunk_changed", "text", edit(&|it| chunks(it)[0][9] ^= 1)),
        ("chunk_dropped", "text", edit(&|it| drop(chunks(it).pop()))),
        ("chunks_swapped", "text", edit(&|it| chunks(it).swap(0, 1))),
        ("chunks_joined", "text", edit(&|it| *chunks(it) = vec![chunks(it).concat()])),
    ] {
        folder.fail(rule, section, "", bytes);
    }
    for (rule, section, bytes) in logged(&good) {
        folder.fail(rule, section, "", bytes);
    }
    folder
}

/// Receipts that the log took, and that do not hold.
fn logged(good: &ReceiptBundle) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let receipt =
        Receipt::of(&Statement::parse(&good.receipt).expect("a receipt of ours")).expect("a receipt of ours");
    let signed = |receipt: &Receipt, world: &mut World, key: fn(&World) -> &_| {
        let statement = receipt.sign(key(world)).expect("software keys sign");
        world.receipts.append(statement.bytes());
        let at = world.receipts.size() - 1;
        let bundle = ReceiptBundle {
            receipt: statement.bytes().to_vec(),
            proof: world.receipt_proof(at),
            ..good.clone()
        };
        bundle.to_bytes().to_vec()
    };
    let mut world = World::new();
    let mut by = |edit: fn(&mut Receipt)| {
        let mut changed = receipt.clone();
        edit(&mut changed);
        signed(&changed, &mut world, |world| &world.keys.provider)
    };
    vec![
        ("receipt_for_another_attestation", "steps", by(|it| it.attestation = Hash::leaf(b"another"))),
        ("receipt_for_another_model", "steps", by(|it| it.model = Hash::leaf(b"another"))),
        ("receipt_at_other_prices", "steps", by(|it| it.prices = Hash::leaf(b"another"))),
        ("receipt_for_another_registry", "steps", by(|it| it.registry.1 = Hash::of(b"another"))),
        (
            "charge_not_the_price",
            "usage-and-charge",
            by(|it| it.charge = Commitment::linear(&[(2, it.charge)])),
        ),
        ("times_before_the_registry", "times", by(|it| it.times = [UnixMinutes::new(0), it.times[1]])),
        ("times_after_the_witnesses", "times", by(|it| it.times[1] = UnixMinutes::new(NOW / 60 + 60))),
        ("chunks_miscounted", "text", by(|it| it.chunks += 1)),
        (
            "receipt_by_another_key",
            "steps",
            signed(&receipt, &mut World::new(), |world| &world.keys.stranger),
        ),
    ]
}

fn chunks(bundle: &mut ReceiptBundle) -> &mut Vec<Vec<u8>> {
    bundle.response.as_mut().expect("the good bundle has its text")
}

fn registry_proof(world: &World) -> Vec<u8> {
    let size = world.registry.size();
    let proof = TlogProof {
        extra: None,
        index: LeafIndex::new(index::VERDICT),
        hashes: world.registry.inclusion(index::VERDICT, size),
        checkpoint: world.checkpoint(REGISTRY, size, NOW + 180),
    };
    proof.encode()
}
