//! What the statements of the registry say: one payload type per kind.
//!
//! Every payload is a CBOR map with small unsigned keys. A reader refuses keys below 128 that it does not know
//! and skips the others, so formats can grow without breaking yesterday's verifiers. See `spec/leaf.md` and
//! `spec/leaf.cddl`.

mod attestation;
mod network;
mod operation;

pub use attestation::{
    Attestation, Beacon, Evidence, Tier, UnknownTier, attestation_nonce, possession_message, rotation_message,
};
pub use network::{
    Coordinator, Model, ModelFile, PolicyLeaf, Price, PriceTable, Release, Revocation, SignedBy, Verdict,
};
pub use operation::{
    ChallengeBatch, MAX_EPOCH, OperatorAction, Transcript, challenge_message, transcript_root,
};

use crate::{
    cbor::{FieldError, Fields, Value},
    curve::{PublicKey, SignError, Signer},
    statement::{Kind, Statement, StatementError},
};

/// A payload with a kind of its own.
pub trait Payload: Sized {
    /// The kind that a statement with this payload has.
    const KIND: Kind;

    /// The payload as CBOR.
    fn to_value(&self) -> Value;

    /// Takes the fields of a decoded payload.
    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError>;

    /// Decodes a payload, refusing fields that must be understood and are not.
    fn decode(payload: &[u8]) -> Result<Self, FieldError> {
        let mut fields = Fields::decode(payload)?;
        let decoded = Self::from_fields(&mut fields)?;
        fields.finish()?;
        Ok(decoded)
    }

    /// The payload of a statement, which must be of this kind.
    fn of(statement: &Statement) -> Result<Self, LeafError> {
        if statement.kind() != Self::KIND {
            return Err(LeafError::OtherKind { found: statement.kind(), expected: Self::KIND });
        }
        Self::decode(statement.payload()).map_err(|error| LeafError::Payload { kind: Self::KIND, error })
    }

    /// Signs this payload.
    fn sign(&self, signer: &dyn Signer) -> Result<Statement, SignError> {
        Statement::sign(Self::KIND, &self.to_value(), signer)
    }
}

/// Why a leaf does not say what it was taken to say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The statement is of another kind.
    #[error("the leaf is a {found} statement where a {expected} belongs")]
    OtherKind {
        /// What it is.
        found: Kind,
        /// What belongs there.
        expected: Kind,
    },
    /// The payload is malformed.
    #[error("{kind} payload: {error}")]
    Payload {
        /// The kind of the statement.
        kind: Kind,
        /// What is wrong with it.
        error: FieldError,
    },
    /// The statement is malformed or its signature is wrong.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

fn public_key(fields: &mut Fields, key: u64) -> Result<PublicKey, FieldError> {
    PublicKey::from_sec1(&fields.fixed::<33>(key)?)
        .map_err(|_| FieldError::Field { key, expected: "a compressed P-256 point" })
}
