//! The public record: what a log holds of a chain.

use super::{
    chain::Form,
    property::{FIELDS, Property},
};
use crate::{
    cbor::{FieldError, Fields, Value, map},
    evidence::Refused,
    hash::Hash,
    id::UnixSeconds,
};

/// The public record in its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How the Mac was asked.
    pub form: Form,
    /// What the certificate holds for the nonce.
    pub freshness: Hash,
    /// When Apple made the certificate.
    pub minted: UnixSeconds,
    /// When the certificate ends.
    pub ends: UnixSeconds,
    /// A commitment to each of [`FIELDS`], `None` where the certificate has no such property, or a blank one.
    pub commitments: [Option<Hash>; FIELDS.len()],
    /// The properties that anyone may read, in the order of [`FIELDS`].
    pub openings: Vec<Opening>,
    /// Statements of auditors who saw the chain.
    pub endorsements: Vec<Vec<u8>>,
}

/// What opens a commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Which property.
    pub name: &'static str,
    /// Its salt.
    pub salt: [u8; 32],
    /// Its value as Apple encodes it.
    pub value: Vec<u8>,
}

/// A property in a record: three states, so that leaving something out never passes for having it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// The certificate does not have it, or has a blank.
    Absent,
    /// Its value as Apple encodes it.
    Opened(&'a [u8]),
    /// A commitment to it.
    Redacted(Hash),
}

impl Record {
    /// Decodes a record.
    ///
    /// # Errors
    /// `evidence-malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let record = Self::read(bytes).map_err(|error| Refused::malformed(format!("MDA record: {error}")))?;
        // Nothing may stand in a log that no rule reads: a field that readers would skip could hold the chain itself.
        if record.encode() == bytes {
            Ok(record)
        } else {
            Err(Refused::malformed("MDA record: it has fields that this version does not know"))
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut fields = Fields::decode(bytes)?;
        let form = Form::from_name(&fields.text(1)?)
            .ok_or(FieldError::Field { key: 1, expected: "`acme` or `device-information`" })?;
        let freshness = fields.hash(2)?;
        let times = <[Value; 2]>::try_from(fields.array(3)?);
        let Ok([Value::Unsigned(minted), Value::Unsigned(ends)]) = times else {
            return Err(FieldError::Field { key: 3, expected: "[minted, ends]" });
        };
        let commitments = commitments(fields.array(4)?)
            .ok_or(FieldError::Field { key: 4, expected: "[name, commitment or null] of every property" })?;
        let openings = openings(fields.array(5)?).ok_or(FieldError::Field {
            key: 5,
            expected: "[name, salt, value] of properties, in their order",
        })?;
        let endorsements = fields.array(6)?;
        if endorsements.len() > MAX_ENDORSEMENTS {
            return Err(FieldError::Field { key: 6, expected: "at most 8 endorsements" });
        }
        let endorsements = endorsements
            .into_iter()
            .map(|item| match item {
                Value::Bytes(bytes) => Ok(bytes),
                _ => Err(FieldError::Field { key: 6, expected: "an array of statements" }),
            })
            .collect::<Result<_, _>>()?;
        fields.finish()?;
        Ok(Self {
            form,
            freshness,
            minted: UnixSeconds::new(minted),
            ends: UnixSeconds::new(ends),
            commitments,
            openings,
            endorsements,
        })
    }

    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        let openings = self
            .openings
            .iter()
            .map(|opening| {
                let salt = opening.salt.as_slice().into();
                Value::Array(vec![opening.name.into(), salt, opening.value.as_slice().into()])
            })
            .collect();
        let endorsements = self.endorsements.iter().map(|bytes| bytes.as_slice().into()).collect();
        let [one, two, three, four] = self.covered();
        map([one, two, three, four, (5, Value::Array(openings)), (6, Value::Array(endorsements))]).encode()
    }

    /// What an endorsement is about: SHA-256 over a tag and the encoding of fields 1 to 4. What is opened is its
    /// owner's choice, so it may change without a new endorsement.
    pub fn subject(&self) -> Hash {
        Hash::of_parts(&[SUBJECT, &map(self.covered()).encode()])
    }

    fn covered(&self) -> [(u64, Value); 4] {
        let commitments = FIELDS
            .iter()
            .zip(&self.commitments)
            .map(|(property, commitment)| {
                Value::Array(vec![property.name.into(), commitment.map_or(Value::Null, Value::from)])
            })
            .collect();
        [
            (1, self.form.name().into()),
            (2, self.freshness.into()),
            (3, Value::Array(vec![self.minted.get().into(), self.ends.get().into()])),
            (4, Value::Array(commitments)),
        ]
    }

    /// Refuses a time at which the certificate was not valid; Apple sets its beginning a day before its making.
    pub(super) fn check_validity(&self, at: UnixSeconds) -> Result<(), Refused> {
        if at > self.ends {
            let detail = format!("the certificate ended at {} s, before {} s", self.ends.get(), at.get());
            return Err(Refused::new("mda-expired", detail));
        }
        if self.minted.get() > at.get().saturating_add(BACKDATED) {
            let detail = format!("it was made at {} s, a day after {} s", self.minted.get(), at.get());
            return Err(Refused::new("mda-not-yet-valid", detail));
        }
        Ok(())
    }

    /// Every property: absent, opened with the value that is committed to, or redacted.
    ///
    /// # Errors
    /// `mda-identifies-device` when what is opened tells which Mac it is, `mda-opening` when it is not what is
    /// committed to, `mda-property` when it is not encoded as Apple encodes it.
    pub fn open(&self) -> Result<Vec<Shown<'_>>, Refused> {
        let mut values = Vec::with_capacity(FIELDS.len());
        for (property, commitment) in FIELDS.iter().zip(self.commitments) {
            let opening = self.openings.iter().find(|opening| opening.name == property.name);
            values.push(match (opening, commitment) {
                (None, None) => Shown::Absent,
                (None, Some(commitment)) => Shown::Redacted(commitment),
                (Some(opening), commitment) => Shown::Opened(opening.check(property, commitment)?),
            });
        }
        Ok(values)
    }
}

