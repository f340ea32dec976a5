//! A Mac: keys in its Secure Enclave, and App Attest over each attestation's nonce.
//!
//! Nobody has run this yet: it was written against Apple's documentation and is type-checked alone. What it hands out is
//! checked by `glassbloom_spec::evidence::app_attest` all the same, so that a fault here shows as evidence that is refused.

mod app_attest;
mod enclave;
mod posture;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use glassbloom_spec::{
    cbor::{FieldError, Fields, Value},
    curve::{DiffieHellman, Signer},
    evidence::app_attest as format,
    hash::Hash,
};

pub use self::posture::Posture;
use self::{
    app_attest::AppAttest,
    enclave::{EnclaveSealer, EnclaveSigner},
};
use crate::{Device, DeviceError, files};

/// Which keys, and where the enrolment is remembered.
#[derive(Clone, Debug)]
pub struct MacConfig {
    /// Folder for the enrolment; made when missing.
    pub folder: PathBuf,
    /// The signing key's name in the keychain: one for each provider of this user.
    pub label: String,
}

/// A provider's keys in a Secure Enclave.
pub struct MacDevice {
    file: PathBuf,
    signing: Arc<EnclaveSigner>,
    sealing: Arc<EnclaveSealer>,
    service: AppAttest,
    enrolled: Mutex<Option<Enrolled>>,
}

/// The App Attest key: Apple's word for it is the lasting part of the evidence.
#[derive(Clone)]
struct Enrolled {
    /// What App Attest calls the key.
    key: String,
    /// The attestation object, receipt and all.
    object: Vec<u8>,
    /// The nonce that it was made for.
    nonce: Hash,
    /// The attestation that it was logged with first.
    leaf: Option<Hash>,
}

impl MacDevice {
    /// Finds or makes the signing key, and makes a new sealing key.
    ///
    /// # Errors
    /// When the program is not signed for keys in the enclave, or this Mac has no App Attest.
    pub fn open(config: &MacConfig) -> Result<Self, DeviceError> {
        let service = AppAttest::of_this_mac()?;
        let file = config.folder.join(FILE);
        let enrolled = files::read(&file)?.map(|bytes| Enrolled::decode(&bytes)).transpose();
        let enrolled = enrolled.map_err(|error| DeviceError::Malformed {
            path: file.clone(),
            what: error.to_string(),
            next: "remove it to be enrolled again",
        })?;
        Ok(Self {
            file,
            signing: Arc::new(EnclaveSigner::find_or_make(&config.label)?),
            sealing: Arc::new(EnclaveSealer::make()?),
            service,
            enrolled: Mutex::new(enrolled),
        })
    }

    /// The key that Apple has vouched for, for this nonce or for an attestation that was logged; a new one if need be.
    fn enrolled(&self, nonce: Hash) -> Result<Enrolled, DeviceError> {
        let mut held = self.enrolled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(enrolled) =
            held.as_ref().filter(|enrolled| enrolled.leaf.is_some() || enrolled.nonce == nonce)
        {
            return Ok(enrolled.clone());
        }
        // Apple attests a key once, so another nonce means another key.
        let key = self.service.generate_key()?;
        let object = self.service.attest(&key, nonce)?;
        let enrolled = Enrolled { key, object, nonce, leaf: None };
        files::write(&self.file, &enrolled.encode())?;
        *held = Some(enrolled.clone());
        Ok(enrolled)
    }
}

impl Device for MacDevice {
    fn format(&self) -> &'static str {
        format::FORMAT
    }

    fn describe(&self) -> String {
        "keys in this Mac's Secure Enclave, vouched for by App Attest".to_owned()
    }

    fn signing(&self) -> Arc<dyn Signer> {
        Arc::clone(&self.signing) as _
    }

    fn sealing(&self) -> Arc<dyn DiffieHellman> {
        Arc::clone(&self.sealing) as _
    }

    fn evidence(&self, nonce: Hash) -> Result<Vec<u8>, DeviceError> {
        let enrolled = self.enrolled(nonce)?;
        let assertion = self.service.assert(&enrolled.key, nonce)?;
        format::encode(&enrolled.object, &assertion).map_err(|refused| {
            DeviceError::failed(
                "reading what App Attest answered",
                refused,
                "update the provider: this macOS may be newer",
            )
        })
    }

    fn enrolment(&self) -> Option<Hash> {
        self.enrolled.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|held| held.leaf)
    }

    fn logged(&self, leaf: Hash) -> Result<(), DeviceError> {
        let mut held = self.enrolled.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            Some(enrolled) if enrolled.leaf.is_none() => {
                let logged = Enrolled { leaf: Some(leaf), ..enrolled.clone() };
                files::write(&self.file, &logged.encode())?;
                *enrolled = logged;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn forget_enrolment(&self) -> Result<(), DeviceError> {
        let mut held = self.enrolled.lock().unwrap_or_else(PoisonError::into_inner);
        files::remove(&self.file)?;
        *held = None;
        Ok(())
    }
}

impl Enrolled {
    fn encode(&self) -> Vec<u8> {
        let mut fields =
            vec![(1, self.key.as_str().into()), (2, self.object.as_slice().into()), (3, self.nonce.into())];
        fields.extend(self.leaf.map(|leaf| (4, leaf.into())));
        Value::Map(fields.into_iter().map(|(key, value)| (Value::Unsigned(key), value)).collect()).encode()
    }

    fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut fields = Fields::decode(bytes)?;
        let enrolled = Self {
            key: fields.text(1)?,
            object: fields.bytes(2)?,
            nonce: fields.hash(3)?,
            leaf: fields.has(4).then(|| fields.hash(4)).transpose()?,
        };
        fields.finish()?;
        Ok(enrolled)
    }
}

const FILE: &str = "app-attest.cbor";
