//! X.509 certificates and their chains to a pinned root. `[RFC 5280]`
//!
//! # In scope
//! The chains of hardware vendors, strictly: certificates are DER to the byte, version 3, with accepted keys and
//! signatures; names chain; issuers are authorities that may sign certificates at their depth; the end of a chain is
//! no authority; a critical extension that nobody handles and any extension that stands twice are refused; every
//! certificate is valid at a time that is an argument.
//!
//! # Out of scope
//! Building paths: evidence brings its chain in order. Names of hosts, policies and name constraints, which none of
//! these vendors use. Revocation: a format whose vendor has lists reads them itself.

use super::{
    claim::Refused,
    der::{Der, DerError, Tag, well_formed},
    key::{Algorithm, BadVendorKey, VendorKey},
};
use crate::{hash::Hash, id::UnixSeconds};

/// Largest certificate, in bytes: real ones have up to 2 KiB.
pub const MAX_CERTIFICATE: usize = 16 * 1024;

/// Most extensions in one certificate: real ones have up to 14.
pub const MAX_EXTENSIONS: usize = 64;

/// Longest chain that any profile may ask for.
pub const MAX_CHAIN: usize = 6;

/// Why bytes are not a certificate that is accepted, or a chain does not lead to its root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// The algorithm inside the signed part is not the one outside, or not accepted.
    #[error("a certificate is signed with an algorithm that is not accepted, or names two")]
    Algorithm,
    /// The end of the chain is a certification authority.
    #[error("the certificate at the end of the chain belongs to a certification authority")]
    Authority,
    /// An extension that must be understood and is not.
    #[error("a certificate has a critical extension that this version does not handle: {}", hex::encode(.0))]
    Critical(Vec<u8>),
    /// Not DER, or not the DER of a certificate.
    #[error(transparent)]
    Der(#[from] DerError),
    /// An extension stands twice.
    #[error("a certificate has an extension twice: {}", hex::encode(.0))]
    Duplicate(Vec<u8>),
    /// The time is after notAfter.
    #[error("a certificate ended at {} s, before {} s", .not_after.get(), .at.get())]
    Expired {
        /// Its end.
        not_after: UnixSeconds,
        /// The time asked for.
        at: UnixSeconds,
    },
    /// An issuer that is not marked as a certification authority.
    #[error("a certificate was issued by one that is no certification authority")]
    Issuer,
    /// A key that is not accepted.
    #[error(transparent)]
    Key(#[from] BadVendorKey),
    /// No certificate at all, or more than the profile has.
    #[error("the chain has {0} certificates, which is none or too many")]
    Length(usize),
    /// The issuer's name is not the subject's name of the next certificate.
    #[error("a certificate names another issuer than the next one of the chain")]
    Names,
    /// The time is before notBefore.
    #[error("a certificate begins at {} s, after {} s", .not_before.get(), .at.get())]
    NotYetValid {
        /// Its beginning.
        not_before: UnixSeconds,
        /// The time asked for.
        at: UnixSeconds,
    },
    /// More intermediates than an authority allows below it.
    #[error("a certification authority is further from the end of the chain than it allows")]
    PathLength,
    /// Not what the profile asks of the purposes.
    #[error(
        "a certificate is not for this purpose: its extended key usage lacks the one that evidence needs"
    )]
    Purpose,
    /// The chain does not end at the pinned root.
    #[error("the chain does not lead to {0}")]
    Root(String),
    /// A signature that does not verify under the next key.
    #[error("the signature of a certificate does not verify under the next key of the chain")]
    Signature,
    /// A key usage that lacks what the place in the chain needs.
    #[error("the key usage of a certificate does not allow what it does in the chain")]
    Usage,
    /// Contents that RFC 5280 does not allow.
    #[error("not a certificate: {0}")]
    Value(&'static str),
}

impl BadCertificate {
    /// The reason code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Der(_) | Self::Value(_) | Self::Duplicate(_) => "certificate-malformed",
            Self::Algorithm | Self::Key(_) => "certificate-algorithm",
            Self::Authority
            | Self::Issuer
            | Self::Length(_)
            | Self::Names
            | Self::PathLength
            | Self::Usage => "certificate-chain",
            Self::Critical(_) => "certificate-critical",
            Self::Expired { .. } => "certificate-expired",
            Self::NotYetValid { .. } => "certificate-not-yet-valid",
            Self::Purpose => "certificate-purpose",
            Self::Root(_) => "certificate-root",
            Self::Signature => "certificate-signature",
        }
    }
}

