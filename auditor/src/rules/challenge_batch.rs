//! Who was said to be there.

use std::collections::{HashMap, HashSet};

use glassbloom_spec::{hash::Hash, id::LeafIndex, leaf::ChallengeBatch};

use super::Registered;
use super::{Rule, Severity};
use crate::replay::Leaf;

/// Who was said to be there.
pub const RULE: Rule = Rule {
    id: "GB-LIV-001",
    title: "a batch of challenges says what cannot be",
    severity: Severity::Violation,
    text: "
For each epoch a coordinator logs one batch: the attestations that served, and those of them that did not answer. The
batch must be made from a checkpoint of this very history. Everything expected must have been let in by a verdict, one
attestation per key; what answered must not have expired before the epoch or been revoked before the checkpoint; what did
not answer has a reason. Two batches of one coordinator must not cover the same time.
",
    action: "Do not count the batch for or against any provider; fetch the epoch's transcripts from the coordinator and verify them.",
};

/// Epochs in which nobody says who was there.
pub const GAP: Rule = Rule {
    id: "GB-LIV-002",
    title: "an epoch has no batch of challenges, though somebody was served",
    severity: Severity::Notice,
    text: "
After a batch in which somebody was expected, the next epoch must have a batch, and if it is one with nobody in it. Where
it has none, the coordinator stood still, or it does not say who failed to answer. Both are the coordinator's
doing and not the providers'; the log does not tell them apart, so it is shown and not counted as proof.
",
    action: "Take no provider's silence or presence in the gap for granted; ask the coordinator's operator when it was down.",
};

/// Where each coordinator's epochs end.
#[derive(Clone, Debug, Default)]
pub(super) struct Epochs(HashMap<Hash, Last>);

#[derive(Clone, Copy, Debug)]
struct Last {
    index: LeafIndex,
    end: u64,
    somebody: bool,
}

impl Epochs {
    /// Takes the next entry.
    pub(super) fn push(&mut self, context: Registered<'_>) -> Vec<super::Broken> {
        let (Ok(Leaf::ChallengeBatch(batch)), Some(statement)) =
            (&context.entry.leaf, &context.entry.statement)
        else {
            return Vec::new();
        };
        let mut broken = Vec::new();
        let coordinator = statement.key_id().0;
        let (begin, end) = (batch.epoch.get(), batch.epoch.get().saturating_add(batch.seconds));
        if let Some(last) = self.0.get(&coordinator) {
            if begin < last.end {
                let detail = format!(
                    "the epoch that began at {begin} overlaps the batch at index {}, which goes to {}",
                    last.index, last.end
                );
                broken.push((&RULE, detail));
            } else if begin > last.end && last.somebody {
                let detail = format!(
                    "no batch from {} to {begin}, after the one at index {} with somebody in it",
                    last.end, last.index
                );
                broken.push((&GAP, detail));
            }
        }
        let last = Last { index: context.entry.index, end, somebody: !batch.expected.is_empty() };
        let furthest = self.0.entry(coordinator).or_insert(last);
        if last.end >= furthest.end {
            *furthest = last;
        }
        broken.extend(check(context, batch).err().map(|detail| (&RULE, detail)));
        broken
    }
}

fn check(context: Registered<'_>, batch: &ChallengeBatch) -> Result<(), String> {
    let Registered { registry, policy, entry } = context;
    let beacon = policy
        .open(Some(registry.origin()), &batch.beacon.checkpoint)
        .map_err(|error| format!("its checkpoint is not one that the policy accepts: {error}"))?;
    if beacon.size().get() > entry.index.get() || registry.root_at(beacon.size()) != Some(beacon.root()) {
        return Err(format!("its checkpoint of size {} is not of this history", beacon.size()));
    }
    let end = batch.epoch.get().saturating_add(batch.seconds);
    if beacon.cosigned_at().get() >= end.saturating_add(CLOCK_SLACK) {
        return Err(format!("its checkpoint was witnessed at {}, after the epoch", beacon.cosigned_at()));
    }
    let mut missing = batch.missing.iter().peekable();
    let mut keys = HashSet::new();
    let mut wrong = Vec::new();
    for leaf in &batch.expected {
        let absent = missing.next_if(|(absent, _)| absent == leaf);
        let Some((attested, attestation)) =
            registry.attestation(leaf).filter(|(attested, _)| attested.index < entry.index)
        else {
            wrong.push(format!("{leaf} is no attestation before it"));
            continue;
        };
        let Some(key) = attested.statement.as_ref().map(|statement| statement.key_id()) else { continue };
        let earlier = |index: LeafIndex, size: u64| index.get() < size;
        let verdict = registry
            .verdicts(leaf)
            .rev()
            .find(|(verdict, _)| earlier(verdict.index, beacon.size().get()))
            // The verdict may be younger than the checkpoint, but not than the batch.
            .or_else(|| registry.verdicts(leaf).find(|(verdict, _)| verdict.index < entry.index));
        if verdict.is_none_or(|(_, verdict)| verdict.tier.is_none()) {
            wrong.push(format!("{leaf} had no verdict that lets it serve"));
        }
        if !keys.insert(key) {
            wrong.push(format!("{leaf} is by a key that is expected twice"));
        }
        match absent {
            Some((_, reason)) if reason.trim().is_empty() => {
                wrong.push(format!("{leaf} is missing for no reason"));
            }
            Some(_) => {}
            None if attestation.not_after <= batch.epoch => {
                wrong.push(format!("{leaf} answered, and had expired at {}", attestation.not_after));
            }
            None => {
                let revoked = registry.revocation(&key);
                let revoked = revoked.filter(|(revoked, _)| earlier(revoked.index, beacon.size().get()));
                if let Some((revoked, _)) = revoked {
                    wrong.push(format!("{leaf} answered, and index {} revokes its key", revoked.index));
                }
            }
        }
    }
    let more = wrong.len().saturating_sub(SHOWN);
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.truncate(SHOWN);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    Err(format!("{}{more}", wrong.join("; ")))
}

/// How far the clocks of a coordinator and of witnesses may be apart, in seconds.
const CLOCK_SLACK: u64 = 300;
/// How many wrong members of one batch are named.
const SHOWN: usize = 4;
