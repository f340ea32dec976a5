//! Hybrid public-key encryption, base mode: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. `[RFC 9180]`
//!
//! Written out here, not taken from a crate, because the receiving key may live in a Secure Enclave, which gives
//! out only the raw Diffie-Hellman result: [`setup_receiver`] takes that step as a [`DiffieHellman`].
//! The only file that imports `aes-gcm`.

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use zeroize::Zeroizing;

pub use crate::curve::{BadKey, DhError, DiffieHellman, EcdhSecret};
use crate::{
    curve::{PublicKey, UNCOMPRESSED_LEN},
    hash::{hkdf_expand, hmac_sha256},
};

/// DHKEM(P-256, HKDF-SHA256).
pub const KEM_ID: u16 = 0x0010;
/// HKDF-SHA256.
pub const KDF_ID: u16 = 0x0001;
/// AES-256-GCM.
pub const AEAD_ID: u16 = 0x0002;
/// Length of the encapsulated key and of a public key, in bytes.
pub const ENC_LEN: usize = UNCOMPRESSED_LEN;
/// Length of the AEAD key, in bytes.
pub const KEY_LEN: usize = 32;
/// Length of the AEAD nonce, in bytes.
pub const NONCE_LEN: usize = 12;
/// Length of the AEAD tag: what sealing adds to a message, in bytes.
pub const TAG_LEN: usize = 16;

/// A message that was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AeadError {
    /// The ciphertext is not what the other side sealed at this place.
    #[error("the sealed bytes do not open: altered, out of order, or sealed to another key")]
    Forged,
    /// One context has sealed or opened 2^64 messages.
    #[error("too many messages in one context")]
    Limit,
}

/// Derives a key pair from at least 32 random bytes. `[RFC 9180 §7.1.3]`
pub fn derive_key_pair(ikm: &[u8]) -> EcdhSecret {
    let kem = Suite::kem();
    let prk = kem.extract(&[], b"dkp_prk", ikm);
    (0..=u8::MAX)
        .find_map(|counter| {
            let mut candidate = Zeroizing::new([0; 32]);
            kem.expand(&*prk, b"candidate", &[counter], &mut *candidate);
            EcdhSecret::from_bytes(&candidate).ok()
        })
        .expect("each try fails once in 2^32 times, so 256 in a row do not")
}

/// Starts sealing to `recipient` (uncompressed SEC1): the encapsulated key to send, and the context.
/// `ephemeral_seed` is 32 random bytes, used for this one message. `[RFC 9180 §5.1.1]`
///
/// # Errors
/// When `recipient` is no point on the curve.
pub fn setup_sender(
    recipient: &[u8; ENC_LEN],
    info: &[u8],
    ephemeral_seed: &[u8; 32],
) -> Result<([u8; ENC_LEN], Sender), BadKey> {
    let ephemeral = derive_key_pair(ephemeral_seed);
    let enc = ephemeral.public_key();
    let shared = shared_secret(&*ephemeral.diffie_hellman(recipient)?, &enc, recipient);
    let schedule = Schedule::new(&shared, info);
    Ok((enc, Sender { aead: schedule.aead(), exporter: schedule.exporter }))
}

/// Starts opening what was sealed to `key` with the encapsulated key `enc`. `[RFC 9180 §5.1.1]`
///
/// # Errors
/// When `enc` is no point on the curve, or the device that holds the key fails.
pub fn setup_receiver(
    key: &dyn DiffieHellman,
    enc: &[u8; ENC_LEN],
    info: &[u8],
) -> Result<Receiver, DhError> {
    // Checked here too: hardware need not.
    PublicKey::from_sec1(enc)?;
    let shared = shared_secret(&*key.diffie_hellman(enc)?, enc, &key.public_key());
    let schedule = Schedule::new(&shared, info);
    Ok(Receiver { aead: schedule.aead(), exporter: schedule.exporter })
}

/// The sending side of a context. Messages open only in the order in which they were sealed.
pub struct Sender {
    aead: Numbered,
    exporter: Zeroizing<[u8; 32]>,
}

