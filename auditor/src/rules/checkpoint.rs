//! A checkpoint without the right signature.

use super::{Rule, Severity};

/// A checkpoint without the right signature.
pub const RULE: Rule = Rule {
    id: "GB-LOG-006",
    title: "the checkpoint is not by the key that the policy pins",
    severity: Severity::Violation,
    text: "
Every check starts from a checkpoint that a key of the policy file has signed. What is served here as the log's
checkpoint has no such signature, or one that is wrong, or it is for another origin.
",
    action: "Compare the policy file with the one that the network publishes; if it is right, the server is not the log.",
};
