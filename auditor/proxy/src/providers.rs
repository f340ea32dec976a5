//! Who serves, by what evidence, and what that does not prove: the registry's providers as this client's policy sees them.
//!
//! Everything is recomputed from the replayed registry. Evidence is judged twice: by the rules of the coordinator, and
//! with only those believed whom the client's own policy believes. Where the two differ, both are shown.

use std::collections::HashMap;

use glassbloom_auditor::{
    replay::{Before, Entry, Providers, Registry},
    rules::{self, Registered},
};
use glassbloom_spec::{
    evidence::{Claim, Known, Proven},
    hash::Hash,
    id::{KeyId, TreeSize, UnixSeconds},
    identity::{Attested, Conflict, Identities, Link, ProviderId},
    judge::{Judgement, judge},
    leaf::{Attestation, PolicyLeaf, Release, Tier},
    policy::Policy,
};
use serde::Serialize;

/// A provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name for as long as its keys follow each other.
    pub provider: ProviderId,
    /// Whether it may be sealed to.
    pub state: State,
    /// How its keys are backed, as far as this client's policy believes it.
    pub tier: Option<&'static str>,
    /// The same by the coordinator's rules.
    pub tier_by_rules: Option<&'static str>,
    /// The newest attestation.
    pub attestation: Hash,
    /// Its signing key.
    pub key: KeyId,
    /// The machine that the evidence names.
    pub device: Option<Hash>,
    /// When the first attestation's beacon was witnessed.
    pub first_seen: UnixSeconds,
    /// The same of the first one in a row by the present key.
    pub key_since: UnixSeconds,
    /// Until then the keys may be used.
    pub not_after: UnixSeconds,
    /// When the evidence's certificates end; they were valid when it was made.
    pub certificates_end: Option<UnixSeconds>,
    /// What runs, as the provider says or hardware measured.
    pub build: Hash,
    /// The release that covers the build.
    pub release: Option<Version>,
    /// Aliases of the models that it serves.
    pub models: Vec<String>,
    /// What the evidence says, each with who vouches.
    pub claims: Vec<Shown>,
    /// How its attestations follow each other.
    pub continuity: Continuity,
    /// What the evidence leaves open.
    pub not_proven: &'static str,
}

/// Whether a provider may be sealed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Its keys' time is over.
    Expired,
    /// Nothing that was logged or that this policy asks for is against it.
    MayServe,
    /// No verdict about the newest attestation was logged yet.
    NotJudged,
    /// It may not.
    Refused {
        /// Who is against it.
        by: By,
        /// Machine-readable reasons, or a sentence.
        reasons: Vec<String>,
    },
    /// Its key is dead.
    Revoked {
        /// As the revocation says.
        reason: String,
    },
}

/// By what a provider is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The log does not hold together.
    Log,
    /// This client's policy file.
    Policy,
    /// The coordinator's rules.
    Rules,
}

/// A release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// For people.
    pub version: String,
    /// What it is for.
    pub platform: String,
    /// The source that it was built from.
    pub commit: String,
}

/// A claim, and who believes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Stable name.
    pub name: &'static str,
    /// `present`, `absent` or `redacted`.
    pub known: &'static str,
    /// The value, or the commitment to it.
    pub value: Option<String>,
    /// Who vouches for it: self, mdm, apple, tpm, amd, intel or endorser.
    pub by: &'static str,
    /// Whether this client's policy believes those who vouch.
    pub by_policy: bool,
    /// Whether the coordinator's rules do.
    pub by_rules: bool,
}

/// How a provider's attestations follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Continuity {
    /// How many there are.
    pub attestations: usize,
    /// How often the signing key was replaced with the old one's word.
    pub rotations: usize,
    /// Where it claims a past that it does not have, why not.
    pub discontinuity: Option<String>,
    /// Others that claim, without right, to go on from here.
    pub claimed_by: Vec<ProviderId>,
    /// What the newest attestation contradicts.
    pub conflicts: Vec<String>,
}