impl Sender {
    /// Seals the next message.
    ///
    /// # Errors
    /// [`AeadError::Limit`].
    pub fn seal(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, AeadError> {
        self.aead.seal(aad, plaintext)
    }

    /// A secret that both sides can derive, independent of the messages. `[RFC 9180 §5.3]`
    pub fn export(&self, context: &[u8]) -> Zeroizing<[u8; 32]> {
        export(&self.exporter, context)
    }
}

/// The receiving side of a context.
pub struct Receiver {
    aead: Numbered,
    exporter: Zeroizing<[u8; 32]>,
}

impl Receiver {
    /// Opens the next message; after an error, the same place can be tried again.
    ///
    /// # Errors
    /// When the bytes are not the message that was sealed at this place with this `aad`.
    pub fn open(&mut self, aad: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, AeadError> {
        self.aead.open(aad, ciphertext)
    }

    /// A secret that both sides can derive, independent of the messages. `[RFC 9180 §5.3]`
    pub fn export(&self, context: &[u8]) -> Zeroizing<[u8; 32]> {
        export(&self.exporter, context)
    }
}

/// AES-256-GCM with a counter: the nonce of message n is the base nonce xor n. The shape of an HPKE context and
/// of an OHTTP response alike, so it serves both; which of the two directions it seals, its owner decides.
pub(super) struct Numbered {
    cipher: Aes256Gcm,
    base_nonce: [u8; NONCE_LEN],
    sequence: u64,
}

impl Numbered {
    pub(super) fn new(key: &[u8; KEY_LEN], base_nonce: [u8; NONCE_LEN]) -> Self {
        Self { cipher: Aes256Gcm::new(key.into()), base_nonce, sequence: 0 }
    }

    pub(super) fn seal(&mut self, aad: &[u8], msg: &[u8]) -> Result<Vec<u8>, AeadError> {
        let (nonce, next) = self.step()?;
        let sealed =
            self.cipher.encrypt(&Nonce::from(nonce), Payload { msg, aad }).map_err(|_| AeadError::Limit)?;
        self.sequence = next;
        Ok(sealed)
    }

    pub(super) fn open(&mut self, aad: &[u8], msg: &[u8]) -> Result<Vec<u8>, AeadError> {
        let (nonce, next) = self.step()?;
        let opened =
            self.cipher.decrypt(&Nonce::from(nonce), Payload { msg, aad }).map_err(|_| AeadError::Forged)?;
        self.sequence = next;
        Ok(opened)
    }

    /// The nonce of this message and the number of the next. Refuses the last number, so none comes twice.
    fn step(&self) -> Result<([u8; NONCE_LEN], u64), AeadError> {
        let next = self.sequence.checked_add(1).ok_or(AeadError::Limit)?;
        let mut nonce = self.base_nonce;
        for (byte, count) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        Ok((nonce, next))
    }
}

/// A suite identifier: the label that every derivation is bound to. `[RFC 9180 §4]`
struct Suite(Vec<u8>);

impl Suite {
    fn kem() -> Self {
        Self([b"KEM".as_slice(), &KEM_ID.to_be_bytes()].concat())
    }

    fn hpke(aead_id: u16) -> Self {
        let ids = [KEM_ID, KDF_ID, aead_id].map(u16::to_be_bytes);
        Self([b"HPKE".as_slice(), ids.as_flattened()].concat())
    }

    /// LabeledExtract.
    fn extract(&self, salt: &[u8], label: &[u8], ikm: &[u8]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*hmac_sha256(salt, &[b"HPKE-v1", &self.0, label, ikm]).as_bytes())
    }

    /// LabeledExpand.
    fn expand(&self, prk: &[u8], label: &[u8], info: &[u8], output: &mut [u8]) {
        let length =
            u16::try_from(output.len()).expect("no caller asks for more than 64 bytes").to_be_bytes();
        hkdf_expand(prk, &[&length, b"HPKE-v1", &self.0, label, info], output);
    }
}

/// ExtractAndExpand of DHKEM. `[RFC 9180 §4.1]`
fn shared_secret(dh: &[u8], enc: &[u8; ENC_LEN], recipient: &[u8; ENC_LEN]) -> Zeroizing<[u8; 32]> {
    let kem = Suite::kem();
    let prk = kem.extract(&[], b"eae_prk", dh);
    let mut secret = Zeroizing::new([0; 32]);
    kem.expand(&*prk, b"shared_secret", &[&enc[..], recipient].concat(), &mut *secret);
    secret
}

/// What KeySchedule yields in base mode. `[RFC 9180 §5.1]`
struct Schedule {
    key: Zeroizing<Vec<u8>>,
    base_nonce: [u8; NONCE_LEN],
    exporter: Zeroizing<[u8; 32]>,
}

impl Schedule {
    fn new(shared: &[u8; 32], info: &[u8]) -> Self {
        Self::for_aead(AEAD_ID, KEY_LEN, shared, info)
    }

