//! A whole small network with fixed keys: two logs, two witnesses, a coordinator, a provider and what they signed.
//!
//! The same bytes come out on every machine and every day, so its parts are test vectors, and other crates' tests can
//! start from it. Deviations go through [`Plan`]: change what is signed before it is, and the rest follows.

mod exchange;
mod keys;
mod log;
mod plan;

use glassbloom_spec::{
    bundle::ReceiptBundle,
    checkpoint::Checkpoint,
    curve::SigningKey,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixMillis, UnixSeconds},
    leaf::{Attestation, Payload, Verdict},
    policy::Policy,
    proof::TlogProof,
    receipt::LoggedReceipt,
    record::{LeafProof, ProviderRecord},
    statement::Statement,
    verify::{Continuity, Known, Rejected, Report, RevocationState, VerifiedProvider},
};

pub use self::{
    exchange::{Exchange, Script, begin, facts, read, resume, seal},
    keys::Keys,
    log::{Log, RECEIPTS, REGISTRY, sign},
    plan::Plan,
};

/// When everything happens, in seconds since 1970: 2026-11-20 17:23 UTC.
pub const NOW: u64 = 1_795_195_380;

/// The alias of the one model.
pub const MODEL: &str = "bloom-tiny";

/// Where the leaves stand in the registry of a [`World`].
pub mod index {
    /// The coordinator's key and build.
    pub const COORDINATOR: u64 = 0;
    /// The rules.
    pub const POLICY: u64 = 1;
    /// The prices.
    pub const PRICES: u64 = 2;
    /// The model.
    pub const MODEL: u64 = 3;
    /// The provider's build.
    pub const RELEASE: u64 = 4;
    /// The provider's attestation; its beacon is the checkpoint of the five leaves before.
    pub const ATTESTATION: u64 = 5;
    /// The verdict on it.
    pub const VERDICT: u64 = 6;
    /// In networks with hardware: the attestation after [`ATTESTATION`], which enrolled the TPM. The verdict follows.
    pub const RENEWED: u64 = 7;
}

/// The network.
pub struct World {
    /// Every secret key.
    pub keys: Keys,
    /// The registry.
    pub registry: Log,
    /// The receipts log.
    pub receipts: Log,
    /// What the provider attests.
    pub attestation: Attestation,
    /// The exchanges whose receipts are in the receipts log, in order.
    pub exchanges: Vec<Exchange>,
    accept: Vec<String>,
    trust: String,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// The network in good order, with three answered requests.
    pub fn new() -> Self {
        let mut world = Self::of(Plan::default());
        for script in Script::all() {
            world.answer(&script);
        }
        world
    }

    /// A network whose registry was made to a plan, with no request answered yet.
    pub fn of(plan: Plan) -> Self {
        let keys = Keys::new();
        let mut registry = Log::new(&keys, REGISTRY);
        for leaf in plan.network_leaves(&keys) {
            registry.append(leaf.bytes());
        }
        let logged = |registry: &Log| Hash::leaf(registry.entries().last().expect("just logged"));
        let rules = Hash::leaf(&registry.entries()[index::POLICY as usize]);
        let judge = |registry: &mut Log, tier: &str, edit: fn(&mut Verdict)| {
            let (tier, attestation) = (Some(tier.to_owned()), logged(registry));
            let mut verdict = Verdict { policy: rules, attestation, tier, reasons: Vec::new() };
            edit(&mut verdict);
            let verdict = verdict.sign(plan.coordinator_signer(&keys)).expect("software keys sign");
            registry.append(verdict.bytes());
        };
        let enrolment = plan.enrolment(&keys, &registry).map(|first| {
            registry.append(first.sign(&keys.before).expect("software keys sign").bytes());
            let leaf = logged(&registry);
            judge(&mut registry, "tpm-hw", |_| {});
            (leaf, first)
        });
        let attestation = plan.attestation(&keys, &registry, enrolment.as_ref());
        let attested = attestation.sign(plan.attestation_signer(&keys)).expect("software keys sign");
        registry.append(attested.bytes());
        judge(&mut registry, if enrolment.is_some() { "tpm-hw" } else { "self-signed" }, plan.verdict);
        let receipts = Log::new(&keys, RECEIPTS);
        let Plan { accept, trust, .. } = plan;
        Self { keys, registry, receipts, attestation, exchanges: Vec::new(), accept, trust }
    }

    /// The network with a TPM under the provider's keys: enrolled by the key before, renewed by the one that answers.
    pub fn hardware() -> Self {
        Self::of(Plan::hardware())
    }

    /// The policy file that a user of this network holds: both logs, both witnesses needed.
    pub fn policy_text(&self) -> String {
        self.keys.policy_text(&self.accept, &self.trust)
    }

    /// The policy.
    pub fn policy(&self) -> Policy {
        Policy::parse(&self.policy_text()).expect("the generated policy parses")
    }

    /// The policy of a user who accepts another tier.
    ///
    /// # Panics
    /// When the tier is not a word.
    pub fn policy_accepting(&self, tier: &str) -> Policy {
        Policy::parse(&self.keys.policy_text(&[tier.to_owned()], &self.trust)).expect("a tier is one word")
    }

