//! Decides whether a provider may be sealed to, in named steps that people can read.
//!
//! # In scope
//! Verifying everything the registry says about a provider under the client's own policy ([`Policy::verify`]).
//!
//! # Out of scope
//! Fetching: a caller says what it found out about continuity and revocation in [`Known`], or that it could not.

use core::fmt;

use crate::{
    curve::PublicKey,
    evidence::{Proven, Refused},
    hash::Hash,
    id::{TreeSize, UnixMillis},
    judge::{self, RegistryView, Released},
    leaf::{Attestation, LeafError, Model, Payload, PolicyLeaf, Price, PriceTable, Release, Tier, Verdict},
    policy::{Checkpoint, OpenError, Policy},
    record::{LeafProof, ProviderRecord},
    statement::Statement,
};

/// What became of a check. Never two states: what could not be checked is neither good nor bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It was checked here, and does not hold.
    Failed,
    /// It could not be checked with what is at hand.
    NotVerifiable,
    /// It was checked here, and holds.
    Verified,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Failed => "failed",
            Self::NotVerifiable => "not verifiable",
            Self::Verified => "verified",
        })
    }
}

/// One named check and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// Stable name.
    pub name: String,
    /// What became of it.
    pub state: State,
    /// Why, in words.
    pub detail: String,
}

/// The checks made, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Report(Vec<Step>);

impl Report {
    /// No checks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a check.
    pub fn push(&mut self, name: &str, state: State, detail: impl Into<String>) {
        self.0.push(Step { name: name.to_owned(), state, detail: detail.into() });
    }

    /// The checks in order.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Failed if anything failed, else verified if anything was; what is not verifiable shows in its own step, and
    /// where nothing was checked, nothing is verified.
    pub fn state(&self) -> State {
        let has = |state| self.0.iter().any(|step| step.state == state);
        match (has(State::Failed), has(State::Verified)) {
            (true, _) => State::Failed,
            (false, true) => State::Verified,
            (false, false) => State::NotVerifiable,
        }
    }

    /// The first check that failed.
    pub fn failure(&self) -> Option<&Step> {
        self.0.iter().find(|step| step.state == State::Failed)
    }

    fn verified(&mut self, name: &str, detail: impl Into<String>) {
        self.push(name, State::Verified, detail);
    }

    fn fail(&mut self, name: &str, detail: impl Into<String>) -> Rejected {
        let detail = detail.into();
        self.push(name, State::Failed, detail.clone());
        Rejected { step: name.to_owned(), detail }
    }
}

/// A provider was refused; the report says what held before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {detail}")]
pub struct Rejected {
    /// The step that failed.
    pub step: String,
    /// Why.
    pub detail: String,
}

/// Whether the checkpoint continues the one that this client saw last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// A consistency proof from the last one verified.
    Consistent {
        /// Size of the last one.
        older: TreeSize,
    },
    /// This client saw none before.
    FirstSeen,
    /// Nothing to compare with, as when verifying a file offline.
    NotChecked,
}

/// Whether the provider's key is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationState {
    /// The registry was not replayed.
    NotChecked,
    /// The whole registry up to this size holds no revocation.
    NotRevoked {
        /// Size of the replayed registry.
        as_of: TreeSize,
    },
    /// The registry revokes it.
    Revoked {
        /// As the revocation says.
        reason: String,
    },
}

/// What the caller knows beside the record.
#[derive(Clone, Debug)]
pub struct Known {
    /// The time to judge freshness by.
    pub now: UnixMillis,
    /// About the checkpoint.
    pub continuity: Continuity,
    /// About the provider's key.
    pub revocation: RevocationState,
}

/// Judges with what a record proves to be in the registry.
struct RecordView<'a> {
    release: &'a Released,
    model: &'a Model,
    attestation: &'a Attestation,
    enrolment: Option<&'a (Hash, Attestation)>,
}

impl RegistryView for RecordView<'_> {
    fn release(&self, build: &Hash) -> Option<Released> {
        (self.release.says.build == *build).then(|| self.release.clone())
    }

    fn attestation(&self, leaf: &Hash) -> Option<Attestation> {
        self.enrolment.filter(|(hash, _)| hash == leaf).map(|(_, attestation)| attestation.clone())
    }

    /// The record proves the one model that is asked for; the attestation's others do not matter to this client.
    fn has_model(&self, digest: &Hash) -> bool {
        self.model.digest() == *digest || self.attestation.models.contains(digest)
    }
}

/// A provider that a policy accepts, for one model: the only thing that a request can be sealed to.
#[derive(Clone, Debug)]
pub struct VerifiedProvider {
    attestation: Attestation,
    attestation_hash: Hash,
    model: Model,
    model_hash: Hash,
    policy_hash: Hash,
    prices_hash: Hash,
    price: Price,
    registry: (TreeSize, Hash),
    proven: Proven,
    record: ProviderRecord,
}

