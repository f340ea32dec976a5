//! Receipts by dead keys.

use glassbloom_spec::id::{KeyId, LeafIndex};

use super::Received;
use super::{Rule, Severity};
use crate::replay::Registry;

/// Receipts by dead keys.
pub const RULE: Rule = Rule {
    id: "GB-REC-003",
    title: "a receipt was logged after its key was revoked",
    severity: Severity::Violation,
    text: "
A revocation names a key and the size of the receipts log from which it holds. Receipts by that key at or after that
size are void, whenever the revocation itself was logged.
",
    action: "Do not count the receipt; if your proxy accepted it, replay the registry more often.",
};

pub(super) fn check(context: Received<'_>) -> Result<(), String> {
    check_key(context.registry, &context.statement.key_id(), context.index)
}

pub(super) fn check_key(registry: &Registry, key: &KeyId, index: LeafIndex) -> Result<(), String> {
    match registry.revocation(key) {
        Some((entry, revocation)) if index.get() >= revocation.from.get() => Err(format!(
            "key {key} is revoked from receipts size {} on (registry entry {}: {})",
            revocation.from, entry.index, revocation.reason
        )),
        _ => Ok(()),
    }
}
