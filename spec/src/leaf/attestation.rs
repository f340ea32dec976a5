//! The `attestation` statement: a provider's keys, and what vouches for them.

use core::{fmt, str::FromStr};

use super::{Payload, public_key};
use crate::{
    cbor::{FieldError, Fields, Value, is_plain},
    curve::{EcdhSecret, PublicKey, SIGNATURE_LEN},
    hash::Hash,
    id::UnixSeconds,
    seal::ohttp::KeyConfig,
    statement::Kind,
};

/// How a provider's claims are backed. Provenance, not a ladder: each tier says who vouches, and what stays unproven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Only the provider's own signature, by a key in software.
    SelfSigned,
    /// A genuine Mac vouched for the keys, at a time; an auditor saw its certificates.
    Mda,
    /// A software TPM: for tests, proves nothing about hardware.
    TpmSoft,
    /// A Secure Enclave signs for measured code (App Attest on macOS 27).
    AppAttest,
    /// A hardware TPM holds the keys.
    TpmHw,
    /// An AMD confidential virtual machine.
    SevSnp,
    /// An Intel confidential virtual machine.
    Tdx,
}

impl Tier {
    /// Every tier that this version can verify.
    pub const ALL: [Self; 7] =
        [Self::SelfSigned, Self::Mda, Self::TpmSoft, Self::AppAttest, Self::TpmHw, Self::SevSnp, Self::Tdx];

    /// The name in policies and statements.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SelfSigned => "self-signed",
            Self::Mda => "mda",
            Self::TpmSoft => "tpm-soft",
            Self::AppAttest => "app-attest",
            Self::TpmHw => "tpm-hw",
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
        }
    }

    /// What evidence of this tier proves.
    pub const fn proves(self) -> &'static str {
        match self {
            Self::SelfSigned => {
                "whoever holds the signing key chose these keys and this build, after the named checkpoint was witnessed"
            }
            Self::Mda => {
                "a genuine Mac vouched for the signing key, after the checkpoint of its enrolment was witnessed"
            }
            Self::TpmSoft => "a program that speaks like a TPM holds the keys; nothing about any machine",
            Self::AppAttest => {
                "a genuine Mac with full security signed for these keys, called by exactly the logged code"
            }
            Self::TpmHw => "the keys live in a TPM of a pinned maker and cannot leave it",
            Self::SevSnp => {
                "an AMD confidential virtual machine that was launched from the logged image made these keys"
            }
            Self::Tdx => {
                "an Intel confidential virtual machine that was launched from the logged image made these keys"
            }
        }
    }

    /// What evidence of this tier does not prove.
    pub const fn does_not_prove(self) -> &'static str {
        match self {
            Self::SelfSigned => {
                "that the keys live in hardware, that the machine is genuine, that the stated build is what runs, or that the operator cannot read prompts"
            }
            Self::Mda => {
                "that the keys live in that Mac, which machine answers, what code runs, or that its settings stayed as they were"
            }
            Self::TpmSoft => {
                "that there is a TPM, that the machine is genuine, that the stated build is what runs, or that the operator cannot read prompts"
            }
            Self::AppAttest => {
                "that the logged code is honest, that the answer is right, or that memory is safe from a broken kernel or from probes"
            }
            Self::TpmHw => {
                "what code uses the keys, that the stated build is what runs, or that the operator cannot read prompts"
            }
            Self::SevSnp | Self::Tdx => {
                "that the logged image is honest, that the answer is right, or that memory is safe from someone who can open the machine"
            }
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no tier this version can verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no tier that this version can verify: {0}")]
pub struct UnknownTier(pub String);

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, UnknownTier> {
        Self::ALL.into_iter().find(|tier| tier.name() == text).ok_or_else(|| UnknownTier(text.to_owned()))
    }
}

/// The registry checkpoint that evidence was made after.
///
/// Its digest covers the witness cosignatures: a log that colludes could compute a root ahead of time, but not a
/// witness's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The signed and cosigned checkpoint, to the byte.
    pub checkpoint: Vec<u8>,
}

impl Beacon {
    /// What nonces are derived from.
    pub fn digest(&self) -> Hash {
        Hash::of(&self.checkpoint)
    }
}

/// What vouches for the keys, in a format of [`crate::evidence`]; kept to the byte, also where the format is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The format's name.
    pub format: String,
    /// The evidence.
    pub bytes: Vec<u8>,
}

impl Evidence {
    /// The statement's own signature is the evidence.
    pub fn self_signed() -> Self {
        Self { format: "self-signed".to_owned(), bytes: Vec::new() }
    }
}

/// A provider's key manifest with evidence and beacon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Signs this statement and the receipts.
    pub signing_key: PublicKey,
    /// What requests are sealed to. `[RFC 9458 §3]`
    pub key_config: KeyConfig,
    /// Hash of the build that runs; a `release` statement must name it.
    pub build: Hash,
    /// The coordinator through which the provider answers.
    pub endpoint: String,
    /// From then on the keys must not be used.
    pub not_after: UnixSeconds,
    /// Digests of the model manifests it serves.
    pub models: Vec<Hash>,
    /// The checkpoint that the evidence was made after.
    pub beacon: Beacon,
    /// What vouches for the keys.
    pub evidence: Evidence,
    /// The nonce that the evidence covers.
    pub nonce: Hash,
    /// Leaf hash of the same provider's attestation before this one.
    pub previous: Option<Hash>,
    /// The sealing key's own signature over [`possession_message`]; none where the key can only agree on secrets and the
    /// evidence shows who holds it.
    pub possession: Option<[u8; SIGNATURE_LEN]>,
    /// The previous attestation's signing key over [`rotation_message`], when the signing key is another now.
    pub countersignature: Option<[u8; SIGNATURE_LEN]>,
    /// A `.tlog-proof` of the build's release, under a checkpoint that is old enough for the rules' cool-off.
    pub release_proof: Option<Vec<u8>>,
    /// Leaf hash of the attestation in which the lasting part of the evidence was logged first.
    pub enrolment: Option<Hash>,
}

