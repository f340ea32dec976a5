//! Whether a provider may serve: its attestation is judged, and attestation and verdict are logged either way.

use std::collections::BTreeSet;

use glassbloom_spec::{
    hash::Hash,
    id::KeyId,
    judge::{Judgement, judge},
    leaf::{Attestation, Payload, Verdict},
    record::ProviderRecord,
    statement::Statement,
    tile::MAX_ENTRY,
};

use super::Admitted;
use crate::{app::App, bootstrap, liveness::MAX_EXPECTED};

/// Why a provider may not serve, and what its operator can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The first message of a session.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) attestation: Vec<u8>,
    pub(crate) capacity: u32,
    pub(crate) models: Vec<String>,
}

/// Judges a provider. What was refused before logging is a malformed or dead attestation; everything else leaves a
/// verdict that anyone can recompute.
pub(crate) async fn admit(
    app: &App,
    hello: &Hello,
    name: &str,
) -> Result<(Admitted, Vec<ProviderRecord>), Refusal> {
    if hello.capacity == 0 || hello.capacity > MAX_CAPACITY {
        return Err(Refusal::new("bad_capacity", format!("the capacity must be from 1 to {MAX_CAPACITY}")));
    }
    if hello.attestation.len() > MAX_ENTRY {
        let message = format!(
            "the attestation has {} bytes, and the log takes {MAX_ENTRY}: leave out certificates that its format does not ask for",
            hello.attestation.len()
        );
        return Err(Refusal::new("bad_attestation", message));
    }
    if app.sessions.all().len() >= MAX_EXPECTED {
        let message =
            format!("{MAX_EXPECTED} providers serve, and no more can; the provider tries again by itself");
        return Err(Refusal::new("coordinator_full", message));
    }
    let bad =
        |error: String| Refusal::new("bad_attestation", format!("{error}; update the provider's software"));
    let statement = Statement::parse(&hello.attestation).map_err(|error| bad(error.to_string()))?;
    let attestation = Attestation::of(&statement).map_err(|error| bad(error.to_string()))?;
    statement.verify(&attestation.signing_key).map_err(|error| bad(error.to_string()))?;
    if app.clock.now().seconds() >= attestation.not_after {
        let message = format!(
            "the keys expired at {}; restart the provider, which makes new ones",
            attestation.not_after
        );
        return Err(Refusal::new("attestation_expired", message));
    }
    let log = |error: crate::logs::LogError| {
        Refusal::new("log_unavailable", format!("{error}; the provider tries again by itself"))
    };
    let _judging = app.judging.lock().await;
    app.registry.sync().await.map_err(log)?;
    check_not_revoked(app, statement.key_id())?;
    if !app.registry.view().has(&statement) {
        let allowed = app.sessions.may_attest(name, app.clock.now().seconds());
        allowed.map_err(|message| Refusal::new("too_many_attestations", message))?;
    }
    if app.registry.view().release_is_missing(&attestation.build) {
        // A release that was put into the folder while the coordinator ran.
        if let Err(error) = bootstrap::publish_releases(&app.config, &app.registry).await {
            tracing::warn!(error = format!("{error:#}"), "the folder of releases could not be read");
        }
    }
    let (judgement, rules) = {
        let view = app.registry.view();
        let rules = view
            .rules()
            .ok_or_else(|| Refusal::new("no_policy", "the coordinator has no policy in force"))?;
        (judge(&statement, &rules.says, app.registry.policy(), &*view), rules.hash)
    };
    app.registry.ensure(&statement).await.map_err(log)?;
    log_verdict(app, &statement, &judgement, rules).await.map_err(log)?;
    if judgement.tier.is_none() {
        return Err(Refusal::new("not_accepted", refusal_message(&judgement)));
    }
    let (models, records) = records(app, &statement.leaf_hash(), &attestation, &hello.models);
    if models.is_empty() {
        let message = format!(
            "none of the models {:?} is served here with the files that the attestation names; \
             compare the provider's model folder with the coordinator's",
            hello.models
        );
        return Err(Refusal::new("no_model", message));
    }
    let admitted = Admitted {
        attestation: statement.leaf_hash(),
        signing_key: attestation.signing_key,
        key_id: statement.key_id(),
        not_after: attestation.not_after,
        capacity: hello.capacity,
        models,
        name: name.to_owned(),
    };
    Ok((admitted, records))
}

fn check_not_revoked(app: &App, key: KeyId) -> Result<(), Refusal> {
    match app.registry.view().revoked(key) {
        None => Ok(()),
        Some(revocation) => Err(Refusal::new(
            "key_revoked",
            format!(
                "the registry revokes key {key} ({}); delete the provider's keys and start it anew",
                revocation.reason
            ),
        )),
    }
}

async fn log_verdict(
    app: &App,
    statement: &Statement,
    judgement: &Judgement,
    rules: Hash,
) -> Result<(), crate::logs::LogError> {
    let verdict = Verdict {
        policy: rules,
        attestation: statement.leaf_hash(),
        tier: judgement.tier.map(|tier| tier.name().to_owned()),
        reasons: judgement.reasons.clone(),
    };
    let known = app.registry.view().verdict(verdict.attestation).is_some_and(|leaf| leaf.says == verdict);
    if known {
        return Ok(());
    }
    let signed = verdict.sign(&app.signer).expect("a key in memory signs");
    app.registry.ensure(&signed).await
}

