//! NIST P-256: the Diffie-Hellman of sealing and the ECDSA of statements. The only file that imports `p256`.
//!
//! The curve that a Secure Enclave and a TPM both hold keys for. What such hardware does is a trait here
//! ([`DiffieHellman`], [`Signer`]), which the software keys of this module implement too.

use core::{cmp, fmt, hash, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use p256::ecdsa::{
    Signature, VerifyingKey,
    signature::{Signer as _, Verifier as _, hazmat::PrehashVerifier as _},
};
use zeroize::Zeroizing;

use crate::hash::{Hash, hkdf_expand, hkdf_extract};

/// Length of an uncompressed SEC1 point: 0x04, x, y.
pub const UNCOMPRESSED_LEN: usize = 65;

/// Length of a compressed SEC1 point: 0x02 or 0x03, x.
pub const COMPRESSED_LEN: usize = 33;

/// Length of an ECDSA signature: r, s, both big-endian. `[RFC 9053 §2.1]`
pub const SIGNATURE_LEN: usize = 64;

/// Bytes that are not a P-256 scalar in [1, n-1], or not a point on the curve in the expected encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not a SEC1 point of the right length and tag, not on the curve, or the point at infinity.
    #[error("not a P-256 point in SEC1 form")]
    Point,
    /// Zero, or not below the order of the curve.
    #[error("not a P-256 secret key: expected 32 bytes between 1 and the order of the curve")]
    Scalar,
    /// Text that is not standard base64 of a compressed point.
    #[error("not a P-256 public key: expected 44 base64 characters of a compressed point")]
    Text,
}

/// A signature that the key did not make over this message, or one whose s is in the upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the P-256 signature does not verify")]
pub struct BadSignature;

/// A key agreement that did not take place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DhError {
    /// The device that holds the key refused or failed; its own words.
    #[error("the device that holds the sealing key failed: {0}")]
    Device(String),
    /// The peer's bytes are no usable public key.
    #[error(transparent)]
    Peer(#[from] BadKey),
}

/// A signature that was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device that holds the signing key failed: {0}")]
pub struct SignError(pub String);

/// Holds a Diffie-Hellman key, in software or in hardware.
pub trait DiffieHellman: Send + Sync {
    /// The public key, uncompressed SEC1.
    fn public_key(&self) -> [u8; UNCOMPRESSED_LEN];

    /// The x-coordinate of the product of the secret and `peer` (uncompressed SEC1), as a Secure Enclave
    /// returns it: raw, before any key derivation.
    ///
    /// # Errors
    /// When `peer` is not a point on the curve, or the device fails.
    fn diffie_hellman(&self, peer: &[u8; UNCOMPRESSED_LEN]) -> Result<Zeroizing<[u8; 32]>, DhError>;
}

/// Holds a signing key, in software or in hardware.
pub trait Signer: Send + Sync {
    /// The key that verifies the signatures.
    fn public_key(&self) -> PublicKey;

    /// ECDSA with SHA-256 over `message`, as r || s with s in the lower half (see [`low_s`] for hardware that
    /// does not choose it).
    ///
    /// # Errors
    /// When the device fails.
    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], SignError>;
}

/// A Diffie-Hellman secret in memory, wiped when dropped. Has no `Debug`.
#[derive(Clone)]
pub struct EcdhSecret(p256::SecretKey);

impl EcdhSecret {
    /// Takes a big-endian scalar.
    ///
    /// # Errors
    /// When it is zero or not below the order of the curve, which happens to random bytes once in 2^32 times:
    /// derive keys from a seed instead (`seal::hpke::derive_key_pair`).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BadKey> {
        p256::SecretKey::from_bytes(bytes.into()).map(Self).map_err(|_| BadKey::Scalar)
    }

    /// The big-endian scalar.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// The public key, uncompressed SEC1.
    pub fn public_key(&self) -> [u8; UNCOMPRESSED_LEN] {
        PublicKey::of(self.0.public_key().into()).to_uncompressed()
    }

    /// Signs with the agreement key itself, to show that it is at hand; nothing else may be signed with it.
    pub fn sign_possession(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        SigningKey(p256::ecdsa::SigningKey::from(&self.0)).sign(message)
    }

    /// The x-coordinate of the shared point.
    ///
    /// # Errors
    /// When `peer` is not an uncompressed point on the curve.
    pub fn diffie_hellman(&self, peer: &[u8; UNCOMPRESSED_LEN]) -> Result<Zeroizing<[u8; 32]>, BadKey> {
        let peer = PublicKey::from_sec1(peer)?;
        let shared = p256::ecdh::diffie_hellman(self.0.to_nonzero_scalar(), peer.key.as_affine());
        Ok(Zeroizing::new((*shared.raw_secret_bytes()).into()))
    }
}

impl DiffieHellman for EcdhSecret {
    fn public_key(&self) -> [u8; UNCOMPRESSED_LEN] {
        self.public_key()
    }

