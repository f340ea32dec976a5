//! The witness's key file and the logs it accepts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use glassbloom_service::{durable, random};
use glassbloom_spec::note::{self, NoteSigner, VerifierKey};

use super::{Store, StoreError};

/// Why a key or a log was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The name cannot name a key.
    #[error(transparent)]
    Key(#[from] note::KeyError),
    /// The key file is not a private key.
    #[error("{0} is not a private key in text form; restore it from a backup (a new key is a new witness)")]
    Malformed(PathBuf),
    /// There is no key yet.
    #[error("{0} is missing: make a key with `glassbloom-auditor witness init --data DIR --name NAME`")]
    Missing(PathBuf),
    /// `init` was given another name than the key has.
    #[error("this folder holds the key of witness {existing:?}; use another --data for {wanted:?}")]
    OtherName {
        /// The name in the key file.
        existing: String,
        /// The name asked for.
        wanted: String,
    },
    /// A witness and a log of one name could not be told apart in a note.
    #[error("{0:?} is this witness's own name; a log must have another")]
    SameName(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the witness's key, or returns the one that is there.
pub fn init(data: &Path, name: &str) -> Result<VerifierKey, KeyError> {
    durable::create_folder(data).map_err(|error| KeyError::Io { path: data.to_owned(), error })?;
    match load(data) {
        Ok(signer) if signer.vkey().name() == name => Ok(signer.vkey().clone()),
        Ok(signer) => {
            Err(KeyError::OtherName { existing: signer.vkey().name().to_owned(), wanted: name.to_owned() })
        }
        Err(KeyError::Missing(path)) => {
            let signer = NoteSigner::ed25519_witness(name, random())?;
            durable::write_secret(&path, signer.to_private_string().as_bytes())
                .map_err(|error| KeyError::Io { path, error })?;
            Ok(signer.vkey().clone())
        }
        Err(error) => Err(error),
    }
}

/// Accepts logs for the witness in `data`. Idempotent.
pub async fn add_logs(data: &Path, logs: &[VerifierKey]) -> Result<(), KeyError> {
    let signer = load(data)?;
    let store = Store::open(&database(data)).await?;
    add_to(&store, signer.vkey(), logs).await?;
    store.close().await;
    Ok(())
}

pub(super) async fn add_to(store: &Store, own: &VerifierKey, logs: &[VerifierKey]) -> Result<(), KeyError> {
    for log in logs {
        if log.name() == own.name() {
            return Err(KeyError::SameName(log.name().to_owned()));
        }
        store.add_log(log).await?;
    }
    Ok(())
}

pub(super) fn load(data: &Path) -> Result<NoteSigner, KeyError> {
    let path = data.join("witness.key");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeyError::Missing(path)),
        Err(error) => return Err(KeyError::Io { path, error }),
        Ok(text) => text,
    };
    text.trim_end().parse().map_err(|_| KeyError::Malformed(path))
}

pub(super) fn database(data: &Path) -> PathBuf {
    data.join("witness.sqlite")
}
