//! A provider: its keys, what vouches for them, and what the registry and the receipts say about it.

use glassbloom_spec::{
    evidence::Proven,
    hash::Hash,
    id::{KeyId, LeafIndex, UnixMillis, UnixSeconds},
    identity::{Identities, Link},
    judge::{Judgement, RegistryView, Released, judge},
    leaf::{Attestation, Model, Payload, PolicyLeaf, Release, Tier, Verdict},
    merkle::root_of,
    policy::Policy,
    receipt::Receipt,
    statement::{Statement, key_id},
};

use super::{Site, Trouble, identity, overview, pin};
use crate::{
    check::{Outcome, Step, sentence},
    describe::{self, Field},
    reader::Fetch,
    registry::{Registry, RegistryEntry},
    route::{LogName, Route},
    time,
};

/// How many of the newest receipts are looked through.
pub const RECEIPTS_SCANNED: u64 = 1024;

/// What the page of a provider shows.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The attestation's leaf hash.
    pub leaf: Hash,
    /// Its entry.
    pub entry: Route,
    /// The signing key.
    pub key: KeyId,
    /// The attestation, field by field.
    pub fields: Vec<Field>,
    /// What its evidence proves, judged here; `None` where it proves nothing.
    pub proven: Option<Proven>,
    /// What the evidence lacks, in words.
    pub lacking: Option<String>,
    /// When it was looked at.
    pub now: UnixMillis,
    /// Its life, newest first.
    pub timeline: Vec<identity::Step>,
    /// The provider's name: leaf hash of its first attestation.
    pub provider: Option<Hash>,
    /// What the coordinator judged.
    pub verdicts: Vec<VerdictLine>,
    /// The models that it serves: alias and entry, or just the digest.
    pub models: Vec<(String, Option<Route>)>,
    /// The release that names its build.
    pub release: Option<(String, Route)>,
    /// The attestation that replaced this one.
    pub successor: Option<Route>,
    /// The keys are not to be used from then on.
    pub not_after: UnixSeconds,
    /// Its receipts among the newest.
    pub receipts: Receipts,
    /// Every check.
    pub outcome: Outcome,
    /// The checkpoint to keep as seen last: origin and note.
    pub keep: Option<(String, Vec<u8>)>,
}

/// A verdict about a provider.
#[derive(Clone, Debug)]
pub struct VerdictLine {
    /// The verdict's entry.
    pub route: Route,
    /// What it says.
    pub text: String,
}

/// A provider's receipts.
#[derive(Clone, Debug)]
pub enum Receipts {
    /// How many there are among the newest, and the newest of them.
    Counted {
        /// Receipts of this provider.
        count: usize,
        /// Receipts looked through.
        among: u64,
        /// The newest few.
        newest: Vec<Route>,
    },
    /// The receipts log could not be read.
    Unknown(String),
}

/// Loads a provider. `kept` gives the note that was seen last of an origin.
///
/// # Errors
/// When the registry cannot be read and verified, or has no such attestation.
pub async fn load<F: Fetch + Clone>(
    site: &Site<F>,
    leaf: Hash,
    kept: impl Fn(&str) -> Option<String>,
    now: UnixMillis,
) -> Result<Provider, Trouble> {
    let (checkpoint, registry) = site.registry().await?;
    let log = site.log(LogName::Registry)?;
    let continuity = pin::compare(site.policy(), kept(&log.origin).as_deref(), &log, &checkpoint).await;
    let found = registry.by_leaf(&leaf).and_then(|entry| Some((entry, entry.statement.as_ref()?)));
    let Some((entry, statement)) = found else { return Err(no_such_provider(&leaf)) };
    let Ok(attestation) = Attestation::of(statement) else { return Err(no_such_provider(&leaf)) };
    let key = key_id(&attestation.signing_key);

    let mut steps = overview::checkpoint_steps(site, &checkpoint, now);
    steps.push(continuity.step());
    steps.push(
        Step::verified(
            "Attestation in the registry",
            format!("Entry {} of {}, every one hashed again.", entry.index, registry.size()),
        )
        .with_bytes(statement.bytes()),
    );
    steps.push(Step::of(
        "Signed by its own key",
        &statement.verify(&attestation.signing_key),
        "The provider holds the signing key.",
    ));
    steps.push(beacon_step(site.policy(), &attestation, &registry));
    steps.push(if attestation.nonce == attestation.expected_nonce() {
        Step::verified("Keys bound to the evidence", "The nonce is derived from the beacon and both keys.")
    } else {
        Step::failed(
            "Keys bound to the evidence",
            "The nonce is not derived from the beacon and both keys: the evidence may be another's.",
        )
    });
    let judged = judge_anew(site.policy(), statement, entry, &registry);
    steps.push(verdict_step(&judged));
    let identities = identity::identities(site.policy(), &registry);
    steps.push(continuity_step(&identities, &leaf));
    steps.push(match registry.revocation(key) {
        Some((by, revocation)) => Step::failed(
            "Not revoked",
            format!("Registry entry {} revokes the key: {}", by.index, revocation.reason),
        ),
        None => Step::verified(
            "Not revoked",
            format!("None of the {} registry entries revokes the key.", registry.size()),
        ),
    });
    steps.push(if now.seconds() < attestation.not_after {
        Step::verified("Keys in use", format!("Until {}.", time::local(attestation.not_after)))
    } else {
        Step::failed("Keys in use", format!("They expired {}.", time::ago(attestation.not_after, now)))
    });

    Ok(Provider {
        leaf,
        entry: describe::registry_entry(entry.index),
        key,
        fields: describe::fields(statement, Some(&registry))
            .map_err(|error| malformed(&error.to_string()))?,
        lacking: judged.as_ref().ok().and_then(|judged| judged.judgement.detail.clone()),
        now,
        timeline: identity::timeline(&identities, &leaf),
        provider: identities.provider_of(&leaf).map(|provider| provider.0),
        proven: judged.ok().and_then(|judged| judged.judgement.proven),
        verdicts: verdicts(&registry, &leaf),
        models: attestation.models.iter().map(|digest| model_line(&registry, digest)).collect(),
        release: release_of(&registry, &attestation.build, u64::MAX)
            .map(|(entry, release)| (release.version, describe::registry_entry(entry.index))),
        successor: registry
            .all::<Attestation>()
            .find(|(_, it)| it.previous == Some(leaf))
            .map(|(entry, _)| Route::Provider(entry.leaf)),
        not_after: attestation.not_after,
        receipts: receipts(site, &leaf).await,
        keep: continuity.keep(&checkpoint),
        outcome: Outcome::of(
            steps,
            "Its keys are logged, its evidence gives the logged verdict when judged anew, and nothing revokes it.",
        ),
    })
}

