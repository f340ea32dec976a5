//! Glassbloom's own test vectors, and where to find the ones that others wrote.
//!
//! Vectors nobody here wrote lie beside the checkout in `../shared/vectors`; they are used when present and
//! never copied. A test that cannot run calls [`skipped`], which is a failure where nothing may be skipped.
//!
//! # In scope
//! A small network with fixed keys ([`world`]), Macs and a TPM that nobody has ([`app_attest`],
//! [`mac`], [`tpm`]), the vectors cut from
//! it ([`vectors`]), and paths.
//!
//! # Out of scope
//! Processes and sockets: those are in `testdata/e2e`.
//!
//! ```
//! use glassbloom_testdata::world::{Plan, World};
//!
//! let world = World::new();
//! assert!(world.verify(&world.record()).is_ok());
//!
//! let mut plan = Plan::default();
//! plan.rules.tiers.clear();
//! let world = World::of(plan);
//! assert_eq!(world.verify(&world.record()).unwrap_err().step, "evidence");
//! ```

pub mod app_attest;
pub mod der;
pub mod mac;
pub mod tpm;
pub mod vectors;
pub mod world;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// The repository's root folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testdata lies in the repository").to_path_buf()
}

/// A file of this project's own vectors, below `testdata/`.
pub fn vector(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The folder of vectors that others wrote, when it lies beside the checkout.
pub fn shared_vectors() -> Option<PathBuf> {
    let folder = repository().parent()?.join("shared/vectors");
    folder.is_dir().then_some(folder)
}

/// Says on standard error that a test was skipped and why.
///
/// # Panics
/// When `GLASSBLOOM_REQUIRE_ALL=1`: there, a skip is a failure.
pub fn skipped(why: &str) {
    assert!(
        std::env::var_os("GLASSBLOOM_REQUIRE_ALL").is_none_or(|v| v != "1"),
        "skipped, but GLASSBLOOM_REQUIRE_ALL=1: {why}"
    );
    // Past the test runner's capture, which keeps what a passing test prints to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
