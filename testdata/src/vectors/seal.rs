//! `key-config/`, `sealed-request/`, `sealed-answer/`: what goes over the wire between user and provider.

use std::sync::Arc;

use glassbloom_spec::{
    envelope::{self, ReceiptFacts},
    hash::Hash,
    receipt::Usage,
    seal::{
        Padding, RECEIPT_TRAILER, ResponseWriter,
        bhttp::{Fields, Request},
        open_request, seal_request,
    },
};

use super::Folder;
use crate::world::{Script, World, begin, facts};

pub(super) fn key_configs(world: &World) -> Folder {
    let mut folder = Folder::new("key-config", "seal.md", "bin");
    let good = world.keys.key_config().encode();
    let edit = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        bytes
    };
    folder.pass("key-config", "suite", "", good.clone());
    // Two suites: ours after AES-128.
    let two = [&good[..68], &[0, 8, 0, 1, 0, 1], &good[70..]].concat();
    folder.pass("two_suites", "suite", "", two);
    for (rule, bytes) in [
        ("another_kem", edit(2, 0x30)),
        ("off_the_curve", edit(67, 1)),
        ("compressed_point", [&good[..3], world.keys.provider.public_key().as_bytes(), &good[68..]].concat()),
        ("suite_not_offered", edit(73, 1)),
        ("no_suites", [&good[..68], &[0, 0]].concat()),
        ("suite_length", edit(69, 1)),
        ("cut", good[..good.len() - 1].to_vec()),
        ("trailing_byte", [&good[..], &[0]].concat()),
        ("empty", Vec::new()),
    ] {
        folder.fail(rule, "suite", "", bytes);
    }
    folder
}

pub(super) fn requests(world: &World) -> Folder {
    let mut folder = Folder::new("sealed-request", "envelope.md", "bin");
    for (at, exchange) in world.exchanges.iter().enumerate() {
        folder.pass(&format!("request_{at}"), "request", "", exchange.sealed_request.clone());
    }
    let good = &world.exchanges[0].sealed_request;
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let last = good.len() - 1;
    for (rule, bytes) in [
        ("another_key_number", flip(0)),
        ("another_aead", flip(6)),
        ("encapsulated_key_off_the_curve", flip(71)),
        ("ciphertext_changed", flip(100)),
        ("tag_changed", flip(last)),
        ("cut", good[..last].to_vec()),
        ("trailing_byte", [&good[..], &[0]].concat()),
        ("empty", Vec::new()),
    ] {
        folder.fail(rule, "request", "", bytes);
    }
    let attestation = world.provider().attestation_hash().to_string();
    let registry = format!("{} {}", world.registry.size(), world.registry.head(world.registry.size()).root);
    let ok = ["POST", envelope::INNER_PATH, &attestation, &registry, "1", "user"];
    folder.pass("put_together_by_hand", "request", "", inner(world, ok));
    for (rule, at, value) in [
        ("method_get", 0, "GET"),
        ("path_of_another_endpoint", 1, "/v1/embeddings"),
        ("attestation_of_another_provider", 2, &Hash::leaf(b"another").to_string()),
        ("attestation_upper_case", 2, &attestation.to_uppercase()),
        ("registry_without_root", 3, "7"),
        ("registry_size_with_zeros", 3, &format!("0{registry}")),
        ("attempt_0", 4, "0"),
        ("attempt_with_sign", 4, "+1"),
        ("sealed_by_nobody", 5, "nobody"),
    ] {
        let mut parts = ok;
        parts[at] = value;
        folder.fail(rule, "request", "", inner(world, parts));
    }
    folder
}

fn inner(world: &World, [method, path, attestation, registry, attempt, sealed_by]: [&str; 6]) -> Vec<u8> {
    let mut request = Request::post_json(path, Script::all()[0].body());
    request.method = method.to_owned();
    for (name, value) in [
        ("glassbloom-attestation", attestation),
        ("glassbloom-registry", registry),
        ("glassbloom-attempt", attempt),
        ("glassbloom-sealed-by", sealed_by),
    ] {
        request.headers = request.headers.with(name, value).expect("a plain field");
    }
    seal_request(&world.keys.key_config(), &request, Padding::To64, &[90; 32]).expect("a small request").0
}

