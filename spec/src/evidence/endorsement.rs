//! An auditor's word for evidence that the public does not see: a signed statement inside the evidence.
//!
//! Two uses: a TPM answered a credential activation, which nobody can replay later; and a certificate chain with a serial
//! number in it was seen whole. What the public log holds is a digest of what was seen.

use super::Refused;
use crate::{
    cbor::{FieldError, Fields, Value, map},
    curve::PublicKey,
    hash::Hash,
    leaf::Payload,
    statement::{Kind, Statement},
};

/// What an auditor says it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// The format of the evidence.
    pub format: String,
    /// Digest of what was seen; its preimage is a rule of the format.
    pub subject: Hash,
    /// The nonce of the attestation that it was seen for.
    pub nonce: Hash,
    /// Names the device without telling which: a keyed function of the device's identity whose key the endorser holds.
    pub device: Option<Hash>,
}

impl Payload for Endorsement {
    const KIND: Kind = Kind::Endorsement;

    fn to_value(&self) -> Value {
        map([
            (1, self.format.as_str().into()),
            (2, self.subject.into()),
            (3, self.nonce.into()),
            (4, self.device.map_or(Value::Null, Value::from)),
        ])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self {
            format: fields.text(1)?,
            subject: fields.hash(2)?,
            nonce: fields.hash(3)?,
            device: match fields.value(4, "a hash or null")? {
                Value::Null => None,
                Value::Bytes(bytes) => Some(
                    Hash::try_from(bytes.as_slice())
                        .map_err(|_| FieldError::Field { key: 4, expected: "a hash or null" })?,
                ),
                _ => return Err(FieldError::Field { key: 4, expected: "a hash or null" }),
            },
        })
    }
}

impl Endorsement {
    /// Opens an endorsement by one of `endorsers` over exactly this format, subject and nonce.
    ///
    /// # Errors
    /// `endorsement-malformed`, `endorser-unknown` or `endorsement-mismatch`.
    pub fn open(
        bytes: &[u8],
        endorsers: &[PublicKey],
        format: &str,
        subject: Hash,
        nonce: Hash,
    ) -> Result<(PublicKey, Self), Refused> {
        let statement = Statement::parse(bytes)
            .map_err(|error| Refused::new("endorsement-malformed", error.to_string()))?;
        let says =
            Self::of(&statement).map_err(|error| Refused::new("endorsement-malformed", error.to_string()))?;
        let Some(by) = endorsers.iter().find(|key| statement.verify(key).is_ok()) else {
            let detail = format!(
                "signed by key {}, which is no endorser of the rules, or not signed well",
                statement.key_id()
            );
            return Err(Refused::new("endorser-unknown", detail));
        };
        if says.format != format || says.subject != subject || says.nonce != nonce {
            return Err(Refused::new("endorsement-mismatch", "it is about other evidence than this"));
        }
        Ok((*by, says))
    }
}
