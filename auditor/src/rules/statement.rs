//! Entries that nobody can read.

use super::{Rule, Severity};

/// Entries that nobody can read.
pub const RULE: Rule = Rule {
    id: "GB-STMT-001",
    title: "an entry is not a statement in the one accepted form",
    severity: Severity::Violation,
    text: "
Each entry is a COSE_Sign1 statement in deterministic CBOR of a known kind, with exactly the fields of its kind.
There is one way to write a statement, so two programs can never read the same entry differently. Other bytes mean
nothing to anyone and must not be in the log.
",
    action: "Ignore the entry; ask the operator of the log who submitted it.",
};
