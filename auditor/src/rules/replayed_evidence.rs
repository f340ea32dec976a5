//! Evidence that was shown before.

use std::collections::HashMap;

use glassbloom_spec::{evidence, hash::Hash, id::LeafIndex, leaf::Attestation, statement::key_id};

use super::{Rule, Severity};
use crate::replay::{Entry, Leaf, Providers};

/// Evidence that was shown before.
pub const RULE: Rule = Rule {
    id: "GB-ATT-005",
    title: "evidence is shown a second time",
    severity: Severity::Violation,
    text: "
What hardware signs covers a checkpoint that was just witnessed, so evidence is good for one checkpoint and one pair of
keys. The same bytes in an attestation with another nonce are a recording; where a format has no fresh part, so are those
of another signing key. Where a device counts its signatures, as App
Attest does, the counter must be higher than in every attestation with that enrolment before: one that is not comes from
a recording, or from a copy of the key. The verdict of such an attestation is a refusal; this names where it was taken from.
",
    action: "Do not seal to the provider that showed it again; find out who could have recorded it.",
};

/// Evidence that was seen, and how far devices have counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    evidence: HashMap<Hash, (LeafIndex, Hash)>,
    counters: HashMap<Hash, (LeafIndex, u32)>,
}

impl Seen {
    /// Takes the next entry; `providers` has it already.
    pub(super) fn push(&mut self, entry: &Entry, providers: &Providers) -> Result<(), String> {
        let Ok(Leaf::Attestation(attestation)) = &entry.leaf else { return Ok(()) };
        self.is_new(entry, attestation)?;
        let counter = providers.proven(&entry.leaf_hash).and_then(|proven| proven.counter);
        match counter.zip(lasting(attestation)) {
            Some((counter, device)) => self.count(device, counter, entry.index),
            None => Ok(()),
        }
    }

    fn count(&mut self, device: Hash, counter: u32, index: LeafIndex) -> Result<(), String> {
        match self.counters.get(&device) {
            Some((first, before)) if counter <= *before => {
                Err(format!("its device counted {counter}, after {before} at index {first}"))
            }
            _ => {
                self.counters.insert(device, (index, counter));
                Ok(())
            }
        }
    }

    fn is_new(&mut self, entry: &Entry, attestation: &Attestation) -> Result<(), String> {
        let evidence = &attestation.evidence;
        if evidence.bytes.is_empty() {
            return Ok(());
        }
        let digest = Hash::of_parts(&[evidence.format.as_bytes(), b"\0", &evidence.bytes]);
        // For the same keys and the same checkpoint, the same evidence answers the same question. Evidence without a
        // fresh part is shown again with every renewal, and is for the signing key that it was made for.
        let asked = match lasting(attestation) {
            Some(whole) if whole == Hash::of(&evidence.bytes) => key_id(&attestation.signing_key).0,
            _ => attestation.expected_nonce(),
        };
        match self.evidence.entry(digest).or_insert((entry.index, asked)) {
            (first, before) if *before != asked => {
                Err(format!("the {} evidence is that of the attestation at index {first}", evidence.format))
            }
            _ => Ok(()),
        }
    }
}

fn lasting(attestation: &Attestation) -> Option<Hash> {
    evidence::lasting(&attestation.evidence.format, &attestation.evidence.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_only_rises() {
        let mut seen = Seen::default();
        let mut count = |device: &[u8], counter, index| {
            seen.count(Hash::of(device), counter, LeafIndex::new(index)).err()
        };
        assert_eq!(count(b"mac", 3, 0), None);
        assert_eq!(count(b"another", 1, 1), None);
        assert_eq!(count(b"mac", 5, 2), None);
        for stale in [5, 4, 3] {
            assert_eq!(
                count(b"mac", stale, 3).unwrap(),
                format!("its device counted {stale}, after 5 at index 2")
            );
        }
        assert_eq!(count(b"mac", 6, 4), None);
    }
}
