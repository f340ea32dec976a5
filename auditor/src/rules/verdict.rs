//! Judgements that do not follow from the evidence.

use glassbloom_spec::{
    hash::Hash,
    id::TreeSize,
    judge::{RegistryView, Released, judge},
    leaf::{Attestation, Tier},
};

use super::Registered;
use super::Rule;
use crate::replay::{Leaf, Registry};

/// Judgements that do not follow from the evidence.
pub const RULE: Rule = Rule {
    id: "GB-VER-001",
    title: "a verdict is not what the evidence gives",
    text: "
A verdict says which tier an attestation has under the policy leaf in force. Anybody can recompute it: the checks
use no clock and no secret, only what is in the registry before the verdict. The recomputed tier or reasons differ
from the logged ones, or the verdict is given under a policy that is not in force.
",
    action: "Do not rely on the coordinator's judgement; seal only to providers whose evidence your own proxy accepts.",
};

pub(super) fn check(context: Registered<'_>) -> Result<(), String> {
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
    let judgement = judge(statement, rules, policy, &View { registry, before });
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

/// The registry as the coordinator had it when it judged.
struct View<'a> {
    registry: &'a Registry,
    before: TreeSize,
}

impl RegistryView for View<'_> {
    fn release(&self, build: &Hash) -> Option<Released> {
        let mut releases =
            self.registry.releases().take_while(|(entry, _)| entry.index.get() < self.before.get());
        releases
            .find(|(_, release)| release.build == *build)
            .map(|(entry, release)| Released { says: release.clone(), statement: entry.bytes.clone() })
    }

    fn attestation(&self, leaf: &Hash) -> Option<Attestation> {
        let (_, attestation) =
            self.registry.attestation(leaf).filter(|(entry, _)| entry.index.get() < self.before.get())?;
        Some(attestation.clone())
    }

    fn has_model(&self, digest: &Hash) -> bool {
        let mut models =
            self.registry.models().take_while(|(entry, _)| entry.index.get() < self.before.get());
        models.any(|(_, model)| model.digest() == *digest)
    }
}
