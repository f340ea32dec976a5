//! Ed25519 for notes and cosignatures. The only file that imports `ed25519-dalek`. `[RFC 8032]`

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// Length of a signature in bytes.
pub(super) const SIGNATURE_LEN: usize = 64;

#[derive(Clone)]
pub(super) struct PublicKey(VerifyingKey);

impl PublicKey {
    /// `None` unless the bytes are a point that is not of small order: under such a key anyone can sign.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
        (!key.is_weak()).then_some(Self(key))
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        // Strict: one signature must not verify under several keys or in several encodings.
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

#[derive(Clone)]
pub(super) struct SecretKey(Box<SigningKey>);

impl SecretKey {
    pub(super) fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Box::new(SigningKey::from_bytes(seed)))
    }

    pub(super) fn public_bytes(&self) -> Vec<u8> {
        self.0.verifying_key().to_bytes().to_vec()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).to_bytes().to_vec()
    }
}
