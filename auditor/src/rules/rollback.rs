//! A head that went backwards without a proof.

use super::{Rule, Severity};

/// A head that went backwards without a proof.
pub const RULE: Rule = Rule {
    id: "GB-LOG-002",
    title: "the log serves an older head and does not show that it is part of what was seen",
    severity: Severity::Violation,
    text: "
The checkpoint served is smaller than the one this auditor remembers. That alone can be a stale cache: when the log
shows that the small tree is a prefix of the remembered one, the audit ends as stale (exit 20). This finding means
that it does not show it: the hash tiles served do not lead to the remembered root.
",
    action: "Fetch the checkpoint past any cache; if it stays so, treat the log as forked and keep the evidence file.",
};