/// The nonce that evidence must cover: derived from the beacon and both keys, chosen by nobody.
pub fn attestation_nonce(beacon: Hash, signing_key: &PublicKey, key_config: &KeyConfig) -> Hash {
    let config = key_config.encode();
    let length = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes();
    Hash::of_parts(&[
        b"glassbloom/attestation/v1\0",
        &length(beacon.as_ref()),
        beacon.as_ref(),
        &length(signing_key.as_bytes()),
        signing_key.as_bytes(),
        &length(&config),
        &config,
    ])
}

impl Attestation {
    /// The nonce that this attestation's evidence has to cover.
    pub fn expected_nonce(&self) -> Hash {
        attestation_nonce(self.beacon.digest(), &self.signing_key, &self.key_config)
    }

    /// Has the sealing key sign that it is at hand, after the nonce is set.
    #[must_use]
    pub fn possessed(mut self, sealing: &EcdhSecret) -> Self {
        self.possession = Some(sealing.sign_possession(&possession_message(self.nonce)));
        self
    }

    /// What [`countersignature`](Self::countersignature) signs.
    pub fn rotation_message(&self) -> Option<Vec<u8>> {
        Some(rotation_message(self.previous?, &self.signing_key, self.nonce))
    }
}

/// What a sealing key signs to show that it is at hand.
pub fn possession_message(nonce: Hash) -> Vec<u8> {
    [b"glassbloom/possession/v1\0", nonce.as_ref()].concat()
}

/// What the previous signing key signs when another takes its place.
pub fn rotation_message(previous: Hash, signing_key: &PublicKey, nonce: Hash) -> Vec<u8> {
    [b"glassbloom/rotation/v1\0", previous.as_ref(), signing_key.as_bytes(), nonce.as_ref()].concat()
}

impl Payload for Attestation {
    const KIND: Kind = Kind::Attestation;

    fn to_value(&self) -> Value {
        let evidence = vec![self.evidence.format.as_str().into(), self.evidence.bytes.as_slice().into()];
        let mut fields = vec![
            (1, self.signing_key.as_bytes().as_slice().into()),
            (2, self.key_config.encode().as_slice().into()),
            (3, self.build.into()),
            (4, self.endpoint.as_str().into()),
            (5, self.not_after.get().into()),
            (6, Value::Array(self.models.iter().map(|model| (*model).into()).collect())),
            (7, self.beacon.checkpoint.as_slice().into()),
            (8, Value::Array(evidence)),
            (9, self.nonce.into()),
        ];
        fields.extend(self.previous.map(|previous| (10, previous.into())));
        fields.extend(self.possession.map(|signature| (11, signature.as_slice().into())));
        fields.extend(self.countersignature.map(|signature| (12, signature.as_slice().into())));
        fields.extend(self.release_proof.as_deref().map(|proof| (13, proof.into())));
        fields.extend(self.enrolment.map(|leaf| (14, leaf.into())));
        Value::Map(fields.into_iter().map(|(key, value)| (Value::Unsigned(key), value)).collect())
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        let evidence = |key| FieldError::Field { key, expected: "[format, bytes]" };
        Ok(Self {
            signing_key: public_key(fields, 1)?,
            key_config: KeyConfig::parse(&fields.bytes(2)?)
                .map_err(|_| FieldError::Field { key: 2, expected: "a key configuration of RFC 9458" })?,
            build: fields.hash(3)?,
            endpoint: fields.text(4)?,
            not_after: fields.unsigned(5)?.into(),
            models: fields
                .array(6)?
                .into_iter()
                .map(|item| match item {
                    Value::Bytes(bytes) => Hash::try_from(bytes.as_slice()).ok(),
                    _ => None,
                })
                .collect::<Option<_>>()
                .ok_or(FieldError::Field { key: 6, expected: "an array of hashes" })?,
            beacon: Beacon { checkpoint: fields.bytes(7)? },
            evidence: match <[Value; 2]>::try_from(fields.array(8)?).map_err(|_| evidence(8))? {
                [Value::Text(format), Value::Bytes(bytes)] if is_plain(&format) => Evidence { format, bytes },
                _ => return Err(evidence(8)),
            },
            nonce: fields.hash(9)?,
            previous: fields.has(10).then(|| fields.hash(10)).transpose()?,
            possession: fields.has(11).then(|| fields.fixed(11)).transpose()?,
            countersignature: fields.has(12).then(|| fields.fixed(12)).transpose()?,
            release_proof: fields.has(13).then(|| fields.bytes(13)).transpose()?,
            enrolment: fields.has(14).then(|| fields.hash(14)).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tiers_round_trip() {
        for tier in Tier::ALL {
            assert_eq!(tier.name().parse(), Ok(tier));
        }
        assert!("hardware".parse::<Tier>().is_err());
    }
}