/// `with` is the number of the exchange whose client reads.
pub(super) fn answers(world: &World) -> Folder {
    let mut folder = Folder::new("sealed-answer", "envelope.md", "bin");
    for (at, exchange) in world.exchanges.iter().enumerate() {
        folder.pass(&format!("answer_{at}"), "answer", &at.to_string(), exchange.sealed_answer.concat());
    }
    let pieces = &world.exchanges[0].sealed_answer;
    let joined = pieces.concat();
    let without = |skip: usize| {
        let kept = pieces.iter().enumerate().filter(|(at, _)| *at != skip);
        kept.flat_map(|(_, piece)| piece.clone()).collect::<Vec<u8>>()
    };
    let mut swapped = pieces.clone();
    swapped.swap(1, 2);
    let mut flipped = joined.clone();
    *flipped.last_mut().expect("not empty") ^= 1;
    for (rule, bytes) in [
        ("empty", Vec::new()),
        ("cut_before_the_last_chunk", pieces[..pieces.len() - 1].concat()),
        ("cut_in_the_last_chunk", joined[..joined.len() - 1].to_vec()),
        ("chunk_dropped", without(1)),
        ("chunks_swapped", swapped.concat()),
        ("nonce_changed", [&[joined[0] ^ 1], &joined[1..]].concat()),
        ("tag_changed", flipped),
        ("trailing_byte", [&joined[..], &[0]].concat()),
        ("of_another_exchange", world.exchanges[1].sealed_answer.concat()),
    ] {
        folder.fail(rule, "answer", "0", bytes);
    }
    for (rule, bytes) in dishonest(world) {
        folder.fail(rule, "what-the-client-checks", "0", bytes);
    }
    folder
}

/// Answers by a provider that has the keys and lies.
fn dishonest(world: &World) -> Vec<(&'static str, Vec<u8>)> {
    let provider = world.provider();
    let script = &Script::all()[0];
    let sealed = &world.exchanges[0].sealed_request;
    let facts = || facts(&provider, script, &script.body());
    let answer = |facts: &ReceiptFacts<'_>, usage: Usage, key: &_| {
        let (mut pieces, answer) = begin(&world.keys, &provider, script, sealed);
        let (receipt, _) = answer.receipt(facts, key).expect("software keys sign");
        pieces.push(answer.finish(&receipt, usage).expect("a receipt fits"));
        pieces.concat()
    };
    let provider_key = &world.keys.provider;
    let dearer = glassbloom_spec::leaf::Price { completion: 200_001, ..provider.price().clone() };
    let mut cases = vec![
        ("receipt_by_another_key", answer(&facts(), script.usage, &world.keys.stranger)),
        (
            "receipt_for_another_model",
            answer(&ReceiptFacts { model: Hash::leaf(b"smaller"), ..facts() }, script.usage, provider_key),
        ),
        (
            "receipt_under_another_policy",
            answer(&ReceiptFacts { policy: Hash::leaf(b"laxer"), ..facts() }, script.usage, provider_key),
        ),
        (
            "receipt_at_other_prices",
            answer(&ReceiptFacts { prices: Hash::leaf(b"dearer"), ..facts() }, script.usage, provider_key),
        ),
        (
            "charge_at_another_price",
            answer(&ReceiptFacts { price: &dearer, ..facts() }, script.usage, provider_key),
        ),
        ("usage_not_the_committed", answer(&facts(), Usage { completion: 4, ..script.usage }, provider_key)),
        (
            "sampling_not_the_asked",
            answer(&ReceiptFacts { sampling: b"greedy", ..facts() }, script.usage, provider_key),
        ),
    ];
    // A receipt for one chunk more than was sent.
    let (mut pieces, _) = begin(&world.keys, &provider, script, sealed);
    let (_, mut other) = begin(&world.keys, &provider, script, sealed);
    other.chunk(b"data: more\n\n").expect("a small chunk");
    let more = other.receipt(&facts(), provider_key).expect("software keys sign").0;
    let (_, honest) = begin(&world.keys, &provider, script, sealed);
    pieces.push(honest.finish(&more, script.usage).expect("a receipt fits"));
    cases.push(("receipt_for_more_chunks", pieces.concat()));
    // The receipt of another exchange with the same provider.
    let (mut pieces, honest) = begin(&world.keys, &provider, script, sealed);
    pieces.push(honest.finish(&world.exchanges[1].receipt, script.usage).expect("a receipt fits"));
    cases.push(("receipt_of_another_exchange", pieces.concat()));
    // No receipt after status 200.
    let (mut pieces, honest) = begin(&world.keys, &provider, script, sealed);
    pieces.push(honest.finish_refused().expect("nothing to fit"));
    cases.push(("receipt_missing", pieces.concat()));
    // A receipt without the token counts.
    let (_, context) = open_request(&world.keys.key_config(), Arc::clone(&world.keys.sealing) as _, sealed)
        .expect("sealed to this key");
    let (mut bytes, writer) =
        ResponseWriter::start(context, [1; 32], 200, &Fields::new(), Padding::To64).expect("a plain head");
    let trailers = Fields::new().with(RECEIPT_TRAILER, "bm90IGEgcmVjZWlwdA==").expect("a plain field");
    bytes.extend(writer.finish(&trailers).expect("a small trailer"));
    cases.push(("token_counts_missing", bytes));
    cases
}
