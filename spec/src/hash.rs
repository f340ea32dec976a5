//! SHA-256, RFC 6962 tree hashes and HMAC. The only file that imports `sha2`, `hmac` and `hkdf`.

use core::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Digest;
// For the padding of RSA, whose digest is a type.
pub(crate) use sha2::{Sha256, Sha384};

/// A SHA-256 value: a leaf, a tree node, a root or a plain digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; Self::LEN]);

impl Hash {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// The root of the empty tree, SHA-256 of nothing. `[RFC 6962 §2.1]`
    pub const EMPTY_TREE: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
        0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// Wraps 32 bytes that are already a hash.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// SHA-256 of the bytes, without any prefix.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// SHA-256 of the concatenated parts.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The hash of a log entry, SHA-256(0x00 || entry). `[RFC 6962 §2.1]`
    pub fn leaf(entry: &[u8]) -> Self {
        Self::of_parts(&[&[0], entry])
    }

    /// The hash of an interior node, SHA-256(0x01 || left || right). `[RFC 6962 §2.1]`
    pub fn node(left: &Self, right: &Self) -> Self {
        Self::of_parts(&[&[1], &left.0, &right.0])
    }

    /// Standard base64 with padding, as in checkpoints and proofs.
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// Parses standard base64 with padding; `None` unless it is exactly 32 bytes in canonical form.
    pub fn from_base64(text: &str) -> Option<Self> {
        Self::try_from(BASE64_STANDARD.decode(text).ok()?.as_slice()).ok()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With a precision, so many digits: `{hash:.16}`.
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A text or byte string that is not a 32-byte hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 value: expected 32 bytes, as 64 lowercase hexadecimal digits in text")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(NotAHash);
        }
        Self::try_from(hex::decode(text).map_err(|_| NotAHash)?.as_slice())
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = NotAHash;

    fn try_from(bytes: &[u8]) -> Result<Self, NotAHash> {
        bytes.try_into().map(Self).map_err(|_| NotAHash)
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-384 of the bytes, which vendors sign; what is ours is SHA-256.
pub fn sha384(bytes: &[u8]) -> [u8; 48] {
    Sha384::digest(bytes).into()
}

/// HMAC-SHA256 over the concatenated parts. `[RFC 2104]`
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Hash {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    Hash(mac.finalize().into_bytes().into())
}

/// HKDF-Extract with SHA-256. `[RFC 5869 §2.2]`
pub fn hkdf_extract(salt: &[u8], input: &[u8]) -> Hash {
    hmac_sha256(salt, &[input])
}

/// HKDF-Expand with SHA-256, filling `output`.
///
/// # Panics
/// When `output` is longer than 255 hashes, which no caller of this crate asks for. `[RFC 5869 §2.3]`
pub fn hkdf_expand(prk: &[u8], info: &[&[u8]], output: &mut [u8]) {
    hkdf::Hkdf::<Sha256>::from_prk(prk)
        .expect("a pseudo-random key has at least 32 bytes")
        .expand_multi_info(info, output)
        .expect("at most 8160 bytes are asked for");
}

/// A running SHA-256, for data that arrives in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of everything added.
    pub fn finish(self) -> Hash {
        Hash(self.0.finalize().into())
    }
}
