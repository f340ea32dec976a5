//! What vouches for a provider's keys, verified: one module for each format.
//!
//! # In scope
//! Deciding what evidence proves, and saying what it does not: [`verify`]. Every format answers the same two questions:
//! does hardware of this vendor sign the nonce that [`Bound`] carries, and which claims does its signature cover.
//! See `spec/evidence.md`.
//!
//! # Out of scope
//! Whether what is proven suffices: that is [`crate::judge::judge`] and the policy. Time is an argument: evidence is
//! judged as of the beacon that its nonce was derived from, never by a clock.

pub mod anchor;
pub mod app_attest;
pub mod claim;
pub mod der;
pub mod endorsement;
pub mod exchange;
pub mod key;
pub mod mda;
pub mod snp;
pub mod tdx;
pub mod tpm;
pub mod x509;

pub use anchor::Anchor;
pub use claim::{Claim, Code, Known, Proven, Refused, Voucher};

use crate::{curve::PublicKey, hash::Hash, id::UnixSeconds, leaf::Tier};

/// What evidence must cover, taken from the statement that carries it.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// What the hardware must have signed: see [`attestation_nonce`](crate::leaf::attestation_nonce).
    pub nonce: Hash,
    /// Signs the attestation and the receipts.
    pub signing_key: &'a PublicKey,
    /// What requests are sealed to.
    pub sealing_key: &'a PublicKey,
    /// When the beacon was witnessed: certificates must be valid then.
    pub at: UnixSeconds,
    /// Where the part of the evidence that is made once per key was logged; `None` when it is made for this nonce.
    pub enrolled: Option<Enrolled>,
}

impl Bound<'_> {
    /// The nonce and time for the part of the evidence that is made once per key.
    pub fn enrolment(&self) -> Enrolled {
        self.enrolled.unwrap_or(Enrolled { nonce: self.nonce, at: self.at, signing_key: *self.signing_key })
    }
}

/// An earlier attestation that carried the same long-lived evidence, to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Its nonce.
    pub nonce: Hash,
    /// When its beacon was witnessed.
    pub at: UnixSeconds,
    /// The key that signed it: evidence with no fresh part vouches for that key and no other.
    pub signing_key: PublicKey,
}

/// Whom the rules believe, beyond the vendors that are [pinned](anchor).
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'a> {
    /// Makers of TPMs: nobody is built in.
    pub anchors: &'a [Anchor],
    /// Application identifiers (`TEAM.bundle`) that may use App Attest.
    pub apps: &'a [String],
    /// Auditors who may vouch for evidence that the public does not see.
    pub endorsers: &'a [PublicKey],
}

/// Verifies evidence of the named format.
///
/// # Errors
/// With a machine-readable reason and its detail. `evidence-unknown` when no module knows the format, and
/// `evidence-malformed` when the bytes are not of that format.
pub fn verify(format: &str, bytes: &[u8], bound: &Bound, trust: &Trust) -> Result<Proven, Refused> {
    match format {
        "self-signed" if bytes.is_empty() => Ok(Proven::new(Tier::SelfSigned)),
        "self-signed" => Err(Refused::malformed("self-signed evidence has no bytes")),
        app_attest::FORMAT => app_attest::verify(bytes, bound, trust),
        mda::FORMAT => mda::verify(bytes, bound, trust),
        tpm::FORMAT => tpm::verify(bytes, bound, trust),
        snp::FORMAT => snp::verify(bytes, bound),
        tdx::FORMAT => tdx::verify(bytes, bound),
        _ => Err(Refused::new(
            "evidence-unknown",
            format!("no tier of this version has evidence of format {format}"),
        )),
    }
}

/// Names the part of evidence that is made once per key and may be enrolled; `None` where all of it is made each time.
pub fn lasting(format: &str, bytes: &[u8]) -> Option<Hash> {
    match format {
        app_attest::FORMAT => app_attest::lasting(bytes),
        mda::FORMAT => mda::lasting(bytes),
        tpm::FORMAT => tpm::lasting(bytes),
        _ => None,
    }
}
