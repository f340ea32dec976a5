//! Oblivious HTTP in chunks: the framing of a sealed request and its sealed, streamed response.
//! `[RFC 9458] [draft-ietf-ohai-chunked-ohttp-08]`
//!
//! Four state machines over bytes, two per side; none does I/O:
//!
//! ```text
//! client   RequestSealer  --finish-->  ResponseOpener
//! gateway  RequestOpener  --finish-->  RequestContext --respond--> ResponseSealer
//! ```
//!
//! The last chunk of either direction is sealed as such, so whoever cuts a message short is found out when
//! `finish` is called, and only the plaintext that `finish` returned makes a message complete.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    frame::{Frame, Unframer, push_frame},
    hpke::{
        self, AEAD_ID, AeadError, DhError, DiffieHellman, ENC_LEN, KDF_ID, KEM_ID, KEY_LEN, NONCE_LEN,
        Numbered,
    },
};
use crate::{
    curve::PublicKey,
    hash::{hkdf_expand, hkdf_extract},
};

pub use super::frame::MAX_CHUNK;

/// The media type of a sealed request.
pub const REQUEST_MEDIA_TYPE: &str = "message/ohttp-chunked-req";
/// The media type of a sealed response.
pub const RESPONSE_MEDIA_TYPE: &str = "message/ohttp-chunked-res";
/// Length of the response nonce: as long as the AEAD key.
pub const RESPONSE_NONCE_LEN: usize = KEY_LEN;

/// Why bytes are no key configuration of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeyConfig {
    /// Too short, too long, or a list of suites that is empty or cut.
    #[error("not an OHTTP key configuration: wrong length")]
    Length,
    /// The public key is no point on the curve.
    #[error("the public key of the OHTTP key configuration is not a P-256 point")]
    Point,
    /// Another KEM, or HKDF-SHA256 with AES-256-GCM is not offered.
    #[error("the OHTTP key configuration does not offer DHKEM(P-256), HKDF-SHA256 with AES-256-GCM")]
    Suite,
}

/// A public key that requests are sealed to, with its number and what it can be used with. `[RFC 9458 §3]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    key_id: u8,
    public_key: PublicKey,
    /// (KDF, AEAD) in the order of the encoding, so that the encoding is reproduced.
    suites: Vec<(u16, u16)>,
}

impl KeyConfig {
    /// Describes a key used with the one suite of this crate.
    pub fn new(key_id: u8, public_key: PublicKey) -> Self {
        Self { key_id, public_key, suites: vec![(KDF_ID, AEAD_ID)] }
    }

    /// Parses one configuration, without the length that precedes it in a list.
    ///
    /// # Errors
    /// For anything but the exact length, a KEM other than 0x0010, a key off the curve, and when the suite of this
    /// crate is not among those listed.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadKeyConfig> {
        let (&[key_id, kem_high, kem_low], rest) = bytes.split_first_chunk().ok_or(BadKeyConfig::Length)?;
        if u16::from_be_bytes([kem_high, kem_low]) != KEM_ID {
            return Err(BadKeyConfig::Suite);
        }
        let (public_key, rest) = rest.split_first_chunk::<ENC_LEN>().ok_or(BadKeyConfig::Length)?;
        let (length, rest) = rest.split_first_chunk().ok_or(BadKeyConfig::Length)?;
        let (suites, []) = rest.as_chunks::<4>() else { return Err(BadKeyConfig::Length) };
        if usize::from(u16::from_be_bytes(*length)) != rest.len() || suites.is_empty() {
            return Err(BadKeyConfig::Length);
        }
        let suites: Vec<_> = suites
            .iter()
            .map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
            .collect();
        if !suites.contains(&(KDF_ID, AEAD_ID)) {
            return Err(BadKeyConfig::Suite);
        }
        Ok(Self {
            key_id,
            public_key: PublicKey::from_sec1(public_key).map_err(|_| BadKeyConfig::Point)?,
            suites,
        })
    }

    /// The encoding, without a length in front.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.key_id];
        bytes.extend(KEM_ID.to_be_bytes());
        bytes.extend(self.public_key.to_uncompressed());
        let length = u16::try_from(4 * self.suites.len()).expect("parsed from a list of at most 65535 bytes");
        bytes.extend(length.to_be_bytes());
        for (kdf, aead) in &self.suites {
            bytes.extend(kdf.to_be_bytes());
            bytes.extend(aead.to_be_bytes());
        }
        bytes
    }

    /// The number that requests name the key by; the first byte of a sealed request.
    pub const fn key_id(&self) -> u8 {
        self.key_id
    }

    /// The key to seal to.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The header in the clear before the encapsulated key: key and suite. `[RFC 9458 §4.1]`
    fn header(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[0] = self.key_id;
        for (two, id) in header[1..].as_chunks_mut::<2>().0.iter_mut().zip([KEM_ID, KDF_ID, AEAD_ID]) {
            *two = id.to_be_bytes();
        }
        header
    }

    fn info(&self) -> Vec<u8> {
        [REQUEST_LABEL, &[0], &self.header()].concat()
    }
}

