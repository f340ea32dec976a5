//! Evidence of format `mda`: a genuine Mac vouched for a digest at a time. `[Apple: Managed Device Attestation]`
//!
//! Apple's certificate names the Mac by serial number and UDID, and a log cannot forget, so the certificate never
//! enters it. What does is a [`Record`]: a commitment to each property, the openings of those that tell nothing about
//! which Mac it is, and the word of an auditor who saw the chain itself ([`endorse`]).
//!
//! ```text
//! { 1: form, 2: freshness, 3: [minted, ends], 4: [[name, commitment / null], ..],
//!   5: [[name, salt, value], ..], 6: [endorsement, ..] }
//! ```
//!
//! # What it proves
//! That Apple, at the time `minted`, saw a genuine Secure Enclave whose Mac had started with the opened settings, and
//! that a device management server had it certify this nonce. That the opened values are those of the certificate is
//! the word of the endorser.
//!
//! # What it does not prove
//! That the keys in the nonce are in that Mac, or that it answers any request: whoever manages a Mac may have it vouch
//! for keys of another machine, and this was done to others. Nor what code runs, nor that the settings stayed as they
//! were. So the tier is `mda` and nothing higher, and the sealing key must show itself otherwise.

mod chain;
mod property;
mod record;

pub use chain::{Form, MdaChain, Seen, endorse, endorse_seen};
pub use property::{FIELDS, Kind, Property, Safe, Salts};
pub use record::{Opening, Record, Shown};

use super::{Bound, Claim, Known, Proven, Refused, Trust, Voucher, endorsement::Endorsement};
use crate::{bundle::utc, curve::PublicKey, hash::Hash, leaf::Payload, leaf::Tier, statement::Statement};

/// 1.2.840.113635.100.4.24: the purpose that certificates of attested keys have since 2026.
pub(crate) const ATTESTATION_PURPOSE: &[u8] = b"\x2a\x86\x48\x86\xf7\x63\x64\x04\x18";

/// The format's name.
pub const FORMAT: &str = "mda";

/// Verifies evidence of this format: the public record, by its endorsements.
///
/// # Errors
/// With the reason.
pub fn verify(bytes: &[u8], bound: &Bound, trust: &Trust) -> Result<Proven, Refused> {
    let record = Record::decode(bytes)?;
    let enrolled = bound.enrolment();
    // Nothing in it is fresh, so that it may stand again only beside the key that it was first made for: else
    // anyone could name another's enrolment and carry its evidence.
    if enrolled.signing_key != *bound.signing_key {
        return Err(Refused::new("mda-other-key", "it was enrolled for another signing key than this one"));
    }
    if record.freshness != record.form.freshness(enrolled.nonce) {
        return Err(Refused::new(
            "mda-freshness",
            "the Mac vouched for another nonce than this attestation's",
        ));
    }
    record.check_validity(enrolled.at)?;
    let (endorser, device) = endorsed(&record, enrolled.nonce, trust)?;
    let values = record.open()?;
    check_posture(&values)?;

    let mut proven = Proven::new(Tier::Mda);
    proven.claim("minted", Voucher::Apple, utc(record.minted.get() / 60));
    for (property, value) in FIELDS.iter().zip(values) {
        let value = match value {
            Shown::Opened(raw) => Known::Present(property.text(raw)?),
            Shown::Absent => Known::Absent,
            Shown::Redacted(commitment) => Known::Redacted(commitment),
        };
        proven.claims.push(Claim { name: property.name, value, by: Voucher::Apple });
    }
    proven.claim("endorser", Voucher::Endorser, endorser.to_string());
    proven.claim("device", Voucher::Endorser, device.to_string());
    proven.device = Some(device);
    proven.expires = Some(record.ends);
    Ok(proven)
}

/// Names the part that is made once per key: all of it.
pub fn lasting(bytes: &[u8]) -> Option<Hash> {
    Record::decode(bytes).ok().map(|_| Hash::of(bytes))
}

/// The first endorser, in the order of the rules, whose word is there, with its name for the device.
///
/// In the order of the rules and not of the evidence: else a provider with two endorsements could choose under which
/// of two names its device is counted.
fn endorsed(record: &Record, nonce: Hash, trust: &Trust) -> Result<(PublicKey, Hash), Refused> {
    let subject = record.subject();
    let mut found: Vec<(PublicKey, Endorsement)> = Vec::new();
    let mut stranger = None;
    for bytes in &record.endorsements {
        // Whoever signed it: nothing may stand in a log that no rule reads.
        if !is_bare(bytes) {
            return Err(Refused::new(
                "endorsement-malformed",
                "an endorsement says more than its four fields",
            ));
        }
        match Endorsement::open(bytes, trust.endorsers, FORMAT, subject, nonce) {
            Ok((by, _)) if found.iter().any(|(other, _)| *other == by) => {
                return Err(Refused::new("endorsement-malformed", "an endorser's word stands twice"));
            }
            Ok(word) => found.push(word),
            // Other rules may know that auditor.
            Err(refused) if refused.reason == "endorser-unknown" => stranger = Some(refused),
            Err(refused) => return Err(refused),
        }
    }
    let first = trust.endorsers.iter().find_map(|key| found.iter().find(|(by, _)| by == key));
    match first {
        Some((by, Endorsement { device: Some(device), .. })) => Ok((*by, *device)),
        Some(_) => Err(Refused::new("mda-device-unnamed", "the endorsement does not name the device")),
        None => Err(stranger
            .unwrap_or_else(|| Refused::new("mda-not-endorsed", "no auditor says that it saw the chain"))),
    }
}

/// Whether a statement has the four fields of an endorsement and no other.
fn is_bare(bytes: &[u8]) -> bool {
    Statement::parse(bytes).is_ok_and(|statement| {
        Endorsement::of(&statement)
            .is_ok_and(|says| says.format == FORMAT && says.to_value().encode() == statement.payload())
    })
}

/// Refuses settings that are not known to be safe: what is not opened is as bad as what is off.
fn check_posture(values: &[Shown]) -> Result<(), Refused> {
    for (property, value) in FIELDS.iter().zip(values) {
        let Some(safe) = property.safe else { continue };
        match value {
            Shown::Opened(raw) if *raw == safe.value => {}
            Shown::Opened(raw) => {
                let detail = format!("{} is {}", property.name, property.text(raw)?);
                return Err(Refused::new(safe.reason, detail));
            }
            Shown::Absent => {
                let detail = format!("{} is unknown: Apple left it out or blank", property.name);
                return Err(Refused::new("mda-posture-unknown", detail));
            }
            Shown::Redacted(_) => {
                let detail = format!("{} is not opened, and must be", property.name);
                return Err(Refused::new("mda-posture-unknown", detail));
            }
        }
    }
    Ok(())
}