impl From<BadCertificate> for Refused {
    fn from(bad: BadCertificate) -> Self {
        Self::new(bad.reason(), bad.to_string())
    }
}

/// One extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The contents of its OBJECT IDENTIFIER.
    pub oid: &'a [u8],
    /// Whether whoever does not understand it must refuse the certificate.
    pub critical: bool,
    /// What stands inside its OCTET STRING.
    pub value: &'a [u8],
}

/// A certificate in the one accepted form; nothing of it is verified yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate<'a> {
    whole: &'a [u8],
    tbs: &'a [u8],
    serial: &'a [u8],
    algorithm: Algorithm,
    issuer: &'a [u8],
    not_before: UnixSeconds,
    not_after: UnixSeconds,
    subject: &'a [u8],
    spki: &'a [u8],
    key: VendorKey,
    extensions: Vec<Extension<'a>>,
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Parses a certificate.
    ///
    /// # Errors
    /// When it is not DER to the byte, not of version 3, has a key or a signature of a kind that is not accepted, or
    /// has an extension twice.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadCertificate> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(BadCertificate::Value("it has more than 16 KiB"));
        }
        well_formed(bytes)?;
        let mut outer = Der::new(bytes).sequence()?;
        let tbs = outer.tlv(Tag::SEQUENCE)?;
        let algorithm = outer.tlv(Tag::SEQUENCE)?.whole;
        let signature = outer.bit_bytes()?;
        outer.finish()?;

        let mut inner = Der::new(tbs.contents);
        let mut version = inner.nested(Tag::context(0))?;
        if version.small()? != 2 {
            return Err(BadCertificate::Value("it is not of version 3"));
        }
        version.finish()?;
        let serial = inner.unsigned()?;
        if serial.len() > 20 {
            return Err(BadCertificate::Value("its serial number has more than 20 bytes"));
        }
        if inner.tlv(Tag::SEQUENCE)?.whole != algorithm {
            return Err(BadCertificate::Algorithm);
        }
        let algorithm = Algorithm::from_identifier(algorithm).ok_or(BadCertificate::Algorithm)?;
        let issuer = inner.tlv(Tag::SEQUENCE)?.whole;
        let mut validity = inner.sequence()?;
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        validity.finish()?;
        let subject = inner.tlv(Tag::SEQUENCE)?.whole;
        let spki = inner.tlv(Tag::SEQUENCE)?.whole;
        // Unique identifiers, tags 1 and 2, are refused with everything else that stands here.
        let extensions = match inner.optional(Tag::context(3))? {
            Some(list) => parse_extensions(Der::only(list, Tag::SEQUENCE)?)?,
            None => Vec::new(),
        };
        inner.finish()?;
        Ok(Self {
            whole: bytes,
            tbs: tbs.whole,
            serial,
            algorithm,
            issuer,
            not_before,
            not_after,
            subject,
            spki,
            key: VendorKey::from_spki(spki)?,
            extensions,
            signature,
        })
    }

    /// The certificate as it came.
    pub const fn bytes(&self) -> &'a [u8] {
        self.whole
    }

    /// The signed part, DER.
    pub const fn tbs(&self) -> &'a [u8] {
        self.tbs
    }

    /// The issuer's signature over [`tbs`](Self::tbs).
    pub const fn signature(&self) -> &'a [u8] {
        self.signature
    }

    /// The serial number, big-endian without leading zeros; empty for zero.
    pub const fn serial(&self) -> &'a [u8] {
        self.serial
    }

    /// How it is signed.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The issuer's name, DER.
    pub const fn issuer_name(&self) -> &'a [u8] {
        self.issuer
    }

    /// The subject's name, DER.
    pub const fn subject_name(&self) -> &'a [u8] {
        self.subject
    }

    /// The SubjectPublicKeyInfo, DER.
    pub const fn spki(&self) -> &'a [u8] {
        self.spki
    }

    /// The key.
    pub const fn key(&self) -> &VendorKey {
        &self.key
    }

    /// From when it is valid, inclusive.
    pub const fn not_before(&self) -> UnixSeconds {
        self.not_before
    }

    /// Until when it is valid, inclusive.
    pub const fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// The extensions, each at most once.
    pub fn extensions(&self) -> &[Extension<'a>] {
        &self.extensions
    }

    /// The extension with this identifier.
    pub fn extension(&self, oid: &[u8]) -> Option<Extension<'a>> {
        self.extensions.iter().find(|extension| extension.oid == oid).copied()
    }

    /// Checks the signature under the issuer's key.
    ///
    /// # Errors
    /// When it does not verify.
    pub fn verify_signature(&self, issuer: &VendorKey) -> Result<(), BadCertificate> {
        issuer.verify(self.algorithm, self.tbs, self.signature).map_err(|_| BadCertificate::Signature)
    }

    /// Refuses a time outside of the validity, both ends of which count.
    ///
    /// # Errors
    /// When the time is before or after.
    pub fn check_validity(&self, at: UnixSeconds) -> Result<(), BadCertificate> {
        if at < self.not_before {
            return Err(BadCertificate::NotYetValid { not_before: self.not_before, at });
        }
        if at > self.not_after {
            return Err(BadCertificate::Expired { not_after: self.not_after, at });
        }
        Ok(())
    }

    /// Whether it is a certification authority, and how many others may stand below it.
    fn basic_constraints(&self) -> Result<(bool, Option<u64>), BadCertificate> {
        let Some(extension) = self.extension(BASIC_CONSTRAINTS) else { return Ok((false, None)) };
        let mut fields = Der::new(Der::only(extension.value, Tag::SEQUENCE)?);
        // FALSE written out is not DER, and some makers write it: it says what leaving it out says.
        let authority = if fields.peek()? == Some(Tag::BOOLEAN) { fields.boolean()? } else { false };
        let depth = if fields.is_empty() { None } else { Some(fields.small()?) };
        fields.finish()?;
        if depth.is_some() && !authority {
            return Err(BadCertificate::Value("it limits the path below it and is no authority"));
        }
        Ok((authority, depth))
    }

    /// The first byte of the key usage; `None` when the certificate has none.
    fn key_usage(&self) -> Result<Option<u8>, BadCertificate> {
        let Some(extension) = self.extension(KEY_USAGE) else { return Ok(None) };
        let mut reader = Der::new(extension.value);
        let (_, bits) = reader.bits()?;
        reader.finish()?;
        match bits {
            [first] | [first, _] => Ok(Some(*first)),
            _ => Err(BadCertificate::Value("its key usage has a strange length")),
        }
    }

    /// Whether the extended key usage has the purpose; `None` when the certificate has none.
    fn has_purpose(&self, purpose: &[u8]) -> Result<Option<bool>, BadCertificate> {
        let Some(extension) = self.extension(EXTENDED_KEY_USAGE) else { return Ok(None) };
        let mut purposes = Der::new(Der::only(extension.value, Tag::SEQUENCE)?);
        if purposes.is_empty() {
            return Err(BadCertificate::Value("its extended key usage is empty"));
        }
        let mut found = false;
        while !purposes.is_empty() {
            found |= purposes.oid()? == purpose;
        }
        Ok(Some(found))
    }
}

