//! Structures of a TPM 2.0, parsed strictly: what a TPM signs and what names its keys. `[TPM 2.0 Part 2]`
//!
//! # In scope
//! `TPMT_PUBLIC` of ECC and RSA keys, `TPMS_ATTEST` of quotes and certifications, ECDSA `TPMT_SIGNATURE`s, and names,
//! all with SHA-256 as the hash. The sized wrappers (`TPM2B_PUBLIC`, `TPM2B_ATTEST`) are not part of evidence.
//!
//! # Out of scope
//! Every other object, scheme and hash: they are refused, because nothing here would check them.

use crate::{curve::PublicKey, hash::Hash};

/// Bytes that are not the TPM structure they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTpm {
    /// A structure, algorithm or curve that is not accepted there.
    #[error("{0}")]
    Other(&'static str),
    /// Bytes after the structure.
    #[error("bytes follow the TPM structure")]
    Trailing,
    /// The bytes end inside the structure.
    #[error("the bytes end inside a TPM structure")]
    Truncated,
}

/// `TPMA_OBJECT`: what a TPM will do with a key, and whether it can leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// The key can never be duplicated, so it stays in this TPM.
    pub const FIXED_TPM: Self = Self(1 << 1);
    /// The key stays under its parent.
    pub const FIXED_PARENT: Self = Self(1 << 4);
    /// The TPM made the key from its own randomness: nobody imported it.
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    /// Signs only what the TPM made itself, or decrypts only what the TPM keeps to itself.
    pub const RESTRICTED: Self = Self(1 << 16);
    /// Agrees on secrets.
    pub const DECRYPT: Self = Self(1 << 17);
    /// Signs.
    pub const SIGN: Self = Self(1 << 18);
    /// Made inside this TPM and unable to leave it.
    pub const RESIDENT: Self = Self(Self::FIXED_TPM.0 | Self::FIXED_PARENT.0 | Self::SENSITIVE_DATA_ORIGIN.0);

    /// Whether all of these are set.
    pub const fn has(self, all: Self) -> bool {
        self.0 & all.0 == all.0
    }

    /// Exactly which of signing, decrypting and restricted are set.
    pub const fn usage(self) -> u32 {
        self.0 & (Self::RESTRICTED.0 | Self::DECRYPT.0 | Self::SIGN.0)
    }
}

/// The public part of a key in a TPM.
#[derive(Clone, Debug, PartialEq)]
pub struct Public {
    /// What it may be used for.
    pub attributes: Attributes,
    /// The scheme that the key is bound to: an algorithm, and its hash where it has one; `None` leaves it open.
    pub scheme: Option<(u16, Option<u16>)>,
    /// The key itself.
    pub key: Key,
    name: Name,
}

/// Key material of a [`Public`].
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// A point of P-256.
    P256(PublicKey),
    /// Coordinates of a point of P-384, unchecked: no key of ours is one.
    P384([u8; 48], [u8; 48]),
    /// An RSA modulus; the exponent is 65537.
    Rsa(Vec<u8>),
}

/// The name of an object: its hash algorithm (SHA-256), and the hash over its public part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name([u8; Self::LEN]);

impl Name {
    /// Length in bytes.
    pub const LEN: usize = 34;

