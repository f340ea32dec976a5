//! Evidence vectors: a bit flipped anywhere, and a vector for each reason that the pages name.
//!
//! Every bit of evidence is covered but those of an endorsement by an auditor whom nobody here knows: other rules may,
//! so it is skipped. What was logged is bound all the same, by the signature of the attestation, and by the name of the
//! lasting part, which such a flip changes.

#![expect(clippy::unwrap_used, reason = "what tests share may panic like tests")]

use std::{collections::BTreeSet, fs, ops::Range, sync::LazyLock};

use glassbloom_spec::evidence::{self, app_attest, endorsement::Endorsement, mda, tpm, x509::Root};
use glassbloom_testdata::{
    repository, vector,
    vectors::{self, Entry, Expect},
    world::World,
};
use proptest::{prelude::*, sample::Index};

static WORLD: LazyLock<World> = LazyLock::new(World::new);
static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| vectors::index("evidence").unwrap());

fn bytes(file: &str) -> Vec<u8> {
    fs::read(vector("evidence").join(file)).unwrap()
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Where endorsements stand that no auditor of this network signed.
fn uncovered(good: &[u8]) -> Vec<Range<usize>> {
    let endorsements = match (tpm::Evidence::decode(good), mda::Record::decode(good)) {
        (Ok(evidence), _) => evidence.lasting.endorsements,
        (_, Ok(record)) => record.endorsements,
        _ => Vec::new(),
    };
    let stranger = WORLD.keys.stranger.public_key();
    let of_strangers = endorsements.into_iter().filter(|bytes| {
        glassbloom_spec::statement::Statement::parse(bytes).unwrap().verify(&stranger).is_ok()
    });
    of_strangers
        .map(|bytes| {
            let start = good.windows(bytes.len()).position(|window| window == bytes).unwrap();
            start..start + bytes.len()
        })
        .collect()
}

/// Panics when evidence with one bit flipped is accepted, unless nothing that it proves has changed and the bit is one
/// of those that nobody covers.
fn assert_covered(entry: &Entry, good: &[u8], bit: usize) {
    let flipped = flip(good, bit);
    if entry.with == "endorsement" {
        let opened: Result<Endorsement, _> = vectors::evidence::open(&WORLD, &flipped);
        assert!(opened.is_err(), "bit {bit} of {}", entry.file);
        return;
    }
    let Ok(proven) = vectors::evidence::prove(&WORLD, &entry.with, &flipped) else { return };
    assert_eq!(proven, vectors::evidence::prove(&WORLD, &entry.with, good).unwrap());
    let lasting =
        |bytes| [tpm::lasting, mda::lasting, app_attest::lasting].iter().find_map(|of| of(bytes)).unwrap();
    assert_ne!(lasting(&flipped), lasting(good), "bit {bit} of {} is bound by nothing", entry.file);
    assert!(
        uncovered(good).iter().any(|range| range.contains(&(bit / 8))),
        "bit {bit} of {} is not covered",
        entry.file
    );
}

fn assert_every_bit_is_covered(file: &str) {
    let entry = ENTRIES.iter().find(|entry| entry.file == file).unwrap();
    let good = bytes(file);
    assert!(uncovered(&good).is_empty());
    for bit in 0..8 * good.len() {
        assert_covered(entry, &good, bit);
    }
}

#[test]
fn every_bit_of_an_endorsement() {
    assert_every_bit_is_covered("endorsement.cbor");
}

#[test]
fn every_bit_of_a_record_of_a_mac() {
    assert_every_bit_is_covered("mda.cbor");
}

#[test]
fn every_bit_of_evidence_of_app_attest() {
    assert_every_bit_is_covered("app_attest.cbor");
}

#[test]
fn every_bit_of_evidence_of_a_tpm() {
    assert_every_bit_is_covered("tpm_hw.cbor");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_bit_of_any_evidence(which: Index, bit: Index) {
        let passing: Vec<_> = ENTRIES.iter().filter(|entry| entry.expect == Expect::Accept).collect();
        let entry = which.get(&passing);
        let good = bytes(&entry.file);
        assert_covered(entry, &good, bit.index(8 * good.len()));
    }
}

/// What is skipped is skipped whole, wherever the flip is.
#[test]
fn a_bit_of_the_word_of_a_stranger() {
    for file in ["tpm_endorsed_by_a_stranger_too.cbor", "mda_endorsed_by_a_stranger_too.cbor"] {
        let entry = ENTRIES.iter().find(|entry| entry.file == file).unwrap();
        let good = bytes(file);
        let ranges = uncovered(&good);
        assert_eq!(ranges.len(), 1, "{file}");
        for bit in ranges.into_iter().flat_map(|range| 8 * range.start..8 * range.end) {
            assert_covered(entry, &good, bit);
        }
    }
}

/// A file that must be refused says in its name for which reason.
#[test]
fn every_refusal_is_for_the_reason_in_its_name() {
    for entry in ENTRIES.iter().filter(|entry| entry.expect == Expect::Reject) {
        let (reason, _) = entry.error.split_once(':').unwrap();
        assert!(entry.file.contains(&reason.replace('-', "_")), "{}: {reason}", entry.file);
    }
}

/// Reasons that the pages name for these formats and that no file shows, each with why.
const NOT_IN_A_FILE: &[(&str, &str)] =
    &[("tpm-challenge", "said to endorsers alone"), ("mda-record", "said to endorsers alone")];

#[test]
fn every_reason_has_a_vector() {
    let shown: BTreeSet<String> = ENTRIES
        .iter()
        .filter_map(|entry| entry.error.split_once(':'))
        .map(|(reason, _)| reason.to_owned())
        .collect();
    let pages = ["evidence.md", "evidence-tpm.md"]
        .map(|page| fs::read_to_string(repository().join("spec").join(page)).unwrap());
    let known = ["app-attest-", "certificate-", "endorse", "evidence-malformed", "mda-", "tpm-"];
    let cells = pages.iter().flat_map(|page| page.lines()).filter(|line| line.starts_with('|'));
    let words = cells.flat_map(|line| line.split('`').skip(1).step_by(2));
    // Tiers and formats are in the same quotes.
    let reasons: BTreeSet<&str> = words
        .filter(|word| known.iter().any(|start| word.starts_with(start)))
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
        .filter(|word| !word.ends_with('-') && !["tpm-hw", "tpm-soft"].contains(word))
        .filter(|word| !evidence_claims().contains(word))
        .collect();
    assert!(reasons.len() > 40, "{reasons:?}");
    for reason in reasons {
        let excused = NOT_IN_A_FILE.iter().any(|(other, _)| *other == reason);
        assert_eq!(!shown.contains(reason), excused, "{reason} and its vector");
    }
    let unheard: Vec<_> = shown
        .iter()
        .filter(|reason| !pages.iter().any(|page| page.contains(&format!("`{reason}`"))))
        .filter(|reason| *reason != "tier-not-reached")
        .collect();
    assert!(unheard.is_empty(), "on no page: {unheard:?}");
}

/// Whoever reads the vectors needs the root's key, which is in none of them.
#[test]
fn the_readme_has_the_key_of_the_root() {
    let Root::Named { spki, .. } = glassbloom_testdata::app_attest::root() else { panic!("named") };
    let readme = fs::read_to_string(vector("README.md")).unwrap();
    assert!(readme.contains(&format!("    {}\n", hex::encode(spki))), "{}", hex::encode(spki));
}

/// Names of claims, which stand in the same quotes as reasons.
fn evidence_claims() -> BTreeSet<&'static str> {
    let proven = |file: &str, with| vectors::evidence::prove(&WORLD, with, &bytes(file)).unwrap();
    let all: [evidence::Proven; 2] = [proven("tpm_hw.cbor", "tpm-hw"), proven("mda.cbor", "mda")];
    all.into_iter().flat_map(|proven| proven.claims).map(|claim| claim.name).collect()
}