/// Why sealed bytes did not open. Every one of them ends the exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed under another key number or with other algorithms than the key configuration offers.
    #[error("the request is sealed to another key: its header is {0}")]
    AnotherKey(String),
    /// The device that holds the key failed, or the encapsulated key is no point on the curve.
    #[error(transparent)]
    Dh(#[from] DhError),
    /// A chunk was altered, moved, repeated, left out or added, or the last chunk was cut.
    #[error("the sealed message is not what was sent: a chunk was altered, moved, repeated, dropped or cut")]
    Forged,
    /// A chunk is longer than [`MAX_CHUNK`].
    #[error("a sealed chunk is longer than {MAX_CHUNK} bytes")]
    TooLong,
    /// The bytes ended before the last chunk.
    #[error("the sealed message was cut: it ended before its last chunk")]
    Truncated,
}

impl From<AeadError> for OpenError {
    fn from(_: AeadError) -> Self {
        Self::Forged
    }
}

/// Seals a request, on the client.
pub struct RequestSealer {
    context: hpke::Sender,
    enc: [u8; ENC_LEN],
    /// What goes out before the first chunk; taken by the first call.
    head: Vec<u8>,
}

impl RequestSealer {
    /// Starts a request to the key of `config`. `ephemeral_seed` is 32 random bytes, used for this one request.
    pub fn new(config: &KeyConfig, ephemeral_seed: &[u8; 32]) -> Self {
        let (enc, context) =
            hpke::setup_sender(&config.public_key.to_uncompressed(), &config.info(), ephemeral_seed)
                .expect("a PublicKey is a point on the curve");
        Self { context, enc, head: [&config.header()[..], &enc].concat() }
    }

    /// The bytes to send for `plaintext`, in chunks of at most [`MAX_CHUNK`]. Nothing for nothing: only the last
    /// chunk of a message may be empty.
    ///
    /// # Errors
    /// After 2^64 chunks.
    pub fn chunk(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, AeadError> {
        let mut out = core::mem::take(&mut self.head);
        for part in plaintext.chunks(MAX_CHUNK) {
            push_frame(&mut out, Frame::Chunk(self.context.seal(b"", part)?));
        }
        Ok(out)
    }

    /// The bytes that end the request with `plaintext`, and what opens the response.
    ///
    /// # Errors
    /// After 2^64 chunks.
    pub fn finish(mut self, plaintext: &[u8]) -> Result<(Vec<u8>, ResponseOpener), AeadError> {
        let (front, last) = plaintext.split_at(last_chunk_start(plaintext.len()));
        let mut out = self.chunk(front)?;
        push_frame(&mut out, Frame::Last(self.context.seal(FINAL_AAD, last)?));
        let opener = ResponseOpener {
            enc: self.enc,
            response_secret: self.context.export(RESPONSE_LABEL),
            receipt_secret: self.context.export(RECEIPT_LABEL),
            frames: Unframer::new(RESPONSE_NONCE_LEN),
            aead: None,
        };
        Ok((out, opener))
    }
}

/// Opens a response, on the client, as it arrives.
pub struct ResponseOpener {
    enc: [u8; ENC_LEN],
    response_secret: Zeroizing<[u8; 32]>,
    receipt_secret: Zeroizing<[u8; 32]>,
    frames: Unframer,
    /// Set once the nonce at the start of the response is in.
    aead: Option<Numbered>,
}

impl ResponseOpener {
    /// The secret from which both ends derive the salts of a receipt. The relay cannot.
    pub const fn receipt_secret(&self) -> &Zeroizing<[u8; 32]> {
        &self.receipt_secret
    }

    /// Takes the bytes that arrived, in pieces of any size, and returns the plaintexts of the chunks that they
    /// complete. The last chunk stays inside until [`ResponseOpener::finish`].
    ///
    /// # Errors
    /// [`OpenError::Forged`], [`OpenError::TooLong`]; the same again on every later call.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, OpenError> {
        self.frames.push(bytes)?;
        if self.aead.is_none()
            && let Some(nonce) = self.frames.head()
        {
            let nonce = nonce.try_into().expect("the head of a response is its nonce");
            self.aead = Some(response_aead(&self.response_secret, &self.enc, nonce));
        }
        let Some(aead) = &mut self.aead else { return Ok(Vec::new()) };
        self.frames.open_chunks(|sealed| Ok(aead.open(b"", sealed)?))
    }

