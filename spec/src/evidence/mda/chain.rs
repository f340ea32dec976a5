//! The certificate itself: seen by its owner and by endorsers, never by a log.

use core::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{
    ATTESTATION_PURPOSE, FORMAT,
    property::{FIELDS, Salts, UDID},
    record::{Opening, Record},
};
use crate::{
    cbor::{FieldError, Fields, Value, map},
    evidence::{
        Refused, anchor,
        endorsement::Endorsement,
        key::Algorithm,
        x509::{Certificate, DIGITAL_SIGNATURE, Profile, Purpose, Root, verify_chain},
    },
    hash::{Hash, hmac_sha256},
    id::UnixSeconds,
};

/// How the Mac was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// ACME's `device-attest-01`, whose token is the nonce in base64url without padding.
    Acme,
    /// The command `DeviceInformation` of a management server, with the nonce as `DeviceAttestationNonce`.
    DeviceInformation,
}

impl Form {
    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::DeviceInformation => "device-information",
        }
    }

    /// The form of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Acme, Self::DeviceInformation].into_iter().find(|form| form.name() == name)
    }

    /// What the certificate must hold for a nonce: ACME hashes its token, and the token alone.
    pub fn freshness(self, nonce: Hash) -> Hash {
        match self {
            Self::Acme => Hash::of(BASE64_URL_SAFE_NO_PAD.encode(nonce.as_bytes()).as_bytes()),
            Self::DeviceInformation => nonce,
        }
    }
}

/// A chain as a Mac gives it. Holds a serial number: has no `Debug` that shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct MdaChain {
    /// How the Mac was asked.
    pub form: Form,
    /// The Mac's certificate, then Apple's intermediate one; DER.
    pub certificates: Vec<Vec<u8>>,
}

impl fmt::Debug for MdaChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MdaChain({}, {} certificates)", self.form.name(), self.certificates.len())
    }
}

impl MdaChain {
    /// Reads the form in which an owner hands a chain to an endorser: `{ 1: form, 2: [certificate, ..] }`.
    ///
    /// # Errors
    /// `evidence-malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let read = || {
            let mut fields = Fields::decode(bytes)?;
            let form = Form::from_name(&fields.text(1)?)
                .ok_or(FieldError::Field { key: 1, expected: "`acme` or `device-information`" })?;
            let certificates = fields
                .array(2)?
                .into_iter()
                .map(|item| match item {
                    Value::Bytes(bytes) => Ok(bytes),
                    _ => Err(FieldError::Field { key: 2, expected: "an array of byte strings" }),
                })
                .collect::<Result<_, _>>()?;
            fields.finish()?;
            Ok::<_, FieldError>(Self { form, certificates })
        };
        read().map_err(|error| Refused::malformed(format!("MDA chain: {error}")))
    }

    /// The form that [`decode`](Self::decode) reads.
    pub fn encode(&self) -> Vec<u8> {
        let certificates = self.certificates.iter().map(|der| der.as_slice().into()).collect();
        map([(1, self.form.name().into()), (2, Value::Array(certificates))]).encode()
    }

    /// Verifies the chain to Apple's root at a time, for a nonce.
    ///
    /// # Errors
    /// `certificate-*`, `mda-freshness` or `mda-property`.
    pub fn verify(&self, nonce: Hash, at: UnixSeconds) -> Result<Seen, Refused> {
        self.verify_under(&anchor::APPLE_ENTERPRISE_ATTESTATION, nonce, at)
    }

    /// What [`verify`](Self::verify) does with Apple's root: nobody but Apple can make a chain for a nonce of ours, so
    /// this is how the rules are tried without a Mac.
    ///
    /// # Errors
    /// As there.
    pub fn verify_under(&self, root: &Root, nonce: Hash, at: UnixSeconds) -> Result<Seen, Refused> {
        let seen = self.read_under(root, at)?;
        if seen.freshness != self.form.freshness(nonce) {
            return Err(Refused::new("mda-freshness", "the Mac vouched for another nonce"));
        }
        Ok(seen)
    }

    /// Verifies the chain to Apple's root at a time, for whatever nonce: for looking at evidence of others.
    ///
    /// # Errors
    /// `certificate-*`, `mda-freshness` when there is no nonce at all, or `mda-property`.
    pub fn read(&self, at: UnixSeconds) -> Result<Seen, Refused> {
        self.read_under(&anchor::APPLE_ENTERPRISE_ATTESTATION, at)
    }

    fn read_under(&self, root: &Root, at: UnixSeconds) -> Result<Seen, Refused> {
        let chain: Vec<Certificate> =
            self.certificates.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?;
        verify_chain(&chain, root, at, &PROFILE)?;
        let Some(leaf) = chain.first() else { return Err(Refused::malformed("no certificate")) };
        // Bare bytes, not DER in DER: unwrapping would eat the start of some nonces. Absent is not fresh.
        let freshness = leaf
            .extension(FRESHNESS)
            .and_then(|extension| Hash::try_from(extension.value).ok())
            .ok_or_else(|| Refused::new("mda-freshness", "the certificate holds no nonce of 32 bytes"))?;
        let mut values = [const { None }; FIELDS.len()];
        for (value, property) in values.iter_mut().zip(&FIELDS) {
            *value = leaf
                .extension(property.oid)
                .map(|extension| extension.value)
                .filter(|raw| !raw.iter().all(|byte| *byte == b' '))
                .map(|raw| property.text(raw).map(|_| raw.to_vec()))
                .transpose()?;
        }
        Ok(Seen {
            form: self.form,
            freshness,
            minted: UnixSeconds::new(leaf.not_before().get().saturating_add(BACKDATED)),
            ends: leaf.not_after(),
            values,
        })
    }
}