/// Whose signature a chain must end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root<'a> {
    /// Name and key are pinned; the chain does not bring the root.
    Named {
        /// For people.
        name: &'a str,
        /// The name as certificates below it have it as their issuer, DER.
        subject: &'a [u8],
        /// Its SubjectPublicKeyInfo, DER.
        spki: &'a [u8],
    },
    /// The chain's last certificate is the root, signed by itself, and has a key with this SHA-256 over its
    /// SubjectPublicKeyInfo.
    Pinned {
        /// For people.
        name: &'a str,
        /// SHA-256 over the SubjectPublicKeyInfo.
        key: Hash,
    },
}

/// What a format asks of the extended key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// Nothing.
    Any,
    /// A certificate that has the extension has this purpose in it.
    IfPresent(&'a [u8]),
    /// The end of the chain has this purpose, and so has every other that limits its purposes.
    Required(&'a [u8]),
}

/// What a format asks of its chains beyond the rules for all.
#[derive(Clone, Copy, Debug)]
pub struct Profile<'a> {
    /// Accepted signatures: algorithm and nothing else, as the key is checked against it.
    pub algorithms: &'a [Algorithm],
    /// Critical extensions that the format reads itself, or that have no bearing on it.
    pub critical: &'a [&'a [u8]],
    /// What it asks of the purposes.
    pub purpose: Purpose<'a>,
    /// Most certificates in the chain as it comes, the root counted if it is brought.
    pub max_chain: usize,
    /// Bits that the key usage of the end of the chain must have if it has that extension: of its first byte.
    pub leaf_usage: u8,
}

