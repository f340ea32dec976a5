//! Bytes of an entry that differ from the tree.

use super::{Rule, Severity};

/// Bytes of an entry that differ from the tree.
pub const RULE: Rule = Rule {
    id: "GB-LOG-003",
    title: "an entry is not what was logged",
    severity: Severity::Violation,
    text: "
The bytes of the entry do not hash to the leaf hash in the tree, while the tree leads to the signed root. So the
tree is right and the entry bundle was changed after it was logged: on disk, in a cache or on the way.
",
    action: "Fetch the bundle from a mirror; if the log keeps serving it, tell its operator to run `glassbloom-log fsck`.",
};
