//! Follows the registry for one owner: what is logged under their device, provider or key, and whether it is theirs.
//!
//! The log cannot keep anybody from attesting a key that somebody else's machine vouched for; whoever owns the machine can
//! see it there. So every claim under it is told once, and a key that is not the owner's is an alert.

mod event;

use std::{fs, path::PathBuf};

use glassbloom_service::{Clock, FetchError, LogClient, durable};
use glassbloom_spec::{
    id::{KeyId, LeafIndex},
    policy::{OpenError, Policy},
};

pub use event::{Claim, Event, Subject, What, events};

use crate::{
    audit::{State, StateError, fork, registry_client},
    replay::{Providers, Registry, SyncError},
};

/// What to follow.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URL of the log service; without it, the registry's URL in the policy.
    pub log: Option<String>,
    /// Whom to believe.
    pub policy: Policy,
    /// Folder for what is remembered; an audit may use the same one.
    pub state: PathBuf,
    /// What to watch over.
    pub subject: Subject,
    /// The owner's signing keys. Where there are none, a provider's own chain is the owner's, and so is a watched key.
    pub mine: Vec<KeyId>,
}

/// Why there is nothing to tell, or nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The checkpoint's witnesses signed it too long ago.
    #[error(
        "the registry's checkpoint is {age} s old, the policy allows {allowed} s; is the log still running?"
    )]
    Aged {
        /// Seconds since the quorum signed.
        age: u64,
        /// Seconds that the policy allows.
        allowed: u64,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The log shows another history than before.
    #[error("the registry has forked: {detail}; both checkpoints are in {}", evidence.display())]
    Forked {
        /// What contradicts what.
        detail: String,
        /// The file that proves it.
        evidence: PathBuf,
    },
    /// The policy does not say where the registry is.
    #[error(
        "the policy file has no `log` line with an origin that ends in /registry and a URL; give --log URL"
    )]
    NoRegistry,
    /// The checkpoint is not one that the policy accepts.
    #[error("the registry's checkpoint: {0}")]
    Open(#[from] OpenError),
    /// What is remembered.
    #[error(transparent)]
    State(#[from] StateError),
    /// The registry could not be replayed.
    #[error("the registry cannot be replayed: {0}")]
    Sync(SyncError),
}

/// Follows a registry.
pub struct Watch {
    config: Config,
    client: LogClient,
    state: State,
    registry: Registry,
    providers: Providers,
}

impl Watch {
    /// Takes up what an earlier run left in the state folder.
    ///
    /// # Errors
    /// When the policy names no registry, or the folder cannot be used.
    pub async fn open(config: Config) -> Result<Self, WatchError> {
        let (origin, client) =
            registry_client(&config.policy, config.log.as_deref()).ok_or(WatchError::NoRegistry)?;
        let state = State::open(&config.state).await?;
        let kept = fs::read(config.state.join(COPY)).ok();
        let kept = kept.and_then(|bytes| Registry::from_bytes(&origin, &config.policy, &bytes));
        let seen = state.seen(&origin).await?;
        // A copy of another history than the one remembered is worth less than a replay.
        let registry = kept
            .filter(|copy| {
                seen.is_some_and(|seen| {
                    copy.size() <= seen.head.size
                        && (copy.size() < seen.head.size || copy.head() == seen.head)
                })
            })
            .unwrap_or_else(|| Registry::new(&origin, &config.policy));
        Ok(Self { config, client, state, registry, providers: Providers::new() })
    }

    /// Follows the log to where it is now, and says what is new since the last time that was [`told`](Self::told).
    ///
    /// # Errors
    /// When the log cannot be followed; what was told before stays told.
    pub async fn look(&mut self, clock: &dyn Clock) -> Result<Vec<Event>, WatchError> {
        let note = self.client.checkpoint_bytes().await?;
        let policy = &self.config.policy;
        let checkpoint = policy.open(Some(self.registry.origin()), &note)?;
        let seen = self.state.seen(self.registry.origin()).await?;
        if let Err(error) = self.registry.sync(&self.client, &checkpoint).await {
            let (SyncError::Forked { .. }, Some(seen)) = (&error, &seen) else {
                return Err(WatchError::Sync(error));
            };
            return self.forked(seen, &checkpoint, &error.to_string());
        }
        if let Some(seen) = &seen
            && self.registry.root_at(seen.head.size) != Some(seen.head.root)
        {
            if checkpoint.size() < seen.head.size {
                let (served, seen) = (checkpoint.size(), seen.head.size);
                return Err(WatchError::Sync(SyncError::Older { served, seen }));
            }
            let detail = format!("at size {} it had root {} before", seen.head.size, seen.head.root);
            return self.forked(seen, &checkpoint, &detail);
        }
        let mut change = self.state.begin().await?;
        change.seen(checkpoint.head(), checkpoint.note_bytes()).await?;
        change.commit().await?;
        durable::write(&self.config.state.join(COPY), &self.registry.to_bytes()).map_err(StateError::Io)?;
        let age = clock.now().seconds().get().saturating_sub(checkpoint.cosigned_at().get());
        let allowed = policy.checkpoint_age();
        if checkpoint.cosigned_at().get() > 0 && age > allowed {
            return Err(WatchError::Aged { age, allowed });
        }
        self.providers.follow(&self.registry, policy);
        let from = self.state.told(&self.config.subject.to_string()).await?;
        Ok(events(&self.registry, &self.providers, &self.config.subject, &self.config.mine, from))
    }

    /// Remembers that everything up to here was told, so that a restart does not repeat it.
    ///
    /// # Errors
    /// When the state cannot be written: it will be told again.
    pub async fn told(&self) -> Result<(), WatchError> {
        let next = LeafIndex::new(self.registry.size().get());
        Ok(self.state.set_told(&self.config.subject.to_string(), next).await?)
    }

    fn forked<T>(
        &self,
        seen: &crate::audit::Seen,
        checkpoint: &glassbloom_spec::policy::Checkpoint,
        detail: &str,
    ) -> Result<T, WatchError> {
        let evidence =
            fork::write(&self.config.state, seen, checkpoint.head(), checkpoint.note_bytes(), detail)?;
        Err(WatchError::Forked { detail: detail.to_owned(), evidence })
    }
}

/// The copy of the registry, in the state folder.
const COPY: &str = "watch.registry";
