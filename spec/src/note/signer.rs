//! Signing keys of logs and witnesses.

use core::str::FromStr;

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{
    KeyError, SignatureLine, VerifierKey, ed25519,
    key::{Algorithm, key_id, split_key, subtree_message},
    mldsa,
};
use crate::{checkpoint::TreeHead, hash::Hash, id::UnixSeconds, subtree::Subtree};

/// Why a signer refused to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The head cannot be signed: the origin is not one line of at most 255 bytes, or size and root contradict.
    #[error(
        "this tree head cannot be signed: its origin is too long or not one line, or its root is not that of size 0"
    )]
    BadHead,
    /// A cosignature without a time, or later than the format can say.
    #[error("a cosignature needs a time other than 0")]
    BadTime,
    /// A witness's key was asked for a log's signature, or a log's for a cosignature.
    #[error("a key of this type does not make such signatures")]
    WrongKey,
}

/// The secret key of a log or a witness. It has no `Debug`; its seed is wiped when dropped.
pub struct NoteSigner {
    seed: Zeroizing<[u8; 32]>,
    key: SecretKey,
    vkey: VerifierKey,
}

enum SecretKey {
    Ed25519(ed25519::SecretKey),
    MlDsa44(mldsa::SecretKey),
}

impl NoteSigner {
    /// A log's Ed25519 key (0x01) from 32 random bytes.
    ///
    /// # Errors
    /// When the name cannot name a key.
    pub fn ed25519_log(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        Self::new(name, Algorithm::Ed25519, seed)
    }

    /// A witness's Ed25519 key (0x04) from 32 random bytes. Each witness needs its own: its signatures do not cover
    /// its name.
    ///
    /// # Errors
    /// When the name cannot name a key.
    pub fn ed25519_witness(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        Self::new(name, Algorithm::CosignatureEd25519, seed)
    }

    /// An ML-DSA-44 key (0x06) from 32 random bytes, for a log or a witness.
    ///
    /// # Errors
    /// When the name cannot name a key.
    pub fn mldsa44(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        Self::new(name, Algorithm::MlDsa44, seed)
    }

    fn new(name: &str, algorithm: Algorithm, seed: [u8; 32]) -> Result<Self, KeyError> {
        let seed = Zeroizing::new(seed);
        let (key, public) = match algorithm {
            Algorithm::Ed25519 | Algorithm::CosignatureEd25519 => {
                let key = ed25519::SecretKey::from_seed(&seed);
                let public = key.public_bytes();
                (SecretKey::Ed25519(key), public)
            }
            Algorithm::MlDsa44 => {
                let key = mldsa::SecretKey::from_seed(&seed);
                let public = key.public_bytes();
                (SecretKey::MlDsa44(key), public)
            }
        };
        Ok(Self { seed, key, vkey: VerifierKey::new(name, algorithm, &public)? })
    }

    /// The public half.
    pub const fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// Signs a checkpoint as its log; ML-DSA leaves the time zero. `[c2sp.org/tlog-checkpoint]`
    ///
    /// # Errors
    /// With a witness's Ed25519 key, or a head that cannot be signed.
    pub fn sign_checkpoint(&self, head: &TreeHead) -> Result<SignatureLine, SignError> {
        if !self.vkey.algorithm().is_for_logs() {
            return Err(SignError::WrongKey);
        }
        self.sign(head, UnixSeconds::new(0))
    }

    /// Cosigns a checkpoint as a witness, as of the given time. `[c2sp.org/tlog-cosignature]`
    ///
    /// # Errors
    /// With a log's Ed25519 key, a time of 0 or beyond 2^63 - 1, or a head that cannot be signed.
    pub fn cosign(&self, head: &TreeHead, time: UnixSeconds) -> Result<SignatureLine, SignError> {
        if !self.vkey.algorithm().is_for_witnesses() {
            return Err(SignError::WrongKey);
        }
        if time.get() == 0 || i64::try_from(time.get()).is_err() {
            return Err(SignError::BadTime);
        }
        self.sign(head, time)
    }

    /// Signs the text of an inclusion promise: no other text that is not a tree head is ever signed.
    pub(crate) fn sign_promise(&self, text: &str) -> Result<SignatureLine, SignError> {
        let (SecretKey::Ed25519(key), Algorithm::Ed25519) = (&self.key, self.vkey.algorithm()) else {
            return Err(SignError::WrongKey);
        };
        let signature = key.sign(text.as_bytes());
        Ok(SignatureLine { name: self.vkey.name().to_owned(), key_id: self.vkey.key_id(), signature })
    }

    fn sign(&self, head: &TreeHead, time: UnixSeconds) -> Result<SignatureLine, SignError> {
        if head.size.get() == 0 && head.root != Hash::EMPTY_TREE {
            return Err(SignError::BadHead);
        }
        let message =
            self.vkey.algorithm().message(self.vkey.name(), head, time).ok_or(SignError::BadHead)?;
        Ok(self.sign_message(&message, time))
    }

    /// Cosigns a subtree of a log without a time: it was seen in a checkpoint, that is all. `[c2sp.org/tlog-witness]`
    ///
    /// # Errors
    /// With a key other than ML-DSA, or an origin that is not one line of at most 255 bytes.
    pub fn cosign_subtree(
        &self,
        origin: &str,
        subtree: Subtree,
        hash: Hash,
    ) -> Result<SignatureLine, SignError> {
        if self.vkey.algorithm() != Algorithm::MlDsa44 {
            return Err(SignError::WrongKey);
        }
        let time = UnixSeconds::new(0);
        let entries = subtree.start().get()..subtree.end().get();
        let message = subtree_message(self.vkey.name(), origin, entries, &hash, time)
            .filter(|_| origin.bytes().all(|byte| byte >= 0x20))
            .ok_or(SignError::BadHead)?;
        Ok(self.sign_message(&message, time))
    }

    fn sign_message(&self, message: &[u8], time: UnixSeconds) -> SignatureLine {
        let signature = match &self.key {
            SecretKey::Ed25519(key) => key.sign(message),
            SecretKey::MlDsa44(key) => key.sign(message),
        };
        let signature = match self.vkey.algorithm() {
            Algorithm::Ed25519 => signature,
            Algorithm::CosignatureEd25519 | Algorithm::MlDsa44 => {
                [time.get().to_be_bytes().as_slice(), &signature].concat()
            }
        };
        SignatureLine { name: self.vkey.name().to_owned(), key_id: self.vkey.key_id(), signature }
    }

    /// The text to keep in a secret file: `PRIVATE+KEY+name+id+base64(type || seed)`, wiped when dropped.
    pub fn to_private_string(&self) -> Zeroizing<String> {
        let mut blob = Zeroizing::new(vec![self.vkey.algorithm() as u8]);
        blob.extend_from_slice(self.seed.as_slice());
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(blob.as_slice()));
        let id = hex::encode(self.vkey.key_id());
        Zeroizing::new(format!("{PRIVATE}{}+{id}+{}", self.vkey.name(), encoded.as_str()))
    }
}

impl FromStr for NoteSigner {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, algorithm, seed) = split_key(text.strip_prefix(PRIVATE).ok_or(KeyError::NotAKey)?)?;
        let seed = Zeroizing::new(seed);
        let signer = Self::new(name, algorithm, seed.as_slice().try_into().map_err(|_| KeyError::BadKey)?)?;
        if hex::encode(key_id(name, algorithm, signer.vkey.public_bytes())) != id {
            return Err(KeyError::WrongKeyId);
        }
        Ok(signer)
    }
}

const PRIVATE: &str = "PRIVATE+KEY+";
