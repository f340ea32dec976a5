//! Evidence of format `tpm`: what other people's TPM signed, a live software TPM, and attacks on a TPM played here.

#![expect(clippy::unwrap_used, reason = "what helps tests may panic like tests")]

mod attacks;
mod live;
mod maker;
mod vectors;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// The folder with what others' TPM signed, when it lies beside the checkout.
fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/attestation/tpm-swtpm");
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("{} is missing", path.display()));
    None
}

/// Says on standard error that a test was skipped, which is a failure where nothing may be.
fn skipped(why: &str) {
    assert!(
        std::env::var_os("GLASSBLOOM_REQUIRE_ALL").is_none_or(|v| v != "1"),
        "skipped, but GLASSBLOOM_REQUIRE_ALL=1: {why}"
    );
    // Past the test runner's capture, which keeps what a passing test prints to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
