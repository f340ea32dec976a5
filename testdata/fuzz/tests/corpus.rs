//! The corpus, and what becomes of it by small damage, on every run of the tests.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use glassbloom_fuzz::{TARGETS, Target, folder, seeds};

/// Damaged versions of each target's corpus that are tried.
const TRIES: usize = 150;

#[test]
fn every_check_holds_for_the_corpus() {
    let mut broken = Vec::new();
    for target in TARGETS {
        let files = target.corpus().expect("run `cargo run -p glassbloom-fuzz --example seeds`");
        assert!(files.len() > 1, "{} has nothing to start from", target.name);
        let mut accepted = 0;
        for (path, bytes) in &files {
            match catch_unwind(|| (target.check)(bytes)) {
                Ok(taken) => accepted += usize::from(taken),
                Err(_) => broken.push(path.display().to_string()),
            }
        }
        assert!(accepted > 0 || !broken.is_empty(), "{}: nothing in the corpus is accepted", target.name);
    }
    assert!(broken.is_empty(), "the panics above are from: {broken:#?}");
}

#[test]
fn every_check_holds_for_what_damage_makes_of_the_corpus() {
    for target in TARGETS {
        damage(target);
    }
}

fn damage(target: &Target) {
    let files = target.corpus().unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..TRIES {
        let (path, bytes) = &files[random.below(files.len())];
        let (_, other) = &files[random.below(files.len())];
        let damaged = random.damaged(bytes, other);
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(&damaged)));
        let words = "a rule is broken; keep these bytes in the corpus, as found-WHAT";
        assert!(outcome.is_ok(), "{}: {}: {words}: {damaged:02x?}", target.name, path.display());
    }
}

/// SplitMix64: the same numbers on every run, so that a failure comes back.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn damaged(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.next() as u8),
                2 => bytes
                    .splice(at..at, [b'\n', 0, b' ', b'=', b'0', 0xff][self.below(6)..][..1].to_vec())
                    .for_each(drop),
                3 => bytes = [&bytes[..at], &other[self.below(other.len() + 1)..]].concat(),
                4 => drop(bytes.drain(at..(at + 1 + self.below(8)).min(bytes.len()).max(at))),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        bytes
    }
}

#[test]
fn the_corpus_is_what_would_be_written() {
    let mut expected = BTreeSet::new();
    for seed in seeds::all() {
        let path = folder().join("corpus").join(seed.target).join(&seed.name);
        let stale = "run `cargo run -p glassbloom-fuzz --example seeds`";
        assert_eq!(fs::read(&path).unwrap_or_default(), seed.bytes, "{}: {stale}", path.display());
        assert!(expected.insert(path), "{} is there twice", seed.name);
    }
    let mut size = 0;
    for target in TARGETS {
        for file in fs::read_dir(folder().join("corpus").join(target.name)).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            assert!(
                expected.contains(&path) || name.starts_with("found-"),
                "{} is from nowhere",
                path.display()
            );
            size += fs::metadata(&path).unwrap().len();
        }
    }
    assert!(size < 1 << 20, "the corpus has {size} bytes; keep it under 1 MiB");
}

#[test]
fn every_check_has_a_fuzz_target() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|target| format!("{}.rs", target.name)).collect();
    let files = fs::read_dir(folder().join("fuzz_targets")).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, listed);
}