    fn diffie_hellman(&self, peer: &[u8; UNCOMPRESSED_LEN]) -> Result<Zeroizing<[u8; 32]>, DhError> {
        Ok(self.diffie_hellman(peer)?)
    }
}

/// An ECDSA secret in memory, wiped when dropped. Has no `Debug`.
#[derive(Clone)]
pub struct SigningKey(p256::ecdsa::SigningKey);

impl SigningKey {
    /// Takes a big-endian scalar.
    ///
    /// # Errors
    /// When it is zero or not below the order of the curve, which happens to random bytes once in 2^32 times:
    /// [`SigningKey::from_seed`] takes any.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, BadKey> {
        let bytes = Zeroizing::new(bytes);
        p256::ecdsa::SigningKey::from_bytes((&*bytes).into()).map(Self).map_err(|_| BadKey::Scalar)
    }

    /// Derives a key from any seed of at least 32 random bytes: the first of HKDF(seed, n = 0, 1, ..) that is
    /// a scalar.
    pub fn from_seed(seed: &[u8]) -> Self {
        let prk = hkdf_extract(SEED_LABEL, seed);
        (0..=u8::MAX)
            .find_map(|n| {
                let mut candidate = [0; 32];
                hkdf_expand(prk.as_ref(), &[SEED_LABEL, &[n]], &mut candidate);
                Self::from_bytes(candidate).ok()
            })
            .expect("each try fails once in 2^32 times, so 256 in a row do not")
    }

    /// The big-endian scalar.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// The key that verifies the signatures.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::of(*self.0.verifying_key())
    }

    /// Signs deterministically with SHA-256; s is in the lower half. `[RFC 6979 §3.2]`
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let signature: Signature = self.0.sign(message);
        signature.normalize_s().to_bytes().into()
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> PublicKey {
        self.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], SignError> {
        Ok(self.sign(message))
    }
}

/// The signature with s in the lower half, for devices that return either form.
///
/// # Errors
/// When r or s is zero or not below the order of the curve.
pub fn low_s(signature: &[u8; SIGNATURE_LEN]) -> Result<[u8; SIGNATURE_LEN], BadSignature> {
    Ok(Signature::from_slice(signature).map_err(|_| BadSignature)?.normalize_s().to_bytes().into())
}

/// A point on the curve, for verifying or for sealing to. Text form: standard base64 of the compressed point.
#[derive(Clone, Copy)]
pub struct PublicKey {
    compressed: [u8; COMPRESSED_LEN],
    key: VerifyingKey,
}

impl PublicKey {
    /// Parses a compressed (33 bytes) or uncompressed (65 bytes) point. `[SEC1 §2.3.4]`
    ///
    /// # Errors
    /// For any other length or tag, a point off the curve, and the point at infinity.
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, BadKey> {
        match (bytes.len(), bytes.first()) {
            (COMPRESSED_LEN, Some(2 | 3)) | (UNCOMPRESSED_LEN, Some(4)) => {
                VerifyingKey::from_sec1_bytes(bytes).map(Self::of).map_err(|_| BadKey::Point)
            }
            _ => Err(BadKey::Point),
        }
    }

    fn of(key: VerifyingKey) -> Self {
        let compressed = key.to_sec1_point(true);
        Self { compressed: compressed.as_bytes().try_into().expect("a compressed point has 33 bytes"), key }
    }

    /// The compressed point.
    pub const fn as_bytes(&self) -> &[u8; COMPRESSED_LEN] {
        &self.compressed
    }

    /// The compressed point.
    pub const fn to_compressed(&self) -> [u8; COMPRESSED_LEN] {
        self.compressed
    }

    /// The uncompressed point.
    pub fn to_uncompressed(&self) -> [u8; UNCOMPRESSED_LEN] {
        self.key.to_sec1_point(false).as_bytes().try_into().expect("an uncompressed point has 65 bytes")
    }

    /// SHA-256 over the compressed point.
    pub fn digest(&self) -> Hash {
        Hash::of(&self.compressed)
    }

    /// Checks an ECDSA-SHA256 signature r || s.
    ///
    /// # Errors
    /// When it does not verify, and when s is in the upper half: of the two signatures that ECDSA accepts for
    /// one message, a log takes one, so nobody can make a second leaf out of the first.
    pub fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Result<(), BadSignature> {
        let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
        if signature.normalize_s() != signature {
            return Err(BadSignature);
        }
        self.key.verify(message, &signature).map_err(|_| BadSignature)
    }

    /// Checks a vendor's ECDSA signature r || s over a digest of 32 bytes or more, with s in either half: hardware
    /// does not choose, and what it signs is not named by its signature.
    ///
    /// # Errors
    /// When it does not verify.
    pub fn verify_digest(&self, digest: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Result<(), BadSignature> {
        let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
        self.key.verify_prehash(digest, &signature).map_err(|_| BadSignature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.compressed))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| BadKey::Text)?;
        if bytes.len() != COMPRESSED_LEN {
            return Err(BadKey::Text);
        }
        Self::from_sec1(&bytes)
    }
}

