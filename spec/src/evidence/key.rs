//! The keys and signatures of vendors. The only file that imports `p384` and `rsa`.
//!
//! One list says which signatures count: [`Algorithm`]. ECDSA signatures may have s in either half, as vendors'
//! hardware makes them, so a signature is never used as a name.

use p384::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::{BoxedUint, Pkcs1v15Sign, Pss, RsaPublicKey, traits::PublicKeyParts as _};

use super::der::{Der, DerError};
use crate::{
    curve::PublicKey,
    hash::{Hash, Sha256, Sha384, sha384},
};

/// Every signature that is accepted in evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with SHA-256, on either curve: Apple signs App Attest leaves with a P-384 key and SHA-256.
    EcdsaSha256,
    /// ECDSA with SHA-384.
    EcdsaSha384,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSASSA-PSS with SHA-256, MGF1 with the same, and a salt of 32 bytes.
    RsaPssSha256,
    /// RSASSA-PSS with SHA-384, MGF1 with the same, and a salt of 48 bytes.
    RsaPssSha384,
}

impl Algorithm {
    /// The algorithm with this AlgorithmIdentifier, compared to the byte: parameters have one form, except that AMD
    /// writes out a default that DER would leave out.
    pub fn from_identifier(der: &[u8]) -> Option<Self> {
        IDENTIFIERS.iter().find(|(identifier, _)| *identifier == der).map(|(_, algorithm)| *algorithm)
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::EcdsaSha256 | Self::RsaPkcs1Sha256 | Self::RsaPssSha256 => {
                Hash::of(message).as_ref().to_vec()
            }
            Self::EcdsaSha384 | Self::RsaPkcs1Sha384 | Self::RsaPssSha384 => sha384(message).to_vec(),
        }
    }
}

/// A key of a kind or size that is not accepted, or bytes that are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVendorKey {
    /// Not DER.
    #[error(transparent)]
    Der(#[from] DerError),
    /// Neither P-256, nor P-384, nor RSA.
    #[error("the key is neither P-256, nor P-384, nor RSA")]
    Kind,
    /// Not a point on the curve, uncompressed.
    #[error("the key is not a point on its curve")]
    Point,
    /// An RSA key of fewer than 2048 or more than 4096 bits, or with another exponent than 65537.
    #[error("the RSA key does not have 2048 to 4096 bits and exponent 65537")]
    Rsa,
}

/// A signature that the key did not make over this message with this algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vendor's signature does not verify")]
pub struct BadSignature;

/// A P-384 key.
#[derive(Clone, Debug, PartialEq)]
pub struct P384Key(p384::ecdsa::VerifyingKey);

/// An RSA key of 2048 to 4096 bits with exponent 65537.
#[derive(Clone, Debug, PartialEq)]
pub struct RsaKey(RsaPublicKey);

impl RsaKey {
    /// Takes a modulus; the exponent is 65537.
    ///
    /// # Errors
    /// When it is even, or of another size than 2048 to 4096 bits.
    pub fn from_modulus(modulus: &[u8]) -> Result<Self, BadVendorKey> {
        if !(256..=512).contains(&modulus.len()) {
            return Err(BadVendorKey::Rsa);
        }
        let n = BoxedUint::from_be_slice(modulus, 8 * modulus.len() as u32).map_err(|_| BadVendorKey::Rsa)?;
        RsaPublicKey::new_with_size_limits(n, BoxedUint::from(EXPONENT), 2048..=4096)
            .map(Self)
            .ok()
            .filter(|key| key.modulus().len() == modulus.len())
            .ok_or(BadVendorKey::Rsa)
    }

    /// The modulus, big-endian, without leading zeros.
    pub fn modulus(&self) -> Vec<u8> {
        self.0.n().to_be_bytes_trimmed_vartime().to_vec()
    }

