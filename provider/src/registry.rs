//! The registry as this provider has seen it: nothing counts that its own policy does not open, and no tree that
//! does not agree with the last one it stored.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use glassbloom_service::{LogClient, durable, log_client::FetchError};
use glassbloom_spec::{
    id::{TreeSize, UnixMillis},
    policy::{Checkpoint, Inconsistency, OpenError, Policy},
};
use reqwest::Url;

/// The last checkpoint's file in the data folder.
pub const FILE_NAME: &str = "registry.checkpoint";

/// Why the registry is not as this provider knows it, or not to be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The log cannot be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Two trees that do not agree: the log has forked, or somebody serves another log.
    #[error("{inconsistency}; the other checkpoint was kept in {}: show both to the witnesses", kept.display())]
    Forked {
        /// Both trees and what was compared.
        inconsistency: Box<Inconsistency>,
        /// Where the checkpoint lies that does not agree.
        kept: PathBuf,
    },
    /// The policy does not open the checkpoint.
    #[error("the registry's checkpoint does not satisfy the policy: {0}")]
    Open(#[from] OpenError),
    /// The policy does not say which log is the registry.
    #[error("the policy must have exactly one log whose origin ends in /registry")]
    Origin,
    /// The checkpoint is too old to attest with.
    #[error(
        "the registry's checkpoint was cosigned {age} s ago, and the policy allows {allowed} s: the log or its witnesses stand still"
    )]
    Stale {
        /// Seconds since the quorum of witnesses signed.
        age: u64,
        /// The policy's `checkpoint-age`.
        allowed: u64,
    },
    /// The last checkpoint cannot be kept.
    #[error("{}: {error}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The registry, and the newest checkpoint of it that was accepted.
pub struct Registry {
    client: LogClient,
    origin: String,
    path: PathBuf,
    stored: Option<Checkpoint>,
}

impl Registry {
    /// The registry that the policy names, read below the log's base URL, with the checkpoint stored in `data`.
    ///
    /// # Errors
    /// When the policy does not name one registry, or the stored checkpoint cannot be read. One that no longer opens,
    /// because the policy is another now, is an error too: it must be decided by a person, not forgotten.
    pub fn load(policy: &Policy, log: &Url, data: &Path) -> Result<Self, RegistryError> {
        let mut origins =
            policy.logs().iter().map(|log| &log.origin).filter(|origin| origin.ends_with("/registry"));
        let (Some(origin), None) = (origins.next(), origins.next()) else {
            return Err(RegistryError::Origin);
        };
        let path = data.join(FILE_NAME);
        let stored = match fs::read(&path) {
            Ok(note) => Some(policy.open(Some(origin), &note)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(RegistryError::Store { path, error }),
        };
        let prefix = format!("{}/registry", log.as_str().trim_end_matches('/'));
        Ok(Self { client: LogClient::new(&prefix), origin: origin.clone(), path, stored })
    }

    /// The registry's origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The newest checkpoint accepted so far.
    pub const fn stored(&self) -> Option<&Checkpoint> {
        self.stored.as_ref()
    }

    /// The log's published checkpoint, accepted as by [`Registry::accept`] and fresh.
    ///
    /// # Errors
    /// When it cannot be read, does not open, does not agree or is too old.
    pub async fn latest(&mut self, policy: &Policy, now: UnixMillis) -> Result<Checkpoint, RegistryError> {
        let note = self.client.checkpoint_bytes().await?;
        self.accept_fresh(policy, &note, now).await
    }

    /// Accepts a checkpoint as by [`Registry::accept`], and sees that witnesses signed it lately.
    ///
    /// # Errors
    /// When it does not open, does not agree or is too old.
    pub async fn accept_fresh(
        &mut self,
        policy: &Policy,
        note: &[u8],
        now: UnixMillis,
    ) -> Result<Checkpoint, RegistryError> {
        let checkpoint = self.accept(policy, note).await?;
        let (age, allowed) =
            (now.seconds().get().saturating_sub(checkpoint.cosigned_at().get()), policy.checkpoint_age());
        // Without a quorum nobody but the log says how old it is.
        if policy.quorum() != "none" && age > allowed {
            return Err(RegistryError::Stale { age, allowed });
        }
        Ok(checkpoint)
    }

    /// Opens a checkpoint that anyone may have handed over, and shows that it agrees with the one stored, in either
    /// direction. The larger of the two is stored.
    ///
    /// # Errors
    /// When it does not open or does not agree, or the log does not give the proof.
    pub async fn accept(&mut self, policy: &Policy, note: &[u8]) -> Result<Checkpoint, RegistryError> {
        let checkpoint = policy.open(Some(&self.origin), note)?;
        let Some(stored) = &self.stored else {
            self.store(&checkpoint)?;
            return Ok(checkpoint);
        };
        let (older, newer) =
            if checkpoint.size() < stored.size() { (&checkpoint, stored) } else { (stored, &checkpoint) };
        let proof = if older.size() == newer.size() || older.size() == TreeSize::new(0) {
            Vec::new()
        } else {
            self.client.consistency_proof(older.size(), newer.size()).await?
        };
        if let Err(inconsistency) = newer.extends(older.head(), &proof) {
            return Err(RegistryError::Forked { inconsistency, kept: self.keep_evidence(&checkpoint)? });
        }
        if checkpoint.size() > stored.size() {
            self.store(&checkpoint)?;
        }
        Ok(checkpoint)
    }

    fn store(&mut self, checkpoint: &Checkpoint) -> Result<(), RegistryError> {
        durable::write(&self.path, checkpoint.note_bytes())
            .map_err(|error| RegistryError::Store { path: self.path.clone(), error })?;
        self.stored = Some(checkpoint.clone());
        Ok(())
    }

    fn keep_evidence(&self, checkpoint: &Checkpoint) -> Result<PathBuf, RegistryError> {
        let path = self.path.with_file_name(format!("registry.fork-{}", checkpoint.size()));
        durable::write(&path, checkpoint.note_bytes())
            .map_err(|error| RegistryError::Store { path: path.clone(), error })?;
        Ok(path)
    }
}
