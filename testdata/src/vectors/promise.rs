//! `promise/`: what a log signs when it has an entry and cannot prove it yet. The promises are of the receipts log and
//! about its first receipt.

use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, UnixSeconds},
    note::SignedNote,
    promise::{MAX_PROMISE, Promise},
};

use super::Folder;
use crate::world::{NOW, RECEIPTS, REGISTRY, World};

pub(super) fn folder(world: &World) -> Folder {
    let mut folder = Folder::new("promise", "promise.md", "promise");
    let [ed25519, mldsa44] = world.keys.log(RECEIPTS);
    let promise = Promise {
        origin: RECEIPTS.to_owned(),
        index: LeafIndex::new(0),
        leaf: Hash::leaf(world.exchanges[0].receipt.bytes()),
        deadline: UnixSeconds::new(NOW + 3600),
    };
    let good = promise.sign(ed25519).expect("a promise of ours");
    let edit = |edit: &dyn Fn(&mut SignedNote)| {
        let mut note = good.clone();
        edit(&mut note);
        note.encode()
    };
    let text = |from: &str, to: &str| edit(&|note| note.text = note.text.replacen(from, to, 1));
    let deadline = format!("\n{}\n", promise.deadline);
    let section = "opening-a-promise";
    folder.pass("promise", section, "", good.encode());
    folder.pass(
        "line_by_an_unknown_key",
        section,
        "",
        edit(&|note| {
            let mut line = note.signatures[0].clone();
            line.name = "somebody.example".to_owned();
            note.signatures.push(line);
        }),
    );
    let other = Promise { origin: REGISTRY.to_owned(), ..promise };
    let other = other.sign(&world.keys.log(REGISTRY)[0]).expect("a promise of ours").encode();
    let about_another = Promise { leaf: Hash::leaf(b"another entry"), ..promise.clone() };
    let about_another = about_another.sign(ed25519).expect("a promise of ours").encode();
    let by_mldsa = edit(&|note| {
        let mut line = note.signatures[0].clone();
        line.key_id = mldsa44.vkey().key_id();
        note.signatures.push(line);
    });
    for (rule, bytes) in [
        ("signature_flipped", edit(&|note| note.signatures[0].signature[0] ^= 1)),
        ("index_changed", text("\n0\n", "\n1\n")),
        ("deadline_changed", text(&deadline, &format!("\n{}\n", NOW + 3601))),
        ("leaf_changed", text(&promise.leaf.to_base64(), &Hash::leaf(b"x").to_base64())),
        ("index_with_leading_zero", text("\n0\n", "\n00\n")),
        ("a_sixth_line", text(&deadline, &format!("{deadline}more\n"))),
        ("no_deadline", text(&deadline, "\n")),
        ("another_version", text("promise@v1", "promise@v2")),
        ("another_log", other),
        ("about_another_entry", about_another),
        ("by_the_mldsa_key", by_mldsa),
        ("unsigned", edit(&|note| note.signatures[0].name = "somebody.example".to_owned())),
        ("a_checkpoint", world.checkpoint(RECEIPTS, 1, NOW)),
        ("too_long", [good.encode(), vec![b'x'; MAX_PROMISE]].concat()),
        ("empty", Vec::new()),
    ] {
        folder.fail(rule, section, "", bytes);
    }
    folder
}