    /// The bare RSA operation on a block of as many bytes as the modulus that the caller has padded.
    ///
    /// # Errors
    /// When the block has another length or is not below the modulus.
    pub fn apply(&self, block: &[u8]) -> Result<Vec<u8>, BadVendorKey> {
        let modulus = self.modulus();
        // Both are big-endian and of one length, so they compare as numbers do.
        if block.len() != modulus.len() || block >= modulus.as_slice() {
            return Err(BadVendorKey::Rsa);
        }
        let block =
            BoxedUint::from_be_slice(block, self.0.n().bits_precision()).map_err(|_| BadVendorKey::Rsa)?;
        let out = rsa::hazmat::rsa_encrypt(&self.0, &block).map_err(|_| BadVendorKey::Rsa)?.to_be_bytes();
        // The number may be held in more bytes than the modulus has; those in front are zero.
        out.len().checked_sub(modulus.len()).map(|start| out[start..].to_vec()).ok_or(BadVendorKey::Rsa)
    }
}

/// A key of a vendor, a certificate or a device.
#[derive(Clone, Debug, PartialEq)]
pub enum VendorKey {
    /// NIST P-256.
    P256(PublicKey),
    /// NIST P-384.
    P384(P384Key),
    /// RSA.
    Rsa(RsaKey),
}

impl VendorKey {
    /// Parses a SubjectPublicKeyInfo. `[RFC 5280 §4.1.2.7]`
    ///
    /// # Errors
    /// For anything but an uncompressed point of P-256 or P-384, or an accepted RSA key.
    pub fn from_spki(der: &[u8]) -> Result<Self, BadVendorKey> {
        let mut outer = Der::new(der);
        let mut spki = outer.sequence()?;
        outer.finish()?;
        let algorithm = spki.tlv(super::der::Tag::SEQUENCE)?.whole;
        let key = spki.bit_bytes()?;
        spki.finish()?;
        match algorithm {
            P256_KEY | P384_KEY => Self::from_point(key, algorithm == P256_KEY),
            RSA_KEY => {
                let mut outer = Der::new(key);
                let mut key = outer.sequence()?;
                outer.finish()?;
                let (modulus, exponent) = (key.unsigned()?, key.small()?);
                key.finish()?;
                if exponent != EXPONENT {
                    return Err(BadVendorKey::Rsa);
                }
                RsaKey::from_modulus(modulus).map(Self::Rsa)
            }
            _ => Err(BadVendorKey::Kind),
        }
    }

    /// Takes an uncompressed point of either curve, which its length tells.
    ///
    /// # Errors
    /// For any other length, and for points off the curve.
    pub fn from_sec1(point: &[u8]) -> Result<Self, BadVendorKey> {
        Self::from_point(point, point.len() == crate::curve::UNCOMPRESSED_LEN)
    }

    fn from_point(point: &[u8], p256: bool) -> Result<Self, BadVendorKey> {
        let length = if p256 { crate::curve::UNCOMPRESSED_LEN } else { P384_POINT };
        if point.len() != length || point[0] != 4 {
            return Err(BadVendorKey::Point);
        }
        if p256 {
            PublicKey::from_sec1(point).map(Self::P256).map_err(|_| BadVendorKey::Point)
        } else {
            p384::ecdsa::VerifyingKey::from_sec1_bytes(point)
                .map(|key| Self::P384(P384Key(key)))
                .map_err(|_| BadVendorKey::Point)
        }
    }

    /// The uncompressed point of a key on a curve.
    pub fn to_sec1(&self) -> Option<Vec<u8>> {
        match self {
            Self::P256(key) => Some(key.to_uncompressed().to_vec()),
            Self::P384(P384Key(key)) => Some(key.to_sec1_point(false).as_bytes().to_vec()),
            Self::Rsa(_) => None,
        }
    }