    /// The plaintext of the last chunk; call when the transport says that the response is over.
    ///
    /// # Errors
    /// [`OpenError::Truncated`] when the last chunk never came, [`OpenError::Forged`] when it does not open,
    /// which is also what bytes after it look like.
    pub fn finish(mut self) -> Result<Vec<u8>, OpenError> {
        let sealed = self.frames.last()?;
        let aead = self.aead.as_mut().ok_or(OpenError::Truncated)?;
        Ok(aead.open(FINAL_AAD, &sealed)?)
    }
}

/// Opens a request, on the gateway, as it arrives.
pub struct RequestOpener {
    config: KeyConfig,
    key: Arc<dyn DiffieHellman>,
    frames: Unframer,
    /// Set once the header and the encapsulated key are in.
    opened: Option<([u8; ENC_LEN], hpke::Receiver)>,
}

impl RequestOpener {
    /// Expects a request sealed to `config`, whose secret `key` holds.
    pub fn new(config: KeyConfig, key: Arc<dyn DiffieHellman>) -> Self {
        Self { config, key, frames: Unframer::new(HEADER_LEN + ENC_LEN), opened: None }
    }

    /// Takes the bytes that arrived, in pieces of any size, and returns the plaintexts of the chunks that they
    /// complete. Uses the key, which may be a slow device, on the call that completes the header.
    ///
    /// # Errors
    /// Any [`OpenError`] but [`OpenError::Truncated`]; the same again on every later call.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, OpenError> {
        self.frames.push(bytes)?;
        if self.opened.is_none()
            && let Some(head) = self.frames.head()
        {
            let (header, enc) = head.split_at(HEADER_LEN);
            let result = if header == self.config.header() {
                let enc = enc.try_into().expect("the rest of the head is the encapsulated key");
                hpke::setup_receiver(&*self.key, &enc, &self.config.info())
                    .map(|receiver| (enc, receiver))
                    .map_err(OpenError::Dh)
            } else {
                Err(OpenError::AnotherKey(hex::encode(header)))
            };
            self.opened = Some(result.map_err(|error| self.frames.fail(error))?);
        }
        let Some((_, receiver)) = &mut self.opened else { return Ok(Vec::new()) };
        self.frames.open_chunks(|sealed| Ok(receiver.open(b"", sealed)?))
    }

    /// The plaintext of the last chunk, and what the response is sealed with; call when the transport says that
    /// the request is over. Act on nothing before.
    ///
    /// # Errors
    /// [`OpenError::Truncated`] when the last chunk never came, [`OpenError::Forged`] when it does not open.
    pub fn finish(mut self) -> Result<(Vec<u8>, RequestContext), OpenError> {
        let sealed = self.frames.last()?;
        let (enc, mut receiver) = self.opened.ok_or(OpenError::Truncated)?;
        let plaintext = receiver.open(FINAL_AAD, &sealed)?;
        let context = RequestContext {
            enc,
            response_secret: receiver.export(RESPONSE_LABEL),
            receipt_secret: receiver.export(RECEIPT_LABEL),
        };
        Ok((plaintext, context))
    }
}

/// What the gateway keeps of an opened request.
pub struct RequestContext {
    enc: [u8; ENC_LEN],
    response_secret: Zeroizing<[u8; 32]>,
    receipt_secret: Zeroizing<[u8; 32]>,
}

impl RequestContext {
    /// The secret from which both ends derive the salts of a receipt. The relay cannot.
    pub const fn receipt_secret(&self) -> &Zeroizing<[u8; 32]> {
        &self.receipt_secret
    }

    /// The encapsulated key: new for every honest request, so a gateway that remembers it finds replays.
    pub const fn encapsulated_key(&self) -> &[u8; ENC_LEN] {
        &self.enc
    }

    /// Starts the response. `nonce` is 32 random bytes; a request has one response, so the context is used up.
    pub fn respond(self, nonce: [u8; RESPONSE_NONCE_LEN]) -> ResponseSealer {
        ResponseSealer { aead: response_aead(&self.response_secret, &self.enc, nonce), head: nonce.to_vec() }
    }
}

/// Seals a response, on the gateway, as it is made.
pub struct ResponseSealer {
    aead: Numbered,
    /// What goes out before the first chunk; taken by the first call.
    head: Vec<u8>,
}

