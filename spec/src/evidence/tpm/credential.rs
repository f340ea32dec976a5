//! Credential activation: a secret that only the TPM with this endorsement key opens, and only for this attestation key.
//!
//! An endorsement key decrypts and never signs, so no log can replay how it was shown to be beside an attestation key.
//! What a log can hold is the whole challenge with the randomness it was made from: anyone makes it again and sees that
//! it was a challenge for exactly these two keys ([`Transcript::check`]). That the answer came in time is the word of
//! whoever asked: an [endorsement](crate::evidence::endorsement) over [`subject`].
//!
//! `[TPM 2.0 Part 1 §24, annexes B.10.4 and C.6.3]` with the parameters of every endorsement key in the field: names by
//! SHA-256, AES-128 in CFB mode. The only file that imports `aes`.

use aes::{
    Aes128,
    cipher::{BlockCipherEncrypt, KeyInit},
};

use super::wire::Name;
use crate::{
    cbor::{FieldError, Fields, Value, map},
    curve::{DiffieHellman, EcdhSecret, PublicKey},
    evidence::key::{RsaKey, VendorKey},
    hash::{Hash, hmac_sha256},
};

/// A challenge that was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChallenge {
    /// The endorsement key is neither RSA of 2048 bits nor on P-256.
    #[error("challenges are made for RSA keys of 2048 bits and for keys on P-256")]
    Kind,
    /// The ephemeral secret is no scalar of P-256, or there is padding randomness that its kind of key does not take.
    #[error("the randomness does not suit the kind of key")]
    Randomness,
}

/// What a challenge is made from. All of it is secret until the answer is in, and public afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// What the TPM has to give back: 32 random bytes.
    pub secret: [u8; 32],
    /// 32 random bytes: the seed itself for an RSA key, the ephemeral secret scalar for a key on P-256.
    pub seed: [u8; 32],
    /// 32 random bytes of padding for an RSA key, none for a key on P-256.
    pub padding: Option<[u8; 32]>,
}

/// A challenge as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The contents of the `TPM2B_ID_OBJECT`, without its size.
    pub credential: Vec<u8>,
    /// The contents of the `TPM2B_ENCRYPTED_SECRET`, without its size.
    pub encrypted_secret: Vec<u8>,
}

impl Challenge {
    /// Makes a challenge for an endorsement key and the name of an attestation key. `[TPM2_MakeCredential]`
    ///
    /// # Errors
    /// For kinds of keys and of randomness that are not supported.
    pub fn make(ek: &VendorKey, ak: Name, seeds: &Seeds) -> Result<Self, BadChallenge> {
        let (seed, encrypted_secret) = match (ek, seeds.padding) {
            (VendorKey::Rsa(key), Some(padding)) => {
                (seeds.seed, encrypt_oaep(key, &seeds.seed, &padding).ok_or(BadChallenge::Kind)?)
            }
            (VendorKey::P256(key), None) => agree(key, &seeds.seed).ok_or(BadChallenge::Randomness)?,
            (VendorKey::Rsa(_) | VendorKey::P256(_), _) => return Err(BadChallenge::Randomness),
            (VendorKey::P384(_), _) => return Err(BadChallenge::Kind),
        };
        let storage = kdf_a(&seed, b"STORAGE", ak.as_bytes(), 128);
        let integrity = kdf_a(&seed, b"INTEGRITY", &[], 256);
        let mut identity = [&sized(&seeds.secret)[..]].concat();
        encrypt_cfb(storage.as_bytes()[..16].try_into().expect("a hash has 32 bytes"), &mut identity);
        let mac = hmac_sha256(integrity.as_ref(), &[&identity, ak.as_bytes()]);
        Ok(Self { credential: [sized(mac.as_ref()), identity].concat(), encrypted_secret })
    }

    /// The file that `tpm2_activatecredential` reads.
    pub fn to_tools_file(&self) -> Vec<u8> {
        let header = [0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];
        [&header[..], &sized(&self.credential), &sized(&self.encrypted_secret)].concat()
    }
}

/// A challenge with what it was made from: what evidence carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// What was sent.
    pub challenge: Challenge,
    /// What it was made from, the expected answer included.
    pub seeds: Seeds,
}

impl Transcript {
    /// Makes a challenge, and keeps what it was made from.
    ///
    /// # Errors
    /// As [`Challenge::make`].
    pub fn make(ek: &VendorKey, ak: Name, seeds: Seeds) -> Result<Self, BadChallenge> {
        Ok(Self { challenge: Challenge::make(ek, ak, &seeds)?, seeds })
    }

    /// Whether this is a challenge for exactly these two keys: made again, it is the same to the byte.
    pub fn check(&self, ek: &VendorKey, ak: Name) -> bool {
        Challenge::make(ek, ak, &self.seeds).as_ref() == Ok(&self.challenge)
    }