impl AsRef<[u8]> for PublicKey {
    fn as_ref(&self) -> &[u8] {
        &self.compressed
    }
}

// The compressed point is a canonical name of the point, so equality, order and hash go by it.
impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.compressed == other.compressed
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.compressed.cmp(&other.compressed)
    }
}

impl hash::Hash for PublicKey {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.compressed.hash(state);
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

const SEED_LABEL: &[u8] = b"glassbloom/1 P-256 signing key";

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    // RFC 6979 A.2.5: P-256, SHA-256.
    const SECRET: &str = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
    const X: &str = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6";
    const R: &str = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716";
    const S_HIGH: &str = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";

    #[test]
    fn signs_as_rfc_6979_with_low_s() {
        let key = SigningKey::from_bytes(bytes(SECRET)).unwrap();
        assert_eq!(&key.public_key().to_uncompressed()[1..33], &bytes::<32>(X));
        let signature = key.sign(b"sample");
        assert_eq!(hex::encode(&signature[..32]), R);
        let published: [u8; 64] = bytes(&format!("{R}{S_HIGH}"));
        assert_ne!(signature, published, "the published s is in the upper half");
        assert_eq!(signature, low_s(&published).unwrap());
        assert_eq!(signature, low_s(&signature).unwrap());
        key.public_key().verify(b"sample", &signature).unwrap();
        assert_eq!(key.public_key().verify(b"sample", &published), Err(BadSignature));
        assert_eq!(key.public_key().verify(b"simple", &signature), Err(BadSignature));
        assert_eq!(key.public_key().verify(b"sample", &[0; 64]), Err(BadSignature));
    }

    #[test]
    fn any_flipped_bit_breaks_a_signature() {
        let key = SigningKey::from_seed(&[7; 32]);
        let signature = key.sign(b"message");
        for bit in 0..512 {
            let mut bad = signature;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.public_key().verify(b"message", &bad), Err(BadSignature), "bit {bit}");
        }
    }

    #[test]
    fn public_key_forms_agree() {
        let key = SigningKey::from_seed(&[1; 32]).public_key();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert_eq!(PublicKey::from_sec1(&key.to_uncompressed()).unwrap(), key);
        assert_eq!(PublicKey::from_sec1(key.as_bytes()).unwrap(), key);
        assert_eq!(key.to_string().len(), 44);
        let json = format!("\"{key}\"");
        assert_eq!(serde_json::to_string(&key).unwrap(), json);
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
    }

    #[test]
    fn refuses_what_is_no_point() {
        let good = SigningKey::from_seed(&[1; 32]).public_key();
        let mut off_curve = good.to_uncompressed();
        off_curve[64] ^= 1;
        let mut compact = good.to_compressed();
        compact[0] = 5;
        let mut hybrid = good.to_uncompressed();
        hybrid[0] = 6;
        let cases: [&[u8]; 7] = [&off_curve, &compact, &hybrid, &[0], &[], &good.as_bytes()[..32], &[4; 66]];
        for case in cases {
            assert_eq!(PublicKey::from_sec1(case), Err(BadKey::Point), "{case:?}");
        }
        assert_eq!("".parse::<PublicKey>(), Err(BadKey::Text));
        assert_eq!(BASE64_STANDARD.encode(good.to_uncompressed()).parse::<PublicKey>(), Err(BadKey::Text));
        let secret = EcdhSecret::from_bytes(&bytes(SECRET)).unwrap();
        assert_eq!(secret.diffie_hellman(&off_curve), Err(BadKey::Point));
        assert!(DiffieHellman::diffie_hellman(&secret, &[0; 65]).is_err());
    }

    #[test]
    fn refuses_scalars_out_of_range() {
        let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
        for bad in [[0; 32], [0xff; 32], bytes(order)] {
            assert!(SigningKey::from_bytes(bad).is_err());
            assert!(EcdhSecret::from_bytes(&bad).is_err());
        }
    }

    #[test]
    fn both_sides_agree_on_a_secret() {
        let one = EcdhSecret::from_bytes(&[1; 32]).unwrap();
        let two = EcdhSecret::from_bytes(&[2; 32]).unwrap();
        let shared = one.diffie_hellman(&two.public_key()).unwrap();
        assert_eq!(shared, two.diffie_hellman(&one.public_key()).unwrap());
        assert_eq!(*one.to_bytes(), [1; 32]);
    }

    #[test]
    fn seeds_make_distinct_lasting_keys() {
        let key = SigningKey::from_seed(&[1; 32]);
        assert_ne!(key.public_key(), SigningKey::from_seed(&[2; 32]).public_key());
        let restored = SigningKey::from_bytes(*key.to_bytes()).unwrap();
        assert_eq!(restored.public_key(), key.public_key());
    }
}
