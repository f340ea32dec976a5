//! Has the newest tree cosigned and publishes it, if and only if that meets the policy.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use glassbloom_service::Clock;
use glassbloom_spec::{
    checkpoint::{Checkpoint, TreeHead},
    id::{TreeSize, UnixMillis, UnixSeconds},
    note::{SignatureLine, SignedNote},
    policy::Policy,
    tile::{TilePath, tiles_between},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    keys::LogKeys,
    metrics::Metrics,
    store::{StoreError, TileStore},
    witness::{Answer, Round, Witnesses, alarm::Alarm},
};

/// The checkpoint that the world sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// What it says.
    pub head: TreeHead,
    /// The signed and cosigned note.
    pub note: Bytes,
    /// When it was published, by this log's clock.
    pub at: UnixMillis,
    /// When the quorum cosigned it, by the witnesses' clocks; 0 when the policy asks for no witness.
    pub cosigned_at: UnixSeconds,
}

impl Published {
    /// How old it is: since the quorum's cosignatures or, without witnesses, since it was published. Clocks differ, so
    /// a time in the future counts as now.
    pub fn age(&self, now: UnixMillis) -> Duration {
        let made = if self.cosigned_at.get() > 0 {
            self.cosigned_at.get().saturating_mul(1000)
        } else {
            self.at.get()
        };
        Duration::from_millis(now.get().saturating_sub(made))
    }
}

pub(crate) struct Publisher {
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) applied: watch::Receiver<TreeHead>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Verified cosignatures over the head of the newest round, at most one per key.
    pub(crate) cosignatures: Vec<SignatureLine>,
    pub(crate) keys: Arc<LogKeys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) published: watch::Sender<Option<Arc<Published>>>,
    pub(crate) refresh: Duration,
    pub(crate) round: u64,
    pub(crate) signed: Option<(TreeHead, SignedNote)>,
    pub(crate) tiles: Arc<dyn TileStore>,
    pub(crate) timeout: Duration,
    /// When the last round began, by the clock.
    pub(crate) tried: UnixMillis,
    pub(crate) witnesses: Witnesses,
}

/// How often the clock is looked at; also the pause after a round without quorum.
const TICK: Duration = Duration::from_millis(200);
/// How long a refresh, which nobody waits for, waits for witnesses beyond the quorum.
const REFRESH_GRACE: Duration = Duration::from_secs(1);
/// How soon a refresh that brought too few new cosignatures is tried again.
const RETRY_REFRESH: Duration = Duration::from_secs(5);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Publisher {
    /// Waits until there is something to publish and tries once; `false` when the log has stopped.
    pub(crate) async fn step(&mut self) -> Result<bool, StoreError> {
        if self.alarm.is_raised() {
            // Until an operator has looked and started the log again.
            return Ok(self.applied.changed().await.is_ok());
        }
        let head = self.applied.borrow_and_update().clone();
        let Some(grace) = self.due(&head) else {
            let changed = tokio::time::timeout(TICK, self.applied.changed()).await;
            return Ok(!matches!(changed, Ok(Err(_))));
        };
        if !self.publish(head, grace).await? {
            self.metrics.not_published();
            tokio::time::sleep(TICK).await;
        }
        Ok(true)
    }

    /// Whether to publish now, and how long to wait for more witnesses than the quorum needs.
    fn due(&self, head: &TreeHead) -> Option<Duration> {
        let Some(last) = self.published.borrow().clone().filter(|last| last.head == *head) else {
            return Some(Duration::ZERO);
        };
        let now = self.clock.now();
        // A clock that goes back far would otherwise leave the checkpoint unrefreshed until it has caught up.
        let went_back = last.at.get() > now.get().saturating_add(millis(self.refresh));
        let since_try = now.get().abs_diff(self.tried.get());
        let old = went_back || last.age(now) >= self.refresh;
        (old && since_try >= millis(self.refresh.min(RETRY_REFRESH))).then_some(REFRESH_GRACE)
    }

    async fn publish(&mut self, head: TreeHead, grace: Duration) -> Result<bool, StoreError> {
        self.tried = self.clock.now();
        let Some(checkpoint) = self.cosign(&head, grace).await else { return Ok(false) };
        let note = Bytes::copy_from_slice(checkpoint.note_bytes());
        self.tiles.publish(note.clone()).await?;
        let old = self.published.borrow().as_ref().map_or(0.into(), |last| last.head.size);
        let (at, cosigned_at, new) = (self.clock.now(), checkpoint.cosigned_at(), head.size);
        self.published.send_replace(Some(Arc::new(Published { head, note, at, cosigned_at })));
        self.metrics.published();
        self.discard_partials(old, new).await?;
        Ok(true)
    }

    /// The checkpoint with enough cosignatures, or `None`.
    async fn cosign(&mut self, head: &TreeHead, grace: Duration) -> Option<Checkpoint> {
        let signed = self.sign(head);
        self.round += 1;
        let round =
            self.witnesses.begin(Round { number: self.round, head: head.clone(), note: signed.encode() });
        let deadline = Instant::now() + self.timeout + TICK;
        let mut note = self.acceptable(&signed);
        let mut give_up = if note.is_some() { Instant::now() + grace } else { deadline };
        let mut answered = HashSet::new();
        while answered.len() < self.witnesses.count {
            let Ok(Some(outcome)) = tokio::time::timeout_at(give_up, self.witnesses.next()).await else {
                break;
            };
            let now = outcome.round.number == round.number;
            match outcome.answer {
                // A late answer to an earlier round over the same head is as good.
                Answer::Cosigned(lines) if outcome.round.head == *head => self.keep(lines),
                Answer::Alarm => return None,
                Answer::Cosigned(_) | Answer::Failed | Answer::BackingOff => {}
            }
            if now {
                answered.insert(outcome.witness);
            }
            let was = note.is_some();
            note = self.acceptable(&signed);
            if note.is_some() && !was {
                give_up = deadline.min(Instant::now() + grace);
            }
        }
        note.filter(|_| !self.alarm.is_raised())
    }

    /// The log's own signatures, made once per head: a refresh only asks for new cosignatures.
    fn sign(&mut self, head: &TreeHead) -> SignedNote {
        if let Some((_, note)) = self.signed.as_ref().filter(|(signed, _)| signed == head) {
            return note.clone();
        }
        self.cosignatures.clear();
        let note = self.keys.sign_checkpoint(head);
        self.signed = Some((head.clone(), note.clone()));
        note
    }

    fn keep(&mut self, lines: Vec<SignatureLine>) {
        for line in lines {
            self.cosignatures.retain(|kept| (&kept.name, kept.key_id) != (&line.name, line.key_id));
            self.cosignatures.push(line);
        }
    }

    /// The whole note, if a client with this log's policy would accept it.
    fn acceptable(&self, signed: &SignedNote) -> Option<Checkpoint> {
        let mut note = signed.clone();
        note.signatures.extend(self.cosignatures.iter().cloned());
        self.policy.open(Some(self.keys.origin()), &note.encode()).ok()
    }

    /// Partial tiles below the published size have served their time where the full tile exists.
    async fn discard_partials(&self, old: TreeSize, new: TreeSize) -> Result<(), StoreError> {
        for path in tiles_between(old, new).filter(|path: &TilePath| path.is_full()) {
            self.tiles.discard_partials(&path).await?;
        }
        Ok(())
    }
}
