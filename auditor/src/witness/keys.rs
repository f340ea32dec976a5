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
    /// A witness's key is no log's.
    #[error("the key of {0:?} makes cosignatures: it is a witness's, not a log's")]
    NotALog(String),
    /// `init` was given another name than the key has.
    #[error("this folder holds the key of {existing:?}; use another --data for {wanted:?}")]
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

/// What a folder's keys sign as; each has two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// "This extends all that I saw."
    Witness,
    /// And "I keep a copy of all of it".
    Mirror,
}

impl Role {
    /// The files of the keys, in the order in which they sign. The first is older than the second: a folder may have
    /// it alone.
    const fn files(self) -> [&'static str; 2] {
        match self {
            Self::Witness => ["witness.key", "witness-mldsa.key"],
            Self::Mirror => ["mirror.key", "mirror-mldsa.key"],
        }
    }
}

/// Makes the keys that are missing, one Ed25519 and one ML-DSA-44, and returns the public halves of both.
pub fn init(data: &Path, name: &str) -> Result<Vec<VerifierKey>, KeyError> {
    make(Role::Witness, data, name)
}

/// [`init`] without an ML-DSA key: each cosignature costs a tenth of the work. [`init`] adds the other key later.
pub fn init_ed25519(data: &Path, name: &str) -> Result<Vec<VerifierKey>, KeyError> {
    make_some(Role::Witness, data, name, 1)
}

/// [`init`] for any role.
pub(crate) fn make(role: Role, data: &Path, name: &str) -> Result<Vec<VerifierKey>, KeyError> {
    make_some(role, data, name, 2)
}

/// Makes the first `count` keys where they are missing.
fn make_some(role: Role, data: &Path, name: &str, count: usize) -> Result<Vec<VerifierKey>, KeyError> {
    durable::create_folder(data).map_err(|error| KeyError::Io { path: data.to_owned(), error })?;
    let mut vkeys = Vec::new();
    for (file, is_first) in role.files().into_iter().zip([true, false]).take(count) {
        let path = data.join(file);
        let signer = match read(&path)? {
            Some(signer) if signer.vkey().name() == name => signer,
            Some(signer) => {
                let existing = signer.vkey().name().to_owned();
                return Err(KeyError::OtherName { existing, wanted: name.to_owned() });
            }
            None => {
                let signer = match is_first {
                    true => NoteSigner::ed25519_witness(name, random())?,
                    false => NoteSigner::mldsa44(name, random())?,
                };
                durable::write_secret(&path, signer.to_private_string().as_bytes())
                    .map_err(|error| KeyError::Io { path, error })?;
                signer
            }
        };
        vkeys.push(signer.vkey().clone());
    }
    Ok(vkeys)
}

/// Accepts logs for the witness in `data`. Idempotent.
pub async fn add_logs(data: &Path, logs: &[VerifierKey]) -> Result<(), KeyError> {
    let signers = load(data)?;
    let store = Store::open(&database(data)).await?;
    add_to(&store, signers[0].vkey().name(), logs).await?;
    store.close().await;
    Ok(())
}

pub(super) async fn add_to(store: &Store, own: &str, logs: &[VerifierKey]) -> Result<(), KeyError> {
    for log in logs {
        if log.name() == own {
            return Err(KeyError::SameName(log.name().to_owned()));
        }
        if !log.algorithm().is_for_logs() {
            return Err(KeyError::NotALog(log.name().to_owned()));
        }
    }
    Ok(store.add_logs(logs).await?)
}

/// The keys of a witness, at least the first.
pub(super) fn load(data: &Path) -> Result<Vec<NoteSigner>, KeyError> {
    let signers = present(Role::Witness, data)?;
    if signers.is_empty() {
        return Err(KeyError::Missing(data.join(Role::Witness.files()[0])));
    }
    Ok(signers)
}

/// The keys that are there.
pub(crate) fn present(role: Role, data: &Path) -> Result<Vec<NoteSigner>, KeyError> {
    let mut signers = Vec::new();
    for file in role.files() {
        signers.extend(read(&data.join(file))?);
    }
    if let [first, second] = &signers[..]
        && first.vkey().name() != second.vkey().name()
    {
        let (existing, wanted) = (first.vkey().name().to_owned(), second.vkey().name().to_owned());
        return Err(KeyError::OtherName { existing, wanted });
    }
    Ok(signers)
}

fn read(path: &Path) -> Result<Option<NoteSigner>, KeyError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyError::Io { path: path.to_owned(), error }),
        Ok(text) => text,
    };
    text.trim_end().parse().map(Some).map_err(|_| KeyError::Malformed(path.to_owned()))
}

pub(super) fn database(data: &Path) -> PathBuf {
    data.join("witness.sqlite")
}
