//! Statements by someone who has no say in the matter.

use super::{Rule, Severity};

/// Statements by someone who has no say in the matter.
pub const RULE: Rule = Rule {
    id: "GB-STMT-002",
    title: "a statement is not signed by the key that may say this",
    severity: Severity::Violation,
    text: "
An attestation is signed by the key it announces; a revocation by the revoked key or by a coordinator; releases by a
release key; everything else by a coordinator key of the policy file. The statement names another key, or its
signature does not verify. It has no effect: no verifier of ours acts on it.
",
    action: "Ignore the entry; if a key was rotated, get the new policy file from the network's publisher.",
};
