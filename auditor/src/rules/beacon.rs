//! Attestations made after nothing in particular.

use super::Registered;
use super::{Rule, Severity};
use crate::replay::Leaf;

/// Attestations made after nothing in particular.
pub const RULE: Rule = Rule {
    id: "GB-ATT-001",
    title: "an attestation is not bound to a checkpoint of this log",
    severity: Severity::Violation,
    text: "
The nonce of an attestation is derived from the digest of a cosigned registry checkpoint, so that the evidence cannot
be older than that checkpoint: nobody can compute a witness's signature ahead of time. The checkpoint in the
attestation must be accepted by the policy, and must be of this very history: the tree had that root at that size.
",
    action: "Do not seal to this provider; keep the attestation: a checkpoint of another history, if signed, proves a fork.",
};

/// Judges the beacon of an attestation; anything else has none.
///
/// # Errors
/// With what is wrong with it.
pub fn check(context: Registered<'_>) -> Result<(), String> {
    let Registered { entry, registry, policy } = context;
    let Ok(Leaf::Attestation(attestation)) = &entry.leaf else { return Ok(()) };
    let beacon = policy
        .open(Some(registry.origin()), &attestation.beacon.checkpoint)
        .map_err(|error| format!("the beacon is not a checkpoint that the policy accepts: {error}"))?;
    // Strictly before the entry: the attestation cannot have been made after it was logged.
    if beacon.size().get() > entry.index.get() {
        return Err(format!(
            "the beacon has size {}, but the attestation is at index {}",
            beacon.size(),
            entry.index
        ));
    }
    match registry.root_at(beacon.size()) {
        Some(root) if root == beacon.root() => Ok(()),
        root => Err(format!(
            "the beacon says root {} at size {}, this log had {}",
            beacon.root(),
            beacon.size(),
            root.map_or_else(|| "none".to_owned(), |root| root.to_string())
        )),
    }
}