impl ResponseSealer {
    /// The bytes to send for `plaintext`, in chunks of at most [`MAX_CHUNK`]. Nothing for nothing.
    ///
    /// # Errors
    /// After 2^64 chunks.
    pub fn chunk(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, AeadError> {
        let mut out = core::mem::take(&mut self.head);
        for part in plaintext.chunks(MAX_CHUNK) {
            push_frame(&mut out, Frame::Chunk(self.aead.seal(b"", part)?));
        }
        Ok(out)
    }

    /// The bytes that end the response with `plaintext`.
    ///
    /// # Errors
    /// After 2^64 chunks.
    pub fn finish(mut self, plaintext: &[u8]) -> Result<Vec<u8>, AeadError> {
        let (front, last) = plaintext.split_at(last_chunk_start(plaintext.len()));
        let mut out = self.chunk(front)?;
        push_frame(&mut out, Frame::Last(self.aead.seal(FINAL_AAD, last)?));
        Ok(out)
    }
}

/// `[draft-ietf-ohai-chunked-ohttp-08, Response Encapsulation]`
fn response_aead(secret: &[u8; 32], enc: &[u8; ENC_LEN], nonce: [u8; RESPONSE_NONCE_LEN]) -> Numbered {
    let prk = hkdf_extract(&[&enc[..], &nonce].concat(), secret);
    let mut key = Zeroizing::new([0; KEY_LEN]);
    let mut base_nonce = [0; NONCE_LEN];
    hkdf_expand(prk.as_ref(), &[b"key"], &mut *key);
    hkdf_expand(prk.as_ref(), &[b"nonce"], &mut base_nonce);
    Numbered::new(&key, base_nonce)
}

/// Where the last of the chunks starts that `len` bytes are cut into.
const fn last_chunk_start(len: usize) -> usize {
    len.saturating_sub(1) / MAX_CHUNK * MAX_CHUNK
}

/// Key number, KEM, KDF, AEAD.
const HEADER_LEN: usize = 7;
const REQUEST_LABEL: &[u8] = b"message/bhttp chunked request";
const RESPONSE_LABEL: &[u8] = b"message/bhttp chunked response";
const RECEIPT_LABEL: &[u8] = b"glassbloom receipt v1";
const FINAL_AAD: &[u8] = b"final";

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KeyConfig {
        let key = PublicKey::from_sec1(&hpke::derive_key_pair(&[1; 32]).public_key()).unwrap();
        KeyConfig::new(7, key)
    }

    #[test]
    fn key_config_is_laid_out_as_rfc_9458() {
        let bytes = config().encode();
        assert_eq!(bytes.len(), 1 + 2 + 65 + 2 + 4);
        assert_eq!(bytes[..4], [7, 0x00, 0x10, 4]);
        assert_eq!(bytes[68..], [0, 4, 0, 1, 0, 2]);
        assert_eq!(KeyConfig::parse(&bytes).unwrap(), config());
    }

    #[test]
    fn key_config_keeps_other_suites_of_the_same_kem() {
        let mut bytes = config().encode();
        bytes[69] = 8;
        bytes.extend([0, 1, 0, 3]);
        assert_eq!(KeyConfig::parse(&bytes).unwrap().encode(), bytes);
    }

    #[test]
    fn key_config_refuses_what_it_cannot_use() {
        let good = config().encode();
        for cut in 0..good.len() {
            assert!(KeyConfig::parse(&good[..cut]).is_err(), "{cut} bytes");
        }
        let altered = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            KeyConfig::parse(&bytes)
        };
        assert_eq!(altered(2, 0x20), Err(BadKeyConfig::Suite), "X25519");
        assert_eq!(altered(73, 1), Err(BadKeyConfig::Suite), "AES-128");
        assert_eq!(altered(67, good[67] ^ 1), Err(BadKeyConfig::Point));
        assert_eq!(altered(69, 8), Err(BadKeyConfig::Length));
        assert_eq!(KeyConfig::parse(&[&good[..], &[0]].concat()), Err(BadKeyConfig::Length));
        let empty = [&good[..68], &[0, 0]].concat();
        assert_eq!(KeyConfig::parse(&empty), Err(BadKeyConfig::Length));
    }

    #[test]
    fn messages_are_cut_at_the_chunk_limit() {
        for (len, start) in [
            (0, 0),
            (1, 0),
            (MAX_CHUNK, 0),
            (MAX_CHUNK + 1, MAX_CHUNK),
            (2 * MAX_CHUNK, MAX_CHUNK),
            (2 * MAX_CHUNK + 1, 2 * MAX_CHUNK),
        ] {
            assert_eq!(last_chunk_start(len), start, "{len}");
        }
    }
}