/// Every provider of a copy of the registry, those that may serve first; with a model, those that attest its files.
pub fn list(registry: &Registry, policy: &Policy, model: Option<&str>, now: UnixSeconds) -> Vec<Listed> {
    let providers = Providers::of(registry, policy);
    let identities = providers.identities();
    let wanted = model.map(|alias| {
        let of_alias = registry.models().filter(|(_, model)| model.alias == alias);
        of_alias.last().map(|(_, model)| model.digest())
    });
    let claimed_by = claims_of_a_past(identities);
    let newest = identities.providers().filter_map(|provider| identities.chain(&provider).next_back());
    let mut listed: Vec<Listed> = newest
        .filter_map(|attested| {
            let (entry, attestation) = registry.attestation(&attested.leaf)?;
            let serves =
                wanted.is_none_or(|digest| digest.is_some_and(|it| attestation.models.contains(&it)));
            let one =
                One { registry, policy, identities, attested, entry, attestation, claimed_by: &claimed_by };
            serves.then(|| one.listed(now))
        })
        .collect();
    listed.sort_by_key(|it| (it.state.rank(), it.first_seen, it.provider));
    listed
}

/// Who claims each provider's past without right.
fn claims_of_a_past(identities: &Identities) -> HashMap<ProviderId, Vec<ProviderId>> {
    let mut claims: HashMap<ProviderId, Vec<ProviderId>> = HashMap::new();
    for attested in identities.attested() {
        if let Some(past) = identities.claimed_past(attested) {
            claims.entry(past).or_default().push(attested.provider);
        }
    }
    claims
}

impl State {
    const fn rank(&self) -> u8 {
        match self {
            Self::MayServe => 0,
            Self::NotJudged => 1,
            Self::Refused { .. } => 2,
            Self::Revoked { .. } => 3,
            Self::Expired => 4,
        }
    }
}

/// One provider under way into the list.
struct One<'a> {
    registry: &'a Registry,
    policy: &'a Policy,
    identities: &'a Identities,
    attested: &'a Attested,
    entry: &'a Entry,
    attestation: &'a Attestation,
    claimed_by: &'a HashMap<ProviderId, Vec<ProviderId>>,
}

