//! A Mac that nobody has: evidence of format `mda` in good order, by an endorser of our own.
//!
//! Such evidence names a device and needs no certificate in public, so tests of identity can start from it.

use glassbloom_spec::{
    curve::SigningKey,
    evidence::{
        endorsement::Endorsement,
        mda::{FIELDS, FORMAT, Form, Opening, Record},
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::{Evidence, Payload},
};

/// The endorser whom rules and policies must believe.
pub fn endorser() -> SigningKey {
    SigningKey::from_seed(b"endorser of Macs")
}

/// The name of a Mac in evidence.
pub fn device(mac: &str) -> Hash {
    Hash::of(mac.as_bytes())
}

/// Evidence that a Mac vouched for an attestation's nonce at a time.
///
/// # Panics
/// Never: the software key signs.
pub fn evidence(mac: &str, nonce: Hash, at: u64) -> Evidence {
    let form = Form::DeviceInformation;
    let mut record = Record {
        form,
        freshness: form.freshness(nonce),
        minted: UnixSeconds::new(at),
        ends: UnixSeconds::new(at + 366 * 86_400),
        commitments: [None; FIELDS.len()],
        openings: Vec::new(),
        endorsements: Vec::new(),
    };
    for (place, property) in FIELDS.iter().enumerate() {
        let salt = [place as u8 + 1; 32];
        let value = property.safe.map_or(b"UNKNOWN".to_vec(), |safe| safe.value.to_vec());
        record.commitments[place] = Some(property.commit(&salt, &value));
        if property.safe.is_some() {
            record.openings.push(Opening { name: property.name, salt, value });
        }
    }
    let endorsement = Endorsement {
        format: FORMAT.to_owned(),
        subject: record.subject(),
        nonce,
        device: Some(device(mac)),
    };
    let signed = endorsement.sign(&endorser()).expect("software keys sign");
    record.endorsements.push(signed.bytes().to_vec());
    Evidence { format: FORMAT.to_owned(), bytes: record.encode() }
}
