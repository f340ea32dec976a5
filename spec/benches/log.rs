//! What a log, a witness and a client compute: hashing, tiles, proofs and signatures.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot prepare its input must stop")]

use std::{collections::BTreeMap, hint::black_box};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    merkle::{
        Frontier, NodeId, prove_consistency, prove_inclusion, root_of, verify_consistency, verify_inclusion,
    },
    note::{NoteSigner, SignedNote},
    tile::{FULL_WIDTH, TilePath, TileSet, decode_bundle, encode_bundle},
};

const SIZE: u64 = 100_000;
const OLD: u64 = 70_000;
const INDEX: u64 = 12_345;

fn leaves(count: u64) -> impl Iterator<Item = Hash> {
    (0..count).map(|n| Hash::leaf(&n.to_be_bytes()))
}

fn hashing(criterion: &mut Criterion) {
    let (entry, left, right) = ([7; 1024], Hash::of(b"left"), Hash::of(b"right"));
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Elements(1));
    group.bench_function("leaf-1-kib", |bencher| bencher.iter(|| Hash::leaf(black_box(&entry))));
    group.bench_function("node", |bencher| bencher.iter(|| Hash::node(black_box(&left), black_box(&right))));
    group.finish();
}

fn tiles(criterion: &mut Criterion) {
    let path = TilePath::new(glassbloom_spec::tile::TileLevel::Hashes(0), 0, FULL_WIDTH).unwrap();
    let hashes: Vec<Hash> = leaves(u64::from(FULL_WIDTH)).collect();
    let bytes: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
    let entries = vec![[7_u8; 1024]; usize::from(FULL_WIDTH)];
    let bundle = encode_bundle(&entries).unwrap();
    let mut group = criterion.benchmark_group("tile");
    group.throughput(Throughput::Elements(u64::from(FULL_WIDTH)));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| TileSet::new().insert(path, black_box(&bytes)).unwrap());
    });
    group.bench_function("root", |bencher| bencher.iter(|| root_of(black_box(&hashes).iter().copied())));
    group.bench_function("bundle-build", |bencher| {
        bencher.iter(|| encode_bundle(black_box(&entries)).unwrap());
    });
    group.bench_function("bundle-parse", |bencher| {
        bencher.iter(|| decode_bundle(black_box(&bundle), FULL_WIDTH).unwrap().len());
    });
    group.finish();
}

fn proofs(criterion: &mut Criterion) {
    let (mut frontier, mut nodes) = (Frontier::new(), BTreeMap::<NodeId, Hash>::new());
    let mut old_root = Hash::EMPTY_TREE;
    for leaf in leaves(SIZE) {
        if frontier.size().get() == OLD {
            old_root = frontier.root();
        }
        frontier.append_with(leaf, |id, hash| {
            nodes.insert(id, hash);
        });
    }
    let (old, new, root) = (TreeSize::new(OLD), TreeSize::new(SIZE), frontier.root());
    let (index, leaf) = (LeafIndex::new(INDEX), Hash::leaf(&INDEX.to_be_bytes()));
    let inclusion = prove_inclusion(index, new, &nodes).unwrap();
    let consistency = prove_consistency(old, new, &nodes).unwrap();
    let mut group = criterion.benchmark_group("proof");
    group.bench_function("inclusion-build", |bencher| {
        bencher.iter(|| prove_inclusion(black_box(index), new, &nodes).unwrap());
    });
    group.bench_function("inclusion-verify", |bencher| {
        bencher.iter(|| verify_inclusion(leaf, index, new, root, black_box(&inclusion)).unwrap());
    });
    group.bench_function("consistency-build", |bencher| {
        bencher.iter(|| prove_consistency(black_box(old), new, &nodes).unwrap());
    });
    group.bench_function("consistency-verify", |bencher| {
        bencher.iter(|| verify_consistency(old, new, old_root, root, black_box(&consistency)).unwrap());
    });
    group.finish();
}

fn notes(criterion: &mut Criterion) {
    let head =
        TreeHead { origin: "log.example/bench".to_owned(), size: TreeSize::new(1), root: Hash::of(b"root") };
    let time = UnixSeconds::new(1_800_000_000);
    let mut group = criterion.benchmark_group("note");
    for (kind, signer) in [
        ("ed25519", NoteSigner::ed25519_witness("witness.example", [1; 32])),
        ("mldsa44", NoteSigner::mldsa44("witness.example", [2; 32])),
    ] {
        let signer = signer.unwrap();
        let line = signer.cosign(&head, time).unwrap();
        let note = SignedNote { text: head.to_string(), signatures: vec![line.clone()] }.encode();
        group.bench_function(format!("sign-{kind}"), |bencher| {
            bencher.iter(|| signer.cosign(black_box(&head), time).unwrap());
        });
        group.bench_function(format!("verify-{kind}"), |bencher| {
            bencher.iter(|| signer.vkey().verify(black_box(&head), &line).unwrap());
        });
        group.bench_function(format!("parse-{kind}"), |bencher| {
            bencher.iter(|| SignedNote::parse(black_box(&note)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, hashing, tiles, proofs, notes);
criterion_main!(benches);
