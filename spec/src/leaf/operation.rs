//! What a coordinator did and saw while it ran: state that a person changed, and who was alive.

use super::{
    Payload,
    network::{SignedBy, signed_by, signed_by_value},
};
use crate::{
    cbor::{FieldError, Fields, Value, map},
    curve::{PublicKey, SIGNATURE_LEN},
    hash::Hash,
    id::UnixSeconds,
    leaf::Beacon,
    merkle::root_of,
    statement::Kind,
};

/// State that a person changed by hand: whatever no other statement explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorAction {
    /// What was done, for people.
    pub what: String,
    /// What it touched, for people.
    pub scope: String,
    /// Digest of the change, so that it can be shown later that it was this one.
    pub change: Hash,
    /// Why.
    pub reason: String,
    /// The people who approved it: keys over [`approval_message`](Self::approval_message).
    pub approvals: Vec<SignedBy>,
}

impl OperatorAction {
    /// What an approver signs: everything but the approvals.
    pub fn approval_message(&self) -> Vec<u8> {
        let bare = Self { approvals: Vec::new(), ..self.clone() };
        [b"glassbloom/operator-approval/v1\0", bare.to_value().encode().as_slice()].concat()
    }

    /// The approvers whose signature does not verify: such an action counts for nothing.
    pub fn false_approvals(&self) -> impl Iterator<Item = &PublicKey> {
        let message = self.approval_message();
        self.approvals
            .iter()
            .filter(move |(key, signature)| key.verify(&message, signature).is_err())
            .map(|(key, _)| key)
    }
}

impl Payload for OperatorAction {
    const KIND: Kind = Kind::OperatorAction;

    fn to_value(&self) -> Value {
        map([
            (1, self.what.as_str().into()),
            (2, self.scope.as_str().into()),
            (3, self.change.into()),
            (4, self.reason.as_str().into()),
            (5, Value::Array(self.approvals.iter().map(signed_by_value).collect())),
        ])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        let expected =
            FieldError::Field { key: 5, expected: "[[key, signature], …] in strict order of keys" };
        let action = Self {
            what: fields.text(1)?,
            scope: fields.text(2)?,
            change: fields.hash(3)?,
            reason: fields.text(4)?,
            approvals: fields
                .array(5)?
                .into_iter()
                .map(signed_by)
                .collect::<Option<_>>()
                .ok_or(expected.clone())?,
        };
        // One person is one approver.
        if action.approvals.is_sorted_by(|a, b| a.0 < b.0) { Ok(action) } else { Err(expected) }
    }
}

/// Who answered the challenges of an epoch, and who did not: silence is logged too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeBatch {
    /// When the epoch began; a multiple of its length.
    pub epoch: UnixSeconds,
    /// How long it lasts, in seconds.
    pub seconds: u64,
    /// The registry checkpoint that the nonces were derived from.
    pub beacon: Beacon,
    /// Root of the tree over the [transcripts](Transcript) of those that answered, in the order of `expected`.
    pub root: Hash,
    /// Leaf hashes of the attestations that served when the epoch began, in strict order.
    pub expected: Vec<Hash>,
    /// Those of them that did not answer well, in the same order, with the reason.
    pub missing: Vec<(Hash, String)>,
}

/// Longest epoch, in seconds. A provider signs for no epoch that began longer ago, so that answers cannot be collected
/// for times when it was not asked.
pub const MAX_EPOCH: u64 = 3_600;

impl ChallengeBatch {
    /// Leaf hashes of the attestations that answered, in strict order.
    pub fn answered(&self) -> impl Iterator<Item = &Hash> {
        self.expected.iter().filter(|leaf| self.missing.binary_search_by_key(leaf, |(leaf, _)| leaf).is_err())
    }

    /// Whether these are the answers that the batch was made over. Whose signatures they are is for
    /// [`Transcript::verify`] to say.
    pub fn is_over(&self, answers: &[Transcript]) -> bool {
        self.answered().eq(answers.iter().map(|answer| &answer.attestation))
            && self.root == transcript_root(answers)
    }

    /// A batch over these answers; `expected` and `answers` in strict order of leaf hashes.
    pub fn new(
        epoch: UnixSeconds,
        seconds: u64,
        beacon: Beacon,
        answers: &[Transcript],
        missing: Vec<(Hash, String)>,
    ) -> Self {
        let mut expected: Vec<Hash> = answers.iter().map(|answer| answer.attestation).collect();
        expected.extend(missing.iter().map(|(leaf, _)| *leaf));
        expected.sort_unstable();
        Self { epoch, seconds, beacon, root: transcript_root(answers), expected, missing }
    }
}

/// A provider's answer to the challenge of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Leaf hash of its attestation.
    pub attestation: Hash,
    /// Its signing key over [`challenge_message`].
    pub signature: [u8; SIGNATURE_LEN],
}

impl Transcript {
    /// Whether the signing key of the attestation answered this challenge.
    pub fn verify(&self, signing_key: &PublicKey, beacon: Hash, epoch: UnixSeconds) -> bool {
        signing_key.verify(&challenge_message(beacon, self.attestation, epoch), &self.signature).is_ok()
    }

    /// The leaf of the tree over a batch's transcripts.
    pub fn encode(&self) -> Vec<u8> {
        Value::Array(vec![self.attestation.into(), self.signature.as_slice().into()]).encode()
    }
}

