//! `policy/`, `checkpoint/`, `proof/`: whom to believe, and what a log shows. In `proof/`, `with` is the entry.

use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, UnixSeconds},
    note::SignedNote,
    proof::TlogProof,
};

use super::{
    Folder,
    record::{hardware_policies, uncosigned},
};
use crate::world::{NOW, REGISTRY, World, index};

pub(super) fn policies(world: &World) -> Folder {
    let mut folder = Folder::new("policy", "policy.md", "policy");
    let good = world.policy_text();
    folder.pass("policy", "policies", "", good.clone().into_bytes());
    let line = |start: &str| {
        good.lines().find(|line| line.starts_with(start)).expect("a line of the policy").to_owned()
    };
    let with = |more: &str| format!("{good}{more}\n").into_bytes();
    let replaced = |from: &str, to: &str| good.replacen(from, to, 1).into_bytes();
    folder.pass("with_comment_and_blank_line", "policies", "", with("\n# two witnesses"));
    folder.pass(
        "two_coordinators",
        "ours",
        "",
        with(&format!("coordinator {}", world.keys.stranger.public_key())),
    );
    for (name, text) in hardware_policies(world) {
        folder.pass(name.trim_end_matches(".policy"), "ours", "", text.into_bytes());
    }
    for (rule, section, bytes) in [
        ("unknown_line", "policies", with("trust everyone")),
        ("carriage_return", "policies", replaced("\n", "\r\n")),
        ("log_key_twice", "tlog-policy", with(&line("log "))),
        ("witness_key_twice", "tlog-policy", with(&line("witness w1").replace("w1 ", "w3 "))),
        (
            "witness_vkey_with_wrong_key_id",
            "tlog-policy",
            replaced("w1.glassbloom.test", "w9.glassbloom.test"),
        ),
        ("group_member_undefined", "tlog-policy", replaced("all w1 w2", "all w1 w3")),
        ("group_threshold_too_high", "tlog-policy", replaced("all w1 w2", "3 w1 w2")),
        ("quorum_missing", "tlog-policy", replaced("quorum witnesses\n", "")),
        ("quorum_twice", "tlog-policy", with("quorum none")),
        ("quorum_undefined", "tlog-policy", replaced("quorum witnesses", "quorum friends")),
        ("coordinator_not_a_point", "ours", with("coordinator AAAA")),
        ("checkpoint_age_zero", "ours", replaced("checkpoint-age 1h", "checkpoint-age 0")),
        ("checkpoint_age_twice", "ours", with("checkpoint-age 2h")),
    ] {
        folder.fail(rule, section, "", bytes);
    }
    folder
}

pub(super) fn checkpoints(world: &World) -> Folder {
    let mut folder = Folder::new("checkpoint", "policy.md", "note");
    let size = world.registry.size();
    let good = world.checkpoint(REGISTRY, size, NOW);
    let edit = |edit: &dyn Fn(&mut SignedNote)| {
        let mut note = SignedNote::parse(&good).expect("a note of ours");
        edit(&mut note);
        note.encode()
    };
    let section = "opening-a-checkpoint";
    folder.pass("checkpoint", section, "", good.clone());
    folder.pass("empty_log", section, "", world.checkpoint(REGISTRY, 0, NOW));
    folder.pass("log_signed_with_one_key", section, "", edit(&|note| drop(note.signatures.remove(0))));
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
    let flipped =
        |at: usize| edit(&|note| *note.signatures[at].signature.last_mut().expect("not empty") ^= 1);
    let head = world.registry.head(size);
    let text = |text: String| edit(&|note| note.text.clone_from(&text));
    let cosigned_by_a_log = || {
        let log = &world.keys.log(REGISTRY)[1];
        edit(&|note| note.signatures[3] = log.cosign(&head, UnixSeconds::new(NOW)).expect("a head of ours"))
    };
    for (rule, bytes) in [
        ("log_signature_flipped", flipped(0)),
        ("log_mldsa_signature_flipped", flipped(1)),
        ("witness_signature_flipped", flipped(2)),
        ("witness_mldsa_signature_flipped", flipped(3)),
        ("witness_missing", uncosigned(&good)),
        (
            "witness_cosigned_twice_for_the_other",
            edit(&|note| note.signatures[3] = note.signatures[2].clone()),
        ),
        ("witness_is_the_log", cosigned_by_a_log()),
        ("witness_time_changed", edit(&|note| note.signatures[2].signature[7] ^= 1)),
        ("log_missing", edit(&|note| drop(note.signatures.drain(..2)))),
        (
            "root_changed",
            text(
                glassbloom_spec::checkpoint::TreeHead { root: Hash::of(b"fork"), ..head.clone() }.to_string(),
            ),
        ),
        ("another_origin", world.checkpoint(crate::world::RECEIPTS, 3, NOW)),
        ("extension_line", text(format!("{head}time {NOW}\n"))),
        ("size_with_leading_zero", text(head.to_string().replacen("\n7\n", "\n07\n", 1))),
        ("carriage_return", text(head.to_string().replacen('\n', "\r\n", 1))),
        (
            "no_signatures",
            good[..good.len() - 1].split(|byte| *byte == b'\n').take(3).collect::<Vec<_>>().join(&b'\n'),
        ),
        ("last_newline_missing", good[..good.len() - 1].to_vec()),
        ("empty", Vec::new()),
    ] {
        folder.fail(rule, section, "", bytes);
    }
    folder
}

pub(super) fn proofs(world: &World) -> Folder {
    let mut folder = Folder::new("proof", "proof.md", "tlog-proof");
    let size = world.registry.size();
    let good = TlogProof {
        extra: None,
        index: LeafIndex::new(index::ATTESTATION),
        hashes: world.registry.inclusion(index::ATTESTATION, size),
        checkpoint: world.checkpoint(REGISTRY, size, NOW),
    };
    let edit = |edit: &dyn Fn(&mut TlogProof)| {
        let mut proof = good.clone();
        edit(&mut proof);
        proof.encode()
    };
    let text = String::from_utf8(good.encode()).expect("a proof is text");
    let section = "proofs-of-logging";
    folder.pass("proof", section, "attestation", good.encode());
    folder.pass(
        "with_extra",
        section,
        "attestation",
        edit(&|proof| proof.extra = Some(b"anything".to_vec())),
    );
    folder.fail("of_another_entry", section, "verdict", good.encode());
    for (rule, bytes) in [
        ("index_of_the_neighbour", edit(&|proof| proof.index = LeafIndex::new(4))),
        ("index_outside_the_tree", edit(&|proof| proof.index = LeafIndex::new(size))),
        ("hash_missing", edit(&|proof| _ = proof.hashes.pop())),
        ("hash_too_many", edit(&|proof| proof.hashes.push(Hash::EMPTY_TREE))),
        ("hashes_swapped", edit(&|proof| proof.hashes.swap(0, 1))),
        ("checkpoint_without_a_witness", edit(&|proof| proof.checkpoint = uncosigned(&proof.checkpoint))),
        ("checkpoint_missing", edit(&|proof| proof.checkpoint.clear())),
        ("header_of_another_version", text.replacen("@v1", "@v2", 1).into_bytes()),
        ("index_with_leading_zero", text.replacen("index 5", "index 05", 1).into_bytes()),
        ("hash_not_base64", text.replacen("=\n", "\n", 1).into_bytes()),
        ("empty", Vec::new()),
    ] {
        folder.fail(rule, section, "attestation", bytes);
    }
    folder
}
