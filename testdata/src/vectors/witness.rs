//! `witness-request/`: what is sent to a witness that cosigned the registry at size 5. In `with`, the endpoint.

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize},
    note::SignedNote,
    subtree::Subtree,
    witness::{AddCheckpoint, SignSubtree},
};

use super::Folder;
use crate::world::{NOW, REGISTRY, World};

/// The size that the witness knows.
pub(super) const OLD: u64 = 5;

pub(super) fn requests(world: &World) -> Folder {
    let mut folder = Folder::new("witness-request", "witness.md", "body");
    let size = world.registry.size();
    let note = SignedNote::parse(&world.checkpoint(REGISTRY, size, NOW)).expect("a note of ours");
    let head = TreeHead::parse(&note.text).expect("a head of ours");
    add_checkpoint(world, &mut folder, &note, &head);
    sign_subtree(world, &mut folder, &note, &head);
    folder
}

fn add_checkpoint(world: &World, folder: &mut Folder, note: &SignedNote, head: &TreeHead) {
    let (section, with) = ("add-checkpoint", "add-checkpoint");
    let good = AddCheckpoint {
        old: TreeSize::new(OLD),
        proof: world.registry.consistency(OLD, head.size.get()),
        note: note.clone(),
        head: head.clone(),
    };
    let edit = |edit: &dyn Fn(&mut AddCheckpoint)| {
        let mut request = good.clone();
        edit(&mut request);
        request.encode()
    };
    let text = String::from_utf8(good.encode()).expect("a request is text");
    let replaced = |from: &str, to: &str| text.replacen(from, to, 1).into_bytes();
    folder.pass("add_checkpoint", section, with, good.encode());
    for (rule, bytes) in [
        ("old_with_leading_zero", replaced("old 5", "old 05")),
        ("old_with_sign", replaced("old 5", "old +5")),
        ("old_missing", replaced("old 5\n", "")),
        ("old_above_the_checkpoint", edit(&|request| request.old = TreeSize::new(head.size.get() + 1))),
        ("proof_line_not_base64", replaced("=\n", "\n")),
        ("proof_of_64_lines", edit(&|request| request.proof = vec![Hash::EMPTY_TREE; 64])),
        ("proof_line_missing", edit(&|request| _ = request.proof.pop())),
        ("proof_line_too_many", edit(&|request| request.proof.push(Hash::EMPTY_TREE))),
        ("proof_lines_swapped", edit(&|request| request.proof.swap(0, 1))),
        ("carriage_return", replaced("old 5\n", "old 5\r\n")),
        ("blank_line_missing", replaced("\n\n", "\n")),
        ("extension_line", edit(&|request| request.note.text.push_str("extension\n"))),
        ("no_signature_line", text.split_inclusive("\n\n").take(2).collect::<String>().into_bytes()),
        ("trailing_text", format!("{text}more").into_bytes()),
        ("empty", Vec::new()),
    ] {
        folder.fail(rule, section, with, bytes);
    }
}

fn sign_subtree(world: &World, folder: &mut Folder, note: &SignedNote, head: &TreeHead) {
    let (section, with) = ("sign-subtree", "sign-subtree");
    let subtree = Subtree::new(LeafIndex::new(4), TreeSize::new(6)).expect("4 is a multiple of 2");
    let good = SignSubtree {
        subtree,
        hash: world.registry.root_of(4..6),
        proof: world.registry.subtree(subtree, head.size.get()),
        note: note.clone(),
        head: head.clone(),
    };
    let edit = |edit: &dyn Fn(&mut SignSubtree)| {
        let mut request = good.clone();
        edit(&mut request);
        request.encode()
    };
    let text = String::from_utf8(good.encode()).expect("a request is text");
    let ranged = |range: &str| text.replacen("subtree 4 6", range, 1).into_bytes();
    folder.pass("sign_subtree", section, with, good.encode());
    for (rule, bytes) in [
        ("subtree_with_leading_zero", ranged("subtree 04 6")),
        ("subtree_without_end", ranged("subtree 4")),
        ("subtree_of_three_numbers", ranged("subtree 4 6 7")),
        ("subtree_empty", ranged("subtree 4 4")),
        ("subtree_not_aligned", ranged("subtree 3 5")),
        ("subtree_beyond_the_checkpoint", ranged("subtree 4 8")),
        (
            "subtree_hash_missing",
            text.lines()
                .filter(|line| *line != good.hash.to_base64())
                .fold(String::new(), |all, line| all + line + "\n")
                .into_bytes(),
        ),
        ("subtree_hash_of_another", edit(&|request| request.hash = world.registry.root_of(0..2))),
        ("subtree_proof_of_64_lines", edit(&|request| request.proof = vec![Hash::EMPTY_TREE; 64])),
        ("subtree_proof_line_missing", edit(&|request| _ = request.proof.pop())),
        ("subtree_proof_lines_swapped", edit(&|request| request.proof.swap(0, 1))),
        ("add_checkpoint_in_its_place", ranged("old 4")),
    ] {
        folder.fail(rule, section, with, bytes);
    }
}