    /// Checks a signature as certificates carry it: DER for ECDSA, as long as the modulus for RSA.
    ///
    /// # Errors
    /// When it does not verify, or the algorithm is not one of this kind of key.
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let digest = algorithm.digest(message);
        match (self, algorithm) {
            (Self::P256(_), Algorithm::EcdsaSha256 | Algorithm::EcdsaSha384) => {
                self.verify_ecdsa_raw(&digest, &raw_signature::<64>(signature)?)
            }
            (Self::P384(_), Algorithm::EcdsaSha256 | Algorithm::EcdsaSha384) => {
                self.verify_ecdsa_raw(&digest, &raw_signature::<96>(signature)?)
            }
            (Self::Rsa(RsaKey(key)), _) => {
                let pkcs1 =
                    |prefix: &[u8]| Pkcs1v15Sign { hash_len: Some(digest.len()), prefix: prefix.into() };
                match algorithm {
                    Algorithm::RsaPkcs1Sha256 => key.verify(pkcs1(SHA256_PREFIX), &digest, signature),
                    Algorithm::RsaPkcs1Sha384 => key.verify(pkcs1(SHA384_PREFIX), &digest, signature),
                    Algorithm::RsaPssSha256 => key.verify(Pss::<Sha256>::new(), &digest, signature),
                    Algorithm::RsaPssSha384 => key.verify(Pss::<Sha384>::new(), &digest, signature),
                    Algorithm::EcdsaSha256 | Algorithm::EcdsaSha384 => return Err(BadSignature),
                }
                .map_err(|_| BadSignature)
            }
            _ => Err(BadSignature),
        }
    }

    /// Checks an ECDSA signature r || s, each as long as the field, over a digest of at least 32 bytes.
    ///
    /// # Errors
    /// When it does not verify, or the key is not on a curve.
    pub fn verify_ecdsa_raw(&self, digest: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        if digest.len() < Hash::LEN {
            return Err(BadSignature);
        }
        match self {
            Self::P256(key) => key
                .verify_digest(digest, signature.try_into().map_err(|_| BadSignature)?)
                .map_err(|_| BadSignature),
            Self::P384(P384Key(key)) => {
                let signature = p384::ecdsa::Signature::from_slice(signature).map_err(|_| BadSignature)?;
                key.verify_prehash(digest, &signature).map_err(|_| BadSignature)
            }
            Self::Rsa(_) => Err(BadSignature),
        }
    }
}

/// r || s out of an Ecdsa-Sig-Value in DER. `[RFC 3279 §2.2.3]`
fn raw_signature<const N: usize>(der: &[u8]) -> Result<[u8; N], BadSignature> {
    let read = || {
        let mut outer = Der::new(der);
        let mut pair = outer.sequence()?;
        outer.finish()?;
        let numbers = [pair.unsigned()?, pair.unsigned()?];
        pair.finish()?;
        Ok::<_, DerError>(numbers)
    };
    let mut raw = [0; N];
    for (half, number) in raw.chunks_exact_mut(N / 2).zip(read().map_err(|_| BadSignature)?) {
        let start = half.len().checked_sub(number.len()).ok_or(BadSignature)?;
        half[start..].copy_from_slice(number);
    }
    Ok(raw)
}

const EXPONENT: u64 = 65_537;
const P384_POINT: usize = 97;

/// id-ecPublicKey with prime256v1.
const P256_KEY: &[u8] =
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// id-ecPublicKey with secp384r1.
const P384_KEY: &[u8] = b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
/// rsaEncryption with NULL.
const RSA_KEY: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// DigestInfo up to the digest. `[RFC 8017 §9.2]`
const SHA256_PREFIX: &[u8] = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
const SHA384_PREFIX: &[u8] = b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30";

/// `[RFC 5758 §3.2, RFC 4055 §3, §5]`
const IDENTIFIERS: [(&[u8], Algorithm); 8] = [
    (b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02", Algorithm::EcdsaSha256),
    (b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03", Algorithm::EcdsaSha384),
    (b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00", Algorithm::RsaPkcs1Sha256),
    (b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00", Algorithm::RsaPkcs1Sha384),
    (
        b"\x30\x41\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x34\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\
          \x03\x04\x02\x01\x05\x00\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\
          \x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\xa2\x03\x02\x01\x20",
        Algorithm::RsaPssSha256,
    ),
    (
        b"\x30\x46\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x39\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\
          \x03\x04\x02\x01\x05\x00\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\
          \x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\xa2\x03\x02\x01\x20\xa3\x03\x02\x01\x01",
        Algorithm::RsaPssSha256,
    ),
    (
        b"\x30\x41\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x34\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\
          \x03\x04\x02\x02\x05\x00\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\
          \x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\xa2\x03\x02\x01\x30",
        Algorithm::RsaPssSha384,
    ),
    (
        b"\x30\x46\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x39\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\
          \x03\x04\x02\x02\x05\x00\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\
          \x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\xa2\x03\x02\x01\x30\xa3\x03\x02\x01\x01",
        Algorithm::RsaPssSha384,
    ),
];
