//! Receipts that charge something else than the price.

use super::Received;
use super::{Rule, Severity};

/// Receipts that charge something else than the price.
pub const RULE: Rule = Rule {
    id: "GB-REC-004",
    title: "the charge of a receipt is not what the price table asks",
    severity: Severity::Violation,
    text: "
Token counts and charge are commitments, so the public does not see them; but commitments add up, and anyone can
check that the committed charge is the committed tokens times the prices that the receipt names.
",
    action: "Dispute the charge: the receipt and the price table prove it.",
};

pub(super) fn check(context: Received<'_>) -> Result<(), String> {
    let Received { registry, receipt, .. } = context;
    // A model or price table that is missing is another rule's finding.
    let (Some((_, model)), Some((_, prices))) =
        (registry.model(&receipt.model), registry.price_table(&receipt.prices))
    else {
        return Ok(());
    };
    let price = prices
        .price(&model.alias)
        .ok_or_else(|| format!("the price table has no price for {}", model.alias))?;
    match receipt.charge_matches(price) {
        true => Ok(()),
        false => {
            Err(format!("the committed charge is not the committed tokens at the price of {}", model.alias))
        }
    }
}
