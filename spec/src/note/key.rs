//! Verifier keys ("vkeys") and the messages that are signed.

use core::{fmt, ops::Range, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{SignatureLine, ed25519, is_key_name, mldsa};
use crate::{checkpoint::TreeHead, hash::Hash, id::UnixSeconds, subtree::Subtree};

/// A signature algorithm together with the message it signs, by its type byte. `[c2sp.org/signed-note]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// A log's Ed25519 signature over the note's text.
    Ed25519 = 0x01,
    /// A witness's Ed25519 cosignature with a timestamp.
    CosignatureEd25519 = 0x04,
    /// An ML-DSA-44 signature with a timestamp, by a witness or, with the time left zero, by a log.
    MlDsa44 = 0x06,
}

impl Algorithm {
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Ed25519),
            0x04 => Some(Self::CosignatureEd25519),
            0x06 => Some(Self::MlDsa44),
            _ => None,
        }
    }

    /// Whether a log may sign its checkpoints with it.
    pub const fn is_for_logs(self) -> bool {
        matches!(self, Self::Ed25519 | Self::MlDsa44)
    }

    /// Whether a witness may cosign with it.
    pub const fn is_for_witnesses(self) -> bool {
        matches!(self, Self::CosignatureEd25519 | Self::MlDsa44)
    }

    /// The bytes of a line's signature, with the timestamp if there is one.
    const fn line_len(self) -> usize {
        match self {
            Self::Ed25519 => ed25519::SIGNATURE_LEN,
            Self::CosignatureEd25519 => 8 + ed25519::SIGNATURE_LEN,
            Self::MlDsa44 => 8 + mldsa::SIGNATURE_LEN,
        }
    }

    /// The message that is signed; `None` when the head has no such message: an origin that is no single line or,
    /// for ML-DSA, a name or origin longer than 255 bytes.
    pub(super) fn message(self, name: &str, head: &TreeHead, time: UnixSeconds) -> Option<Vec<u8>> {
        let text = head.is_well_formed().then(|| head.to_string())?;
        Some(match self {
            Self::Ed25519 => text.into_bytes(),
            Self::CosignatureEd25519 => format!("cosignature/v1\ntime {time}\n{text}").into_bytes(),
            Self::MlDsa44 => subtree_message(name, &head.origin, 0..head.size.get(), &head.root, time)?,
        })
    }
}

/// What ML-DSA signs: a checkpoint is the subtree from 0. `None` when a name is longer than 255 bytes.
/// `[c2sp.org/tlog-cosignature]`
pub(super) fn subtree_message(
    name: &str,
    origin: &str,
    entries: Range<u64>,
    root: &Hash,
    time: UnixSeconds,
) -> Option<Vec<u8>> {
    let mut message = b"subtree/v1\n\0".to_vec();
    message.push(u8::try_from(name.len()).ok()?);
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(&time.get().to_be_bytes());
    message.push(u8::try_from(origin.len()).ok().filter(|length| *length > 0)?);
    message.extend_from_slice(origin.as_bytes());
    message.extend_from_slice(&entries.start.to_be_bytes());
    message.extend_from_slice(&entries.end.to_be_bytes());
    message.extend_from_slice(root.as_bytes());
    Some(message)
}

/// The first four bytes of SHA-256 over name, newline, type and public key.
pub(super) fn key_id(name: &str, algorithm: Algorithm, public: &[u8]) -> [u8; 4] {
    let hash = Hash::of_parts(&[name.as_bytes(), b"\n", &[algorithm as u8], public]);
    *hash.as_bytes().first_chunk().expect("a hash has at least four bytes")
}

/// A text that is not a key, or a key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is damaged, or of small order, or its length is not that of the algorithm.
    #[error("the public key in it is not a valid one")]
    BadKey,
    /// The name is empty or has a space or plus sign in it.
    #[error("{0:?} cannot name a key: a name has no spaces and no plus sign")]
    BadName(String),
    /// Not `name+hex+base64`.
    #[error("not a key of the form name+{{8 hexadecimal digits}}+{{base64}}")]
    NotAKey,
    /// The key id is not the hash of the rest.
    #[error("the key id does not match the key: it was altered or cut")]
    WrongKeyId,
    /// A type byte other than 0x01, 0x04 and 0x06.
    #[error("key type 0x{0:02x} is not known here; known are 0x01, 0x04 (Ed25519) and 0x06 (ML-DSA-44)")]
    UnknownAlgorithm(u8),
}

/// A signature that a known key should have made and did not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature by {name} does not verify")]
pub struct BadSignature {
    /// The name of the key.
    pub name: String,
}

/// A named public key. Its text form is a "vkey": `name+530d903a+AekyeRrm…`.
#[derive(Clone)]
pub struct VerifierKey {
    name: String,
    key_id: [u8; 4],
    algorithm: Algorithm,
    public: Vec<u8>,
    key: PublicKey,
}

#[derive(Clone)]
enum PublicKey {
    Ed25519(ed25519::PublicKey),
    MlDsa44(mldsa::PublicKey),
}

