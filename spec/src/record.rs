//! The registry leaves that together say who a provider is, with their proofs: what a client fetches once, and keeps.

use serde::{Deserialize, Serialize};

use crate::{
    cbor::{FieldError, Fields, Value},
    hash::Hash,
    id::LeafIndex,
};

/// A leaf, where it stands, and its inclusion proof under a checkpoint named elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafProof {
    /// The statement, to the byte.
    #[serde(with = "base64_bytes")]
    pub leaf: Vec<u8>,
    /// Where it stands.
    pub index: LeafIndex,
    /// The inclusion proof, leaf to root.
    pub proof: Vec<Hash>,
}

impl LeafProof {
    /// As in bundles: `[leaf, index, [hash, …]]`.
    pub fn to_value(&self) -> Value {
        Value::Array(vec![
            self.leaf.as_slice().into(),
            self.index.get().into(),
            Value::Array(self.proof.iter().map(|hash| (*hash).into()).collect()),
        ])
    }

    /// The reverse of [`to_value`](Self::to_value).
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let [Value::Bytes(leaf), Value::Unsigned(index), Value::Array(proof)] =
            <[Value; 3]>::try_from(parts).ok()?
        else {
            return None;
        };
        let hash = |value| match value {
            Value::Bytes(bytes) => Hash::try_from(bytes.as_slice()).ok(),
            _ => None,
        };
        Some(Self { leaf, index: index.into(), proof: proof.into_iter().map(hash).collect::<Option<_>>()? })
    }
}

/// Everything that the registry says about one provider serving one model, under one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderRecord {
    /// The registry's signed and cosigned checkpoint, to the byte.
    #[serde(with = "base64_bytes")]
    pub checkpoint: Vec<u8>,
    /// The provider's keys and evidence.
    pub attestation: LeafProof,
    /// What the coordinator judged.
    pub verdict: LeafProof,
    /// The rules in force.
    pub policy: LeafProof,
    /// The prices in force.
    pub prices: LeafProof,
    /// What the model's alias stands for.
    pub model: LeafProof,
    /// The build that the attestation names.
    pub release: LeafProof,
    /// The attestation in which the lasting part of the evidence was logged, where the attestation names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<LeafProof>,
}

impl ProviderRecord {
    /// As in bundles.
    pub fn to_value(&self) -> Value {
        let mut fields = vec![
            (1, self.checkpoint.as_slice().into()),
            (2, self.attestation.to_value()),
            (3, self.verdict.to_value()),
            (4, self.policy.to_value()),
            (5, self.prices.to_value()),
            (6, self.model.to_value()),
            (7, self.release.to_value()),
        ];
        fields.extend(self.enrolment.as_ref().map(|leaf| (8, leaf.to_value())));
        Value::Map(fields.into_iter().map(|(key, value)| (Value::Unsigned(key), value)).collect())
    }

    /// The reverse of [`to_value`](Self::to_value).
    pub fn from_value(value: Value) -> Result<Self, FieldError> {
        let mut fields = Fields::of(value)?;
        let leaf = |fields: &mut Fields, key| {
            let expected = "[leaf, index, proof]";
            LeafProof::from_value(fields.value(key, expected)?).ok_or(FieldError::Field { key, expected })
        };
        let record = Self {
            checkpoint: fields.bytes(1)?,
            attestation: leaf(&mut fields, 2)?,
            verdict: leaf(&mut fields, 3)?,
            policy: leaf(&mut fields, 4)?,
            prices: leaf(&mut fields, 5)?,
            model: leaf(&mut fields, 6)?,
            release: leaf(&mut fields, 7)?,
            enrolment: fields.has(8).then(|| leaf(&mut fields, 8)).transpose()?,
        };
        fields.finish()?;
        Ok(record)
    }
}

/// Serde for byte strings as standard base64.
pub mod base64_bytes {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes base64.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    /// Reads base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
