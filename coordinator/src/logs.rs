//! The two logs, as the coordinator uses them: append, prove, and follow the registry.

use std::{
    sync::{PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use glassbloom_service::{Append, FetchError, LogClient};
use glassbloom_spec::{
    curve::PublicKey,
    id::{LeafIndex, TreeSize},
    merkle::ProofError,
    policy::{OpenError, Policy},
    promise::PromiseError,
    proof::{TlogProof, TlogProofError},
    receipt::is_receipts,
    statement::Statement,
};
use tokio::{sync::Mutex, time::Instant};

use crate::view::{InForce, View};

/// Why a log could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The published checkpoint does not satisfy the policy.
    #[error("the checkpoint that the log publishes: {0}")]
    Checkpoint(#[from] OpenError),
    /// The log shows two histories.
    #[error(
        "the registry does not continue what was read of it before ({0}); keep its data and run `glassbloom-auditor audit`"
    )]
    Diverged(ProofError),
    /// The log is late, refuses or cannot be reached.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The log's promise does not hold.
    #[error("the promise that the log gave: {0}")]
    Promise(#[from] PromiseError),
    /// The log promised something else than the entry that it was given.
    #[error("the log promised another entry than it was given, or another place")]
    PromisedAnother,
    /// The log's proof does not hold.
    #[error("the proof that the log gave: {0}")]
    Proof(#[from] TlogProofError),
    /// The entry was appended, and still the published checkpoint does not cover it.
    #[error("the log published no checkpoint with entry {0} in time")]
    Unpublished(LeafIndex),
}

/// What the log gave for an entry; either holds under the policy.
#[derive(Debug)]
pub(crate) enum Appended {
    /// A `tlog-proof`.
    Proof(Vec<u8>),
    /// An inclusion promise: the log has the entry and cannot prove it yet.
    Promise(Vec<u8>),
}

/// The write end of one log, which believes nothing that it does not prove.
#[derive(Clone)]
pub(crate) struct Appender {
    client: LogClient,
    token: String,
    origin: String,
    policy: Policy,
}

impl Appender {
    pub(crate) const fn new(client: LogClient, token: String, origin: String, policy: Policy) -> Self {
        Self { client, token, origin, policy }
    }

    /// How many entries the log has published.
    pub(crate) async fn size(&self) -> Result<TreeSize, LogError> {
        let note = self.client.checkpoint_bytes().await?;
        Ok(self.policy.open(Some(&self.origin), &note)?.size())
    }

    /// Appends a statement; returns its index with the log's proof or, when that is late, its promise.
    ///
    /// While the log restarts or is late, tries again: it takes the same bytes once, and answers with their place.
    pub(crate) async fn append(&self, statement: &Statement) -> Result<(LeafIndex, Appended), LogError> {
        let deadline = Instant::now() + RETRY_FOR;
        let appended = loop {
            match self.client.append(statement.bytes(), &self.token).await {
                Err(error @ (FetchError::Unreachable { .. } | FetchError::Refused { status: 503, .. }))
                    if Instant::now() < deadline =>
                {
                    tracing::warn!(%error, "the log did not answer; trying again");
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                other => break other?,
            }
        };
        match appended {
            Append::Proven(appended) => {
                let proof = TlogProof::parse(appended.proof.as_bytes()).map_err(TlogProofError::from)?;
                let logged = proof.open(&self.policy, statement.bytes())?;
                self.accept(&logged.checkpoint().origin)?;
                Ok((proof.index, Appended::Proof(appended.proof.into_bytes())))
            }
            Append::Promised(entry) => {
                let promised = self.policy.open_promise(None, entry.promise.as_bytes())?;
                self.accept(&promised.promise().origin)?;
                if !promised.is_about(statement.bytes()) || promised.promise().index != entry.index {
                    return Err(LogError::PromisedAnother);
                }
                Ok((entry.index, Appended::Promise(entry.promise.into_bytes())))
            }
        }
    }
}

impl Appender {
    /// A receipts log that has ended sends its writers on to the next one of the policy; any other log is the one asked.
    fn accept(&self, origin: &str) -> Result<(), LogError> {
        let next = is_receipts(&self.origin) && is_receipts(origin);
        if origin == self.origin || next {
            return Ok(());
        }
        Err(TlogProofError::from(OpenError::UnknownLog { origin: origin.to_owned() }).into())
    }
}

/// The registry: its write end, and a view that follows it.
pub(crate) struct Registry {
    appender: Appender,
    view: RwLock<View>,
    /// When the log was last asked. Held while asking, so that one task asks at a time.
    asked: Mutex<Option<Instant>>,
}

impl Registry {
    pub(crate) fn new(appender: Appender, own: PublicKey) -> Self {
        let view = View::new(own, &appender.policy);
        Self { appender, view: RwLock::new(view), asked: Mutex::new(None) }
    }

    /// What the registry says, as far as it was read.
    pub(crate) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which of the coordinator's own leaves it goes by from now on.
    pub(crate) fn put_in_force(&self, in_force: InForce) {
        self.view.write().unwrap_or_else(PoisonError::into_inner).put_in_force(in_force);
    }

    /// The policy that checkpoints are opened with.
    pub(crate) const fn policy(&self) -> &Policy {
        &self.appender.policy
    }

    /// Reads what the log has published since.
    pub(crate) async fn sync(&self) -> Result<(), LogError> {
        let mut asked = self.asked.lock().await;
        self.sync_locked().await?;
        *asked = Some(Instant::now());
        Ok(())
    }

    /// Like [`sync`](Self::sync), unless that was done a moment ago. A log that cannot be reached is no error while
    /// what was read before can be used.
    pub(crate) async fn refresh(&self) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < FRESH_FOR) {
            return;
        }
        if let Err(error) = self.sync_locked().await {
            tracing::warn!(%error, "the registry could not be read");
        }
        *asked = Some(Instant::now());
    }

    async fn sync_locked(&self) -> Result<(), LogError> {
        let client = &self.appender.client;
        let note = client.checkpoint_bytes().await?;
        let checkpoint = self.appender.policy.open(Some(&self.appender.origin), &note)?;
        let have = self.view().size();
        if checkpoint.size() < have {
            // A cache between may serve an older one; it says nothing that is not known.
            return Ok(());
        }
        let entries = client.entries(have.get()..checkpoint.size().get(), checkpoint.size()).await?;
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        view.extend(checkpoint, entries).map_err(LogError::Diverged)
    }

    /// Appends a statement and reads the registry up to it.
    pub(crate) async fn append(&self, statement: &Statement) -> Result<LeafIndex, LogError> {
        let (index, _) = self.appender.append(statement).await?;
        let deadline = Instant::now() + RETRY_FOR;
        loop {
            self.sync().await?;
            if self.view().size().get() > index.get() {
                return Ok(index);
            }
            if Instant::now() >= deadline {
                return Err(LogError::Unpublished(index));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Appends a statement unless the registry has it.
    pub(crate) async fn ensure(&self, statement: &Statement) -> Result<(), LogError> {
        if self.view().has(statement) {
            return Ok(());
        }
        let index = self.append(statement).await?;
        tracing::info!(%index, kind = %statement.kind(), "logged");
        Ok(())
    }
}

const FRESH_FOR: Duration = Duration::from_secs(2);
const RETRY_EVERY: Duration = Duration::from_millis(200);
const RETRY_FOR: Duration = Duration::from_secs(15);