impl Opening {
    fn check(&self, property: &Property, commitment: Option<Hash>) -> Result<&[u8], Refused> {
        if property.identifies {
            let detail = format!("{} is opened, and tells which Mac it is", property.name);
            return Err(Refused::new("mda-identifies-device", detail));
        }
        if commitment != Some(property.commit(&self.salt, &self.value)) {
            let detail = format!("the value of {} is not the one that is committed to", property.name);
            return Err(Refused::new("mda-opening", detail));
        }
        property.text(&self.value)?;
        Ok(&self.value)
    }
}

fn commitments(items: Vec<Value>) -> Option<[Option<Hash>; FIELDS.len()]> {
    let mut commitments = [None; FIELDS.len()];
    if items.len() != FIELDS.len() {
        return None;
    }
    for ((item, property), commitment) in items.into_iter().zip(&FIELDS).zip(&mut commitments) {
        let Value::Array(pair) = item else { return None };
        *commitment = match <[Value; 2]>::try_from(pair).ok()? {
            [Value::Text(name), Value::Null] if name == property.name => None,
            [Value::Text(name), Value::Bytes(hash)] if name == property.name => {
                Some(Hash::try_from(hash.as_slice()).ok()?)
            }
            _ => return None,
        };
    }
    Some(commitments)
}

fn openings(items: Vec<Value>) -> Option<Vec<Opening>> {
    let mut left = FIELDS.iter();
    items
        .into_iter()
        .map(|item| {
            let Value::Array(parts) = item else { return None };
            let Ok([Value::Text(name), Value::Bytes(salt), Value::Bytes(value)]) =
                <[Value; 3]>::try_from(parts)
            else {
                return None;
            };
            // Each is looked for after the one before, so that they stand in order and none stands twice.
            let property = left.find(|property| property.name == name)?;
            Some(Opening { name: property.name, salt: salt.try_into().ok()?, value })
        })
        .collect()
}

const SUBJECT: &[u8] = b"glassbloom/mda-record/v1\0";
const MAX_ENDORSEMENTS: usize = 8;
const BACKDATED: u64 = 86_400;
