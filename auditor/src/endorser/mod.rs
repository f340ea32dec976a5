//! Vouches for evidence that the public does not see: an auditor who looked, and signs that it did.
//!
//! # In scope
//! * A TPM: its maker certifies a key that decrypts and never signs, so that a second key lies in the same TPM shows
//!   by opening a challenge, which nobody can replay later. The endorser makes the challenge and sees the answer.
//!
//! * A Mac: its certificate has a serial number in it, which no log can forget. The endorser sees the certificate,
//!   signs that a public record of it says what it says, and keeps and logs nothing of it.
//!
//! # Out of scope
//! Knowing who asks, and whether the nonce is one of an attestation: an endorsement counts in the attestation with
//! that nonce and nowhere else. Whether the endorser is believed: rules and policy files name its key.
//!
//! Nothing is remembered but the keys: a challenge lives in memory for two minutes, and one that a restart forgot is
//! asked for again.

mod http;
mod keys;
mod pending;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use glassbloom_service::{Clock, random};
use glassbloom_spec::{
    curve::{PublicKey, SignError},
    evidence::{
        Anchor, Refused,
        endorsement::Endorsement,
        exchange::{Activated, Activation, Answer, Bytes, Challenge, Endorsed, Mda},
        mda::{self, Form, MdaChain, Record, Salts},
        tpm::{self, credential::Seeds},
        x509::Certificate,
    },
    hash::Hash,
    leaf::Payload,
};

pub use http::{MAX_BODY, ServeError, router, serve};
pub use keys::{KeyError, Keys, init, load};
pub use pending::{LIFETIME, MAX_PENDING, MAX_PENDING_EACH};

use crate::witness::{Rate, rate::Meter};
use pending::{Exchange, Pending};

/// What `endorser serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder with the keys, made by `endorser init`.
    pub data: PathBuf,
    /// Roots of the makers of TPMs that are vouched for.
    pub anchors: Vec<Anchor>,
    /// How often evidence is looked at, all askers together.
    pub rate: Rate,
}

/// Why nothing was signed; `http` gives each its status.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// As many exchanges wait for an answer as may. 503.
    #[error(
        "{MAX_PENDING} exchanges wait for an answer, or {MAX_PENDING_EACH} of this TPM; try again in {0:?}"
    )]
    Busy(Duration),
    /// The evidence does not hold. 422 with its reason.
    #[error("{}", .0.detail)]
    Evidence(#[from] Refused),
    /// The answer came too late. 410.
    #[error("the exchange ended {} s after it began; ask for another challenge", LIFETIME.as_secs())]
    Expired,
    /// Too many requests. 429.
    #[error("more is asked of this endorser than it looks at; try again in {0:?}")]
    RateLimited(Duration),
    /// The key could not sign. 500.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// No such exchange. 404.
    #[error(
        "no exchange with this id waits for an answer: each takes one answer, and a restart forgets all; ask for \
         another challenge"
    )]
    Unknown,
    /// Another secret than the challenge holds. 403.
    #[error("this is not the secret in the challenge, so the TPM did not open it; ask for another challenge")]
    WrongSecret,
}

/// The endorser itself, below HTTP.
pub struct Endorser {
    keys: Keys,
    anchors: Vec<Anchor>,
    rate: Rate,
    clock: Arc<dyn Clock>,
    meter: Mutex<Meter>,
    pending: Mutex<Pending>,
}

impl Endorser {
    /// An endorser with these keys that believes these makers of TPMs.
    pub fn new(keys: Keys, anchors: Vec<Anchor>, rate: Rate, clock: Arc<dyn Clock>) -> Self {
        Self { keys, anchors, rate, clock, meter: Mutex::default(), pending: Mutex::default() }
    }

    /// The key that rules and policy files name.
    pub fn public_key(&self) -> PublicKey {
        self.keys.public_key()
    }