/// Key usage: the key signs. `[RFC 5280 §4.2.1.3]`
pub const DIGITAL_SIGNATURE: u8 = 0x80;
/// Key usage: the key encrypts keys.
pub const KEY_ENCIPHERMENT: u8 = 0x20;
/// Key usage: the key agrees on keys.
pub const KEY_AGREEMENT: u8 = 0x08;
const KEY_CERT_SIGN: u8 = 0x04;

/// Verifies a chain, the end first, to its root at a time.
///
/// # Errors
/// With what is wrong, by the order of the checks: shape, then names and rules, then signatures.
pub fn verify_chain(
    chain: &[Certificate],
    root: &Root,
    at: UnixSeconds,
    profile: &Profile,
) -> Result<(), BadCertificate> {
    if chain.is_empty() || chain.len() > profile.max_chain.min(MAX_CHAIN) {
        return Err(BadCertificate::Length(chain.len()));
    }
    for (depth, certificate) in chain.iter().enumerate() {
        certificate.check_validity(at)?;
        if !profile.algorithms.contains(&certificate.algorithm) {
            return Err(BadCertificate::Algorithm);
        }
        check_extensions(certificate, depth, profile)?;
    }
    for pair in chain.windows(2) {
        let [below, above] = pair else { continue };
        if below.issuer != above.subject {
            return Err(BadCertificate::Names);
        }
        below.verify_signature(&above.key)?;
    }
    let Some(last) = chain.last() else { return Err(BadCertificate::Length(0)) };
    match root {
        Root::Named { name, subject, spki } => {
            if last.issuer != *subject {
                return Err(BadCertificate::Root((*name).to_owned()));
            }
            last.verify_signature(&VendorKey::from_spki(spki)?)
        }
        Root::Pinned { name, key } => {
            // A root alone proves nothing about a device.
            if chain.len() < 2 || Hash::of(last.spki) != *key || last.issuer != last.subject {
                return Err(BadCertificate::Root((*name).to_owned()));
            }
            last.verify_signature(&last.key)
        }
    }
}

fn check_extensions(
    certificate: &Certificate,
    depth: usize,
    profile: &Profile,
) -> Result<(), BadCertificate> {
    let handled = [BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE];
    if let Some(unknown) = certificate.extensions.iter().find(|extension| {
        extension.critical && !handled.contains(&extension.oid) && !profile.critical.contains(&extension.oid)
    }) {
        return Err(BadCertificate::Critical(unknown.oid.to_vec()));
    }
    let (authority, below) = certificate.basic_constraints()?;
    let usage = certificate.key_usage()?;
    if depth == 0 {
        if authority {
            return Err(BadCertificate::Authority);
        }
        if usage.is_some_and(|usage| {
            usage & profile.leaf_usage != profile.leaf_usage || usage & KEY_CERT_SIGN != 0
        }) {
            return Err(BadCertificate::Usage);
        }
    } else {
        if !authority {
            return Err(BadCertificate::Issuer);
        }
        // Between an authority at this depth and the end stand as many authorities as there are steps less one.
        if below.is_some_and(|below| below < depth as u64 - 1) {
            return Err(BadCertificate::PathLength);
        }
        if usage.is_none_or(|usage| usage & KEY_CERT_SIGN == 0) {
            return Err(BadCertificate::Usage);
        }
    }
    let fits = match profile.purpose {
        Purpose::Any => true,
        Purpose::IfPresent(purpose) => certificate.has_purpose(purpose)?.unwrap_or(true),
        Purpose::Required(purpose) => certificate.has_purpose(purpose)?.unwrap_or(depth > 0),
    };
    if fits { Ok(()) } else { Err(BadCertificate::Purpose) }
}

