//! Keys in memory, for trying things out. Everywhere labelled `self-signed`; no policy for real use accepts them.

use std::sync::Arc;

use glassbloom_spec::{
    curve::{DiffieHellman, EcdhSecret, SIGNATURE_LEN, Signer, SigningKey},
    hash::Hash,
    leaf::possession_message,
    seal::hpke,
};
use zeroize::Zeroizing;

use crate::{Device, DeviceError, os};

/// A signing key from a file, and a sealing key that ends with the process.
pub struct Software {
    signing: Arc<SigningKey>,
    sealing: Arc<EcdhSecret>,
}

impl Software {
    /// Takes a signing key and makes a sealing key.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn new(signing: SigningKey) -> Result<Self, DeviceError> {
        let sealing = hpke::derive_key_pair(Zeroizing::new(os::random::<32>()?).as_slice());
        let device = Self { signing: Arc::new(signing), sealing: Arc::new(sealing) };
        // Where the system allows none of it, `harden` says so to the operator, and the keys work all the same.
        let _ = os::lock(&*device.signing).and_then(|()| os::lock(&*device.sealing));
        Ok(device)
    }
}

impl Device for Software {
    fn format(&self) -> &'static str {
        "self-signed"
    }

    fn describe(&self) -> String {
        "keys in memory and in a file (self-signed: proves nothing about this machine)".to_owned()
    }

    fn signing(&self) -> Arc<dyn Signer> {
        Arc::clone(&self.signing) as _
    }

    fn sealing(&self) -> Arc<dyn DiffieHellman> {
        Arc::clone(&self.sealing) as _
    }

    fn evidence(&self, _nonce: Hash) -> Result<Vec<u8>, DeviceError> {
        Ok(Vec::new())
    }

    fn possession(&self, nonce: Hash) -> Result<Option<[u8; SIGNATURE_LEN]>, DeviceError> {
        Ok(Some(self.sealing.sign_possession(&possession_message(nonce))))
    }
}

#[cfg(test)]
mod tests {
    use glassbloom_spec::curve::PublicKey;

    use super::*;

    #[test]
    fn the_sealing_key_shows_that_it_is_at_hand() {
        let device = Software::new(SigningKey::from_seed(&[1; 32])).unwrap();
        let nonce = Hash::of(b"nonce");
        let signature = device.possession(nonce).unwrap().unwrap();
        let sealing = PublicKey::from_sec1(&device.sealing().public_key()).unwrap();
        sealing.verify(&possession_message(nonce), &signature).unwrap();
        let other = Software::new(SigningKey::from_seed(&[1; 32])).unwrap();
        assert_ne!(other.sealing().public_key(), device.sealing().public_key());
        assert_eq!(other.signing().public_key(), device.signing().public_key());
    }
}
