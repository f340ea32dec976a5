//! Receipts by someone else.

use super::Received;
use super::{Rule, Severity};

/// Receipts by someone else.
pub const RULE: Rule = Rule {
    id: "GB-REC-002",
    title: "a receipt is not signed by the key of the attestation it names",
    severity: Severity::Violation,
    text: "
The signing key that an attestation announces signs the receipts of that provider. Only the holder of that key can
have answered; a receipt by another key says nothing about the attested machine.
",
    action: "Treat the answer as coming from an unknown machine; keep the receipt as evidence against the coordinator that logged it.",
};

pub(super) fn check(context: Received<'_>) -> Result<(), String> {
    let Received { registry, receipt, statement, .. } = context;
    // An attestation that is missing is another rule's finding.
    let Some((_, attestation)) = registry.attestation(&receipt.attestation) else { return Ok(()) };
    statement.verify(&attestation.signing_key).map_err(|error| error.to_string())
}
