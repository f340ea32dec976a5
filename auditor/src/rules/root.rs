//! A signed root that nothing served leads to.

use super::{Rule, Severity};

/// A signed root that nothing served leads to.
pub const RULE: Rule = Rule {
    id: "GB-LOG-005",
    title: "the entries do not lead to the signed root",
    severity: Severity::Violation,
    text: "
The root was recomputed from every entry, on top of what earlier audits verified, and it is not the one in the
checkpoint; the hash tiles do not lead there either. The log signed a root for a tree that it does not serve. The
finding names the span of entries in which the difference lies, as closely as the tiles above allow.
",
    action: "Do not rely on entries of the span; ask the operator for the data behind the signed root. Without it, this log has lost or hidden entries.",
};
