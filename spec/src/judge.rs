//! What a `verdict` leaf must say about an attestation: recomputed by anyone, from the registry alone.

use crate::{
    evidence::{self, Bound, Enrolled, Proven, Refused, Trust},
    hash::Hash,
    leaf::{Attestation, Payload, PolicyLeaf, Release, Tier, possession_message},
    policy::{Checkpoint, Policy},
    proof::TlogProof,
    statement::Statement,
};

/// A release statement as it was logged, with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// What it says.
    pub says: Release,
    /// The statement, to the byte.
    pub statement: Vec<u8>,
}

/// What judging an attestation needs of the registry before it.
pub trait RegistryView {
    /// The first release statement for a build that [enough keys](Policy::trusts_release) stand behind.
    fn release(&self, build: &Hash) -> Option<Released>;
    /// Whether a model statement, by a coordinator the policy trusts, has these files.
    fn has_model(&self, digest: &Hash) -> bool;
    /// An attestation by its leaf hash, signed by the signing key in it.
    fn attestation(&self, leaf: &Hash) -> Option<Attestation>;
}

/// What a `verdict` leaf must say about an attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The tier found, when it may serve.
    pub tier: Option<Tier>,
    /// Machine-readable reasons against, in order of the checks.
    pub reasons: Vec<String>,
    /// What the evidence proves, where it proves something; it may still be refused for other reasons.
    pub proven: Option<Proven>,
    /// What the evidence lacks, in words.
    pub detail: Option<String>,
}

/// Judges an attestation under the rules of a policy leaf. Anyone who replays the registry gets the same.
///
/// The time it is judged by is the beacon's: the checks use no clock.
pub fn judge(
    statement: &Statement,
    rules: &PolicyLeaf,
    policy: &Policy,
    registry: &dyn RegistryView,
) -> Judgement {
    let refuse =
        |reason: &str| Judgement { tier: None, reasons: vec![reason.to_owned()], proven: None, detail: None };
    let Ok(attestation) = Attestation::of(statement) else { return refuse("payload-malformed") };
    if statement.verify(&attestation.signing_key).is_err() {
        return refuse("signature-invalid");
    }
    let Ok(beacon) = policy.open(None, &attestation.beacon.checkpoint) else {
        return refuse("beacon-not-cosigned");
    };
    let mut reasons = Vec::new();
    let mut unless = |holds: bool, reason: &str| {
        if !holds {
            reasons.push(reason.to_owned());
        }
    };
    unless(beacon.origin().ends_with("/registry"), "beacon-not-of-the-registry");
    unless(attestation.nonce == attestation.expected_nonce(), "nonce-mismatch");
    let made = beacon.cosigned_at();
    let proven = enrolment(&attestation, rules, policy, registry, &beacon)
        .and_then(|enrolled| prove(&attestation, &beacon, enrolled, &rules.trust()));
    let (proven, detail) = match proven {
        Ok(proven) => (Some(proven), None),
        Err(refused) => {
            unless(false, refused.reason);
            (None, Some(refused.detail))
        }
    };
    unless(
        proven.as_ref().is_none_or(|proven| holds_sealing_key(&attestation, Some(proven))),
        "possession-not-shown",
    );
    let tier = proven.as_ref().map(|proven| proven.tier);
    unless(tier.is_none_or(|tier| rules.tiers.iter().any(|name| name == tier.name())), "tier-not-accepted");
    unless(attestation.not_after > made, "expired");
    unless(attestation.not_after.get() <= made.get().saturating_add(rules.max_lifetime), "lifetime-too-long");
    match registry.release(&attestation.build) {
        None => unless(false, "build-not-released"),
        Some(release) => {
            unless(release.says.not_before <= made, "build-not-yet-released");
            unless(has_cooled_off(&attestation, &release, rules, policy, &beacon), "build-cooling-off");
            let measured = proven.as_ref().and_then(|proven| proven.code.as_ref());
            unless(measured.is_none_or(|code| release.says.code == Some(code.digest())), "code-not-released");
        }
    }
    unless(!attestation.models.is_empty(), "no-models");
    unless(attestation.models.iter().all(|digest| registry.has_model(digest)), "model-not-logged");
    Judgement { tier: tier.filter(|_| reasons.is_empty()), reasons, proven, detail }
}

