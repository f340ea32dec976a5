//! The endorser's keys: one signs, the other names devices without telling which they are.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use glassbloom_service::{durable, random};
use glassbloom_spec::curve::{PublicKey, Signer, SigningKey};

/// Why the keys were not made or read.
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
    /// The file is not a key.
    #[error(
        "{0} is not 64 hexadecimal digits of a key; restore it from a backup (a new signing key is a new endorser, and \
         a new device key gives every device another name)"
    )]
    Malformed(PathBuf),
    /// There is no key yet.
    #[error("{0} is missing: make the keys with `glassbloom-auditor endorser init --data DIR`")]
    Missing(PathBuf),
    /// Others on the machine may read it.
    #[error("{path} can be read by others on this machine (mode {mode:o}): chmod 600 {path}")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Both keys. Has no `Debug`.
pub struct Keys {
    signing: SigningKey,
    device: [u8; 32],
}

impl Keys {
    /// The key that rules and policy files name.
    pub fn public_key(&self) -> PublicKey {
        self.signing.public_key()
    }

    pub(super) fn signing(&self) -> &dyn Signer {
        &self.signing
    }

    /// Names devices: always the same for one, and nobody without the key can try identifiers until one fits.
    pub(super) const fn device(&self) -> &[u8; 32] {
        &self.device
    }
}

/// Makes the keys that are missing and returns the public one.
///
/// # Errors
/// When the folder cannot be written, or a file in it is no key.
pub fn init(data: &Path) -> Result<PublicKey, KeyError> {
    durable::create_folder(data).map_err(|error| KeyError::Io { path: data.to_owned(), error })?;
    for name in [SIGNING, DEVICE] {
        let path = data.join(name);
        if read(&path)?.is_some() {
            continue;
        }
        let secret = match name {
            SIGNING => *SigningKey::from_seed(&random::<32>()).to_bytes(),
            _ => random(),
        };
        durable::write_secret(&path, format!("{}\n", hex::encode(secret)).as_bytes())
            .map_err(|error| KeyError::Io { path, error })?;
    }
    Ok(load(data)?.public_key())
}

/// Reads both keys.
///
/// # Errors
/// When one is missing, is no key, or can be read by others.
pub fn load(data: &Path) -> Result<Keys, KeyError> {
    let secret = |name| {
        let path = data.join(name);
        read(&path)?.ok_or(KeyError::Missing(path))
    };
    let signing =
        SigningKey::from_bytes(secret(SIGNING)?).map_err(|_| KeyError::Malformed(data.join(SIGNING)))?;
    Ok(Keys { signing, device: secret(DEVICE)? })
}

fn read(path: &Path) -> Result<Option<[u8; 32]>, KeyError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyError::Io { path: path.to_owned(), error }),
        Ok(text) => text,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = fs::metadata(path).map_err(|error| KeyError::Io { path: path.to_owned(), error })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Readable { path: path.to_owned(), mode });
        }
    }
    let secret = hex::decode(text.trim_end()).ok().and_then(|bytes| bytes.try_into().ok());
    secret.map(Some).ok_or_else(|| KeyError::Malformed(path.to_owned()))
}

const SIGNING: &str = "endorser.key";
const DEVICE: &str = "device.key";