    /// The map in evidence.
    pub fn to_value(&self) -> Value {
        map([
            (1, self.challenge.credential.as_slice().into()),
            (2, self.challenge.encrypted_secret.as_slice().into()),
            (3, self.seeds.secret.as_slice().into()),
            (4, self.seeds.seed.as_slice().into()),
            (5, self.seeds.padding.as_ref().map_or(&[][..], |padding| padding).into()),
        ])
    }

    /// Reads the map in evidence.
    ///
    /// # Errors
    /// When it has other fields.
    pub fn from_value(value: Value) -> Result<Self, FieldError> {
        let mut fields = Fields::of(value)?;
        let transcript = Self {
            challenge: Challenge { credential: fields.bytes(1)?, encrypted_secret: fields.bytes(2)? },
            seeds: Seeds {
                secret: fields.fixed(3)?,
                seed: fields.fixed(4)?,
                padding: match fields.bytes(5)? {
                    padding if padding.is_empty() => None,
                    padding => Some(padding.try_into().map_err(|_| FieldError::Field {
                        key: 5,
                        expected: "32 bytes, or none for a key on P-256",
                    })?),
                },
            },
        };
        fields.finish()?;
        Ok(transcript)
    }
}

/// What an endorser signs for once the answer is in: both keys and the whole challenge.
pub fn subject(ek_spki: &[u8], ak: Name, transcript: &Transcript) -> Hash {
    let transcript = transcript.to_value().encode();
    let length = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes();
    Hash::of_parts(&[
        b"glassbloom/activation/v1\0",
        &length(ek_spki),
        ek_spki,
        &length(ak.as_bytes()),
        ak.as_bytes(),
        &length(&transcript),
        &transcript,
    ])
}

/// A `TPM2B`.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// KDFa with SHA-256, for at most one block. `[TPM 2.0 Part 1 §11.4.10.2]`
fn kdf_a(key: &[u8], label: &[u8], context: &[u8], bits: u32) -> Hash {
    hmac_sha256(key, &[&1u32.to_be_bytes(), label, &[0], context, &bits.to_be_bytes()])
}

/// CFB with a whole block of feedback and an initial value of zeros: every key is used once.
fn encrypt_cfb(key: [u8; 16], data: &mut [u8]) {
    let cipher = Aes128::new(&key.into());
    let mut feedback = [0; 16];
    for chunk in data.chunks_mut(16) {
        let mut block = feedback.into();
        cipher.encrypt_block(&mut block);
        for (byte, mask) in chunk.iter_mut().zip(block) {
            *byte ^= mask;
        }
        // A last, shorter chunk feeds nothing.
        feedback[..chunk.len()].copy_from_slice(chunk);
    }
}

/// RSAES-OAEP with SHA-256 and the label of credentials. `[RFC 8017 §7.1.1]`
fn encrypt_oaep(key: &RsaKey, message: &[u8; 32], padding: &[u8; 32]) -> Option<Vec<u8>> {
    let length = key.modulus().len();
    // Larger endorsement keys go with other hashes and ciphers.
    if length != RSA_2048 {
        return None;
    }
    let mut block = vec![0; length];
    let (seed, data) = block[1..].split_at_mut(Hash::LEN);
    seed.copy_from_slice(padding);
    let (digest, rest) = data.split_at_mut(Hash::LEN);
    digest.copy_from_slice(Hash::of(LABEL).as_ref());
    let start = rest.len() - message.len();
    rest[start - 1] = 1;
    rest[start..].copy_from_slice(message);
    mask(data, seed);
    mask(seed, data);
    key.apply(&block).ok()
}

/// XORs with MGF1. `[RFC 8017 §B.2.1]`
fn mask(data: &mut [u8], seed: &[u8]) {
    for (counter, chunk) in (0u32..).zip(data.chunks_mut(Hash::LEN)) {
        let block = Hash::of_parts(&[seed, &counter.to_be_bytes()]);
        for (byte, mask) in chunk.iter_mut().zip(block.as_bytes()) {
            *byte ^= mask;
        }
    }
}

/// The seed that a one-pass key agreement gives, and the ephemeral point as a `TPMS_ECC_POINT`. `[TPM 2.0 Part 1 §C.6.3]`
fn agree(ek: &PublicKey, ephemeral: &[u8; 32]) -> Option<([u8; 32], Vec<u8>)> {
    let ephemeral = EcdhSecret::from_bytes(ephemeral).ok()?;
    let (point, peer) = (ephemeral.public_key(), ek.to_uncompressed());
    let shared = DiffieHellman::diffie_hellman(&ephemeral, &peer).ok()?;
    // KDFe. `[TPM 2.0 Part 1 §11.4.10.3]`
    let seed = Hash::of_parts(&[&1u32.to_be_bytes(), &*shared, LABEL, &point[1..33], &peer[1..33]]);
    Some((*seed.as_bytes(), [sized(&point[1..33]), sized(&point[33..])].concat()))
}

/// The label of credentials in both kinds of key exchange, with its terminating zero.
const LABEL: &[u8] = b"IDENTITY\0";
const RSA_2048: usize = 256;