fn parse_extensions(list: &[u8]) -> Result<Vec<Extension<'_>>, BadCertificate> {
    let mut reader = Der::new(list);
    let mut extensions: Vec<Extension> = Vec::new();
    while !reader.is_empty() {
        let mut fields = reader.sequence()?;
        let oid = fields.oid()?;
        let critical = if fields.peek()? == Some(Tag::BOOLEAN) { fields.boolean()? } else { false };
        let value = fields.octets()?;
        fields.finish()?;
        if extensions.iter().any(|other| other.oid == oid) {
            return Err(BadCertificate::Duplicate(oid.to_vec()));
        }
        if extensions.len() == MAX_EXTENSIONS {
            return Err(BadCertificate::Value("it has more than 64 extensions"));
        }
        extensions.push(Extension { oid, critical, value });
    }
    if extensions.is_empty() {
        return Err(BadCertificate::Value("its list of extensions is empty"));
    }
    Ok(extensions)
}

/// UTCTime or GeneralizedTime, to the second and in UTC. `[RFC 5280 §4.1.2.5]`
pub(super) fn time(reader: &mut Der) -> Result<UnixSeconds, BadCertificate> {
    const BAD: BadCertificate = BadCertificate::Value("a time is not YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ");
    let tlv = reader.any()?;
    let text = match tlv.tag {
        Tag::UTC_TIME if tlv.contents.len() == 13 => {
            let century: &[u8] = if tlv.contents[0] >= b'5' { b"19" } else { b"20" };
            [century, tlv.contents].concat()
        }
        Tag::GENERALIZED_TIME if tlv.contents.len() == 15 => tlv.contents.to_vec(),
        _ => return Err(BAD),
    };
    let (digits, zone) = text.split_at(14);
    if zone != b"Z" || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    let number = |range: core::ops::Range<usize>| {
        digits[range].iter().fold(0, |value: u64, digit| 10 * value + u64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    let (hour, minute, second) = (number(8..10), number(10..12), number(12..14));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = (month as usize).checked_sub(1).and_then(|month| lengths.get(month)).ok_or(BAD)?;
    if day == 0 || day > *length || hour > 23 || minute > 59 || second > 59 {
        return Err(BAD);
    }
    if year < 1970 {
        return Err(BadCertificate::Value("a time is before 1970"));
    }
    // Leap days before this year, less those before 1970.
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400 - LEAP_DAYS_BEFORE_1970;
    let days = 365 * (year - 1970) + leap_days + lengths[..month as usize - 1].iter().sum::<u64>() + day - 1;
    Ok(UnixSeconds::new(86_400 * days + 3_600 * hour + 60 * minute + second))
}

/// 1969 / 4 - 1969 / 100 + 1969 / 400
const LEAP_DAYS_BEFORE_1970: u64 = 492 - 19 + 4;

/// 2.5.29.15
pub const KEY_USAGE: &[u8] = b"\x55\x1d\x0f";
/// 2.5.29.17
pub const SUBJECT_ALT_NAME: &[u8] = b"\x55\x1d\x11";
/// 2.5.29.19
pub const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";
/// 2.5.29.37
pub const EXTENDED_KEY_USAGE: &[u8] = b"\x55\x1d\x25";

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(tag: u8, text: &str) -> Result<u64, BadCertificate> {
        let bytes = [&[tag, text.len() as u8], text.as_bytes()].concat();
        time(&mut Der::new(&bytes)).map(UnixSeconds::get)
    }

    #[test]
    fn times_are_read_strictly() {
        for (tag, text, expected) in [
            (23, "700101000000Z", 0),
            (23, "991231235959Z", 946_684_799),
            (23, "000229120000Z", 951_825_600),
            (23, "491231235959Z", 2_524_607_999),
            (24, "20500101000000Z", 2_524_608_000),
            (24, "21000301000000Z", 4_107_542_400),
            (24, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(seconds(tag, text), Ok(expected), "{text}");
        }
        for (tag, text) in [
            (23, "2602290000Z"),
            (23, "260229000000Z"),
            (24, "21000229000000Z"),
            (23, "261301000000Z"),
            (23, "260001000000Z"),
            (23, "260100000000Z"),
            (23, "260101240000Z"),
            (23, "260101006000Z"),
            (23, "260101000060Z"),
            (23, "260101000000+"),
            (23, "26 101000000Z"),
            (23, "690101000000Z"),
            (24, "20260101000000.5Z"),
            (24, "202601010000Z"),
            (23, "20260101000000Z"),
            (24, "260101000000Z"),
        ] {
            assert!(seconds(tag, text).is_err(), "{text}");
        }
    }
}
