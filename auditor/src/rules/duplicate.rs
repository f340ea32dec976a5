//! Statements that appear twice.

use glassbloom_spec::id::LeafIndex;

use super::Broken;
use super::{Rule, Severity};

/// Statements that appear twice.
pub const RULE: Rule = Rule {
    id: "GB-STMT-003",
    title: "the same statement was logged before",
    severity: Severity::Violation,
    text: "
Each statement is logged once. A second copy of a receipt would count an answer twice; a second copy of an old
policy, price table or verdict would bring it back into force without anybody signing anything.
",
    action: "Count the first entry only; ask the coordinator why it submitted the statement again.",
};

pub(super) fn broken(first: LeafIndex) -> Broken {
    (&RULE, format!("the same bytes are at index {first}"))
}

pub(super) fn broken_elsewhere(first: LeafIndex, origin: &str) -> Broken {
    (&RULE, format!("the same bytes are at index {first} of {origin}"))
}