    fn of(public: &[u8]) -> Self {
        let mut name = [0; Self::LEN];
        name[..2].copy_from_slice(&SHA256.to_be_bytes());
        name[2..].copy_from_slice(Hash::of(public).as_ref());
        Self(name)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl Public {
    /// Parses a `TPMT_PUBLIC` whose name algorithm is SHA-256.
    ///
    /// # Errors
    /// For any other structure, and for a point that is not on the curve.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadTpm> {
        let mut reader = Reader { rest: bytes };
        let kind = reader.u16()?;
        if reader.u16()? != SHA256 {
            return Err(BadTpm::Other("the name of the TPM key is not by SHA-256"));
        }
        let attributes = Attributes(reader.u32()?);
        if attributes.0 & RESERVED_ATTRIBUTES != 0 {
            return Err(BadTpm::Other("reserved attributes of the TPM key are set"));
        }
        if !matches!(reader.sized(Hash::LEN)?.len(), 0 | Hash::LEN) {
            return Err(BadTpm::Other("the policy of the TPM key is not a SHA-256 value"));
        }
        // Only a storage or endorsement key has a symmetric algorithm: it protects what is under it.
        if reader.u16()? != NULL {
            let (_bits, _mode) = (reader.u16()?, reader.u16()?);
        }
        let scheme = match reader.u16()? {
            NULL => None,
            RSAES => Some((RSAES, None)),
            scheme @ (RSASSA | RSAPSS | OAEP | ECDSA | ECDH) => Some((scheme, Some(reader.u16()?))),
            _ => return Err(BadTpm::Other("the scheme of the TPM key is not accepted")),
        };
        let key = match kind {
            ECC => {
                let curve = reader.u16()?;
                if reader.u16()? != NULL {
                    return Err(BadTpm::Other("the TPM key has a key derivation scheme"));
                }
                match curve {
                    P256 => {
                        let mut point = [4; 65];
                        point[1..33].copy_from_slice(&reader.padded::<32>()?);
                        point[33..].copy_from_slice(&reader.padded::<32>()?);
                        let key = PublicKey::from_sec1(&point);
                        Key::P256(key.map_err(|_| BadTpm::Other("the TPM key is no point of P-256"))?)
                    }
                    P384 => Key::P384(reader.padded()?, reader.padded()?),
                    _ => return Err(BadTpm::Other("the TPM key is neither on P-256 nor on P-384")),
                }
            }
            RSA => {
                let bits = reader.u16()?;
                // Zero stands for the exponent that everyone uses.
                if !matches!(reader.u32()?, 0 | 65_537) {
                    return Err(BadTpm::Other("the exponent of the TPM key is not 65537"));
                }
                let modulus = reader.sized(MAX_RSA)?;
                if !(2048..=4096).contains(&bits) || modulus.len() * 8 != usize::from(bits) {
                    return Err(BadTpm::Other("the TPM key does not have 2048 to 4096 bits"));
                }
                Key::Rsa(modulus.to_vec())
            }
            _ => return Err(BadTpm::Other("the TPM key is neither ECC nor RSA")),
        };
        reader.finish()?;
        Ok(Self { attributes, scheme, key, name: Name::of(bytes) })
    }

    /// The name of the object, over the bytes that were parsed.
    pub const fn name(&self) -> Name {
        self.name
    }

    /// The key as a point of P-256, when it is one.
    pub const fn p256(&self) -> Option<&PublicKey> {
        match &self.key {
            Key::P256(key) => Some(key),
            _ => None,
        }
    }

    /// Whether the key is bound to ECDSA with SHA-256.
    pub const fn is_ecdsa_sha256(&self) -> bool {
        matches!(self.scheme, Some((ECDSA, Some(SHA256))))
    }

    /// Whether the key is bound to agreeing on secrets.
    pub const fn is_ecdh(&self) -> bool {
        matches!(self.scheme, Some((ECDH, _)))
    }
}

/// What a TPM signed about itself: a `TPMS_ATTEST` of one of the two kinds here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// What the caller asked to have covered: the nonce.
    pub extra: Vec<u8>,
    /// Milliseconds that the TPM was powered since it was last cleared.
    pub clock: u64,
    /// Times that the TPM was reset since it was last cleared.
    pub resets: u32,
    /// Times that it was resumed since the last reset.
    pub restarts: u32,
    /// The vendor's version of the firmware.
    pub firmware: u64,
    /// What is attested.
    pub attested: Attested,
}

/// What is attested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attested {
    /// That an object is in this TPM.
    Certify {
        /// Its name.
        name: Vec<u8>,
    },
    /// The values of platform configuration registers.
    Quote {
        /// Which, of the SHA-256 bank, in ascending order.
        registers: Vec<u8>,
        /// SHA-256 over their values in that order.
        digest: Hash,
    },
}

impl Attest {
    /// Parses a `TPMS_ATTEST` that a TPM made.
    ///
    /// # Errors
    /// For any other structure, and for other kinds than quote and certify.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadTpm> {
        let mut reader = Reader { rest: bytes };
        if reader.u32()? != GENERATED {
            return Err(BadTpm::Other("the attestation does not begin as one that a TPM made"));
        }
        let kind = reader.u16()?;
        let _qualified_signer = reader.sized(MAX_NAME)?;
        let extra = reader.sized(MAX_EXTRA)?.to_vec();
        let (clock, resets, restarts) = (reader.u64()?, reader.u32()?, reader.u32()?);
        if !matches!(reader.u8()?, 0 | 1) {
            return Err(BadTpm::Other("the clock of the attestation is neither safe nor unsafe"));
        }
        let firmware = reader.u64()?;
        let attested = match kind {
            QUOTE => {
                let registers = selection(&mut reader)?;
                let digest = Hash::try_from(reader.sized(Hash::LEN)?)
                    .map_err(|_| BadTpm::Other("the digest of the quote is not a SHA-256 value"))?;
                Attested::Quote { registers, digest }
            }
            CERTIFY => {
                let name = reader.sized(MAX_NAME)?.to_vec();
                let _qualified_name = reader.sized(MAX_NAME)?;
                Attested::Certify { name }
            }
            _ => return Err(BadTpm::Other("the attestation is neither a quote nor a certification")),
        };
        reader.finish()?;
        Ok(Self { extra, clock, resets, restarts, firmware, attested })
    }
}

