//! A log that does not go on where another one ended.

use glassbloom_spec::{id::LeafIndex, policy::Policy, succession::Succession};

use super::{Rule, Severity};

/// A log that does not go on where another one ended.
pub const RULE: Rule = Rule {
    id: "GB-LOG-007",
    title: "a log does not go on where its predecessor ended",
    severity: Severity::Violation,
    text: "
A receipts log may be split by period: it closes, and the first entry of the next log is its final checkpoint with
all signatures. That entry stands at index 0 and nowhere else, its checkpoint must hold under the policy, the log
that it names must show exactly that end, and only one log may go on from it. Otherwise entries could be added to a
closed period, or a period could be exchanged for another one.
",
    action: "Keep the checkpoints of both logs; ask their operator, and the witnesses, which end they have seen.",
};

/// Judges an entry that claims to name the end of another log.
pub(super) fn check(entry: &[u8], index: LeafIndex, origin: &str, policy: &Policy) -> Result<(), String> {
    if index.get() != 0 {
        return Err(format!("a succession stands at index 0, not at {index}"));
    }
    let succession = Succession::parse(entry).map_err(|error| error.to_string())?;
    succession.verify(policy, origin).map(drop).map_err(|error| error.to_string())
}
