//! What a provider and an endorser say to each other: JSON over HTTP, bytes in base64. See `spec/api.md`.

use serde::{Deserialize, Serialize};

use crate::{hash::Hash, record::base64_bytes};

/// Paths below an endorser's base URL.
pub mod path {
    /// `POST`: an [`Activation`](super::Activation), answered by a [`Challenge`](super::Challenge).
    pub const TPM_CHALLENGE: &str = "/v1/tpm/challenge";
    /// `POST`: an [`Answer`](super::Answer), answered by an [`Activated`](super::Activated).
    pub const TPM_ANSWER: &str = "/v1/tpm/answer";
    /// `POST`: [`Mda`](super::Mda) evidence in full, answered by [`Endorsed`](super::Endorsed).
    pub const MDA: &str = "/v1/mda";
}

/// Bytes in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(#[serde(with = "base64_bytes")] pub Vec<u8>);

/// A TPM asks for its attestation key to be vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// The endorsement key's certificates, leaf first, up to and including the root (DER).
    pub ek_chain: Vec<Bytes>,
    /// The attestation key's TPMT_PUBLIC.
    pub ak: Bytes,
    /// The nonce of the attestation that enrols it.
    pub nonce: Hash,
}

/// What only the TPM with both keys can open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// Names the exchange; good for one answer, for two minutes.
    pub id: String,
    /// The contents of the TPM2B_ID_OBJECT, without its size.
    pub credential_blob: Bytes,
    /// The contents of the TPM2B_ENCRYPTED_SECRET, without its size.
    pub encrypted_secret: Bytes,
}

/// What the TPM opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The exchange.
    pub id: String,
    /// The secret in the credential.
    pub secret: Bytes,
}

/// The endorser's word for a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activated {
    /// The activation transcript as evidence carries it (CBOR).
    pub transcript: Bytes,
    /// The signed endorsement.
    pub endorsement: Bytes,
}

/// A Mac's certificates in full, which only the endorser sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mda {
    /// `device-information` or `acme`.
    pub form: String,
    /// Leaf first, without the root (DER).
    pub chain: Vec<Bytes>,
    /// The nonce of the attestation that enrols it.
    pub nonce: Hash,
    /// The public form without endorsements, which the endorser checks against the chain (CBOR).
    pub public: Bytes,
    /// 32 bytes for each field's commitment, by the field's name.
    pub salts: std::collections::BTreeMap<String, Hash>,
}

/// The endorser's word for a Mac.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endorsed {
    /// The signed endorsement.
    pub endorsement: Bytes,
}
