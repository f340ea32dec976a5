//! Statements where nobody looks for them.

use glassbloom_spec::statement::Kind;

use super::{Rule, Severity};

/// Statements where nobody looks for them.
pub const RULE: Rule = Rule {
    id: "GB-STMT-004",
    title: "a statement is in the wrong log",
    severity: Severity::Violation,
    text: "
Receipts belong in the receipts log, all other kinds in the registry. A statement elsewhere is not seen by those
who look for it: a revocation hidden among receipts would revoke nothing.
",
    action: "Ask the coordinator to log the statement where it belongs.",
};

pub(super) fn detail(kind: Kind, log: &str) -> String {
    format!("a {kind} statement does not belong in the {log} log")
}