    /// Checks what a TPM's maker and the TPM say, and asks what only the TPM with both keys can answer.
    ///
    /// # Errors
    /// When the chain leads to no root of the policy, the key is not one that only signs what the TPM made, or too
    /// much is asked.
    pub fn challenge(&self, activation: Activation) -> Result<Challenge, Refusal> {
        self.take_turn()?;
        let now = self.clock.now();
        let chain: Vec<Vec<u8>> = activation.ek_chain.into_iter().map(|Bytes(der)| der).collect();
        let seeds = Seeds { secret: random(), seed: random(), padding: Some(random()) };
        let asked = tpm::ask(&chain, &activation.ak.0, &self.anchors, now.seconds(), &seeds)?;
        // By the key and not the certificate: one TPM may have several, and a signature may have two forms.
        let device = match chain.first().map(|leaf| Certificate::parse(leaf)) {
            Some(leaf) => Hash::of(leaf.map_err(Refused::from)?.spki()),
            None => return Err(Refused::malformed("no certificate").into()),
        };
        let challenge = &asked.transcript.challenge;
        let (credential_blob, encrypted_secret) =
            (sized(&challenge.credential), sized(&challenge.encrypted_secret));
        let exchange = Exchange { asked, nonce: activation.nonce, device, begun: now };
        let id = self.pending().begin(exchange, now).map_err(Refusal::Busy)?;
        Ok(Challenge { id, credential_blob, encrypted_secret })
    }

    /// Signs that the TPM opened the challenge.
    ///
    /// # Errors
    /// When it did not, or not in time. The exchange is over whatever the answer.
    pub fn answer(&self, answer: &Answer) -> Result<Activated, Refusal> {
        let exchange = self.pending().end(&answer.id).ok_or(Refusal::Unknown)?;
        if exchange.is_over(self.clock.now()) {
            return Err(Refusal::Expired);
        }
        // One try at 32 random bytes: how long a comparison takes helps nobody.
        if answer.secret.0 != exchange.asked.transcript.seeds.secret {
            return Err(Refusal::WrongSecret);
        }
        let endorsement = Endorsement {
            format: tpm::FORMAT.to_owned(),
            subject: exchange.asked.subject,
            nonce: exchange.nonce,
            device: None,
        };
        let endorsement = self.sign(&endorsement)?;
        tracing::info!(subject = %exchange.asked.subject, "endorsed a TPM");
        Ok(Activated { transcript: Bytes(exchange.asked.transcript.to_value().encode()), endorsement })
    }

    /// Signs that a public record says what a Mac's certificate says.
    ///
    /// # Errors
    /// When the chain is not Apple's, not for this nonce or not valid now, or the record is not made from it.
    pub fn mda(&self, mda: Mda) -> Result<Endorsed, Refusal> {
        self.take_turn()?;
        let form = Form::from_name(&mda.form)
            .ok_or_else(|| Refused::malformed("the form is neither `acme` nor `device-information`"))?;
        let record = Record::decode(&mda.public.0)?;
        // What is opened is its owner's choice; what cannot be opened is told before it is in a log.
        record.open()?;
        let certificates = mda.chain.into_iter().map(|Bytes(der)| der).collect();
        let chain = MdaChain { form, certificates };
        let (salts, at) = (salts(&mda.salts)?, self.clock.now().seconds());
        let endorsement = mda::endorse(&record, &chain, &salts, mda.nonce, at, self.keys.device())?;
        let signed = self.sign(&endorsement)?;
        // The device's name is in the endorsement, so that it is public; who asked is not said.
        tracing::info!(subject = %endorsement.subject, "endorsed a Mac");
        Ok(Endorsed { endorsement: signed })
    }

    fn sign(&self, endorsement: &Endorsement) -> Result<Bytes, Refusal> {
        Ok(Bytes(endorsement.sign(self.keys.signing())?.bytes().to_vec()))
    }

    fn take_turn(&self) -> Result<(), Refusal> {
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.take(self.rate, self.clock.now()).map_err(Refusal::RateLimited)
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One salt for each property, by its name.
fn salts(named: &BTreeMap<String, Hash>) -> Result<Salts, Refused> {
    let wrong = || {
        let names: Vec<_> = mda::FIELDS.iter().map(|property| property.name).collect();
        Refused::malformed(format!("salts are for exactly these properties: {}", names.join(", ")))
    };
    let mut salts = [[0; 32]; mda::FIELDS.len()];
    for (salt, property) in salts.iter_mut().zip(&mda::FIELDS) {
        *salt = *named.get(property.name).ok_or_else(wrong)?.as_bytes();
    }
    if named.len() == salts.len() { Ok(salts) } else { Err(wrong()) }
}

/// A `TPM2B`.
fn sized(bytes: &[u8]) -> Bytes {
    // Both parts of a challenge have a few hundred bytes.
    Bytes([&(bytes.len() as u16).to_be_bytes()[..], bytes].concat())
}
