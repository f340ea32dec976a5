//! What must hold of every parser for every input.
//!
//! Each check takes any bytes and panics when a rule is broken: that a format has one spelling, that sizes stay within
//! their bounds, that arrival in pieces changes nothing, and that nothing verifies but what the fixed keys of
//! [`World`] signed. libFuzzer feeds them through `fuzz_targets/`; `cargo test` feeds them the corpus and what becomes
//! of it by small damage.
//!
//! # In scope
//! Parsers of bytes that others wrote: files, bodies, messages.
//!
//! # Out of scope
//! Configuration files and command lines, which their own user writes.

#![allow(clippy::unwrap_used, reason = "a broken rule must stop the fuzzer, and panicking is how")]

pub mod api;
pub mod evidence;
pub mod identity;
pub mod machines;
pub mod openai;
pub mod sealing;
pub mod seeds;
pub mod statements;
pub mod tlog;

use std::{fs, io, path::PathBuf, sync::LazyLock};

use glassbloom_testdata::{
    vectors::{self, Expect},
    world::World,
};

/// The network whose fixed keys sign everything here that verifies.
pub static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// A check, and what it is fed first.
pub struct Target {
    /// Of the check, of its file in `fuzz_targets/` and of its folder in `corpus/`.
    pub name: &'static str,
    /// Panics when a rule does not hold for these bytes; says whether a parser accepted them.
    pub check: fn(&[u8]) -> bool,
    /// Folders of vectors below `testdata/` that are a corpus for it too.
    pub vectors: &'static [&'static str],
}

macro_rules! targets {
    ($($module:ident::$name:ident $vectors:expr;)*) => {
        /// Every check.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), check: $module::$name, vectors: &$vectors }),*];
    };
}

targets! {
    api::frames [];
    api::messages [];
    evidence::evidence_app_attest ["evidence"];
    evidence::evidence_mda ["evidence"];
    evidence::evidence_x509 [];
    identity::identity [];
    machines::evidence_snp [];
    machines::evidence_tdx [];
    machines::evidence_tpm ["evidence"];
    openai::chat_request [];
    openai::event_stream [];
    openai::reply [];
    sealing::http_request [];
    sealing::http_response [];
    sealing::inner_answer [];
    sealing::inner_request [];
    sealing::key_config ["key-config"];
    sealing::sealed_answer ["sealed-answer"];
    sealing::sealed_request ["sealed-request"];
    statements::bundle ["bundle"];
    statements::cbor [];
    statements::leaf ["leaf"];
    statements::receipt ["receipt"];
    statements::record ["record"];
    statements::statement ["statement"];
    tlog::checkpoint ["checkpoint"];
    tlog::key [];
    tlog::merkle [];
    tlog::note ["checkpoint"];
    tlog::policy ["policy"];
    tlog::promise ["promise"];
    tlog::proof ["proof"];
    tlog::succession ["succession"];
    tlog::tile [];
    tlog::tile_path [];
    tlog::witness_request [];
}

/// This folder.
pub fn folder() -> PathBuf {
    glassbloom_testdata::vector("fuzz")
}

impl Target {
    /// The files of its corpus, with their paths, in order.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn corpus(&self) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
        let own = folder().join("corpus").join(self.name);
        let vectors = self.vectors.iter().map(|folder| glassbloom_testdata::vector(folder));
        let mut files = Vec::new();
        for folder in std::iter::once(own).chain(vectors) {
            for file in fs::read_dir(folder)? {
                let path = file?.path();
                if !path.ends_with("index.json") {
                    files.push((path.clone(), fs::read(path)?));
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

/// The vectors of a folder that its check accepts.
fn accepted(folder: &str) -> impl Iterator<Item = Vec<u8>> {
    let vectors =
        vectors::index(folder).unwrap().into_iter().filter(|vector| vector.expect == Expect::Accept);
    vectors.map(move |found| fs::read(glassbloom_testdata::vector(folder).join(found.file)).unwrap())
}

/// Cuts bytes in two, for what must not depend on how it arrives. Where, follows from the bytes.
fn cut(data: &[u8]) -> (&[u8], &[u8]) {
    let sum = data.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    data.split_at(if data.is_empty() { 0 } else { sum % data.len() })
}
