//! Rows of hash tiles that differ from the entries.

use super::{Rule, Severity};

/// Rows of hash tiles that differ from the entries.
pub const RULE: Rule = Rule {
    id: "GB-LOG-004",
    title: "a hash tile is not what was logged",
    severity: Severity::Violation,
    text: "
The entries lead to the signed root, but a level-0 hash tile says otherwise. Nobody is deceived about the entries,
yet inclusion proofs built from this tile fail.
",
    action: "Tell the operator to run `glassbloom-log fsck`; entries and receipts are unaffected.",
};
