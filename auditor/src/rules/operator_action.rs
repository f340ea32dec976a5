//! Approvals that nobody gave.

use super::Registered;
use super::{Rule, Severity};
use crate::replay::Leaf;

/// Approvals that nobody gave.
pub const RULE: Rule = Rule {
    id: "GB-OPS-001",
    title: "an operator's action has an approval that its approver did not sign",
    severity: Severity::Violation,
    text: "
State that a person changed by hand is logged with the keys of those who approved it, each with a signature over what was
done, to what, why, and the digest of the change. An approval that does not verify was not given, or was given for
something else, and the action counts for nothing.
",
    action: "Ask the named approver and the coordinator's operator what was changed; treat everything the action explains as unexplained.",
};

pub(super) fn check(context: Registered<'_>) -> Result<(), String> {
    let Ok(Leaf::OperatorAction(action)) = &context.entry.leaf else { return Ok(()) };
    let approvers: Vec<String> = action.false_approvals().map(ToString::to_string).collect();
    if approvers.is_empty() {
        return Ok(());
    }
    Err(format!("{:?}: not signed by {}", action.what, approvers.join(", ")))
}