    /// The entries of the registry.
    pub fn registry_entries(&self) -> &[Vec<u8>] {
        self.registry.entries()
    }

    /// The entries of the receipts log.
    pub fn receipts_entries(&self) -> &[Vec<u8>] {
        self.receipts.entries()
    }

    /// A checkpoint of either log at a size, signed by its two keys and cosigned by both witnesses at `time`.
    ///
    /// # Panics
    /// When there is no such log, or it is smaller.
    pub fn checkpoint(&self, origin: &str, size: u64, time: u64) -> Vec<u8> {
        let log = [&self.registry, &self.receipts].into_iter().find(|log| log.origin() == origin);
        log.expect("registry or receipts").checkpoint(&self.keys, size, time)
    }

    /// What a client fetches about the provider.
    pub fn record(&self) -> ProviderRecord {
        let size = self.registry.size();
        let leaf = |at: u64| LeafProof {
            leaf: self.registry.entries()[at as usize].clone(),
            index: LeafIndex::new(at),
            proof: self.registry.inclusion(at, size),
        };
        let renewed = size > index::RENEWED;
        let attested = if renewed { index::RENEWED } else { index::ATTESTATION };
        ProviderRecord {
            checkpoint: self.checkpoint(REGISTRY, size, NOW + 10),
            attestation: leaf(attested),
            verdict: leaf(attested + 1),
            policy: leaf(index::POLICY),
            prices: leaf(index::PRICES),
            model: leaf(index::MODEL),
            release: leaf(index::RELEASE),
            enrolment: renewed.then(|| leaf(index::ATTESTATION)),
        }
    }

    /// What a client knows that has replayed the registry, at [`NOW`] and a minute.
    pub fn known(&self) -> Known {
        let size = TreeSize::new(self.registry.size());
        Known {
            now: UnixMillis::new((NOW + 60) * 1000),
            continuity: Continuity::Consistent { older: TreeSize::new(5) },
            revocation: RevocationState::NotRevoked { as_of: size },
        }
    }

    /// Verifies a record as that client does.
    ///
    /// # Errors
    /// When the policy refuses it.
    pub fn verify(&self, record: &ProviderRecord) -> Result<VerifiedProvider, Rejected> {
        self.policy().verify(record, MODEL, &self.known(), &mut Report::new())
    }

    /// The provider of a network in good order.
    ///
    /// # Panics
    /// When the plan made one that the policy refuses.
    pub fn provider(&self) -> VerifiedProvider {
        self.verify(&self.record()).expect("a network in good order has a provider")
    }

    /// Has one request answered and its receipt logged.
    ///
    /// # Panics
    /// When the exchange fails, which it does not in a network in good order.
    pub fn answer(&mut self, script: &Script) -> &Exchange {
        let exchange = Exchange::run(&self.keys, &self.provider(), script);
        self.receipts.append(exchange.receipt.bytes());
        self.exchanges.push(exchange);
        self.exchanges.last().expect("pushed above")
    }

    /// The `tlog-proof` of a receipt under the newest checkpoint of the receipts log.
    pub fn receipt_proof(&self, at: u64) -> Vec<u8> {
        let size = self.receipts.size();
        let proof = TlogProof {
            extra: None,
            index: LeafIndex::new(at),
            hashes: self.receipts.inclusion(at, size),
            checkpoint: self.checkpoint(RECEIPTS, size, NOW + 180),
        };
        proof.encode()
    }

    /// A receipt that is verified and logged.
    ///
    /// # Panics
    /// When there is no such exchange.
    pub fn logged(&self, at: usize) -> LoggedReceipt {
        let verified = self.exchanges[at].verified.clone();
        verified.logged(&self.policy(), &self.receipt_proof(at as u64)).expect("the receipt was appended")
    }

    /// The bundle of the first exchange, with its text.
    pub fn bundle(&self) -> ReceiptBundle {
        self.bundle_of(0)
    }

    /// The bundle of an exchange, with its text.
    ///
    /// # Panics
    /// When there is no such exchange.
    pub fn bundle_of(&self, at: usize) -> ReceiptBundle {
        let mut bundle = ReceiptBundle::new(&self.provider(), &self.logged(at));
        bundle.request = Some(self.exchanges[at].body.clone());
        bundle.response = Some(self.exchanges[at].chunks.clone());
        bundle
    }

    /// An opened checkpoint of the registry.
    pub fn registry_checkpoint(&self) -> Checkpoint {
        self.policy().open(Some(REGISTRY), &self.record().checkpoint).expect("signed and cosigned above")
    }

    /// The provider's signing key.
    pub const fn provider_key(&self) -> &SigningKey {
        &self.keys.provider
    }

    /// The statement at a place in the registry.
    ///
    /// # Panics
    /// When there is none.
    pub fn statement(&self, at: u64) -> Statement {
        Statement::parse(&self.registry.entries()[at as usize]).expect("every entry here is a statement")
    }
}

/// [`NOW`] as a time.
pub const fn now() -> UnixSeconds {
    UnixSeconds::new(NOW)
}
