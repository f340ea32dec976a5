//! Receipts from a world with another registry.

use super::Received;
use super::{Rule, Severity};

/// Receipts from a world with another registry.
pub const RULE: Rule = Rule {
    id: "GB-REC-005",
    title: "a receipt relies on a registry that this log never was",
    severity: Severity::Violation,
    text: "
A receipt repeats the size and root of the registry that the client relied on. They must be those of this very
history. When they are not, the client was shown another registry: together with the checkpoint that the client
holds, the receipt is evidence of a fork.
",
    action: "Ask the user for the receipt's bundle file: its checkpoint and yours prove the fork.",
};

pub(super) fn check(context: Received<'_>) -> Result<(), String> {
    let Received { registry, receipt, .. } = context;
    let (size, root) = receipt.registry;
    match registry.root_at(size) {
        Some(known) if known == root => Ok(()),
        Some(known) => Err(format!("it relies on root {root} at size {size}, the registry had {known}")),
        None => Err(format!("it relies on size {size}, the registry has {}", registry.size())),
    }
}