impl VerifierKey {
    /// Names a public key.
    ///
    /// # Errors
    /// When the name cannot name a key or the bytes are not a key of the algorithm.
    pub fn new(name: &str, algorithm: Algorithm, public: &[u8]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::BadName(name.to_owned()));
        }
        let key = match algorithm {
            Algorithm::Ed25519 | Algorithm::CosignatureEd25519 => {
                ed25519::PublicKey::from_bytes(public).map(PublicKey::Ed25519)
            }
            Algorithm::MlDsa44 => mldsa::PublicKey::from_bytes(public).map(PublicKey::MlDsa44),
        };
        Ok(Self {
            name: name.to_owned(),
            key_id: key_id(name, algorithm, public),
            algorithm,
            public: public.to_vec(),
            key: key.ok_or(KeyError::BadKey)?,
        })
    }

    /// The name of the key; for a log's key, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of a hash over the name and key, which finds the key's line in a note.
    pub const fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// What it signs and how.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw public key.
    pub fn public_bytes(&self) -> &[u8] {
        &self.public
    }

    /// Whether a line claims to be by this key.
    pub fn claims(&self, line: &SignatureLine) -> bool {
        line.name == self.name && line.key_id == self.key_id
    }

    /// Checks a line over a tree head and returns its timestamp; 0 when it has none.
    ///
    /// # Errors
    /// When the line is by another key or its signature is not over this head.
    pub fn verify(&self, head: &TreeHead, line: &SignatureLine) -> Result<UnixSeconds, BadSignature> {
        self.check(head, line).ok_or_else(|| BadSignature { name: self.name.clone() })
    }

    /// Checks a line over the text of an inclusion promise, which Ed25519 keys of logs alone sign.
    pub(crate) fn verify_promise(&self, text: &str, line: &SignatureLine) -> Result<(), BadSignature> {
        let verified = match (&self.key, self.algorithm) {
            (PublicKey::Ed25519(key), Algorithm::Ed25519) if self.claims(line) => {
                key.verify(text.as_bytes(), &line.signature)
            }
            _ => false,
        };
        if verified { Ok(()) } else { Err(BadSignature { name: self.name.clone() }) }
    }

    fn check(&self, head: &TreeHead, line: &SignatureLine) -> Option<UnixSeconds> {
        self.check_message(line, |time| self.algorithm.message(&self.name, head, time))
    }

    /// Checks an ML-DSA line over a subtree of a log and returns its timestamp, which is 0 unless the subtree begins at 0.
    ///
    /// # Errors
    /// When the line is by another key, or its signature is not over this subtree.
    pub fn verify_subtree(
        &self,
        origin: &str,
        subtree: Subtree,
        hash: Hash,
        line: &SignatureLine,
    ) -> Result<UnixSeconds, BadSignature> {
        let (start, end) = (subtree.start().get(), subtree.end().get());
        let message = |time: UnixSeconds| {
            let signs_subtrees = self.algorithm == Algorithm::MlDsa44 && (start == 0 || time.get() == 0);
            signs_subtrees.then(|| subtree_message(&self.name, origin, start..end, &hash, time))?
        };
        self.check_message(line, message).ok_or_else(|| BadSignature { name: self.name.clone() })
    }

    fn check_message(
        &self,
        line: &SignatureLine,
        message: impl FnOnce(UnixSeconds) -> Option<Vec<u8>>,
    ) -> Option<UnixSeconds> {
        if !self.claims(line) || line.signature.len() != self.algorithm.line_len() {
            return None;
        }
        let (time, signature) = match self.algorithm {
            Algorithm::Ed25519 => (0, line.signature.as_slice()),
            Algorithm::CosignatureEd25519 | Algorithm::MlDsa44 => {
                let (time, signature) = line.signature.split_first_chunk()?;
                (u64::from_be_bytes(*time), signature)
            }
        };
        let time = UnixSeconds::new(i64::try_from(time).is_ok().then_some(time)?);
        let message = message(time)?;
        let verified = match &self.key {
            PublicKey::Ed25519(key) => key.verify(&message, signature),
            PublicKey::MlDsa44(key) => key.verify(&message, signature),
        };
        verified.then_some(time)
    }
}

impl PartialEq for VerifierKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.algorithm == other.algorithm && self.public == other.public
    }
}

impl Eq for VerifierKey {}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = [&[self.algorithm as u8], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.key_id), BASE64_STANDARD.encode(blob))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({}+{}, {:?})", self.name, hex::encode(self.key_id), self.algorithm)
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, algorithm, public) = split_key(text)?;
        let key = Self::new(name, algorithm, &public)?;
        if hex::encode(key.key_id) != id {
            return Err(KeyError::WrongKeyId);
        }
        Ok(key)
    }
}

/// Splits `name+id+base64(type || key)`. Base64 may contain plus signs, so only the first two separate.
pub(super) fn split_key(text: &str) -> Result<(&str, &str, Algorithm, Vec<u8>), KeyError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(blob)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyError::NotAKey);
    };
    let blob = BASE64_STANDARD.decode(blob).map_err(|_| KeyError::NotAKey)?;
    let (&kind, key) = blob.split_first().ok_or(KeyError::NotAKey)?;
    let algorithm = Algorithm::from_byte(kind).ok_or(KeyError::UnknownAlgorithm(kind))?;
    Ok((name, id, algorithm, key.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::SignedNote;

    /// The examples of c2sp.org/signed-note and of Go's note package. Their texts are no checkpoints, so that only
    /// the layers below [`VerifierKey::verify`] can open them.
    #[test]
    fn notes_of_other_implementations() {
        for (vkey, note) in [
            (
                "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                "This is an example message.\n\n\u{2014} example.com/foo \
                 Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n",
            ),
            (
                "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
                "If you think cryptography is the answer to your problem,\nthen you don't know what your problem \
                 is.\n\n\u{2014} PeterNeumann \
                 x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n",
            ),
        ] {
            let key: VerifierKey = vkey.parse().unwrap();
            let parsed = SignedNote::parse(note.as_bytes()).unwrap();
            let [line] = parsed.signatures.as_slice() else { panic!("one signature") };
            let PublicKey::Ed25519(raw) = &key.key else { panic!("an Ed25519 key") };
            assert!(key.claims(line));
            assert!(raw.verify(parsed.text.as_bytes(), &line.signature));
            assert!(!raw.verify(parsed.text.replacen('i', "j", 1).as_bytes(), &line.signature));
        }
    }
}