/// What a verified chain says. Holds a serial number: has no `Debug` that shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    form: Form,
    freshness: Hash,
    minted: UnixSeconds,
    ends: UnixSeconds,
    values: [Option<Vec<u8>>; FIELDS.len()],
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seen({}, {})", self.form.name(), self.freshness)
    }
}

impl Seen {
    /// What the certificate holds for a nonce.
    pub const fn freshness(&self) -> Hash {
        self.freshness
    }

    /// When Apple made the certificate: it sets the beginning a day back.
    pub const fn minted(&self) -> UnixSeconds {
        self.minted
    }

    /// When the certificate ends.
    pub const fn ends(&self) -> UnixSeconds {
        self.ends
    }

    /// A property as Apple encodes it, `None` when it is absent or blank.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let place = FIELDS.iter().position(|property| property.name == name)?;
        self.values[place].as_deref()
    }

    /// Names the device without telling which it is, under a key that only the endorser has: a UDID is short enough
    /// to be found by trying, so that a plain hash would tell. `None` when the certificate has no UDID.
    pub fn device(&self, key: &[u8; 32]) -> Option<Hash> {
        let udid = self.values[UDID].as_deref()?;
        Some(hmac_sha256(key, &[DEVICE, &(udid.len() as u32).to_be_bytes(), udid]))
    }

    /// Makes the public record, with the named properties opened and no endorsement yet.
    ///
    /// # Errors
    /// `mda-identifies-device` when a property to open would tell which Mac it is, `mda-opening` when the Mac has no
    /// such property.
    pub fn redact(&self, salts: &Salts, open: &[&str]) -> Result<Record, Refused> {
        let mut openings = Vec::new();
        for name in open {
            if !FIELDS.iter().any(|property| property.name == *name) {
                return Err(Refused::new("mda-opening", format!("there is no property {name}")));
            }
        }
        for ((property, value), salt) in FIELDS.iter().zip(&self.values).zip(salts) {
            if !open.contains(&property.name) {
                continue;
            }
            if property.identifies {
                let detail = format!("{} must not be opened", property.name);
                return Err(Refused::new("mda-identifies-device", detail));
            }
            let Some(value) = value else {
                let detail = format!("{} is not in the certificate, or blank", property.name);
                return Err(Refused::new("mda-opening", detail));
            };
            openings.push(Opening { name: property.name, salt: *salt, value: value.clone() });
        }
        Ok(Record {
            form: self.form,
            freshness: self.freshness,
            minted: self.minted,
            ends: self.ends,
            commitments: self.commitments(salts),
            openings,
            endorsements: Vec::new(),
        })
    }

    /// Whether a record says what the certificate says, under these salts, in all that an endorser signs.
    pub fn is_in(&self, record: &Record, salts: &Salts) -> bool {
        record.form == self.form
            && record.freshness == self.freshness
            && record.minted == self.minted
            && record.ends == self.ends
            && record.commitments == self.commitments(salts)
    }

    fn commitments(&self, salts: &Salts) -> [Option<Hash>; FIELDS.len()] {
        let mut commitments = [None; FIELDS.len()];
        for (place, property) in FIELDS.iter().enumerate() {
            commitments[place] =
                self.values[place].as_ref().map(|value| property.commit(&salts[place], value));
        }
        commitments
    }
}

/// What an auditor may sign about a record whose chain and salts it was shown: that Apple certified it for the nonce,
/// at the time of the nonce's beacon. `device_key` is the auditor's, the same for every device.
///
/// # Errors
/// As [`MdaChain::verify`]; `mda-record` when the record says something else than the chain; `mda-device-unnamed` when
/// the certificate has no UDID.
pub fn endorse(
    record: &Record,
    chain: &MdaChain,
    salts: &Salts,
    nonce: Hash,
    at: UnixSeconds,
    device_key: &[u8; 32],
) -> Result<Endorsement, Refused> {
    endorse_seen(record, &chain.verify(nonce, at)?, salts, nonce, device_key)
}

/// What [`endorse`] does with a chain that is verified already.
///
/// # Errors
/// As there.
pub fn endorse_seen(
    record: &Record,
    seen: &Seen,
    salts: &Salts,
    nonce: Hash,
    device_key: &[u8; 32],
) -> Result<Endorsement, Refused> {
    if !seen.is_in(record, salts) || seen.freshness != seen.form.freshness(nonce) {
        return Err(Refused::new("mda-record", "the record says something else than the chain"));
    }
    let device = seen.device(device_key).ok_or_else(|| {
        Refused::new("mda-device-unnamed", "the certificate has no UDID to name the device by")
    })?;
    Ok(Endorsement { format: FORMAT.to_owned(), subject: record.subject(), nonce, device: Some(device) })
}

/// The Mac's certificate and Apple's intermediate; all are signed with SHA-384. No key identifiers are asked for: the
/// Mac's certificate has none.
const PROFILE: Profile = Profile {
    algorithms: &[Algorithm::EcdsaSha384],
    critical: &[],
    purpose: Purpose::IfPresent(ATTESTATION_PURPOSE),
    max_chain: 2,
    leaf_usage: DIGITAL_SIGNATURE,
};

const DEVICE: &[u8] = b"glassbloom/mda-device/v1\0";
/// How far Apple sets notBefore back.
const BACKDATED: u64 = 86_400;
/// 1.2.840.113635.100.8.11.1
const FRESHNESS: &[u8] = b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x0b\x01";
