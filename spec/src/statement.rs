//! Signed statements: what a leaf of either log is. A COSE_Sign1 with ES256, deterministic CBOR. `[RFC 9052 §4.2]`
//!
//! ```text
//! 18([ protected: bstr .cbor { 1: -7, 3: "application/vnd.glassbloom.<kind>+cbor;v=1", 4: kid },
//!      unprotected: {}, payload: bstr, signature: bstr .size 64 ])
//! ```
//!
//! The content type separates domains: a signature for one kind can never count for another. The bytes that were
//! signed are kept and never serialised again. See `spec/statement.md`.

use core::fmt;

use crate::{
    cbor::{CborError, Value},
    curve::{PublicKey, SignError, Signer},
    hash::Hash,
    id::KeyId,
};

/// What a statement says; the names are those of the content types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A provider's keys and the evidence for them.
    Attestation,
    /// Who answered the challenges of an epoch, and who did not.
    ChallengeBatch,
    /// A coordinator's key and build.
    Coordinator,
    /// An auditor's word for evidence that the public does not see; part of evidence, never a leaf.
    Endorsement,
    /// A model alias and its files.
    Model,
    /// State that a person changed by hand.
    OperatorAction,
    /// The rules in force.
    Policy,
    /// The prices in force.
    PriceTable,
    /// An answered request.
    Receipt,
    /// A provider build.
    Release,
    /// A key that is dead.
    Revocation,
    /// A coordinator's judgement of an attestation.
    Verdict,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Attestation,
        Self::ChallengeBatch,
        Self::Coordinator,
        Self::Endorsement,
        Self::Model,
        Self::OperatorAction,
        Self::Policy,
        Self::PriceTable,
        Self::Receipt,
        Self::Release,
        Self::Revocation,
        Self::Verdict,
    ];

    /// The name in the content type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attestation => "attestation",
            Self::ChallengeBatch => "challenge-batch",
            Self::Coordinator => "coordinator",
            Self::Endorsement => "endorsement",
            Self::Model => "model",
            Self::OperatorAction => "operator-action",
            Self::Policy => "policy",
            Self::PriceTable => "price-table",
            Self::Receipt => "receipt",
            Self::Release => "release",
            Self::Revocation => "revocation",
            Self::Verdict => "verdict",
        }
    }

    fn content_type(self) -> String {
        format!("application/vnd.glassbloom.{}+cbor;v=1", self.name())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes are not a statement, or not one by the key in question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The signature does not verify under the key.
    #[error("the signature does not verify under key {0}")]
    BadSignature(KeyId),
    /// The bytes are not deterministic CBOR.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The statement names another key than the one it is checked with.
    #[error("the statement is signed by key {found}, not by {expected}")]
    OtherKey {
        /// The key in the protected header.
        found: KeyId,
        /// The key it was checked with.
        expected: KeyId,
    },
    /// Not a COSE_Sign1 of the one accepted shape.
    #[error("not a Glassbloom statement: {0}")]
    Shape(&'static str),
    /// More bytes than a leaf may have.
    #[error("a statement has at most {MAX_STATEMENT} bytes")]
    TooLong,
    /// A content type this version does not know.
    #[error("unknown kind of statement: {0}")]
    UnknownKind(String),
}

/// Largest statement, in bytes: an entry of a log is under 64 KiB. `[c2sp.org/tlog-tiles]`
pub const MAX_STATEMENT: usize = 65_535;

/// A statement in the one accepted form; its signature has not been checked yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    kind: Kind,
    key_id: KeyId,
    protected: Vec<u8>,
    payload: Vec<u8>,
    signature: [u8; 64],
    bytes: Vec<u8>,
}

