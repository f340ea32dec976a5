//! Keys that live in a TPM or a Secure Enclave, what vouches for them, and the hardening of the process.
//!
//! The daemon holds one [`Device`]: [`software::Software`] to try things out, [`tpm::TpmDevice`] on machines with a
//! TPM 2.0, and `apple::MacDevice` on a Mac. Each signs, agrees on secrets, and makes [evidence](Device::evidence) over a
//! nonce that anyone can verify with `glassbloom_spec::evidence`.
//!
//! Nothing here depends on a C library, so that the whole crate, with what only runs on a Mac, type-checks anywhere.

#[cfg(target_os = "macos")]
pub mod apple;
#[cfg(any(target_os = "macos", test))]
mod apple_format;
pub mod files;
pub mod harden;
mod os;
pub mod software;
#[cfg(all(feature = "test-support", unix))]
pub mod test_support;
#[cfg(unix)]
pub mod tpm;
pub mod wipe;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use glassbloom_spec::{
    curve::{DiffieHellman, SIGNATURE_LEN, SignError, Signer},
    hash::Hash,
};
use zeroize::Zeroizing;

/// A machine's keys and what vouches for them.
pub trait Device: Send + Sync {
    /// The format of its evidence, as `glassbloom_spec::evidence` names it.
    fn format(&self) -> &'static str;

    /// In one line for `doctor` and logs: what holds the keys.
    fn describe(&self) -> String;

    /// Signs attestations and receipts; lasts.
    fn signing(&self) -> Arc<dyn Signer>;

    /// What requests are sealed to; ends with the process.
    fn sealing(&self) -> Arc<dyn DiffieHellman>;

    /// Evidence over a nonce: the lasting part, which is made once and kept in the data folder, and the fresh part.
    ///
    /// # Errors
    /// When the device fails, or [`DeviceError::NotEnrolled`] when an auditor must vouch for it first.
    fn evidence(&self, nonce: Hash) -> Result<Vec<u8>, DeviceError>;

    /// The sealing key's own signature over `glassbloom_spec::leaf::possession_message`, where that key can sign. Keys in
    /// hardware cannot, and their evidence shows instead who holds them.
    ///
    /// # Errors
    /// When the device fails.
    fn possession(&self, nonce: Hash) -> Result<Option<[u8; SIGNATURE_LEN]>, DeviceError> {
        let _ = nonce;
        Ok(None)
    }

    /// Leaf hash of the attestation that the lasting part was logged with first; `None` when the next attestation will
    /// be that one, or nothing lasts.
    fn enrolment(&self) -> Option<Hash> {
        None
    }

    /// Remembers the leaf of the first attestation with this lasting part, once the log has it. Does nothing when one is
    /// remembered, or nothing lasts.
    ///
    /// # Errors
    /// When it cannot be written.
    fn logged(&self, leaf: Hash) -> Result<(), DeviceError> {
        let _ = leaf;
        Ok(())
    }

    /// Forgets the lasting part, so that the next evidence has a new one: when the rules find the old one too old.
    ///
    /// # Errors
    /// When its files cannot be removed.
    fn forget_enrolment(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// How an auditor enrols this device; `None` where its maker's certificates suffice.
    fn endorsed(&self) -> Option<&dyn Endorsed> {
        None
    }
}

/// A device whose keys an auditor must try before others can believe them: a TPM's certificate covers a key that only
/// decrypts, so whether another key lives beside it is shown to somebody, who says so.
pub trait Endorsed: Send + Sync {
    /// Whether [`Device::evidence`] over this nonce waits for it: nobody has vouched yet, or only for a nonce whose
    /// attestation never was [`logged`](Device::logged).
    fn is_wanted(&self, nonce: Hash) -> bool;

    /// What to send to the auditor.
    ///
    /// # Errors
    /// When the device fails.
    fn request(&self) -> Result<EnrolmentRequest, DeviceError>;

    /// Opens the auditor's challenge, which only the device with the requested keys can: a TPM2B_ID_OBJECT and a
    /// TPM2B_ENCRYPTED_SECRET, with or without their lengths in front.
    ///
    /// # Errors
    /// When the device fails, or the challenge is for another.
    fn activate(&self, credential: &[u8], encrypted_secret: &[u8])
    -> Result<Zeroizing<Vec<u8>>, DeviceError>;

    /// Keeps what the auditor says for this nonce, with the transcript that others check it by (CBOR): from then on there
    /// is evidence over it, and over every nonce once that is logged.
    ///
    /// # Errors
    /// When the transcript is not of that form, or cannot be written.
    fn set_enrolment(
        &self,
        nonce: Hash,
        transcript: &[u8],
        endorsements: &[Vec<u8>],
    ) -> Result<(), DeviceError>;
}

/// Opens the keys of this Mac's Secure Enclave: the signing key by its name in the keychain, and a new sealing key.
///
/// # Errors
/// On everything but a Mac, and there when the program is not signed for it or App Attest is missing.
pub fn secure_enclave(folder: &Path, name: &str) -> Result<Arc<dyn Device>, DeviceError> {
    #[cfg(target_os = "macos")]
    {
        let config = apple::MacConfig { folder: folder.to_path_buf(), label: name.to_owned() };
        Ok(Arc::new(apple::MacDevice::open(&config)?))
    }
    #[cfg(not(target_os = "macos"))]
    Err(DeviceError::failed(
        format!("opening {name} for {}", folder.display()),
        "this is not a Mac, so it has no Secure Enclave",
        "set `device = \"tpm\"` under [keys] in provider.toml where there is a TPM",
    ))
}

/// What a device shows to an auditor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentRequest {
    /// The maker's certificates in DER: the device's first, the root's last if the operator names it.
    pub certificates: Vec<Vec<u8>>,
    /// The attestation key as the device describes it (TPMT_PUBLIC).
    pub attestation_key: Vec<u8>,
}

/// A device that did not do what it was asked for: the cause, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The device refused, failed, or cannot be reached.
    #[error("{action}: {cause}; {next}")]
    Failed {
        /// What was being done.
        action: String,
        /// What the device or the system said.
        cause: String,
        /// The next command or step.
        next: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}; check that the folder is this user's and the disk not full", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds something else than this program wrote.
    #[error("{}: {what}; {next}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// The next command or step.
        next: &'static str,
    },
    /// Nobody has vouched for the device yet.
    #[error(
        "no auditor has vouched for this device's attestation key yet; name one in the configuration, and see \
         `glassbloom-provider doctor`"
    )]
    NotEnrolled,
}

impl DeviceError {
    /// A failure with its cause and the next step.
    pub fn failed(action: impl Into<String>, cause: impl std::fmt::Display, next: impl Into<String>) -> Self {
        Self::Failed { action: action.into(), cause: cause.to_string(), next: next.into() }
    }
}

impl From<DeviceError> for SignError {
    fn from(error: DeviceError) -> Self {
        Self(error.to_string())
    }
}
