//! Evidence of format `app-attest`: a key of a genuine Secure Enclave that only signs while the Mac starts in Full
//! Security with System Integrity Protection, and that says which code asked it to.
//!
//! ```text
//! { 1: attestation object without its receipt, 2: assertion }
//! ```
//!
//! The object is made once per key, for the nonce of the attestation that enrols it; the assertion is made for every
//! attestation. What the assertion covers is the nonce, and so both of the provider's keys and the beacon.
//!
//! # What it proves
//! A Secure Enclave holds the App Attest key and does not give it away; the key signs only under the
//! [access control](object::MAC_ACCESS_CONTROL) that Apple certified; the program that asked belongs to the team and
//! has the CodeDirectory hash that the assertion names. The provider's own keys are vouched for by that program: the
//! release that its hash names makes them in the enclave, so the evidence stands for both
//! ([`holds_sealing_key`](super::Proven::holds_sealing_key)).
//!
//! # What it does not prove
//! Which Mac it is, so that one device may have many keys; that the program is honest, which is what release leaves
//! and their source are for; and nothing against a fault of the operating system or a probe on the memory bus.
//!
//! `[developer.apple.com: Validating apps that connect to your server]`, see `spec/evidence.md`.

mod assertion;
mod authenticator;
mod object;

pub use assertion::{Asserted, Assertion};
pub use object::{AttestedKey, Environment, MAC_ACCESS_CONTROL, Object};

use super::{Bound, Claim, Code, Known, Proven, Refused, Trust, Voucher, anchor, x509::Root};
use crate::{
    bundle::utc,
    cbor::{Fields, map},
    hash::Hash,
    leaf::Tier,
};

/// The format's name.
pub const FORMAT: &str = "app-attest";

/// What is asked of the device beyond a key in an enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// A provider's: production, macOS, the exact access control, and the code's hash in each assertion.
    Mac,
    /// Whatever Apple certifies, such as a phone: for looking at evidence of others, never for a verdict.
    Any,
}

/// Verifies evidence of this format.
///
/// # Errors
/// With the reason.
pub fn verify(bytes: &[u8], bound: &Bound, trust: &Trust) -> Result<Proven, Refused> {
    verify_under(&anchor::APPLE_APP_ATTESTATION, bytes, bound, trust)
}

/// Verifies evidence whose chain leads to another root than Apple's: what [`verify`] does with Apple's.
///
/// Nobody but Apple can make evidence for a nonce of ours, so this is how the rules are tried without a Mac.
///
/// # Errors
/// With the reason.
pub fn verify_under(root: &Root, bytes: &[u8], bound: &Bound, trust: &Trust) -> Result<Proven, Refused> {
    let (object, assertion) = decode(bytes)?;
    let (object, assertion) = (Object::parse(&object)?, Assertion::parse(&assertion)?);
    if object.has_receipt() {
        return Err(Refused::new(
            "app-attest-receipt",
            "the object holds a receipt, which nothing here checks and which is not for a public log: leave it out",
        ));
    }
    let enrolled = bound.enrolment();
    let key = object.verify(root, enrolled.nonce.as_ref(), enrolled.at, Platform::Mac)?;
    let Some(app) = trust.apps.iter().find(|app| Hash::of(app.as_bytes()) == key.app_id_hash) else {
        return Err(Refused::new(
            "app-attest-app",
            "the rules name no app with the identifier that the object is for: see the lines `app` of the rules",
        ));
    };
    if key.app.as_ref() != Some(app) {
        return Err(Refused::new("app-attest-app", "the certificate is for another app than the object"));
    }
    let asserted = assertion.verify(&key, bound.nonce.as_ref(), Platform::Mac)?;
    Ok(proven(app, &key, &asserted))
}

/// Names the part that is made once per key: the attestation object.
pub fn lasting(bytes: &[u8]) -> Option<Hash> {
    decode(bytes).ok().map(|(object, _)| Hash::of(&object))
}

/// Puts evidence together from what a device answers: the object, whose receipt is left out, and an assertion.
///
/// # Errors
/// When either is not of its form.
pub fn encode(object: &[u8], assertion: &[u8]) -> Result<Vec<u8>, Refused> {
    let object = Object::parse(object)?.without_receipt();
    Assertion::parse(assertion)?;
    Ok(map([(1, object.as_slice().into()), (2, assertion.into())]).encode())
}

/// Takes evidence apart into the object and the assertion.
///
/// # Errors
/// `evidence-malformed`.
pub fn decode(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refused> {
    let read = || {
        let mut fields = Fields::decode(bytes)?;
        let parts = (fields.bytes(1)?, fields.bytes(2)?);
        // Fields that readers may skip have no place in evidence: nothing would cover them.
        fields.finish().map(|()| parts)
    };
    let (object, assertion) = read().map_err(|error| Refused::malformed(error.to_string()))?;
    if map([(1, object.as_slice().into()), (2, assertion.as_slice().into())]).encode() != bytes {
        return Err(Refused::malformed("App Attest evidence has fields 1 and 2 and no other"));
    }
    Ok((object, assertion))
}

fn proven(app: &str, key: &AttestedKey, asserted: &Asserted) -> Proven {
    let mut proven = Proven::new(Tier::AppAttest);
    let known = |value: &Option<String>| value.clone().map_or(Known::Absent, Known::Present);
    let present = |value: &str| Known::Present(value.to_owned());
    let code = asserted.code;
    let minted = utc(key.minted.get() / 60);
    for (name, value) in [
        ("app", present(app)),
        ("code-directory", code.map_or(Known::Absent, |code| Known::Present(code.to_string()))),
        ("validation-category", present("Developer ID")),
        ("bundle-version", known(&asserted.bundle_version)),
        ("access-control", present("signs only in Full Security with System Integrity Protection")),
        ("platform", known(&key.platform)),
        ("os-version", known(&key.os_version)),
        ("os-build", known(&key.os_build)),
        ("key", Known::Present(key.id().to_string())),
        ("counter", Known::Present(asserted.counter.to_string())),
        ("minted", Known::Present(minted)),
    ] {
        proven.claims.push(Claim { name, value, by: Voucher::Apple });
    }
    proven.code = code.map(Code::CodeDirectory);
    proven.holds_sealing_key = true;
    proven.expires = Some(key.expires);
    proven.counter = Some(asserted.counter);
    proven
}