    /// Apart from [`Schedule::new`] for the published vectors, which use another AEAD.
    fn for_aead(aead_id: u16, key_len: usize, shared: &[u8; 32], info: &[u8]) -> Self {
        let suite = Suite::hpke(aead_id);
        let psk_id_hash = suite.extract(&[], b"psk_id_hash", &[]);
        let info_hash = suite.extract(&[], b"info_hash", info);
        let context = [&[MODE_BASE], &psk_id_hash[..], &info_hash[..]].concat();
        let secret = suite.extract(shared, b"secret", &[]);
        let mut key = Zeroizing::new(vec![0; key_len]);
        let mut base_nonce = [0; NONCE_LEN];
        let mut exporter = Zeroizing::new([0; 32]);
        suite.expand(&*secret, b"key", &context, &mut key);
        suite.expand(&*secret, b"base_nonce", &context, &mut base_nonce);
        suite.expand(&*secret, b"exp", &context, &mut *exporter);
        Self { key, base_nonce, exporter }
    }

    fn aead(&self) -> Numbered {
        let key = self.key.as_slice().try_into().expect("new() derives a key of this length");
        Numbered::new(key, self.base_nonce)
    }
}

fn export(exporter: &[u8; 32], context: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    Suite::hpke(AEAD_ID).expand(exporter, b"sec", context, &mut *secret);
    secret
}

const MODE_BASE: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9180 A.3.1, whose KEM and KDF are ours and whose AEAD is AES-128-GCM.
    const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
    const IKM_E: &str = "4270e54ffd08d79d5928020af4686d8f6b7d35dbe470265f1f5aa22816ce860e";
    const SK_E: &str = "4995788ef4b9d6132b249ce59a77281493eb39af373d236a1fe415cb0c2d7beb";
    const ENC: &str = "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac98536d7b61a1af4b78e5b7f951c0\
                       900be863c403ce65c9bfcb9382657222d18c4";
    const IKM_R: &str = "668b37171f1072f3cf12ea8a236a45df23fc13b82af3609ad1e354f6ef817550";
    const SK_R: &str = "f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2";
    const SHARED: &str = "c0d26aeab536609a572b07695d933b589dcf363ff9d93c93adea537aeabb8cb8";

    #[test]
    fn key_derivation_and_kem_match_the_rfc() {
        let ephemeral = derive_key_pair(&hex::decode(IKM_E).unwrap());
        let recipient = derive_key_pair(&hex::decode(IKM_R).unwrap());
        assert_eq!(hex::encode(*ephemeral.to_bytes()), SK_E);
        assert_eq!(hex::encode(ephemeral.public_key()), ENC);
        assert_eq!(hex::encode(*recipient.to_bytes()), SK_R);
        let dh = ephemeral.diffie_hellman(&recipient.public_key()).unwrap();
        let shared = shared_secret(&*dh, &ephemeral.public_key(), &recipient.public_key());
        assert_eq!(hex::encode(*shared), SHARED);
    }

    #[test]
    fn key_schedule_matches_the_rfc() {
        let shared = hex::decode(SHARED).unwrap().try_into().unwrap();
        let schedule = Schedule::for_aead(1, 16, &shared, &hex::decode(INFO).unwrap());
        assert_eq!(hex::encode(&*schedule.key), "868c066ef58aae6dc589b6cfdd18f97e");
        assert_eq!(hex::encode(schedule.base_nonce), "4e0bc5018beba4bf004cca59");
        let exporter = "14ad94af484a7ad3ef40e9f3be99ecc6fa9036df9d4920548424df127ee0d99f";
        assert_eq!(hex::encode(*schedule.exporter), exporter);
    }

    #[test]
    fn nonces_count_up_and_stop_before_they_repeat() {
        let mut aead = Numbered::new(&[7; 32], [0xff; 12]);
        aead.sequence = 0x0102;
        assert_eq!(aead.step().unwrap().0[8..], [0xff, 0xff, 0xfe, 0xfd]);
        aead.sequence = u64::MAX;
        assert_eq!(aead.seal(b"", b""), Err(AeadError::Limit));
        assert_eq!(aead.open(b"", b""), Err(AeadError::Limit));
    }
}