impl VerifiedProvider {
    /// Its keys and evidence.
    pub const fn attestation(&self) -> &Attestation {
        &self.attestation
    }

    /// Leaf hash of its attestation.
    pub const fn attestation_hash(&self) -> Hash {
        self.attestation_hash
    }

    /// What the alias stands for.
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// The model's alias.
    pub fn model_alias(&self) -> &str {
        &self.model.alias
    }

    /// Leaf hash of the model statement.
    pub const fn model_hash(&self) -> Hash {
        self.model_hash
    }

    /// Leaf hash of the policy in force.
    pub const fn policy_hash(&self) -> Hash {
        self.policy_hash
    }

    /// Leaf hash of the price table in force.
    pub const fn prices_hash(&self) -> Hash {
        self.prices_hash
    }

    /// What the model costs.
    pub const fn price(&self) -> &Price {
        &self.price
    }

    /// Size and root of the registry that this rests on.
    pub const fn registry(&self) -> (TreeSize, Hash) {
        self.registry
    }

    /// How its claims are backed.
    pub const fn tier(&self) -> Tier {
        self.proven.tier
    }

    /// What its evidence proves, claim by claim.
    pub const fn proven(&self) -> &Proven {
        &self.proven
    }

    /// What this was verified from.
    pub const fn record(&self) -> &ProviderRecord {
        &self.record
    }
}

impl Policy {
    /// Verifies everything that the registry says about a provider serving `model`.
    ///
    /// Every check becomes a step of the report; the first that fails ends it.
    pub fn verify(
        &self,
        record: &ProviderRecord,
        model: &str,
        known: &Known,
        report: &mut Report,
    ) -> Result<VerifiedProvider, Rejected> {
        let checkpoint = self.checkpoint_steps(&record.checkpoint, known, report)?;

        let mut statements = Vec::new();
        for (name, leaf) in [
            ("attestation", &record.attestation),
            ("verdict", &record.verdict),
            ("policy", &record.policy),
            ("price-table", &record.prices),
            ("model", &record.model),
            ("release", &record.release),
        ] {
            match included(&checkpoint, leaf) {
                Ok(statement) => statements.push(statement),
                Err(error) => {
                    return Err(report.fail("inclusion", format!("{name} leaf {}: {error}", leaf.index)));
                }
            }
        }
        let [attested, judged, rules, prices, modelled, released] =
            <[Statement; 6]>::try_from(statements).expect("one statement per leaf above");
        report.verified("inclusion", format!("6 leaves are in the registry of size {}", checkpoint.size()));

        self.signatures(&attested, &[&judged, &rules, &prices, &modelled], &released)
            .map_err(|error| report.fail("signatures", error))?;
        report.verified(
            "signatures",
            "each leaf is signed by the key that the policy or the attestation names",
        );

        let leaves = Leaves::of(&attested, &judged, &rules, &prices, &modelled, &released)
            .map_err(|error| report.fail("signatures", error.to_string()))?;

        match &known.revocation {
            RevocationState::NotChecked => {
                report.push(
                    "not revoked",
                    State::NotVerifiable,
                    "the registry was not replayed; `glassbloom-auditor audit` does that",
                );
            }
            RevocationState::NotRevoked { as_of } => {
                report.verified(
                    "not revoked",
                    format!("no revocation of this key in the registry up to size {as_of}"),
                );
            }
            RevocationState::Revoked { reason } => {
                return Err(report.fail("not revoked", format!("the registry revokes this key: {reason}")));
            }
        }

        self.beacon_precedes(&leaves.attestation, record, &checkpoint)
            .map_err(|error| report.fail("evidence", error))?;
        let enrolment = self
            .enrolment(record.enrolment.as_ref(), &checkpoint)
            .map_err(|error| report.fail("evidence", error))?;
        let release = Released { says: leaves.release.clone(), statement: record.release.leaf.clone() };
        let view = RecordView {
            release: &release,
            model: &leaves.model,
            attestation: &leaves.attestation,
            enrolment: enrolment.as_ref(),
        };
        let judgement = judge::judge(&attested, &leaves.rules, self, &view);
        let tier = judgement.tier.ok_or_else(|| {
            let detail = judgement.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            let reasons = judgement.reasons.join(", ");
            report.fail("evidence", format!("judged anew, it may not serve: {reasons}{detail}"))
        })?;
        if !self.accepted_tiers().iter().any(|name| name == tier.name()) {
            let detail = format!(
                "tier {tier} is not among those the policy accepts; a line `accept {tier}` would allow it"
            );
            return Err(report.fail("evidence", detail));
        }
        let consistent = leaves.verdict.tier.as_deref() == Some(tier.name())
            && leaves.verdict.reasons == judgement.reasons
            && leaves.verdict.attestation == attested.leaf_hash()
            && leaves.verdict.policy == rules.leaf_hash();
        if !consistent {
            return Err(
                report.fail("evidence", "the logged verdict is not what the evidence gives when judged anew")
            );
        }
        // The rules are the coordinator's: what they believe counts only as far as this client believes it, too.
        let proven = self
            .prove(&leaves, &view)
            .map_err(|refused| report.fail("evidence", format!("under this policy alone, {refused}")))?;
        if proven.tier != tier {
            let detail = format!("under this policy alone it is of tier {}, not of {tier}", proven.tier);
            return Err(report.fail("evidence", detail));
        }
        report.verified("evidence", format!("tier {tier}: {}", tier.proves()));

        if known.now.seconds() >= leaves.attestation.not_after {
            return Err(
                report.fail("keys bound", format!("the keys expired at {}", leaves.attestation.not_after))
            );
        }
        report.verified(
            "keys bound",
            "the evidence covers the signing key, the sealing key and a witnessed checkpoint",
        );

        if leaves.model.alias != model {
            return Err(report.fail(
                "build and model",
                format!("the model leaf is for {}, not for {model}", leaves.model.alias),
            ));
        }
        if !leaves.attestation.models.contains(&leaves.model.digest()) {
            return Err(
                report.fail("build and model", format!("the provider does not attest the files of {model}"))
            );
        }
        let Some(price) = leaves.prices.price(model) else {
            return Err(report.fail("build and model", format!("the price table names no price for {model}")));
        };
        report.verified(
            "build and model",
            format!(
                "release {} and the {} files of {model} are logged",
                leaves.release.version,
                leaves.model.files.len()
            ),
        );

        Ok(VerifiedProvider {
            attestation_hash: attested.leaf_hash(),
            model_hash: modelled.leaf_hash(),
            policy_hash: rules.leaf_hash(),
            prices_hash: prices.leaf_hash(),
            price: price.clone(),
            registry: (checkpoint.size(), checkpoint.root()),
            proven,
            record: record.clone(),
            attestation: leaves.attestation,
            model: leaves.model,
        })
    }