fn no_such_provider(leaf: &Hash) -> Trouble {
    Trouble {
        title: "No such provider".to_owned(),
        cause: format!("The registry has no attestation with leaf hash {leaf}."),
        next: "If the link came with a receipt, it may be of another network: check the log and policy of this page.".to_owned(),
    }
}

fn malformed(error: &str) -> Trouble {
    Trouble {
        title: "The attestation is malformed".to_owned(),
        cause: sentence(error),
        next: "Look at its entry in the registry.".to_owned(),
    }
}

/// Whether the evidence was made after a checkpoint of this registry.
fn beacon_step(policy: &Policy, attestation: &Attestation, registry: &Registry) -> Step {
    const NAME: &str = "Made after a witnessed checkpoint";
    let beacon = match policy.open(None, &attestation.beacon.checkpoint) {
        Ok(beacon) if beacon.origin().ends_with("/registry") => beacon,
        Ok(beacon) => {
            return Step::failed(
                NAME,
                format!("The beacon is a checkpoint of {}, not of the registry.", beacon.origin()),
            );
        }
        Err(error) => return Step::failed(NAME, sentence(&error.to_string())),
    };
    let size = usize::try_from(beacon.size().get()).unwrap_or(usize::MAX);
    if size > registry.entries().len()
        || root_of(registry.entries().iter().take(size).map(|entry| entry.leaf)) != beacon.root()
    {
        return Step::failed(NAME, "The beacon is a checkpoint of another registry than the one you see.");
    }
    Step::verified(
        NAME,
        format!("The registry of {size} entries, witnessed {}.", time::local(beacon.cosigned_at())),
    )
    .with_bytes(&attestation.beacon.checkpoint)
}

/// The registry before an entry, for judging what a coordinator could know.
struct Before<'a> {
    registry: &'a Registry,
    index: u64,
}

impl RegistryView for Before<'_> {
    fn release(&self, build: &Hash) -> Option<Released> {
        let (entry, says) = release_of(self.registry, build, self.index)?;
        Some(Released { says, statement: entry.statement.as_ref()?.bytes().to_vec() })
    }

    fn attestation(&self, leaf: &Hash) -> Option<Attestation> {
        let entry = self.registry.by_leaf(leaf).filter(|entry| entry.index.get() < self.index)?;
        Attestation::of(entry.statement.as_ref().filter(|_| entry.authority.is_known())?).ok()
    }

    fn has_model(&self, digest: &Hash) -> bool {
        let before = self.registry.all::<Model>().filter(|(entry, _)| entry.index.get() < self.index);
        before.into_iter().any(|(_, model)| model.digest() == *digest)
    }
}

fn release_of<'a>(registry: &'a Registry, build: &Hash, before: u64) -> Option<(&'a RegistryEntry, Release)> {
    registry.all::<Release>().find(|(entry, release)| entry.index.get() < before && release.build == *build)
}

/// A logged verdict, and what judging anew gives.
pub(super) struct Judged {
    by: LeafIndex,
    verdict: Verdict,
    pub(super) judgement: Judgement,
}

