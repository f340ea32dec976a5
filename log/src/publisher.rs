//! Has the newest tree cosigned and publishes it, if and only if that meets the policy.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use glassbloom_service::Clock;
use glassbloom_spec::{
    checkpoint::{Checkpoint, TreeHead},
    id::{TreeSize, UnixMillis, UnixSeconds},
    note::{SignatureLine, SignedNote},
    policy::Policy,
};
use tokio::{sync::watch, time::Instant};

use crate::{
    keys::LogKeys,
    life::Ending,
    metrics::Metrics,
    store::{StoreError, TileStore},
    witness::{Answer, Outcome, Round, Witnesses, alarm::Alarm},
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
    /// Whether some of them came too late for the note that is published.
    pub(crate) late: bool,
    pub(crate) ending: Ending,
    pub(crate) keys: Arc<LogKeys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) published: watch::Sender<Option<Arc<Published>>>,
    pub(crate) refresh: Duration,
    pub(crate) round: u64,
    pub(crate) signed: Option<(TreeHead, SignedNote)>,
    /// The size of the newest head that was looked at: the integrator need not hurry with the next one before.
    pub(crate) taken: watch::Sender<TreeSize>,
    pub(crate) tiles: Arc<dyn TileStore>,
    pub(crate) timeout: Duration,
    /// When the last round began, by the clock, which may be set, and by one that only goes forward.
    pub(crate) tried: (UnixMillis, Instant),
    pub(crate) witnesses: Witnesses,
}

/// How often the clock is looked at; also the pause after a round without quorum.
const TICK: Duration = Duration::from_millis(200);
/// How often cosignatures beyond the quorum are added to the checkpoint that is published.
const ADD_LATE: Duration = Duration::from_millis(300);
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
        self.taken.send_replace(head.size);
        let last = self.published.borrow().clone();
        if self.ending.step(&head, last.as_ref()).await? {
            // Its checkpoint is named by the log that goes on, so that it is never signed anew.
            return Ok(self.applied.changed().await.is_ok());
        }
        if self.is_due(&head) {
            if !self.round(head).await? {
                self.metrics.not_published();
                tokio::time::sleep(TICK).await;
            }
            return Ok(true);
        }
        if self.late && self.tried.1.elapsed() >= ADD_LATE {
            self.add_late(head).await?;
        }
        tokio::select! {
            biased;
            changed = self.applied.changed() => return Ok(changed.is_ok()),
            Some(outcome) = self.witnesses.next(), if self.witnesses.count > 0 => {
                if let Outcome { round, answer: Answer::Cosigned(lines), .. } = outcome
                    && self.signed.as_ref().is_some_and(|(head, _)| *head == round.head)
                {
                    self.keep(lines);
                    self.late = true;
                }
            }
            () = tokio::time::sleep(TICK) => {}
        }
        Ok(true)
    }

    /// Whether to begin a round: the head is new, or its checkpoint is old.
    fn is_due(&self, head: &TreeHead) -> bool {
        let Some(last) = self.published.borrow().clone().filter(|last| last.head == *head) else {
            return true;
        };
        if self.ending.is_due() {
            return false;
        }
        let (now, (tried, instant)) = (self.clock.now(), self.tried);
        // A clock that goes back must not leave the checkpoint unrefreshed until it has caught up.
        let went_back = tried.get() > now.get().saturating_add(millis(self.refresh));
        let old = went_back || last.age(now) >= self.refresh || instant.elapsed() >= self.refresh;
        let retry = self.refresh.min(RETRY_REFRESH);
        old && (now.get().abs_diff(tried.get()) >= millis(retry) || instant.elapsed() >= retry)
    }

    async fn round(&mut self, head: TreeHead) -> Result<bool, StoreError> {
        self.tried = (self.clock.now(), Instant::now());
        let Some(checkpoint) = self.cosign(&head).await else { return Ok(false) };
        self.publish(head, &checkpoint).await?;
        self.metrics.published();
        Ok(true)
    }

    /// Publishes the head that is published already with all cosignatures there are by now.
    async fn add_late(&mut self, head: TreeHead) -> Result<(), StoreError> {
        let note = self.signed.as_ref().filter(|(signed, _)| *signed == head).map(|(_, note)| note.clone());
        match note.and_then(|note| self.acceptable(&note)) {
            Some(checkpoint) => self.publish(head, &checkpoint).await,
            None => Ok(()),
        }
    }

    async fn publish(&mut self, head: TreeHead, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let note = Bytes::copy_from_slice(checkpoint.note_bytes());
        self.tiles.publish(note.clone()).await?;
        self.late = false;
        // What was published later is not of an earlier time, whatever happens to the clock.
        let earlier = self.published.borrow().as_ref().map_or(UnixMillis::new(0), |last| last.at);
        let (at, cosigned_at) = (self.clock.now().max(earlier), checkpoint.cosigned_at());
        self.published.send_replace(Some(Arc::new(Published { head, note, at, cosigned_at })));
        Ok(())
    }

    /// The checkpoint with enough cosignatures, or `None`.
    async fn cosign(&mut self, head: &TreeHead) -> Option<Checkpoint> {
        let signed = self.sign(head);
        self.round += 1;
        let round =
            self.witnesses.begin(Round { number: self.round, head: head.clone(), note: signed.encode() });
        let deadline = Instant::now() + self.timeout + TICK;
        let mut note = self.acceptable(&signed);
        let mut answered = HashSet::new();
        // Whoever answers after the quorum is added later.
        while note.is_none() && answered.len() < self.witnesses.count {
            let Ok(Some(outcome)) = tokio::time::timeout_at(deadline, self.witnesses.next()).await else {
                break;
            };
            if outcome.round.number == round.number {
                answered.insert(outcome.witness);
            }
            match outcome.answer {
                // A late answer to an earlier round over the same head is as good.
                Answer::Cosigned(lines) if outcome.round.head == *head => {
                    self.keep(lines);
                    note = self.acceptable(&signed);
                }
                Answer::Alarm => return None,
                Answer::Cosigned(_) | Answer::Failed | Answer::BackingOff => {}
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
}