    /// Opens a registry checkpoint in the first four named steps.
    fn checkpoint_steps(
        &self,
        note: &[u8],
        known: &Known,
        report: &mut Report,
    ) -> Result<Checkpoint, Rejected> {
        let checkpoint = match self.open(None, note) {
            Ok(checkpoint) => checkpoint,
            Err(error @ OpenError::Quorum { .. }) => {
                report.verified("log key", "the checkpoint is signed by a log key of the policy");
                return Err(report.fail("witness quorum", error.to_string()));
            }
            Err(error) => return Err(report.fail("log key", error.to_string())),
        };
        if !checkpoint.origin().ends_with("/registry") {
            return Err(report.fail("log key", format!("{} is not a registry", checkpoint.origin())));
        }
        report.verified(
            "log key",
            format!("{} at size {}, signed by a key of the policy", checkpoint.origin(), checkpoint.size()),
        );
        report.verified("witness quorum", format!("cosigned by {}", names(&checkpoint)));

        let (now, signed) = (known.now.seconds().get(), checkpoint.cosigned_at().get());
        if signed > now.saturating_add(CLOCK_SLACK) {
            let detail =
                format!("witnesses signed it {} s after the time of this clock: set the clock", signed - now);
            return Err(report.fail("checkpoint fresh", detail));
        }
        let age = now.saturating_sub(signed);
        if age > self.checkpoint_age() {
            return Err(report.fail(
                "checkpoint fresh",
                format!("{age} s old; the policy allows {} s", self.checkpoint_age()),
            ));
        }
        report.verified(
            "checkpoint fresh",
            format!("{age} s old; the policy allows {} s", self.checkpoint_age()),
        );
        match known.continuity {
            Continuity::Consistent { older } => {
                report.verified(
                    "checkpoint consistent",
                    format!("extends the one of size {older} that this client saw last"),
                );
            }
            Continuity::FirstSeen => report.push(
                "checkpoint consistent",
                State::NotVerifiable,
                "the first that this client sees; kept, and compared from the next on",
            ),
            Continuity::NotChecked => {
                report.push("checkpoint consistent", State::NotVerifiable, "no earlier checkpoint is at hand")
            }
        }
        Ok(checkpoint)
    }

