//! `succession/`: the first entry of a log that goes on where another one ended. `with` is the successor's origin.

use glassbloom_spec::{checkpoint::TreeHead, hash::Hash, note::SignedNote, succession::Succession};

use super::{Folder, record::uncosigned};
use crate::world::{NOW, RECEIPTS, REGISTRY, World};

/// The origin of a log that goes on where the receipts log ends.
const SUCCESSOR: &str = "glassbloom.test/receipts/2027";

pub(super) fn folder(world: &World) -> Folder {
    let mut folder = Folder::new("succession", "succession.md", "entry");
    let size = world.receipts.size();
    let final_note = world.checkpoint(RECEIPTS, size, NOW);
    let of = |note: &[u8]| Succession::new(note).expect("a checkpoint of ours fits an entry").encode();
    let good = of(&final_note);
    folder.pass("succession", "the-entry", SUCCESSOR, good.clone());
    folder.pass("of_an_empty_log", "the-entry", SUCCESSOR, of(&world.checkpoint(RECEIPTS, 0, NOW)));
    folder.pass(
        "of_a_registry",
        "rules",
        "glassbloom.test/registry/2027",
        of(&world.checkpoint(REGISTRY, 7, NOW)),
    );

    let text = String::from_utf8(good.clone()).expect("a succession is text");
    let edit = |edit: &dyn Fn(&mut SignedNote)| {
        let mut note = SignedNote::parse(&final_note).expect("a note of ours");
        edit(&mut note);
        of(&note.encode())
    };
    let fork = TreeHead { root: Hash::of(b"fork"), ..world.receipts.head(size) };
    let stranger = TreeHead { origin: "stranger.example/receipts".to_owned(), ..fork };
    let header_only = text.split_inclusive('\n').next().unwrap_or_default();
    for (rule, bytes) in [
        ("header_of_another_version", text.replacen("@v1", "@v2", 1).into_bytes()),
        ("header_missing", final_note.clone()),
        ("header_with_carriage_return", text.replacen('\n', "\r\n", 1).into_bytes()),
        ("checkpoint_missing", header_only.as_bytes().to_vec()),
        ("checkpoint_without_a_witness", of(&uncosigned(&final_note))),
        ("checkpoint_not_signed_by_its_log", edit(&|note| drop(note.signatures.drain(..2)))),
        ("checkpoint_signature_flipped", {
            edit(&|note| *note.signatures[0].signature.last_mut().expect("not empty") ^= 1)
        }),
        ("root_changed", edit(&|note| note.text = fork.to_string())),
        ("log_not_of_the_policy", edit(&|note| note.text = stranger.to_string())),
        ("something_after_the_note", [good.as_slice(), b"\n"].concat()),
        ("last_newline_missing", good[..good.len() - 1].to_vec()),
        ("empty", Vec::new()),
    ] {
        folder.fail(rule, "rules", SUCCESSOR, bytes);
    }
    folder.fail("of_itself", "rules", RECEIPTS, good.clone());
    folder.fail("of_another_kind", "rules", "glassbloom.test/registry/2027", good);
    folder
}