/// The aliases that this provider may serve, with a record for each.
fn records(
    app: &App,
    attestation_hash: &Hash,
    attestation: &Attestation,
    aliases: &[String],
) -> (BTreeSet<String>, Vec<ProviderRecord>) {
    let view = app.registry.view();
    let serves = |alias: &&String| {
        view.model(alias).is_some_and(|leaf| attestation.models.contains(&leaf.says.digest()))
    };
    let aliases: BTreeSet<&String> = aliases.iter().filter(serves).collect();
    aliases
        .into_iter()
        .filter_map(|alias| Some((alias.clone(), view.record(attestation_hash, alias)?)))
        .unzip()
}

fn refusal_message(judgement: &Judgement) -> String {
    let reasons: Vec<String> = judgement
        .reasons
        .iter()
        .map(|reason| match advice(reason) {
            Some(advice) => format!("{reason} ({advice})"),
            None => reason.clone(),
        })
        .collect();
    let detail =
        judgement.detail.as_ref().map(|detail| format!(". The evidence: {detail}")).unwrap_or_default();
    format!("the attestation was logged and judged, and may not serve: {}{detail}", reasons.join("; "))
}

/// What an operator can do about a reason. Codes of one family have one cure; exact ones come first.
fn advice(reason: &str) -> Option<&'static str> {
    let exact = match reason {
        "beacon-not-cosigned" | "beacon-not-of-the-registry" => {
            "the provider reads another log than this coordinator's: check its log URL and policy"
        }
        "build-cooling-off" => {
            "the release is too new for rules.cool_off, or the attestation does not prove its age: the provider tries again \
             by itself until it is old enough"
        }
        "build-not-released" => "put a signed release for this build into the coordinator's releases folder",
        "build-not-yet-released" => "wait until the release is in force, or use an older build",
        "code-not-released" => {
            "hardware measured other code than the release names: install the released program, or release this one with its code"
        }
        "enrolment-too-old" => "enrol anew: the rules say how old it may be, see rules.max_enrolment",
        "enrolment-unknown" => {
            "enrol anew: the registry has no such enrolment, for example because it is another network's"
        }
        "endorser-unknown" => {
            "have an auditor of rules.endorsers vouch for the evidence, or add this one to the rules and to the policy file"
        }
        "evidence-unknown" => "this coordinator does not know the format of the evidence; update it",
        "expired" | "lifetime-too-long" => "restart the provider with a life time that the policy allows",
        "model-not-logged" => {
            "the provider has model files that the coordinator does not list: compare the folders"
        }
        "no-models" => "give the provider a model",
        "possession-not-shown" => {
            "neither the evidence nor the sealing key shows that the sealing key is at hand: update the provider's software"
        }
        "tier-not-accepted" => "the policy accepts other evidence: see rules.tiers in coordinator.toml",
        "nonce-mismatch" | "payload-malformed" | "signature-invalid" | "evidence-malformed" => {
            "update the provider's software"
        }
        "app-attest-app" => "this application is not allowed: see rules.apps in coordinator.toml",
        "certificate-root" | "tpm-root" => {
            "the certificates lead to a root that is not pinned: for a TPM, add its maker's root to rules.anchors and to the policy file"
        }
        "certificate-expired" | "certificate-not-yet-valid" | "mda-expired" | "mda-not-yet-valid" => {
            "the certificates do not hold at the time of the beacon: enrol anew, and check the machine's clock"
        }
        "tpm-is-software" => "a software TPM cannot pass for hardware: its root belongs under tpm-soft",
        "tpm-not-endorsed" | "mda-not-endorsed" => {
            "no auditor vouches for this evidence: enrol at one of rules.endorsers"
        }
        "mda-sip-disabled" | "mda-secure-boot" | "mda-kexts-allowed" => {
            "this Mac's security is reduced: start it in recovery, restore full security, and enrol anew"
        }
        _ => "",
    };
    let family = || FAMILIES.iter().find(|(prefix, _)| reason.starts_with(prefix)).map(|(_, advice)| *advice);
    if exact.is_empty() { family() } else { Some(exact) }
}

/// Where the code says what is wrong and the cure is the same.
const FAMILIES: [(&str, &str); 7] = [
    ("app-attest-", "attest anew with the released application; see the page on evidence for this code"),
    (
        "certificate-",
        "the certificates are not what their maker issues: enrol anew, and keep them to the byte",
    ),
    ("endorsement-", "the auditor's word is not about this evidence: enrol anew"),
    ("mda-", "have the management server ask for attestation anew; see the page on evidence for this code"),
    (
        "snp-",
        "start the machine with the released image, and attest anew; see the page on evidence for this code",
    ),
    (
        "tdx-",
        "start the machine with the released image, and attest anew; see the page on evidence for this code",
    ),
    ("tpm-", "make the TPM's keys anew and enrol again; see the page on evidence for this code"),
];

const MAX_CAPACITY: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let judgement = Judgement {
            tier: None,
            reasons: vec!["build-not-released".to_owned(), "odd".to_owned()],
            proven: None,
            detail: None,
        };
        let message = refusal_message(&judgement);
        assert!(message.contains("releases folder") && message.ends_with("; odd"), "{message}");
        assert!(advice("build-cooling-off").unwrap().contains("rules.cool_off"));
        assert!(advice("tpm-nonce").unwrap().contains("enrol again"));
    }
}
