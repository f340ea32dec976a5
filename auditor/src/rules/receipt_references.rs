//! Receipts about things that do not exist.

use glassbloom_spec::hash::Hash;

use super::Received;
use super::{Rule, Severity};
use crate::replay::Entry;

/// Receipts about things that do not exist.
pub const RULE: Rule = Rule {
    id: "GB-REC-001",
    title: "a receipt refers to something that is not in the registry, or was not live",
    severity: Severity::Violation,
    text: "
A receipt names, by leaf hash, the attestation of the provider, the model, the policy and the prices. Each must be in
the registry below the size that the receipt relies on, as a statement that counts; the attestation must have a
verdict that grants a tier, must not have expired when the request came, and must cover the model's files.
",
    action: "Treat the answer as coming from an unknown machine; dispute the charge with the receipt at hand.",
};

pub(super) fn check(context: Received<'_>) -> Result<(), String> {
    let Received { registry, receipt, .. } = context;
    let size = receipt.registry.0;
    let known = |name: &str, hash: &Hash, entry: Option<&Entry>| {
        let before = entry.is_some_and(|entry| entry.index.get() < size.get());
        if before { Ok(()) } else { Err(format!("no {name} {hash} in the registry below size {size}")) }
    };
    let attested = registry.attestation(&receipt.attestation);
    let modelled = registry.model(&receipt.model);
    known("attestation", &receipt.attestation, attested.map(|(entry, _)| entry))?;
    known("model", &receipt.model, modelled.map(|(entry, _)| entry))?;
    known("policy", &receipt.policy, registry.policy(&receipt.policy).map(|(entry, _)| entry))?;
    known("price table", &receipt.prices, registry.price_table(&receipt.prices).map(|(entry, _)| entry))?;
    let (Some((_, attestation)), Some((_, model))) = (attested, modelled) else { return Ok(()) };
    let verdict =
        registry.verdicts(&receipt.attestation).rev().find(|(entry, _)| entry.index.get() < size.get());
    if verdict.is_none_or(|(_, verdict)| verdict.tier.is_none()) {
        return Err(format!("attestation {} had no verdict that grants a tier", receipt.attestation));
    }
    let began = receipt.times[0].get().saturating_mul(60);
    if began >= attestation.not_after.get() {
        return Err(format!(
            "the attestation expired at {}, the request came at {began}",
            attestation.not_after
        ));
    }
    if !attestation.models.contains(&model.digest()) {
        return Err(format!("the attestation does not cover the files of model {}", model.alias));
    }
    Ok(())
}
