//! The signing keys of one log.

use glassbloom_spec::{
    checkpoint::TreeHead,
    note::{KeyError, NoteSigner, SignatureLine, SignedNote, VerifierKey},
    promise::Promise,
};

/// A log's Ed25519 (0x01) and ML-DSA-44 (0x06) keys; both have the log's origin as their name.
pub struct LogKeys {
    ed25519: NoteSigner,
    mldsa44: NoteSigner,
}

impl LogKeys {
    /// Derives nothing: the two seeds must be independent random bytes.
    pub fn from_seeds(origin: &str, ed25519: [u8; 32], mldsa44: [u8; 32]) -> Result<Self, KeyError> {
        Ok(Self {
            ed25519: NoteSigner::ed25519_log(origin, ed25519)?,
            mldsa44: NoteSigner::mldsa44(origin, mldsa44)?,
        })
    }

    /// Reads the two private keys in their text form.
    pub fn from_private(ed25519: &str, mldsa44: &str) -> Result<Self, KeyError> {
        Ok(Self { ed25519: ed25519.trim().parse()?, mldsa44: mldsa44.trim().parse()? })
    }

    /// The private keys in their text form, Ed25519 first.
    pub fn signers(&self) -> [&NoteSigner; 2] {
        [&self.ed25519, &self.mldsa44]
    }

    /// The public keys, Ed25519 first.
    pub fn vkeys(&self) -> [&VerifierKey; 2] {
        [self.ed25519.vkey(), self.mldsa44.vkey()]
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.ed25519.vkey().name()
    }

    /// The head as the head store keeps it: Ed25519 alone, because it is made on every commit.
    pub(crate) fn sign_head(&self, head: &TreeHead) -> Vec<u8> {
        SignedNote { text: head.to_string(), signatures: vec![sign(&self.ed25519, head)] }.encode()
    }

    /// The head as it is published, before any cosignature.
    pub(crate) fn sign_checkpoint(&self, head: &TreeHead) -> SignedNote {
        SignedNote { text: head.to_string(), signatures: self.signers().map(|key| sign(key, head)).to_vec() }
    }

    /// A promise about an entry that is durably in the log. Ed25519 alone: ML-DSA keys sign tree heads only.
    pub(crate) fn sign_promise(&self, promise: &Promise) -> SignedNote {
        promise.sign(&self.ed25519).expect("this process made the promise, with its own origin")
    }

    /// The head in a note that this log signed; `None` when it is anything else.
    pub(crate) fn open_head(&self, note: &[u8]) -> Option<TreeHead> {
        let note = SignedNote::parse(note).ok()?;
        let head = TreeHead::parse(&note.text).ok()?;
        let signed = note.signatures.iter().any(|line| self.ed25519.vkey().verify(&head, line).is_ok());
        (signed && head.origin == self.origin()).then_some(head)
    }
}

fn sign(key: &NoteSigner, head: &TreeHead) -> SignatureLine {
    key.sign_checkpoint(head).expect("log keys sign well-formed heads, and this process made the head")
}
