//! Every vector in the repository behaves as its index says, and is what `cargo vectors` writes.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::fs;

use glassbloom_testdata::{
    vector,
    vectors::{self, Expect},
    world::World,
};

fn run(folder: &str) {
    let world = World::new();
    let index = vectors::index(folder).expect("run `cargo vectors`");
    assert!(index.iter().any(|entry| entry.expect == Expect::Accept), "{folder} has no vector that passes");
    for entry in &index {
        assert_eq!(
            entry.file.starts_with("fail_"),
            entry.expect == Expect::Reject,
            "{folder}/{}",
            entry.file
        );
        let bytes = fs::read(vector(folder).join(&entry.file)).unwrap();
        let outcome = vectors::check(&world, folder, &entry.with, &bytes);
        assert_eq!(outcome.is_ok(), entry.expect == Expect::Accept, "{folder}/{}: {outcome:?}", entry.file);
        assert_clause_exists(&entry.clause);
    }
    let files = fs::read_dir(vector(folder)).unwrap().count();
    assert_eq!(files, index.len() + 1, "{folder} has files that its index does not name");
}

/// A clause is a page and one of its headings.
fn assert_clause_exists(clause: &str) {
    let (page, section) = clause.split_once('#').unwrap();
    let text = fs::read_to_string(glassbloom_testdata::repository().join(page)).unwrap();
    let headings = text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| {
        line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-").replace([',', '`'], "")
    });
    assert!(headings.into_iter().any(|heading| heading == section), "{clause} is no heading");
}

macro_rules! folders {
    ($($name:ident $folder:literal)*) => {
        $(#[test] fn $name() { run($folder); })*

        const FOLDERS: &[&str] = &[$($folder),*];
    };
}

folders! {
    statements "statement"
    leaves "leaf"
    receipts "receipt"
    records "record"
    bundles "bundle"
    key_configs "key-config"
    sealed_requests "sealed-request"
    sealed_answers "sealed-answer"
    policies "policy"
    checkpoints "checkpoint"
    proofs "proof"
    successions "succession"
    promises "promise"
    witness_requests "witness-request"
    evidence "evidence"
}

#[test]
fn the_vectors_are_what_would_be_written() {
    let world = World::new();
    let folders = vectors::folders(&world);
    assert_eq!(folders.iter().map(|folder| folder.name).collect::<Vec<_>>(), FOLDERS);
    for folder in folders {
        let name = folder.name;
        let index = vectors::index(name).expect("run `cargo vectors`");
        let written = folder.checked(&world);
        assert_eq!(
            written.iter().map(|vector| &vector.entry).collect::<Vec<_>>(),
            index.iter().collect::<Vec<_>>(),
            "run `cargo vectors`"
        );
        for vector in written {
            let path = glassbloom_testdata::vector(name).join(&vector.entry.file);
            assert!(
                fs::read(&path).unwrap() == vector.bytes,
                "{} is stale: run `cargo vectors`",
                path.display()
            );
        }
    }
}
