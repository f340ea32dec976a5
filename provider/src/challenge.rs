//! Signs of life: the answers to the coordinator's challenges. See `spec/api.md`, "Challenges".
//!
//! Whoever asks gets a signature over nothing but the challenge message, for this provider's own attestation, a beacon
//! that its policy and its registry accept, and an epoch that is now.

use std::sync::Arc;

use glassbloom_service::Clock;
use glassbloom_spec::{
    api::FromProvider,
    curve::SignError,
    hash::Hash,
    id::{TreeSize, UnixMillis, UnixSeconds},
    leaf::{MAX_EPOCH, challenge_message},
    policy::Policy,
};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    attest::Identity,
    registry::{Registry, RegistryError},
    session::text,
    status::Reporter,
};

/// Why a challenge is not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChallengeError {
    /// Not about now.
    #[error(
        "a challenge is for the epoch from {epoch} s on, and it is {now} s here: check this machine's clock; if it is right, the coordinator asks for answers to keep"
    )]
    Epoch {
        /// The epoch.
        epoch: UnixSeconds,
        /// This provider's time.
        now: UnixSeconds,
    },
    /// The log had grown beyond the beacon before.
    #[error("a challenge names a registry of size {given}, and this provider has seen one of size {seen}")]
    Older {
        /// Size of the beacon's tree.
        given: TreeSize,
        /// Size of the newest tree seen.
        seen: TreeSize,
    },
    /// The beacon is not one that this provider accepts.
    #[error("a challenge names a checkpoint that this provider does not accept: {0}")]
    Registry(#[from] RegistryError),
    /// The key's device failed.
    #[error("a challenge could not be signed: {0}")]
    Sign(#[from] SignError),
}

/// A challenge as it came.
#[derive(Debug)]
pub(crate) struct Challenge {
    pub(crate) epoch: UnixSeconds,
    pub(crate) beacon: Vec<u8>,
}

/// Who answers, and by what it judges.
pub(crate) struct Challenged<'a> {
    pub(crate) attestation: Hash,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) identity: &'a Arc<Identity>,
    pub(crate) policy: &'a Policy,
    pub(crate) registry: &'a mut Registry,
}

impl Challenged<'_> {
    /// The answer, or why there is none.
    pub(crate) async fn answer(&mut self, challenge: &Challenge) -> Result<FromProvider, ChallengeError> {
        let now = self.clock.now();
        check_epoch(challenge.epoch, now)?;
        let seen = self.registry.stored().map(|stored| stored.size());
        let beacon = self.registry.accept_fresh(self.policy, &challenge.beacon, now).await?;
        if let Some(seen) = seen.filter(|seen| beacon.size() < *seen) {
            return Err(ChallengeError::Older { given: beacon.size(), seen });
        }
        let message = challenge_message(beacon.digest(), self.attestation, challenge.epoch);
        let signature = self.identity.signing.sign(&message)?;
        Ok(FromProvider::ChallengeAnswer { epoch: challenge.epoch, signature: signature.to_vec() })
    }

    /// Answers what comes in, one at a time, and notes in words what it does not answer. Never returns.
    pub(crate) async fn answer_all(
        mut self,
        mut queue: mpsc::Receiver<Challenge>,
        outbox: mpsc::Sender<Message>,
        reporter: &Reporter,
    ) {
        while let Some(challenge) = queue.recv().await {
            match self.answer(&challenge).await {
                // Fails when the session is over, and then nobody waits.
                Ok(answer) => drop(outbox.send(text(&answer)).await),
                Err(error) => {
                    tracing::error!(%error, "a challenge is not answered");
                    reporter.challenge_failed(error.to_string());
                }
            }
        }
        std::future::pending().await
    }
}

fn check_epoch(epoch: UnixSeconds, now: UnixMillis) -> Result<(), ChallengeError> {
    let now = now.seconds();
    let near = epoch.get() <= now.get().saturating_add(CLOCK_SKEW)
        && now.get() <= epoch.get().saturating_add(MAX_EPOCH);
    if near { Ok(()) } else { Err(ChallengeError::Epoch { epoch, now }) }
}

/// How far the coordinator's clock may be ahead, in seconds.
const CLOCK_SKEW: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_epoch_that_is_now_is_signed_for() {
        let check = |epoch: u64| check_epoch(epoch.into(), UnixMillis::new(10_000_000)).is_ok();
        assert_eq!(
            [6_399, 6_400, 10_000, 10_060, 10_061, u64::MAX].map(check),
            [false, true, true, true, false, false]
        );
    }
}