impl One<'_> {
    fn listed(&self, now: UnixSeconds) -> Listed {
        let Self { attested, attestation, registry, .. } = *self;
        // As of the verdict, which may know releases and models that came after the attestation.
        let verdict = registry.verdicts(&attested.leaf).next_back();
        let at = verdict.map_or(registry.size(), |(verdict, _)| TreeSize::new(verdict.index.get()));
        let nobody = PolicyLeaf::default();
        let rules = registry.policy_at(at).map_or(&nobody, |(_, rules)| rules);
        let own = self.policy.trust();
        let believed = PolicyLeaf {
            anchors: own.anchors.to_vec(),
            endorsers: own.endorsers.to_vec(),
            apps: own.apps.to_vec(),
            ..rules.clone()
        };
        let (by_rules, by_policy) = (self.judge(rules, at), self.judge(&believed, at));
        let state = self.state(verdict.map(|(entry, _)| entry), &by_rules, &by_policy, now);
        let proven = by_policy.proven.as_ref();
        let tier = proven.map(|proven| proven.tier);
        let chain: Vec<&Attested> = self.identities.chain(&attested.provider).collect();
        let same_key = chain.iter().rev().take_while(|it| it.key == attested.key);
        let models = registry.models().filter(|(_, model)| attestation.models.contains(&model.digest()));
        let mut models: Vec<String> = models.map(|(_, model)| model.alias.clone()).collect();
        models.sort();
        models.dedup();
        Listed {
            provider: attested.provider,
            state,
            tier: tier.map(Tier::name),
            tier_by_rules: by_rules.proven.as_ref().map(|proven| proven.tier.name()),
            attestation: attested.leaf,
            key: attested.key,
            device: proven.and_then(|proven| proven.device),
            first_seen: chain.first().map_or(attested.at, |first| first.at),
            key_since: same_key.last().map_or(attested.at, |first| first.at),
            not_after: attested.not_after,
            certificates_end: proven.and_then(|proven| proven.expires),
            build: attestation.build,
            release: registry.release(&attestation.build).map(|(_, release)| Version::of(release)),
            models,
            claims: claims(proven, by_rules.proven.as_ref()),
            continuity: self.continuity(&chain),
            not_proven: tier.map_or(NOTHING, Tier::does_not_prove),
        }
    }

    fn judge(&self, rules: &PolicyLeaf, size: TreeSize) -> Judgement {
        let view = Before { registry: self.registry, size };
        match &self.entry.statement {
            Some(statement) => judge(statement, rules, self.policy, &view),
            None => Judgement { tier: None, reasons: Vec::new(), proven: None, detail: None },
        }
    }

    fn state(
        &self,
        verdict: Option<&Entry>,
        by_rules: &Judgement,
        by_policy: &Judgement,
        now: UnixSeconds,
    ) -> State {
        let Self { registry, policy, attested, entry, .. } = *self;
        let refused = |by, reason: String| State::Refused { by, reasons: vec![reason] };
        if let Some((_, revocation)) = registry.revocation(&attested.key) {
            return State::Revoked { reason: revocation.reason.clone() };
        }
        if attested.not_after <= now {
            return State::Expired;
        }
        if let Err(detail) = rules::check_beacon(Registered { registry, policy, entry }) {
            return refused(By::Log, detail);
        }
        let Some(verdict) = verdict else { return State::NotJudged };
        if let Err(detail) = rules::check_verdict(Registered { registry, policy, entry: verdict }) {
            return refused(By::Log, format!("the verdict does not follow from the evidence: {detail}"));
        }
        let Some(tier) = by_rules.tier else {
            return State::Refused { by: By::Rules, reasons: by_rules.reasons.clone() };
        };
        if by_policy.tier != Some(tier) {
            let mut reasons = by_policy.reasons.clone();
            if reasons.is_empty() {
                let found = by_policy.tier.map_or("no tier", Tier::name);
                reasons.push(format!("of tier {found} by this policy alone, not of {tier}"));
            }
            return State::Refused { by: By::Policy, reasons };
        }
        if !policy.accepted_tiers().iter().any(|name| name == tier.name()) {
            return refused(By::Policy, format!("a line `accept {tier}` is not in the policy file"));
        }
        State::MayServe
    }

    fn continuity(&self, chain: &[&Attested]) -> Continuity {
        let discontinuity = chain.first().and_then(|first| match first.link {
            Link::Discontinuity(why) => Some(why.to_string()),
            Link::Continued | Link::First | Link::Rotated => None,
        });
        Continuity {
            attestations: chain.len(),
            rotations: chain.iter().filter(|it| it.link == Link::Rotated).count(),
            discontinuity,
            claimed_by: self.claimed_by.get(&self.attested.provider).cloned().unwrap_or_default(),
            conflicts: self.attested.conflicts.iter().map(conflict).collect(),
        }
    }
}

impl Version {
    fn of(release: &Release) -> Self {
        Self {
            version: release.version.clone(),
            platform: release.platform.clone(),
            commit: release.commit.clone(),
        }
    }
}

fn conflict(conflict: &Conflict) -> String {
    match conflict {
        Conflict::DeviceOfTwo { other, .. } => format!("its machine is that of attestation {other}, too"),
        Conflict::KeyOnTwoDevices { role, other } => {
            format!("its {role} key was in another machine in attestation {other}")
        }
        Conflict::KeyOfTwoProviders { role, other } => {
            format!("its {role} key is another provider's, see attestation {other}")
        }
    }
}

/// What either judgement proves, in the order in which people should read it.
fn claims(by_policy: Option<&Proven>, by_rules: Option<&Proven>) -> Vec<Shown> {
    let of = |proven: Option<&Proven>| proven.map(|proven| proven.claims.clone()).unwrap_or_default();
    let (own, theirs) = (of(by_policy), of(by_rules));
    let shown = |claim: &Claim, by_policy, by_rules| {
        let (known, value) = match &claim.value {
            Known::Absent => ("absent", None),
            Known::Present(value) => ("present", Some(value.clone())),
            Known::Redacted(commitment) => ("redacted", Some(commitment.to_string())),
        };
        Shown { name: claim.name, known, value, by: claim.by.name(), by_policy, by_rules }
    };
    let mine = own.iter().map(|claim| shown(claim, true, theirs.contains(claim)));
    let others = theirs.iter().filter(|claim| !own.contains(claim)).map(|claim| shown(claim, false, true));
    mine.chain(others).collect()
}

const NOTHING: &str = "anything: this policy does not believe the evidence";

#[cfg(test)]
pub(crate) mod tests;
