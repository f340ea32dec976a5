//! Judgements that do not follow from the evidence.

use glassbloom_spec::{id::TreeSize, judge::judge, leaf::Tier};

use super::Registered;
use super::{Rule, Severity};
use crate::replay::{Before, Leaf};

/// Judgements that do not follow from the evidence.
pub const RULE: Rule = Rule {
    id: "GB-VER-001",
    title: "a verdict is not what the evidence gives",
    severity: Severity::Violation,
    text: "
A verdict says which tier an attestation has under the policy leaf in force. Anybody can recompute it: the checks
use no clock and no secret, only what is in the registry before the verdict. The recomputed tier or reasons differ
from the logged ones, or the verdict is given under a policy that is not in force.
",
    action: "Do not rely on the coordinator's judgement; seal only to providers whose evidence your own proxy accepts.",
};

/// Judges anew what a verdict is about; anything else is no verdict.
///
/// # Errors
/// With what differs.
pub fn check(context: Registered<'_>) -> Result<(), String> {
    let Registered { entry, registry, policy } = context;
    let Ok(Leaf::Verdict(verdict)) = &entry.leaf else { return Ok(()) };
    let before = TreeSize::new(entry.index.get());
    let (attested, _) = registry
        .attestation(&verdict.attestation)
        .filter(|(attested, _)| attested.index < entry.index)
        .ok_or_else(|| format!("no attestation {} before it", verdict.attestation))?;
    let (in_force, rules) = registry.policy_at(before).ok_or("no policy leaf is in force")?;
    if verdict.policy != in_force.leaf_hash {
        return Err(format!("given under policy {}, in force is {}", verdict.policy, in_force.leaf_hash));
    }
    let statement = attested.statement.as_ref().ok_or("the attestation does not parse")?;
    let judgement = judge(statement, rules, policy, &Before { registry, size: before });
    let tier = judgement.tier.map(Tier::name);
    if verdict.tier.as_deref() == tier && verdict.reasons == judgement.reasons {
        return Ok(());
    }
    Err(format!(
        "logged: tier {}, reasons [{}]; recomputed: tier {}, reasons [{}]",
        verdict.tier.as_deref().unwrap_or("none"),
        verdict.reasons.join(", "),
        tier.unwrap_or("none"),
        judgement.reasons.join(", ")
    ))
}
