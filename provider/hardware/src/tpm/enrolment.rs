//! What lasts of the evidence, and how it is kept. The evidence itself is `glassbloom_spec::evidence::tpm`.

use std::path::Path;

use glassbloom_spec::{
    cbor::{FieldError, Fields, Value},
    evidence::tpm::{Lasting, credential::Transcript},
    hash::Hash,
};

use crate::{DeviceError, files};

/// What is made once, with an auditor's help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Enrolled {
    /// The part of the evidence.
    pub(super) lasting: Lasting,
    /// The nonce of the attestation that it was made for.
    pub(super) nonce: Hash,
    /// That attestation's leaf, once it is logged.
    pub(super) leaf: Option<Hash>,
}

impl Enrolled {
    /// Whether it is about these certificates and this key: both may have changed since.
    pub(super) fn is_about(&self, certificates: &[Vec<u8>], attestation_key: &[u8]) -> bool {
        self.lasting.chain == certificates && self.lasting.attestation_key == attestation_key
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
        files::write(&folder.join(FILE), &self.encode())
    }

    pub(super) fn remove(folder: &Path) -> Result<(), DeviceError> {
        files::remove(&folder.join(FILE))
    }

    fn encode(&self) -> Vec<u8> {
        let array =
            |items: &[Vec<u8>]| Value::Array(items.iter().map(|item| item.as_slice().into()).collect());
        let mut fields = vec![
            (1, array(&self.lasting.chain)),
            (2, self.lasting.attestation_key.as_slice().into()),
            (3, self.lasting.activation.to_value()),
            (4, array(&self.lasting.endorsements)),
            (5, self.nonce.into()),
        ];
        fields.extend(self.leaf.map(|leaf| (6, leaf.into())));
        Value::Map(fields.into_iter().map(|(key, value)| (Value::Unsigned(key), value)).collect()).encode()
    }

    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut fields = Fields::decode(bytes)?;
        let lasting = Lasting {
            chain: byte_strings(&mut fields, 1)?,
            attestation_key: fields.bytes(2)?,
            activation: Transcript::from_value(fields.value(3, "a map")?)?,
            endorsements: byte_strings(&mut fields, 4)?,
        };
        let enrolled = Self {
            lasting,
            nonce: fields.hash(5)?,
            leaf: fields.has(6).then(|| fields.hash(6)).transpose()?,
        };
        fields.finish()?;
        Ok(enrolled)
    }
}

fn byte_strings(fields: &mut Fields, key: u64) -> Result<Vec<Vec<u8>>, FieldError> {
    let items = fields.array(key)?.into_iter().map(|item| match item {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(FieldError::Field { key, expected: "an array of byte strings" }),
    });
    items.collect()
}

const FILE: &str = "enrolment.cbor";

#[cfg(test)]
mod tests {
    use glassbloom_spec::evidence::tpm::credential::{Challenge, Seeds};

    use super::*;

    #[test]
    fn an_enrolment_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Enrolled::read(folder.path()).unwrap(), None);
        let lasting = Lasting {
            chain: vec![vec![1], vec![2]],
            attestation_key: vec![3],
            activation: Transcript {
                challenge: Challenge { credential: vec![4], encrypted_secret: vec![5] },
                seeds: Seeds { secret: [6; 32], seed: [7; 32], padding: Some([8; 32]) },
            },
            endorsements: vec![vec![9]],
        };
        let mut enrolled = Enrolled { lasting, nonce: Hash::of(b"nonce"), leaf: None };
        assert!(enrolled.is_good_for(enrolled.nonce) && !enrolled.is_good_for(Hash::of(b"other")));
        for leaf in [None, Some(Hash::of(b"leaf"))] {
            enrolled.leaf = leaf;
            enrolled.write(folder.path()).unwrap();
            assert_eq!(Enrolled::read(folder.path()).unwrap().as_ref(), Some(&enrolled));
        }
        assert!(enrolled.is_good_for(Hash::of(b"other")));
        assert!(enrolled.is_about(&[vec![1], vec![2]], &[3]));
        assert!(!enrolled.is_about(&[vec![1]], &[3]) && !enrolled.is_about(&[vec![1], vec![2]], &[4]));
        files::write(&folder.path().join(FILE), b"x").unwrap();
        assert!(Enrolled::read(folder.path()).unwrap_err().to_string().contains("remove it"));
    }
}
