//! Certificates from fixed keys, the same bytes on every machine: of DER and X.509 what that takes and no more.

use glassbloom_spec::curve::{PublicKey, SigningKey};

/// A value: tag, length, contents.
///
/// # Panics
/// When the contents have 64 KiB or more.
pub fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).expect("a short value").to_be_bytes();
    let head = match contents.len() {
        0..0x80 => vec![tag, length[1]],
        0x80..0x100 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [head.as_slice(), contents].concat()
}

/// A SEQUENCE of parts.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// A name of one attribute, the common name.
pub fn name(common: &str) -> Vec<u8> {
    directory(&[(COMMON_NAME, common)])
}

/// A name of these attributes, each by the contents of its OBJECT IDENTIFIER.
pub fn directory(attributes: &[(&[u8], &str)]) -> Vec<u8> {
    let sets = attributes.iter().map(|(oid, text)| {
        let pair = sequence(&[&tlv(OBJECT_IDENTIFIER, oid), &tlv(UTF8_STRING, text.as_bytes())]);
        tlv(SET, &pair)
    });
    tlv(SEQUENCE, &sets.collect::<Vec<_>>().concat())
}

/// An extension.
pub fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&tlv(OBJECT_IDENTIFIER, oid), flag, &tlv(OCTET_STRING, value)])
}

/// Basic constraints: whether the key's owner certifies others.
pub fn authority(is_one: bool) -> Vec<u8> {
    extension(b"\x55\x1d\x13", true, if is_one { &[0x30, 3, 1, 1, 0xff] } else { &[0x30, 0] })
}

/// Key usage with one bit, counted from the left.
pub fn usage(bit: u8) -> Vec<u8> {
    extension(b"\x55\x1d\x0f", true, &[3, 2, 7 - bit, 0x80 >> bit])
}

/// Extended key usage with one purpose.
pub fn purpose(oid: &[u8]) -> Vec<u8> {
    extension(b"\x55\x1d\x25", false, &sequence(&[&tlv(OBJECT_IDENTIFIER, oid)]))
}

/// The bit of key usage for agreeing on secrets.
pub const KEY_AGREEMENT: u8 = 4;
/// The bit of key usage for signing certificates.
pub const KEY_CERT_SIGN: u8 = 5;
/// 1.2.840.10045.4.3.2, ecdsa-with-SHA256
pub const ECDSA_SHA256: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x03\x02";

/// What a certificate of a key on P-256 says.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Common name of the issuer.
    pub issuer: String,
    /// Common name of the subject.
    pub subject: String,
    /// The subject's key.
    pub key: PublicKey,
    /// Beginning and end as UTCTime, `YYMMDDHHMMSSZ`.
    pub valid: [&'static str; 2],
    /// The contents of the OBJECT IDENTIFIER of the algorithm, inside and outside alike.
    pub algorithm: &'static [u8],
    /// As they stand in the certificate.
    pub extensions: Vec<Vec<u8>>,
}

impl Certificate {
    /// The certificate, signed with ECDSA on P-256 and SHA-256 whatever it says. `[RFC 6979]`
    pub fn sign(&self, by: &SigningKey) -> Vec<u8> {
        let algorithm = sequence(&[&tlv(OBJECT_IDENTIFIER, self.algorithm)]);
        let point = [&[0], self.key.to_uncompressed().as_slice()].concat();
        let spki = sequence(&[P256_KEY, &tlv(BIT_STRING, &point)]);
        let [begin, end] = self.valid.map(|time| tlv(UTC_TIME, time.as_bytes()));
        let signed = sequence(&[
            &[0xa0, 3, 2, 1, 2],
            &[2, 1, 1],
            &algorithm,
            &name(&self.issuer),
            &sequence(&[&begin, &end]),
            &name(&self.subject),
            &spki,
            &tlv(0xa3, &tlv(SEQUENCE, &self.extensions.concat())),
        ]);
        let signature = [&[0], signature(by, &signed).as_slice()].concat();
        sequence(&[&signed, &algorithm, &tlv(BIT_STRING, &signature)])
    }
}

/// ECDSA with SHA-256: r and s as two INTEGERs. `[RFC 6979]`
pub fn signature(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    let raw = key.sign(message);
    let number = |bytes: &[u8]| {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
        let sign: &[u8] = if bytes[start] >= 0x80 { &[0] } else { &[] };
        tlv(INTEGER, &[sign, &bytes[start..]].concat())
    };
    sequence(&[&number(&raw[..32]), &number(&raw[32..])])
}

const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const OCTET_STRING: u8 = 4;
const OBJECT_IDENTIFIER: u8 = 6;
const UTF8_STRING: u8 = 12;
const UTC_TIME: u8 = 23;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const COMMON_NAME: &[u8] = b"\x55\x04\x03";
/// id-ecPublicKey on prime256v1
const P256_KEY: &[u8] =
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
