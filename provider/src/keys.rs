//! The provider's keys: one signing key that lasts, and one sealing key per process.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use glassbloom_hardware::{
    Device,
    software::Software,
    tpm::{TpmConfig, TpmDevice},
};
use glassbloom_service::{durable, random};
use glassbloom_spec::curve::SigningKey;
use zeroize::Zeroizing;

use crate::config::{Config, KeyDevice};

/// The signing key's file in the data folder.
pub const SIGNING_KEY: &str = "signing.key";

/// The file of the signing key before, which counter-signs the one that took its place.
pub const PREVIOUS_KEY: &str = "signing.previous.key";

/// Folder for what a TPM's keys need to be loaded again, in the data folder.
const TPM_FOLDER: &str = "tpm";

/// Folder for what Apple vouched for, in the data folder.
const ENCLAVE_FOLDER: &str = "app-attest";

/// The signing key's name in a Mac's keychain.
const ENCLAVE_NAME: &str = "glassbloom-provider signing key";

/// Opens what holds the keys: makes them the first time, and a new sealing key each time.
///
/// # Errors
/// With the cause and the next step, when it cannot be opened. There is no fallback to software: whoever asked for
/// hardware would not notice.
pub fn open(config: &Config) -> anyhow::Result<Arc<dyn Device>> {
    Ok(match config.keys.device {
        KeyDevice::Software => Arc::new(Software::new(load_or_create(&config.data.join(SIGNING_KEY))?)?),
        KeyDevice::Tpm => Arc::new(TpmDevice::open(&tpm_config(config)?)?),
        KeyDevice::SecureEnclave => {
            glassbloom_hardware::secure_enclave(&config.data.join(ENCLAVE_FOLDER), ENCLAVE_NAME)?
        }
    })
}

/// Which TPM the configuration names.
///
/// # Errors
/// When it names none.
pub(crate) fn tpm_config(config: &Config) -> anyhow::Result<TpmConfig> {
    let tcti = config.keys.tpm.as_deref().unwrap_or("device:/dev/tpmrm0");
    Ok(TpmConfig {
        tcti: tcti.parse().context("keys.tpm")?,
        certificates: config.keys.certificates.clone(),
        ..TpmConfig::new(config.data.join(TPM_FOLDER))
    })
}

/// The signing keys in files, the present one first; unreadable ones are left out.
pub(crate) fn earlier(data: &Path) -> Vec<SigningKey> {
    [SIGNING_KEY, PREVIOUS_KEY].iter().filter_map(|name| load(&data.join(name)).ok()).collect()
}

/// Puts a new signing key in the place of the present one, which is kept to counter-sign it.
///
/// # Errors
/// When there is none, or a rotation before this one has not been logged yet.
pub fn rotate(data: &Path) -> anyhow::Result<SigningKey> {
    let (present, previous) = (data.join(SIGNING_KEY), data.join(PREVIOUS_KEY));
    let old = load(&present)?;
    if previous.exists() {
        let logged = fs::read_to_string(data.join(crate::attest::PREVIOUS)).unwrap_or_default();
        let by = old.public_key().to_string();
        ensure!(
            logged.split_ascii_whitespace().nth(1) == Some(&by),
            "the last rotation has not been logged yet: start the daemon, wait for `glassbloom-provider status` to say connected, and rotate then"
        );
    }
    // Copied first: at no moment is there no key.
    durable::write_secret(&previous, &Zeroizing::new(fs::read(&present)?))?;
    fs::remove_file(&present).with_context(|| present.display().to_string())?;
    Ok(load_or_create(&present)?)
}

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not 64 hexadecimal digits of a P-256 secret.
    #[error("{}: not a signing key of 64 hexadecimal digits; restore it from a backup, or remove it to start as a new provider", .0.display())]
    Malformed(PathBuf),
    /// Others can read it.
    #[error("{}: other users can read this key; run `chmod 600` on it, and replace the key if that is not your doing", .0.display())]
    TooOpen(PathBuf),
}

/// Reads a signing key, or creates it readable by the owner alone.
///
/// # Errors
/// When the file cannot be used; a key that exists is never replaced.
pub fn load_or_create(path: &Path) -> Result<SigningKey, KeyFileError> {
    let failed = |error| KeyFileError::Io { path: path.to_path_buf(), error };
    match load(path) {
        Err(KeyFileError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                durable::create_folder(folder).map_err(failed)?;
            }
            let key = SigningKey::from_seed(Zeroizing::new(random::<32>()).as_slice());
            let mut text = Zeroizing::new(String::with_capacity(65));
            for byte in key.to_bytes().iter() {
                for digit in [byte >> 4, byte & 15] {
                    text.push(char::from_digit(u32::from(digit), 16).expect("below 16"));
                }
            }
            text.push('\n');
            durable::write_secret(path, text.as_bytes()).map_err(failed)?;
            Ok(key)
        }
        result => result,
    }
}

/// Reads a signing key.
///
/// # Errors
/// As [`load_or_create`], and when there is none.
pub fn load(path: &Path) -> Result<SigningKey, KeyFileError> {
    let failed = |error| KeyFileError::Io { path: path.to_path_buf(), error };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(KeyFileError::TooOpen(path.to_path_buf()));
        }
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    let malformed = || KeyFileError::Malformed(path.to_path_buf());
    let digits = text.strip_suffix('\n').unwrap_or(&text).as_bytes();
    let mut secret = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return Err(malformed());
    }
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or_else(malformed);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    SigningKey::from_bytes(*secret).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/signing.key");
        let key = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap().public_key(), key.public_key());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(load_or_create(&path), Err(KeyFileError::TooOpen(_))));
        }
    }

    #[test]
    fn a_broken_key_is_neither_used_nor_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        for bad in ["", "zz", &"0".repeat(64), &"ff".repeat(32), &"g".repeat(64)] {
            durable::write_secret(&path, bad.as_bytes()).unwrap();
            assert!(matches!(load_or_create(&path), Err(KeyFileError::Malformed(_))), "{bad}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }
}