    /// Checks that the evidence was made for this registry, and before it was logged there.
    ///
    /// That the beacon is of this very history takes a replay: `glassbloom-auditor` does it.
    fn beacon_precedes(
        &self,
        attestation: &Attestation,
        record: &ProviderRecord,
        checkpoint: &Checkpoint,
    ) -> Result<(), String> {
        // A beacon that does not open is for `judge` to name.
        let Ok(beacon) = self.open(None, &attestation.beacon.checkpoint) else { return Ok(()) };
        if beacon.origin() != checkpoint.origin() {
            return Err(format!("the beacon is of {}, not of {}", beacon.origin(), checkpoint.origin()));
        }
        if beacon.size().get() > record.attestation.index.get() {
            let (size, index) = (beacon.size(), record.attestation.index);
            return Err(format!(
                "the beacon has size {size}, but the attestation is at index {index}, before it"
            ));
        }
        Ok(())
    }

    /// Checks who signed what: the attestation itself, the coordinator its leaves, a release key the release.
    fn signatures(
        &self,
        attested: &Statement,
        coordinated: &[&Statement],
        released: &Statement,
    ) -> Result<(), String> {
        let attestation = Attestation::of(attested).map_err(|error| error.to_string())?;
        attested.verify(&attestation.signing_key).map_err(|error| format!("attestation: {error}"))?;
        for statement in coordinated {
            if !signed_by(statement, self.coordinators()) {
                return Err(format!(
                    "the {} leaf is not signed by a coordinator of the policy",
                    statement.kind()
                ));
            }
        }
        let release = Release::of(released).map_err(|error| error.to_string())?;
        let (have, need) = (release.approved_by(released, self.releases()), self.release_threshold());
        if have == 0 {
            return Err("the release leaf is not signed by a release key of the policy".to_owned());
        }
        if have < need {
            return Err(format!(
                "{have} release keys of the policy stand behind the release, and it asks for {need}"
            ));
        }
        Ok(())
    }

    /// The attestation in which the lasting part of the evidence was logged, proven and signed.
    fn enrolment(
        &self,
        leaf: Option<&LeafProof>,
        checkpoint: &Checkpoint,
    ) -> Result<Option<(Hash, Attestation)>, String> {
        let Some(leaf) = leaf else { return Ok(None) };
        let named = |error: String| format!("the enrolment leaf {}: {error}", leaf.index);
        let statement = included(checkpoint, leaf).map_err(named)?;
        let attestation = Attestation::of(&statement).map_err(|error| named(error.to_string()))?;
        statement.verify(&attestation.signing_key).map_err(|error| named(error.to_string()))?;
        Ok(Some((statement.leaf_hash(), attestation)))
    }

    /// What the evidence proves to this policy, whatever the coordinator's rules believe.
    fn prove(&self, leaves: &Leaves, view: &RecordView) -> Result<Proven, Refused> {
        let beacon = self
            .open(None, &leaves.attestation.beacon.checkpoint)
            .map_err(|error| Refused::new("beacon-not-cosigned", error.to_string()))?;
        let enrolled = judge::enrolment(&leaves.attestation, &leaves.rules, self, view, &beacon)?;
        judge::prove(&leaves.attestation, &beacon, enrolled, &self.trust())
    }
}

struct Leaves {
    attestation: Attestation,
    verdict: Verdict,
    rules: PolicyLeaf,
    prices: PriceTable,
    model: Model,
    release: Release,
}

impl Leaves {
    fn of(
        attested: &Statement,
        judged: &Statement,
        rules: &Statement,
        prices: &Statement,
        model: &Statement,
        release: &Statement,
    ) -> Result<Self, LeafError> {
        Ok(Self {
            attestation: Attestation::of(attested)?,
            verdict: Verdict::of(judged)?,
            rules: PolicyLeaf::of(rules)?,
            prices: PriceTable::of(prices)?,
            model: Model::of(model)?,
            release: Release::of(release)?,
        })
    }
}

/// How far the clocks of witnesses and their readers may be apart, in seconds.
pub(crate) const CLOCK_SLACK: u64 = 300;

/// Proves a leaf under the checkpoint and parses it.
pub fn included(checkpoint: &Checkpoint, leaf: &LeafProof) -> Result<Statement, String> {
    let logged =
        checkpoint.includes(leaf.leaf.clone(), leaf.index, &leaf.proof).map_err(|error| error.to_string())?;
    Statement::parse(logged.value()).map_err(|error| error.to_string())
}

/// Whether one of the keys signed it.
fn signed_by(statement: &Statement, keys: &[PublicKey]) -> bool {
    keys.iter().any(|key| statement.verify(key).is_ok())
}

fn names(checkpoint: &Checkpoint) -> String {
    let names: Vec<&str> = checkpoint.cosignatures().iter().map(|(name, _)| name.as_str()).collect();
    if names.is_empty() { "nobody: the policy asks for no witness".to_owned() } else { names.join(", ") }
}
