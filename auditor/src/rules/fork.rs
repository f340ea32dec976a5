//! A fork: two signed heads that cannot both be prefixes of one history.

use super::{Rule, Severity};

/// A fork: two signed heads that cannot both be prefixes of one history.
pub const RULE: Rule = Rule {
    id: "GB-LOG-001",
    title: "two checkpoints of one log contradict each other",
    severity: Severity::Violation,
    text: "
A log promises one history. Each audit compares the checkpoint it is served with the one it remembers: same size
means same root, a larger size must begin with the smaller tree. When that does not hold, the log has shown two
histories, to you at two times or to you and somebody else. Both signed notes are written to one file, which proves
it to anyone who has the log's key; no trust in you is needed.

Causes: an operator who shows different people different logs; a log restored from a backup and continued.
",
    action: "Keep the evidence file, publish it, and stop relying on this log and on every proof from it.",
};
