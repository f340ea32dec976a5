//! ML-DSA-44 for notes and cosignatures, with an empty context. The only file that imports `ml-dsa`. `[FIPS 204]`

use ml_dsa::{EncodedVerifyingKey, Keypair, MlDsa44, Signature, Signer, SigningKey, VerifyingKey};

/// Length of a signature in bytes.
pub(super) const SIGNATURE_LEN: usize = 2420;

#[derive(Clone)]
pub(super) struct PublicKey(Box<VerifyingKey<MlDsa44>>);

impl PublicKey {
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let encoded = EncodedVerifyingKey::<MlDsa44>::try_from(bytes).ok()?;
        Some(Self(Box::new(VerifyingKey::decode(&encoded))))
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::<MlDsa44>::try_from(signature)
            .is_ok_and(|signature| self.0.verify_with_context(message, &[], &signature))
    }
}

#[derive(Clone)]
pub(super) struct SecretKey(Box<SigningKey<MlDsa44>>);

impl SecretKey {
    pub(super) fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Box::new(SigningKey::from_seed(&(*seed).into())))
    }

    pub(super) fn public_bytes(&self) -> Vec<u8> {
        self.0.verifying_key().encode().to_vec()
    }

    /// Signs deterministically, so that this crate needs no randomness.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).encode().to_vec()
    }
}