/// The root that a batch names, over the answers in strict order of their attestations' leaf hashes.
pub fn transcript_root(answers: &[Transcript]) -> Hash {
    root_of(answers.iter().map(|answer| Hash::leaf(&answer.encode())))
}

/// What a provider signs to show that it is there: derived from the log, chosen by nobody.
pub fn challenge_message(beacon: Hash, attestation: Hash, epoch: UnixSeconds) -> Vec<u8> {
    let epoch = epoch.get().to_be_bytes();
    [b"glassbloom/challenge/v1\0", beacon.as_ref(), attestation.as_ref(), &epoch].concat()
}

impl Payload for ChallengeBatch {
    const KIND: Kind = Kind::ChallengeBatch;

    fn to_value(&self) -> Value {
        let missing =
            |(leaf, reason): &(Hash, String)| Value::Array(vec![(*leaf).into(), reason.as_str().into()]);
        map([
            (1, self.epoch.get().into()),
            (2, self.seconds.into()),
            (3, self.beacon.checkpoint.as_slice().into()),
            (4, self.root.into()),
            (5, Value::Array(self.expected.iter().map(|leaf| (*leaf).into()).collect())),
            (6, Value::Array(self.missing.iter().map(missing).collect())),
        ])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        let leaf = |value| match value {
            Value::Bytes(bytes) => Hash::try_from(bytes.as_slice()).ok(),
            _ => None,
        };
        let absent = |value| {
            let Value::Array(parts) = value else { return None };
            let [hash, Value::Text(reason)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
            crate::cbor::is_plain(&reason).then_some((leaf(hash)?, reason))
        };
        let batch = Self {
            epoch: fields.unsigned(1)?.into(),
            seconds: fields.unsigned(2)?,
            beacon: Beacon { checkpoint: fields.bytes(3)? },
            root: fields.hash(4)?,
            expected: fields
                .array(5)?
                .into_iter()
                .map(leaf)
                .collect::<Option<_>>()
                .ok_or(FieldError::Field { key: 5, expected: "leaf hashes" })?,
            missing: fields
                .array(6)?
                .into_iter()
                .map(absent)
                .collect::<Option<_>>()
                .ok_or(FieldError::Field { key: 6, expected: "[[leaf hash, reason], …]" })?,
        };
        if batch.seconds == 0 || !batch.epoch.get().is_multiple_of(batch.seconds) {
            return Err(FieldError::Field {
                key: 2,
                expected: "a length that divides the epoch's beginning",
            });
        }
        if !batch.expected.is_sorted_by(|a, b| a < b) {
            return Err(FieldError::Field { key: 5, expected: "leaf hashes in strict order" });
        }
        let among = |(leaf, _): &(Hash, String)| batch.expected.binary_search(leaf).is_ok();
        if !batch.missing.is_sorted_by(|a, b| a.0 < b.0) || !batch.missing.iter().all(among) {
            return Err(FieldError::Field { key: 6, expected: "expected ones, in strict order" });
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{curve::SigningKey, statement::Statement};

    fn answer(seed: u8, beacon: &Beacon, epoch: UnixSeconds) -> (PublicKey, Transcript) {
        let (key, attestation) = (SigningKey::from_seed(&[seed; 32]), Hash::of(&[seed]));
        let signature = key.sign(&challenge_message(beacon.digest(), attestation, epoch));
        (key.public_key(), Transcript { attestation, signature })
    }

    #[test]
    fn a_batch_is_over_its_answers_and_no_others() {
        let (beacon, epoch) = (Beacon { checkpoint: b"note".to_vec() }, UnixSeconds::new(600));
        let (mut keys, mut answers): (Vec<_>, Vec<_>) =
            (1..4).map(|seed| answer(seed, &beacon, epoch)).unzip();
        keys.sort_by_key(|key| {
            answers.iter().position(|answer| answer.verify(key, beacon.digest(), epoch)).unwrap()
        });
        answers.sort_by_key(|answer| answer.attestation);
        let missing = vec![(Hash::of(b"away"), "silent".to_owned())];
        let batch = ChallengeBatch::new(epoch, 300, beacon.clone(), &answers, missing);
        let signed = batch.sign(&SigningKey::from_seed(&[9; 32])).unwrap();
        let batch = ChallengeBatch::of(&Statement::parse(signed.bytes()).unwrap()).unwrap();
        assert!(batch.is_over(&answers));
        assert_eq!((batch.expected.len(), batch.answered().count()), (4, 3));
        assert!(!batch.is_over(&answers[1..]));
        let mut swapped = answers.clone();
        swapped.swap(0, 1);
        assert!(!batch.is_over(&swapped));
        let mut forged = answers.clone();
        forged[0].signature = answers[1].signature;
        assert!(!batch.is_over(&forged));
        let (key, other) = answer(7, &beacon, epoch);
        assert!(other.verify(&key, beacon.digest(), epoch));
        assert!(
            !other.verify(&key, beacon.digest(), UnixSeconds::new(900)),
            "worth nothing in another epoch"
        );
        assert!(!other.verify(&key, Hash::of(b"another"), epoch));
    }

    #[test]
    fn an_empty_network_has_a_batch_of_nobody() {
        let beacon = Beacon { checkpoint: b"note".to_vec() };
        let batch = ChallengeBatch::new(UnixSeconds::new(300), 300, beacon, &[], Vec::new());
        let decoded = ChallengeBatch::decode(&batch.to_value().encode()).unwrap();
        assert!(decoded.is_over(&[]) && decoded.expected.is_empty());
    }
}
