//! Who is who: the registry's attestations sorted by provider, each judged here.

use glassbloom_spec::{
    evidence::Proven,
    hash::Hash,
    id::UnixSeconds,
    identity::{Attested, Identities, Link},
    leaf::{Attestation, Payload, Release, Revocation, Verdict},
    policy::Policy,
};

use super::{overview::ProviderLine, provider::judge_anew};
use crate::{
    describe,
    registry::{Registry, RegistryEntry},
    route::Route,
};

/// One step in a provider's life.
#[derive(Clone, Debug)]
pub struct Step {
    /// The attestation's page.
    pub route: Route,
    /// When its beacon was witnessed.
    pub at: UnixSeconds,
    /// What it was, in words.
    pub what: String,
    /// Whether people should look at it: a discontinuity or a conflict.
    pub is_odd: bool,
}

/// Every attestation that its own key signed, sorted by provider, as of the registry's end.
pub fn identities(policy: &Policy, registry: &Registry) -> Identities {
    let mut found = Identities::new();
    for entry in registry.entries().iter().filter(|entry| entry.authority.is_known()) {
        let Some(statement) = &entry.statement else { continue };
        if let Ok(attestation) = Attestation::of(statement) {
            let at = policy
                .open(None, &attestation.beacon.checkpoint)
                .map_or(UnixSeconds::new(0), |beacon| beacon.cosigned_at());
            let proven = proven(policy, registry, entry);
            found.push(entry.leaf, entry.index, at, &attestation, proven.as_ref());
        } else if let Ok(revocation) = Revocation::of(statement) {
            found.revoke(revocation.key);
        }
    }
    found
}

/// What an attestation's evidence proves, judged here.
pub fn proven(policy: &Policy, registry: &Registry, entry: &RegistryEntry) -> Option<Proven> {
    judge_anew(policy, entry.statement.as_ref()?, entry, registry).ok()?.judgement.proven
}

/// One line for each provider, the one that attested last first.
pub(super) fn lines(policy: &Policy, registry: &Registry) -> Vec<ProviderLine> {
    let identities = identities(policy, registry);
    let mut newest: Vec<&Attested> =
        identities.providers().filter_map(|provider| identities.chain(&provider).next_back()).collect();
    newest.sort_by_key(|attested| std::cmp::Reverse(attested.index));
    newest.into_iter().filter_map(|attested| line(policy, registry, &identities, attested)).collect()
}

fn line(
    policy: &Policy,
    registry: &Registry,
    identities: &Identities,
    newest: &Attested,
) -> Option<ProviderLine> {
    let entry = registry.by_leaf(&newest.leaf)?;
    let attestation = Attestation::of(entry.statement.as_ref()?).ok()?;
    let tier = proven(policy, registry, entry).map(|proven| proven.tier);
    let verdict = registry.all::<Verdict>().filter(|(_, it)| it.attestation == newest.leaf).last();
    let status = match (identities.is_revoked(&newest.key), verdict) {
        (true, _) => "revoked",
        (false, Some((_, verdict))) if verdict.tier.is_some() => "may serve",
        (false, Some(_)) => "may not serve",
        (false, None) => "not judged yet",
    };
    let first = identities.chain(&newest.provider).next()?;
    let release = registry.all::<Release>().find(|(_, release)| release.build == attestation.build);
    Some(ProviderLine {
        route: Route::Provider(newest.leaf),
        name: describe::short(&newest.provider.0),
        tier: tier.map_or_else(|| "nothing proven".to_owned(), |tier| tier.to_string()),
        status: status.to_owned(),
        since: first.at,
        build: release.map_or_else(
            || format!("unknown build {}", describe::short(&attestation.build)),
            |(_, release)| format!("release {}", release.version),
        ),
        not_proven: tier.map_or("anything at all", |tier| tier.does_not_prove()),
    })
}

/// A provider's life up to now: every attestation of its chain, and what was odd about it.
pub(super) fn timeline(identities: &Identities, leaf: &Hash) -> Vec<Step> {
    let Some(provider) = identities.provider_of(leaf) else { return Vec::new() };
    identities.chain(&provider).rev().map(step).collect()
}

fn step(attested: &Attested) -> Step {
    let mut what = match &attested.link {
        Link::First => "First attestation: a new provider.".to_owned(),
        Link::Continued => "Attested again, with the same signing key.".to_owned(),
        Link::Rotated => "A new signing key, counter-signed by the one before.".to_owned(),
        Link::Discontinuity(why) => format!("A discontinuity: {why}."),
    };
    if !attested.conflicts.is_empty() {
        what.push_str(" It shares a device or a key with another provider, which must not be.");
    }
    let is_odd = matches!(attested.link, Link::Discontinuity(_)) || !attested.conflicts.is_empty();
    Step { route: Route::Provider(attested.leaf), at: attested.at, what, is_odd }
}
