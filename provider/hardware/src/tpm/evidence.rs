//! Evidence of format `tpm`: its two parts, and how the lasting one is kept. See `spec/evidence-tpm.md`.

use std::path::Path;

use glassbloom_spec::{
    cbor::{FieldError, Fields, Value},
    hash::Hash,
};

use super::command::Attested;
use crate::{DeviceError, files};

/// What is made once, with an auditor's help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lasting {
    pub(super) certificates: Vec<Vec<u8>>,
    /// TPMT_PUBLIC.
    pub(super) attestation_key: Vec<u8>,
    /// The activation transcript, a map.
    pub(super) transcript: Value,
    pub(super) endorsements: Vec<Vec<u8>>,
    /// The nonce of the attestation that it was made for.
    pub(super) nonce: Hash,
    /// That attestation's leaf, once it is logged.
    pub(super) leaf: Option<Hash>,
}

/// What is made for each nonce.
pub(super) struct Fresh {
    pub(super) quoted: Attested,
    pub(super) pcrs: Vec<(u8, [u8; 32])>,
    pub(super) signing_key: Vec<u8>,
    pub(super) signing_certified: Attested,
    pub(super) sealing_key: Vec<u8>,
    pub(super) sealing_certified: Attested,
}

impl Fresh {
    /// Whether the digest that was quoted, the last field of the statement, is over these values.
    pub(super) fn registers_are_as_quoted(&self) -> bool {
        let values: Vec<&[u8]> = self.pcrs.iter().map(|(_, value)| value.as_slice()).collect();
        self.quoted.statement.ends_with(Hash::of_parts(&values).as_ref())
    }
}

/// The evidence.
pub(super) fn encode(lasting: &Lasting, fresh: &Fresh) -> Vec<u8> {
    let mut fields = lasting.fields();
    let pcrs = fresh
        .pcrs
        .iter()
        .map(|(index, value)| Value::Array(vec![Value::Unsigned((*index).into()), value.as_slice().into()]));
    fields.extend([
        (5, fresh.quoted.statement.as_slice().into()),
        (6, fresh.quoted.signature.as_slice().into()),
        (7, Value::Array(pcrs.collect())),
        (8, fresh.signing_key.as_slice().into()),
        (9, fresh.signing_certified.statement.as_slice().into()),
        (10, fresh.signing_certified.signature.as_slice().into()),
        (11, fresh.sealing_key.as_slice().into()),
        (12, fresh.sealing_certified.statement.as_slice().into()),
        (13, fresh.sealing_certified.signature.as_slice().into()),
    ]);
    value(fields).encode()
}

impl Lasting {
    /// Whether it is about these certificates and this key: both may have changed since.
    pub(super) fn is_about(&self, certificates: &[Vec<u8>], attestation_key: &[u8]) -> bool {
        self.certificates == certificates && self.attestation_key == attestation_key
    }

    /// Whether evidence over this nonce may hold it: once logged it serves for every nonce, until then for its own.
    pub(super) fn is_good_for(&self, nonce: Hash) -> bool {
        self.leaf.is_some() || self.nonce == nonce
    }

    pub(super) fn read(folder: &Path) -> Result<Option<Self>, DeviceError> {
        let path = folder.join(FILE);
        let Some(bytes) = files::read(&path)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(|error| DeviceError::Malformed {
            path,
            what: error.to_string(),
            next: "remove it to have an auditor vouch for this device again",
        })
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), DeviceError> {
        let mut fields = self.fields();
        fields.push((NONCE, self.nonce.into()));
        fields.extend(self.leaf.map(|leaf| (LEAF, leaf.into())));
        files::write(&folder.join(FILE), &value(fields).encode())
    }

    pub(super) fn remove(folder: &Path) -> Result<(), DeviceError> {
        files::remove(&folder.join(FILE))
    }

    fn fields(&self) -> Vec<(u64, Value)> {
        let array =
            |items: &[Vec<u8>]| Value::Array(items.iter().map(|item| item.as_slice().into()).collect());
        vec![
            (1, array(&self.certificates)),
            (2, self.attestation_key.as_slice().into()),
            (3, self.transcript.clone()),
            (4, array(&self.endorsements)),
        ]
    }

    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut fields = Fields::decode(bytes)?;
        let byte_strings = |fields: &mut Fields, key| {
            fields
                .array(key)?
                .into_iter()
                .map(|item| match item {
                    Value::Bytes(bytes) => Ok(bytes),
                    _ => Err(FieldError::Field { key, expected: "an array of byte strings" }),
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let certificates = byte_strings(&mut fields, 1)?;
        let attestation_key = fields.bytes(2)?;
        let transcript = transcript(fields.value(3, "a map")?)?;
        let lasting = Self {
            certificates,
            attestation_key,
            transcript,
            endorsements: byte_strings(&mut fields, 4)?,
            nonce: fields.hash(NONCE)?,
            leaf: fields.has(LEAF).then(|| fields.hash(LEAF)).transpose()?,
        };
        fields.finish()?;
        Ok(lasting)
    }
}

/// Checks the form of an activation transcript: challenge, encrypted seed, secret, seed and its padding.
pub(super) fn transcript(value: Value) -> Result<Value, FieldError> {
    let mut fields = Fields::of(value.clone())?;
    for key in 1..=5 {
        fields.bytes(key)?;
    }
    fields.finish()?;
    Ok(value)
}

fn value(fields: Vec<(u64, Value)>) -> Value {
    Value::Map(fields.into_iter().map(|(key, value)| (Value::Unsigned(key), value)).collect())
}

const FILE: &str = "enrolment.cbor";
/// Only in the file, never in evidence.
const LEAF: u64 = 128;
const NONCE: u64 = 129;

#[cfg(test)]
mod tests {
    use glassbloom_spec::cbor::map;

    use super::*;

    #[test]
    fn an_enrolment_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Lasting::read(folder.path()).unwrap(), None);
        let field = |key| (key, Value::Bytes(vec![key as u8]));
        let mut lasting = Lasting {
            certificates: vec![vec![1], vec![2]],
            attestation_key: vec![3],
            transcript: map([1, 2, 3, 4, 5].map(field)),
            endorsements: vec![vec![9]],
            nonce: Hash::of(b"nonce"),
            leaf: None,
        };
        assert!(lasting.is_good_for(lasting.nonce) && !lasting.is_good_for(Hash::of(b"other")));
        for leaf in [None, Some(Hash::of(b"leaf"))] {
            lasting.leaf = leaf;
            lasting.write(folder.path()).unwrap();
            assert_eq!(Lasting::read(folder.path()).unwrap().as_ref(), Some(&lasting));
        }
        assert!(lasting.is_good_for(Hash::of(b"other")));
        assert!(transcript(map([1, 2, 3, 4].map(field))).is_err());
        assert!(transcript(map([1, 2, 3, 4, 5, 6].map(field))).is_err());
        assert!(lasting.is_about(&[vec![1], vec![2]], &[3]));
        assert!(!lasting.is_about(&[vec![1]], &[3]));
        files::write(&folder.path().join(FILE), b"x").unwrap();
        assert!(Lasting::read(folder.path()).unwrap_err().to_string().contains("remove it"));
    }
}
