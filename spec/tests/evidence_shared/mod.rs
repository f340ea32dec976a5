//! Real evidence that others published, read in place beside the checkout.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod apple;
pub(crate) mod second;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};

/// A file of the shared vectors; `None`, said aloud, where they do not lie beside the checkout.
pub(crate) fn vector(name: &str) -> Option<Vec<u8>> {
    let path = path(name);
    if path.exists() {
        return Some(fs::read(path).unwrap());
    }
    assert!(
        std::env::var_os("GLASSBLOOM_REQUIRE_ALL").is_none_or(|v| v != "1"),
        "skipped, but GLASSBLOOM_REQUIRE_ALL=1: {} is missing",
        path.display()
    );
    // Past the test runner's capture, which keeps what a passing test prints to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {} is missing", path.display());
    None
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/attestation").join(name)
}

/// A certificate of the shared vectors, PEM or DER by its name.
pub(crate) fn certificate(name: &str) -> Option<Vec<u8>> {
    let bytes = vector(name)?;
    Some(if name.ends_with(".der") { bytes } else { pem(std::str::from_utf8(&bytes).unwrap()) })
}

/// The first block of a PEM file.
pub(crate) fn pem(text: &str) -> Vec<u8> {
    let inside = text.split("-----").nth(2).unwrap();
    BASE64_STANDARD.decode(inside.split_whitespace().collect::<String>()).unwrap()
}

/// The given bytes with each single bit turned over, one after another.
pub(crate) fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (0..8 * bytes.len()).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}
