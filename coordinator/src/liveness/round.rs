//! The challenges of one epoch, until its batch is signed.

use std::collections::BTreeMap;

use glassbloom_spec::{
    curve::{PublicKey, SIGNATURE_LEN},
    hash::Hash,
    id::UnixSeconds,
    leaf::{Beacon, Transcript},
};

use crate::store::OpenEpoch;

/// Whom an epoch's challenges went to, and what came back.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) epoch: UnixSeconds,
    pub(super) seconds: u64,
    pub(super) beacon: Beacon,
    answers: BTreeMap<Hash, Answer>,
    /// An earlier process sent the challenges.
    resumed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Good([u8; SIGNATURE_LEN]),
    Forged,
    None,
}

/// What an answer is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The first good one.
    Answer(Transcript),
    /// One that does not verify.
    Forgery,
    /// Not asked for, or not any more.
    Nothing,
}

impl Round {
    /// An epoch whose challenges are about to go out.
    pub(super) fn opened(open: OpenEpoch) -> Self {
        let answer =
            |(leaf, signature): (Hash, Option<_>)| (leaf, signature.map_or(Answer::None, Answer::Good));
        Self {
            epoch: open.epoch,
            seconds: open.seconds,
            beacon: Beacon { checkpoint: open.beacon },
            answers: open.answers.into_iter().map(answer).collect(),
            resumed: false,
        }
    }

    /// An epoch that an earlier process opened.
    pub(super) fn resumed(open: OpenEpoch) -> Self {
        Self { resumed: true, ..Self::opened(open) }
    }

    pub(super) fn is_over(&self, now: UnixSeconds) -> bool {
        now.get() >= self.epoch.get().saturating_add(self.seconds)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.answers.values().all(|answer| matches!(answer, Answer::Good(_)))
    }

    #[cfg(test)]
    pub(super) fn has_forgery(&self) -> bool {
        self.answers.values().any(|answer| matches!(answer, Answer::Forged))
    }

    /// Whether this attestation is expected, and has not answered well.
    pub(super) fn waits_for(&self, attestation: &Hash) -> bool {
        self.answers.get(attestation).is_some_and(|answer| !matches!(answer, Answer::Good(_)))
    }

    /// Takes an answer.
    pub(super) fn hear(
        &mut self,
        epoch: UnixSeconds,
        attestation: Hash,
        signature: &[u8],
        key: &PublicKey,
    ) -> Heard {
        if epoch != self.epoch || !self.waits_for(&attestation) {
            return Heard::Nothing;
        }
        let answer = signature.try_into().ok().map(|signature| Transcript { attestation, signature });
        match answer.filter(|answer| answer.verify(key, self.beacon.digest(), epoch)) {
            Some(answer) => {
                self.answers.insert(attestation, Answer::Good(answer.signature));
                Heard::Answer(answer)
            }
            None => {
                self.answers.insert(attestation, Answer::Forged);
                Heard::Forgery
            }
        }
    }

    /// The answers, and who is missing for which reason. `reason` knows of those that may not serve any more and of those
    /// that are connected; the others are not.
    pub(super) fn result(
        &self,
        reason: impl Fn(&Hash) -> Option<&'static str>,
    ) -> (Vec<Transcript>, Vec<(Hash, String)>) {
        let (mut answers, mut missing) = (Vec::new(), Vec::new());
        for (attestation, answer) in &self.answers {
            let gone = if self.resumed { "coordinator-restarted" } else { "disconnected" };
            let why = match answer {
                Answer::Good(signature) => {
                    answers.push(Transcript { attestation: *attestation, signature: *signature });
                    continue;
                }
                Answer::Forged => "bad-signature",
                Answer::None => reason(attestation).unwrap_or(gone),
            };
            missing.push((*attestation, why.to_owned()));
        }
        (answers, missing)
    }
}

#[cfg(test)]
mod tests {
    use glassbloom_spec::{curve::SigningKey, leaf::challenge_message};

    use super::*;

    #[test]
    fn the_first_good_answer_of_whoever_is_expected_counts() {
        let key = SigningKey::from_seed(&[1; 32]);
        let [one, two, three] = [b"1", b"2", b"3"].map(|name| Hash::of(name));
        let open = OpenEpoch {
            epoch: 600.into(),
            seconds: 300,
            beacon: b"note".to_vec(),
            answers: [(one, None), (two, None)].into(),
        };
        let mut round = Round::opened(open.clone());
        let sign = |leaf, epoch| {
            let beacon = Beacon { checkpoint: b"note".to_vec() }.digest();
            key.sign(&challenge_message(beacon, leaf, UnixSeconds::new(epoch)))
        };
        let mut hear =
            |epoch: u64, leaf, signature: &[u8]| round.hear(epoch.into(), leaf, signature, &key.public_key());
        assert_eq!(hear(900, one, &sign(one, 900)), Heard::Nothing, "another epoch");
        assert_eq!(hear(600, three, &sign(three, 600)), Heard::Nothing, "not expected");
        assert_eq!(hear(600, one, &sign(two, 600)), Heard::Forgery, "for another attestation");
        assert_eq!(hear(600, two, b"short"), Heard::Forgery);
        assert!(matches!(hear(600, one, &sign(one, 600)), Heard::Answer(_)), "a better one after a bad one");
        assert_eq!(hear(600, one, &sign(one, 600)), Heard::Nothing, "once");
        assert!(!round.is_complete() && !round.is_over(899.into()) && round.is_over(900.into()));
        let (answers, missing) = round.result(|_| Some("silent"));
        assert_eq!(answers, [Transcript { attestation: one, signature: sign(one, 600) }]);
        assert_eq!(missing, [(two, "bad-signature".to_owned())]);
        let (_, missing) = Round::resumed(open).result(|leaf| (*leaf == one).then_some("silent"));
        let mut expected = vec![(one, "silent".to_owned()), (two, "coordinator-restarted".to_owned())];
        expected.sort_unstable();
        assert_eq!(missing, expected);
    }
}