/// A `TPML_PCR_SELECTION` of the SHA-256 bank alone.
fn selection(reader: &mut Reader) -> Result<Vec<u8>, BadTpm> {
    if reader.u32()? != 1 || reader.u16()? != SHA256 {
        return Err(BadTpm::Other("the quote is not over the SHA-256 bank alone"));
    }
    let length = usize::from(reader.u8()?);
    // Platforms have 24 registers, so at least three bytes; four is what the largest TPM takes.
    if !(3..=4).contains(&length) {
        return Err(BadTpm::Other("the quote selects registers in another way than by 24 or 32 bits"));
    }
    let bits = reader.take(length)?;
    let selected = |index: &u8| bits[usize::from(index / 8)] & 1 << (index % 8) != 0;
    Ok((0..length as u8 * 8).filter(selected).collect())
}

/// Parses a `TPMT_SIGNATURE` of ECDSA on P-256 with SHA-256 into r || s.
///
/// # Errors
/// For any other structure.
pub fn parse_signature(bytes: &[u8]) -> Result<[u8; 64], BadTpm> {
    let mut reader = Reader { rest: bytes };
    if reader.u16()? != ECDSA || reader.u16()? != SHA256 {
        return Err(BadTpm::Other("the TPM's signature is not ECDSA with SHA-256"));
    }
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&reader.padded::<32>()?);
    signature[32..].copy_from_slice(&reader.padded::<32>()?);
    reader.finish()?;
    Ok(signature)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BadTpm> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(BadTpm::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadTpm> {
        Ok(self.take(N)?.try_into().expect("take returns as many bytes as asked for"))
    }

    fn u8(&mut self) -> Result<u8, BadTpm> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, BadTpm> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadTpm> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadTpm> {
        self.array().map(u64::from_be_bytes)
    }

    /// A `TPM2B` of at most so many bytes.
    fn sized(&mut self, most: usize) -> Result<&'a [u8], BadTpm> {
        let length = usize::from(self.u16()?);
        if length > most {
            return Err(BadTpm::Other("a part of the TPM structure is longer than it can be"));
        }
        self.take(length)
    }

    /// A number: some TPMs leave out leading zeros.
    fn padded<const N: usize>(&mut self) -> Result<[u8; N], BadTpm> {
        let bytes = self.sized(N)?;
        let mut number = [0; N];
        number[N - bytes.len()..].copy_from_slice(bytes);
        Ok(number)
    }

    const fn finish(self) -> Result<(), BadTpm> {
        if self.rest.is_empty() { Ok(()) } else { Err(BadTpm::Trailing) }
    }
}

/// `TPM_GENERATED_VALUE`: a restricted key signs nothing from outside that begins with it.
const GENERATED: u32 = 0xff54_4347;
const CERTIFY: u16 = 0x8017;
const QUOTE: u16 = 0x8018;

const RSA: u16 = 0x0001;
const SHA256: u16 = 0x000b;
const NULL: u16 = 0x0010;
const RSASSA: u16 = 0x0014;
const RSAES: u16 = 0x0015;
const RSAPSS: u16 = 0x0016;
const OAEP: u16 = 0x0017;
const ECDSA: u16 = 0x0018;
const ECDH: u16 = 0x0019;
const ECC: u16 = 0x0023;
const P256: u16 = 0x0003;
const P384: u16 = 0x0004;

/// Attributes that the standard has not given a meaning: 0, 3, 12 to 15, 20 and above.
const RESERVED_ATTRIBUTES: u32 = 0xfff0_f009;
/// The longest name: a hash algorithm and a SHA-512 value.
const MAX_NAME: usize = 66;
const MAX_EXTRA: usize = 64;
const MAX_RSA: usize = 512;