/// What an attestation's evidence proves to someone with this trust.
pub(crate) fn prove(
    attestation: &Attestation,
    beacon: &Checkpoint,
    enrolled: Option<Enrolled>,
    trust: &Trust,
) -> Result<Proven, Refused> {
    let bound = Bound {
        nonce: attestation.nonce,
        signing_key: &attestation.signing_key,
        sealing_key: attestation.key_config.public_key(),
        at: beacon.cosigned_at(),
        enrolled,
    };
    evidence::verify(&attestation.evidence.format, &attestation.evidence.bytes, &bound, trust)
}

/// Where the lasting part of the evidence was logged first, for an attestation that says so.
pub(crate) fn enrolment(
    attestation: &Attestation,
    rules: &PolicyLeaf,
    policy: &Policy,
    registry: &dyn RegistryView,
    beacon: &Checkpoint,
) -> Result<Option<Enrolled>, Refused> {
    let Some(leaf) = attestation.enrolment else { return Ok(None) };
    let unknown = |detail: &str| Refused::new("enrolment-unknown", detail);
    let first = registry
        .attestation(&leaf)
        .ok_or_else(|| unknown("the registry has no attestation with the leaf hash that this one names"))?;
    if first.enrolment.is_some() {
        return Err(unknown("the attestation that it names did not enrol itself"));
    }
    let lasting = |of: &Attestation| evidence::lasting(&of.evidence.format, &of.evidence.bytes);
    if first.evidence.format != attestation.evidence.format
        || lasting(&first).is_none()
        || lasting(&first) != lasting(attestation)
    {
        return Err(unknown("the attestation that it names carries other evidence"));
    }
    if first.nonce != first.expected_nonce() {
        return Err(unknown("the attestation that it names has another nonce than its beacon gives"));
    }
    let made = policy
        .open(Some(beacon.origin()), &first.beacon.checkpoint)
        .map_err(|error| unknown(&format!("the beacon of the attestation that it names: {error}")))?
        .cosigned_at();
    let age = beacon.cosigned_at().get().saturating_sub(made.get());
    if made > beacon.cosigned_at() || (rules.max_enrolment != 0 && age > rules.max_enrolment) {
        let detail = format!("enrolled {age} s before, and the rules allow {} s", rules.max_enrolment);
        return Err(Refused::new("enrolment-too-old", detail));
    }
    Ok(Some(Enrolled { nonce: first.nonce, at: made, signing_key: first.signing_key }))
}

/// Whether whoever made the attestation showed that the sealing key is at hand.
pub(crate) fn holds_sealing_key(attestation: &Attestation, proven: Option<&Proven>) -> bool {
    match &attestation.possession {
        Some(signature) => attestation
            .key_config
            .public_key()
            .verify(&possession_message(attestation.nonce), signature)
            .is_ok(),
        None => proven.is_some_and(|proven| proven.holds_sealing_key),
    }
}

/// Whether the release was in the log for as long as the rules ask, by a checkpoint that witnesses signed back then.
fn has_cooled_off(
    attestation: &Attestation,
    release: &Released,
    rules: &PolicyLeaf,
    policy: &Policy,
    beacon: &Checkpoint,
) -> bool {
    if rules.cool_off == 0 {
        return true;
    }
    let Some(proof) = attestation.release_proof.as_deref().and_then(|proof| TlogProof::parse(proof).ok())
    else {
        return false;
    };
    let Ok(seen) = policy.open(Some(beacon.origin()), &proof.checkpoint) else { return false };
    let included = seen.includes(release.statement.clone(), proof.index, &proof.hashes).is_ok();
    included && seen.cosigned_at().get().saturating_add(rules.cool_off) <= beacon.cosigned_at().get()
}