impl Statement {
    /// Parses the one accepted form of a statement.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > MAX_STATEMENT {
            return Err(StatementError::TooLong);
        }
        let Value::Tag(COSE_SIGN1, body) = Value::decode(bytes)? else {
            return Err(StatementError::Shape("the CBOR tag is not 18, COSE_Sign1"));
        };
        let Value::Array(parts) = *body else { return Err(StatementError::Shape("not an array")) };
        let Ok([Value::Bytes(protected), unprotected, Value::Bytes(payload), Value::Bytes(signature)]) =
            <[Value; 4]>::try_from(parts)
        else {
            return Err(StatementError::Shape("not [protected, unprotected, payload, signature]"));
        };
        if unprotected != Value::Map(Vec::new()) {
            return Err(StatementError::Shape("the unprotected header must be empty"));
        }
        let signature =
            signature.try_into().map_err(|_| StatementError::Shape("the signature must have 64 bytes"))?;
        let Value::Map(header) = Value::decode(&protected)? else {
            return Err(StatementError::Shape("the protected header is not a map"));
        };
        let Ok(
            [
                (HEADER_ALG, ES256),
                (HEADER_CONTENT_TYPE, Value::Text(content_type)),
                (HEADER_KID, Value::Bytes(kid)),
            ],
        ) = <[(Value, Value); 3]>::try_from(header)
        else {
            return Err(StatementError::Shape(
                "the protected header must be {alg: ES256, content type, kid}",
            ));
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.content_type() == content_type);
        let key_id = Hash::try_from(kid.as_slice())
            .map_err(|_| StatementError::Shape("the kid must have 32 bytes"))?;
        Ok(Self {
            kind: kind.ok_or(StatementError::UnknownKind(content_type))?,
            key_id: KeyId(key_id),
            protected,
            payload,
            signature,
            bytes: bytes.to_vec(),
        })
    }

    /// Signs a payload.
    pub fn sign(kind: Kind, payload: &Value, signer: &dyn Signer) -> Result<Self, SignError> {
        let key_id = key_id(&signer.public_key());
        let protected = Value::Map(vec![
            (HEADER_ALG, ES256),
            (HEADER_CONTENT_TYPE, Value::Text(kind.content_type())),
            (HEADER_KID, key_id.0.into()),
        ])
        .encode();
        let payload = payload.encode();
        let signature = signer.sign(&to_be_signed(&protected, &payload))?;
        let parts = vec![
            Value::Bytes(protected.clone()),
            Value::Map(Vec::new()),
            Value::Bytes(payload.clone()),
            Value::Bytes(signature.to_vec()),
        ];
        let bytes = Value::Tag(COSE_SIGN1, Box::new(Value::Array(parts))).encode();
        Ok(Self { kind, key_id, protected, payload, signature, bytes })
    }

    /// Checks the signature under the key, which must be the one that the statement names.
    pub fn verify(&self, key: &PublicKey) -> Result<(), StatementError> {
        let expected = key_id(key);
        if expected != self.key_id {
            return Err(StatementError::OtherKey { found: self.key_id, expected });
        }
        key.verify(&to_be_signed(&self.protected, &self.payload), &self.signature)
            .map_err(|_| StatementError::BadSignature(expected))
    }

    /// What it says.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The key that it says signed it.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The CBOR payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The statement as it stands in a log.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its leaf hash, by which other statements refer to it.
    pub fn leaf_hash(&self) -> Hash {
        Hash::leaf(&self.bytes)
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({} {})", self.kind, self.leaf_hash())
    }
}

/// The identifier of a statement key.
pub fn key_id(key: &PublicKey) -> KeyId {
    KeyId(Hash::of_parts(&[b"glassbloom/key-id/v1\0", key.as_bytes()]))
}

/// COSE's Sig_structure. `[RFC 9052 §4.4]`
fn to_be_signed(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    Value::Array(vec!["Signature1".into(), protected.into(), Value::Bytes(Vec::new()), payload.into()])
        .encode()
}

const COSE_SIGN1: u64 = 18;
const HEADER_ALG: Value = Value::Unsigned(1);
const HEADER_CONTENT_TYPE: Value = Value::Unsigned(3);
const HEADER_KID: Value = Value::Unsigned(4);
/// COSE algorithm -7, ECDSA with SHA-256; the curve is P-256.
const ES256: Value = Value::Negative(6);