/// Judges an attestation anew, as of its last verdict and under the rules which that names.
///
/// # Errors
/// In words, when there is nothing to compare with.
pub(super) fn judge_anew(
    policy: &Policy,
    statement: &Statement,
    entry: &RegistryEntry,
    registry: &Registry,
) -> Result<Judged, &'static str> {
    let (by, verdict) = registry
        .all::<Verdict>()
        .filter(|(_, verdict)| verdict.attestation == entry.leaf)
        .last()
        .ok_or("No coordinator has judged this attestation yet.")?;
    let rules = registry
        .by_leaf(&verdict.policy)
        .and_then(|rules| PolicyLeaf::of(rules.statement.as_ref()?).ok())
        .ok_or("The registry does not have the policy that the verdict names.")?;
    let judgement = judge(statement, &rules, policy, &Before { registry, index: by.index.get() });
    Ok(Judged { by: by.index, verdict, judgement })
}

/// Compares what was logged with the judgement made here.
fn verdict_step(judged: &Result<Judged, &'static str>) -> Step {
    const NAME: &str = "Verdict recomputed";
    let Judged { by, verdict, judgement } = match judged {
        Ok(judged) => judged,
        Err(why) => return Step::not_verifiable(NAME, *why),
    };
    let (tier, reasons) = (judgement.tier, &judgement.reasons);
    if tier.map(Tier::name) != verdict.tier.as_deref() || *reasons != verdict.reasons {
        let found = tier
            .map_or_else(|| format!("may not serve ({})", reasons.join(", ")), |tier| format!("tier {tier}"));
        return Step::failed(
            NAME,
            format!(
                "Judged anew it comes to {found}, but registry entry {by} says {}.",
                verdict_text(verdict)
            ),
        );
    }
    match tier {
        Some(tier) => {
            Step::verified(NAME, format!("Judged anew it comes to tier {tier}, as registry entry {by} says."))
        }
        None => Step::failed(
            NAME,
            format!("Judged anew it may not serve, as registry entry {by} says: {}.", reasons.join(", ")),
        ),
    }
}

/// Whether the attestation goes on with an identity, and shares nothing with another.
fn continuity_step(identities: &Identities, leaf: &Hash) -> Step {
    const NAME: &str = "Identity";
    let Some(attested) = identities.get(leaf) else {
        return Step::not_verifiable(NAME, "The registry does not say who this is.");
    };
    let others = attested.conflicts.len();
    match (&attested.link, others) {
        (_, 1..) => {
            Step::failed(NAME, "It shares a device or a key with another provider: one of them is borrowed.")
        }
        (Link::Discontinuity(why), _) => {
            Step::not_verifiable(NAME, format!("A discontinuity, so a new identity: {why}."))
        }
        (Link::First, _) => Step::verified(NAME, "The first attestation of a provider."),
        (Link::Continued, _) => Step::verified(NAME, "The same signing key as before."),
        (Link::Rotated, _) => Step::verified(NAME, "A new signing key, counter-signed by the one before."),
    }
}

fn verdict_text(verdict: &Verdict) -> String {
    verdict.tier.as_ref().map_or_else(
        || format!("may not serve: {}", verdict.reasons.join(", ")),
        |tier| format!("may serve as {tier}"),
    )
}

fn verdicts(registry: &Registry, leaf: &Hash) -> Vec<VerdictLine> {
    let about = registry.all::<Verdict>().filter(|(_, verdict)| verdict.attestation == *leaf);
    about
        .map(|(entry, verdict)| VerdictLine {
            route: describe::registry_entry(entry.index),
            text: verdict_text(&verdict),
        })
        .collect()
}

fn model_line(registry: &Registry, digest: &Hash) -> (String, Option<Route>) {
    match registry.all::<Model>().find(|(_, model)| model.digest() == *digest) {
        Some((entry, model)) => (model.alias, Some(describe::registry_entry(entry.index))),
        None => (format!("{} (not in the registry)", describe::short(digest)), None),
    }
}

async fn receipts<F: Fetch + Clone>(site: &Site<F>, leaf: &Hash) -> Receipts {
    match newest_receipts(site, leaf).await {
        Ok(receipts) => receipts,
        Err(trouble) => Receipts::Unknown(trouble.cause),
    }
}

async fn newest_receipts<F: Fetch + Clone>(site: &Site<F>, leaf: &Hash) -> Result<Receipts, Trouble> {
    let log = site.log(LogName::Receipts)?;
    let (_, opened) = site.checkpoint(&log).await.map_err(|error| Trouble::unreachable(&error))?;
    let size = opened.map_err(|error| super::site::not_opened(&error))?.size();
    let range = size.get().saturating_sub(RECEIPTS_SCANNED)..size.get();
    let among = range.end - range.start;
    let entries = log.reader.entries(range, size).await.map_err(|error| Trouble::read(&error))?;
    let by_it = |entry: &[u8]| {
        let receipt = Statement::parse(entry).ok().and_then(|statement| Receipt::of(&statement).ok());
        receipt.is_some_and(|receipt| receipt.attestation == *leaf)
    };
    let mine: Vec<_> = entries
        .iter()
        .filter(|(_, entry)| by_it(entry))
        .map(|(index, _)| Route::Entry(LogName::Receipts, *index))
        .collect();
    Ok(Receipts::Counted { count: mine.len(), among, newest: mine.into_iter().rev().take(5).collect() })
}
