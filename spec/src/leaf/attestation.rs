//! The `attestation` statement: a provider's keys, and what vouches for them.

use core::{fmt, str::FromStr};

use super::{Payload, public_key};
use crate::{
    cbor::{FieldError, Fields, Value, is_plain},
    curve::PublicKey,
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
}

impl Tier {
    /// Every tier that this version can verify.
    pub const ALL: [Self; 1] = [Self::SelfSigned];

    /// The name in policies and statements.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SelfSigned => "self-signed",
        }
    }

    /// What evidence of this tier proves.
    pub const fn proves(self) -> &'static str {
        match self {
            Self::SelfSigned => {
                "whoever holds the signing key chose these keys and this build, after the named checkpoint was witnessed"
            }
        }
    }

    /// What evidence of this tier does not prove.
    pub const fn does_not_prove(self) -> &'static str {
        match self {
            Self::SelfSigned => {
                "that the keys live in hardware, that the machine is genuine, that the stated build is what runs, or that the operator cannot read prompts"
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

/// What vouches for the keys, in one of the formats that tiers stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A format this version does not know; kept, and never accepted.
    Other {
        /// The format's name.
        format: String,
        /// The evidence, to the byte.
        bytes: Vec<u8>,
    },
    /// The statement's own signature is the evidence.
    SelfSigned,
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

    /// The tier that the evidence claims; `None` where this version does not know the format.
    pub const fn tier(&self) -> Option<Tier> {
        match self.evidence {
            Evidence::Other { .. } => None,
            Evidence::SelfSigned => Some(Tier::SelfSigned),
        }
    }
}

impl Payload for Attestation {
    const KIND: Kind = Kind::Attestation;

    fn to_value(&self) -> Value {
        let evidence = match &self.evidence {
            Evidence::Other { format, bytes } => vec![format.as_str().into(), bytes.as_slice().into()],
            Evidence::SelfSigned => vec![Tier::SelfSigned.name().into(), Value::Bytes(Vec::new())],
        };
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
                [Value::Text(format), Value::Bytes(bytes)] if format == Tier::SelfSigned.name() => {
                    match bytes.as_slice() {
                        [] => Evidence::SelfSigned,
                        _ => return Err(evidence(8)),
                    }
                }
                [Value::Text(format), Value::Bytes(bytes)] if is_plain(&format) => {
                    Evidence::Other { format, bytes }
                }
                _ => return Err(evidence(8)),
            },
            nonce: fields.hash(9)?,
            previous: fields.has(10).then(|| fields.hash(10)).transpose()?,
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
