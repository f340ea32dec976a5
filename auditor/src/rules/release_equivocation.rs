//! One version, two programs.

use std::collections::HashMap;

use glassbloom_spec::{hash::Hash, id::LeafIndex};

use super::{Rule, Severity};
use crate::replay::{Entry, Leaf};

/// One version, two programs.
pub const RULE: Rule = Rule {
    id: "GB-REL-001",
    title: "two releases give one version and platform to different builds",
    severity: Severity::Violation,
    text: "
A release says which build a version is, for one platform. People compare versions; machines attest builds. Where two
releases give one name to two builds, or to one build that hardware measures differently, somebody can be given another
program than everybody else while the version looks right.
",
    action: "Do not install either; ask the holders of the release keys which of the two they made from the commit it names.",
};

/// The first release of each version for each platform.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(HashMap<(String, String), (LeafIndex, Hash, Option<Hash>)>);

impl Versions {
    /// Takes the next entry.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), String> {
        let Ok(Leaf::Release(release)) = &entry.leaf else { return Ok(()) };
        let version = (release.version.clone(), release.platform.clone());
        let (first, build, code) =
            *self.0.entry(version).or_insert((entry.index, release.build, release.code));
        if (build, code) == (release.build, release.code) {
            return Ok(());
        }
        let says = |build: Hash, code: Option<Hash>| match code {
            None => format!("build {build}"),
            Some(code) => format!("build {build} with code {code}"),
        };
        Err(format!(
            "{} for {} is {} here and {} at index {first}",
            release.version,
            release.platform,
            says(release.build, release.code),
            says(build, code)
        ))
    }
}
