//! Receipts by dead keys.

use super::Received;
use super::Rule;

/// Receipts by dead keys.
pub const RULE: Rule = Rule {
    id: "GB-REC-003",
    title: "a receipt was logged after its key was revoked",
    text: "
A revocation names a key and the size of the receipts log from which it holds. Receipts by that key at or after that
size are void, whenever the revocation itself was logged.
",
    action: "Do not count the receipt; if your proxy accepted it, replay the registry more often.",
};

pub(super) fn check(context: Received<'_>) -> Result<(), String> {
    let Received { registry, statement, index, .. } = context;
    match registry.revocation(&statement.key_id()) {
        Some((entry, revocation)) if index.get() >= revocation.from.get() => Err(format!(
            "key {} is revoked from receipts size {} on (registry entry {}: {})",
            revocation.key, revocation.from, entry.index, revocation.reason
        )),
        _ => Ok(()),
    }
}
