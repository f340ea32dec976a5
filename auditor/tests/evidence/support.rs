//! Files of evidence, and the command.

use std::{fs, path::PathBuf, process::Command};

use glassbloom_auditor::evidence::{Explanation, Options, explain};
use glassbloom_spec::{id::UnixSeconds, policy::Policy, verify::State};
use glassbloom_testdata::{shared_vectors, skipped};

/// November 2026.
pub(crate) const NOW: u64 = 1_795_200_000;

/// Evidence that others published.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = shared_vectors().map(|folder| folder.join("attestation").join(name));
    match path.filter(|path| path.exists()) {
        Some(path) => Some(path),
        None => {
            skipped(&format!("the shared vectors do not lie beside the checkout: {name}"));
            None
        }
    }
}

pub(crate) fn read(name: &str) -> Option<Vec<u8>> {
    shared(name).map(|path| fs::read(path).unwrap())
}

pub(crate) fn options(at: u64) -> Options {
    Options {
        policy: None,
        at: (at != 0).then(|| UnixSeconds::new(at)),
        now: UnixSeconds::new(NOW),
        nonce: None,
        reveal: false,
    }
}

pub(crate) fn believing(text: &str) -> Option<Policy> {
    Some(Policy::parse(&format!("quorum none\n{text}\n")).unwrap())
}

pub(crate) fn look(file: &[u8], with: &[Vec<u8>], options: &Options) -> Explanation {
    explain(file, with, options).unwrap()
}

/// What became of a step.
pub(crate) fn step(explanation: &Explanation, name: &str) -> State {
    explanation.report.steps().iter().find(|step| step.name == name).unwrap().state
}

pub(crate) fn failure(explanation: &Explanation) -> String {
    assert!(!explanation.holds());
    explanation.report.failure().unwrap().detail.clone()
}

pub(crate) fn field<'a>(explanation: &'a Explanation, name: &str) -> &'a str {
    &explanation.fields.iter().find(|field| field.name == name).unwrap().value
}

/// Exit code, standard output and standard error of the command.
pub(crate) fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_glassbloom-auditor"))
        .arg("evidence")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The first block of a PEM file.
pub(crate) fn pem(text: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let inside = std::str::from_utf8(text).unwrap().split("-----").nth(2).unwrap();
    base64::prelude::BASE64_STANDARD.decode(inside.split_whitespace().collect::<String>()).unwrap()
}
