//! The signing keys of one log.

use glassbloom_spec::{
    checkpoint::TreeHead,
    note::{Algorithm, KeyError, NoteSigner, SignatureLine, SignedNote, VerifierKey},
    promise::Promise,
};

/// A log's keys in force; all have the log's origin as their name. Checkpoints are signed by all of them.
pub struct LogKeys {
    /// Ed25519 (0x01) before ML-DSA-44 (0x06), and of each the oldest first; at least one is an Ed25519 key.
    signers: Vec<NoteSigner>,
}

/// Why keys are not those of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// A key that is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A public log has at least one Ed25519 signature, which every client can check. `[c2sp.org/tlog-tiles]`
    #[error("a log needs at least one Ed25519 key")]
    NoEd25519,
    /// A key that is there twice.
    #[error("the key {0} is there twice")]
    Twice(String),
    /// Keys of two logs.
    #[error("the keys have two names, {0} and {1}: all keys of a log have its origin as their name")]
    TwoNames(String, String),
    /// A key that only witnesses use.
    #[error("{0} is a witness's key")]
    WitnessKey(String),
}

impl LogKeys {
    /// Derives nothing: the two seeds must be independent random bytes.
    pub fn from_seeds(origin: &str, ed25519: [u8; 32], mldsa44: [u8; 32]) -> Result<Self, KeyError> {
        let signers = vec![NoteSigner::ed25519_log(origin, ed25519)?, NoteSigner::mldsa44(origin, mldsa44)?];
        Ok(Self { signers })
    }

    /// Takes the keys of a log, of each algorithm the oldest first.
    pub fn new(mut signers: Vec<NoteSigner>) -> Result<Self, KeysError> {
        for (at, signer) in signers.iter().enumerate() {
            let key = signer.vkey();
            let first = signers[0].vkey().name();
            if key.name() != first {
                return Err(KeysError::TwoNames(first.to_owned(), key.name().to_owned()));
            }
            if !key.algorithm().is_for_logs() {
                return Err(KeysError::WitnessKey(key.to_string()));
            }
            if signers[..at].iter().any(|other| other.vkey().public_bytes() == key.public_bytes()) {
                return Err(KeysError::Twice(key.to_string()));
            }
        }
        // Stable: the order of age stays.
        signers.sort_by_key(|signer| signer.vkey().algorithm() != Algorithm::Ed25519);
        match signers.first().map(|signer| signer.vkey().algorithm()) {
            Some(Algorithm::Ed25519) => Ok(Self { signers }),
            _ => Err(KeysError::NoEd25519),
        }
    }

    /// The private keys, Ed25519 first, of each algorithm the oldest first.
    pub fn signers(&self) -> &[NoteSigner] {
        &self.signers
    }

    /// The public keys in the same order.
    pub fn vkeys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.signers.iter().map(NoteSigner::vkey)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.signers[0].vkey().name()
    }

    /// The newest Ed25519 key.
    fn ed25519(&self) -> &NoteSigner {
        let mut newest_first = self.signers.iter().rev();
        let found = newest_first.find(|signer| signer.vkey().algorithm() == Algorithm::Ed25519);
        found.expect("one of the keys is an Ed25519 key, from the constructor on")
    }

    /// The head as the head store keeps it: by one Ed25519 key alone, because it is made on every commit.
    pub(crate) fn sign_head(&self, head: &TreeHead) -> Vec<u8> {
        SignedNote { text: head.to_string(), signatures: vec![sign(self.ed25519(), head)] }.encode()
    }

    /// The head as it is published, before any cosignature.
    pub(crate) fn sign_checkpoint(&self, head: &TreeHead) -> SignedNote {
        let signatures = self.signers.iter().map(|key| sign(key, head)).collect();
        SignedNote { text: head.to_string(), signatures }
    }

    /// A promise about an entry that is durably in the log. Ed25519 alone: ML-DSA keys sign tree heads only.
    pub(crate) fn sign_promise(&self, promise: &Promise) -> SignedNote {
        promise.sign(self.ed25519()).expect("this process made the promise, with its own origin")
    }

    /// The head in a note that a key in force signed; `None` when it is anything else.
    pub(crate) fn open_head(&self, note: &[u8]) -> Option<TreeHead> {
        let note = SignedNote::parse(note).ok()?;
        let head = TreeHead::parse(&note.text).ok()?;
        let by = |key: &VerifierKey| note.signatures.iter().any(|line| key.verify(&head, line).is_ok());
        let signed = self.vkeys().any(by);
        (signed && head.origin == self.origin()).then_some(head)
    }
}

fn sign(key: &NoteSigner, head: &TreeHead) -> SignatureLine {
    key.sign_checkpoint(head).expect("log keys sign well-formed heads, and this process made the head")
}

#[cfg(test)]
mod tests {
    use glassbloom_spec::{hash::Hash, id::TreeSize};

    use super::*;

    const ORIGIN: &str = "log.example/registry";

    fn ed25519(seed: u8) -> NoteSigner {
        NoteSigner::ed25519_log(ORIGIN, [seed; 32]).unwrap()
    }

    #[test]
    fn a_head_holds_under_any_key_in_force_and_no_other() {
        let head = TreeHead { origin: ORIGIN.to_owned(), size: TreeSize::new(3), root: Hash::of(b"root") };
        let old = LogKeys::from_seeds(ORIGIN, [1; 32], [2; 32]).unwrap();
        let mldsa = || NoteSigner::mldsa44(ORIGIN, [4; 32]).unwrap();
        let both = LogKeys::new(vec![mldsa(), ed25519(1), ed25519(3)]).unwrap();
        let new = LogKeys::new(vec![ed25519(3), mldsa()]).unwrap();
        assert_eq!(both.sign_checkpoint(&head).signatures.len(), 3);
        assert_eq!(both.open_head(&old.sign_head(&head)), Some(head.clone()));
        assert_eq!(new.open_head(&both.sign_head(&head)), Some(head.clone()), "the newest key signs");
        assert_eq!(new.open_head(&old.sign_head(&head)), None);
        assert_eq!(old.open_head(&both.sign_checkpoint(&head).encode()), Some(head));
    }

    #[test]
    fn what_cannot_sign_for_one_log_is_refused() {
        let error = |signers| LogKeys::new(signers).err();
        assert_eq!(error(vec![]), Some(KeysError::NoEd25519));
        assert_eq!(error(vec![NoteSigner::mldsa44(ORIGIN, [1; 32]).unwrap()]), Some(KeysError::NoEd25519));
        assert!(matches!(error(vec![ed25519(1), ed25519(1)]), Some(KeysError::Twice(_))));
        let witness = NoteSigner::ed25519_witness(ORIGIN, [2; 32]).unwrap();
        assert!(matches!(error(vec![ed25519(1), witness]), Some(KeysError::WitnessKey(_))));
        let other = NoteSigner::ed25519_log("other.example/registry", [2; 32]).unwrap();
        assert!(matches!(error(vec![ed25519(1), other]), Some(KeysError::TwoNames(..))));
    }
}
