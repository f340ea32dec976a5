//! Evidence of confidential virtual machines: reports and quotes that AMD's and Intel's processors made for others.

#![expect(clippy::unwrap_used, reason = "what helps tests may panic like tests")]

mod snp;
mod tdx;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};

/// A folder of evidence that others made, when it lies beside the checkout.
fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/attestation").join(folder);
    if path.exists() {
        return Some(path);
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

/// The certificates of a PEM text.
fn pem(text: &str) -> Vec<Vec<u8>> {
    text.split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .map(|block| {
            let body: String = block.split("-----END").next().unwrap().split_whitespace().collect();
            BASE64_STANDARD.decode(body).unwrap()
        })
        .collect()
}

fn pem_file(folder: &Path, name: &str) -> Vec<u8> {
    pem(&fs::read_to_string(folder.join(name)).unwrap()).remove(0)
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

/// How far apart the bits are that a test flips: `usual`, or every one where `GLASSBLOOM_EVERY_BIT` asks for it, as CI does
/// in a step of its own.
fn stride(usual: usize) -> usize {
    if std::env::var_os("GLASSBLOOM_EVERY_BIT").is_some() { 1 } else { usual }
}
