//! Authenticator data: what the enclave signs together with the client's hash. `[WebAuthn §6.1]`
//!
//! ```text
//! SHA-256(app identifier) | flags | counter |
//!     [AAGUID | length of the credential identifier | credential identifier | COSE key] | [map of extensions]
//! ```

use crate::{evidence::Refused, hash::Hash};

/// Authenticator data taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuthenticatorData<'a> {
    /// SHA-256 over the app identifier.
    pub(super) app_id_hash: Hash,
    /// How many signatures the key has made.
    pub(super) counter: u32,
    /// Only in attestations.
    pub(super) credential: Option<Credential<'a>>,
    /// What macOS 27 adds.
    pub(super) extensions: Extensions<'a>,
}

/// The key that an attestation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credential<'a> {
    pub(super) aaguid: &'a [u8; 16],
    pub(super) id: Hash,
    /// x || y of the COSE key.
    pub(super) point: [u8; 64],
}

/// The extensions that are read; others are signed and skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions<'a> {
    pub(super) code_hash: Option<&'a [u8]>,
    pub(super) code_hash_type: Option<&'a [u8]>,
    pub(super) category: Option<&'a [u8]>,
    pub(super) bundle_version: Option<&'a str>,
}

impl<'a> AuthenticatorData<'a> {
    /// Takes authenticator data apart, to the last byte.
    pub(super) fn parse(bytes: &'a [u8], attested: bool) -> Result<Self, Refused> {
        let mut cursor = Cursor(bytes);
        let app_id_hash = Hash::from_bytes(*cursor.array()?);
        let flags = cursor.array::<1>()?[0];
        // Apple sets the flag for attested data in assertions too, and the one for extensions in some objects that
        // have them and not in others: neither decides what is read.
        if flags & !EXTENSION_DATA != ATTESTED_DATA {
            return Err(Refused::new(
                "app-attest-flags",
                format!("the authenticator's flags are {flags:#04x}"),
            ));
        }
        let counter = u32::from_be_bytes(*cursor.array()?);
        let credential = attested.then(|| credential(&mut cursor)).transpose()?;
        let extensions = if cursor.0.is_empty() { Extensions::default() } else { extensions(&mut cursor)? };
        if !cursor.0.is_empty() {
            return Err(malformed("bytes after the extensions"));
        }
        Ok(Self { app_id_hash, counter, credential, extensions })
    }
}

fn credential<'a>(cursor: &mut Cursor<'a>) -> Result<Credential<'a>, Refused> {
    let aaguid = cursor.array()?;
    if u16::from_be_bytes(*cursor.array()?) as usize != Hash::LEN {
        return Err(malformed("the credential identifier does not have 32 bytes"));
    }
    let id = Hash::from_bytes(*cursor.array()?);
    // A COSE key for ES256 has one deterministic encoding, so it is compared and not parsed. `[RFC 9052 §7]`
    let mut point = [0; 64];
    let (x, y) = point.split_at_mut(32);
    cursor.expect(b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20")?;
    x.copy_from_slice(cursor.array::<32>()?);
    cursor.expect(b"\x22\x58\x20")?;
    y.copy_from_slice(cursor.array::<32>()?);
    Ok(Credential { aaguid, id, point })
}

/// Reads exactly one map of extensions.
///
/// Not with [`crate::cbor`], which asks for keys in deterministic order: the one published capture has them so, and
/// Apple does not say that it always will. Shortest forms are asked for, and no key stands twice.
fn extensions<'a>(cursor: &mut Cursor<'a>) -> Result<Extensions<'a>, Refused> {
    let (MAP, entries) = cursor.head()? else { return Err(malformed("the extensions are not a map")) };
    let mut found = Extensions::default();
    let mut keys: Vec<&str> = Vec::new();
    for _ in 0..entries {
        let key = cursor.text()?;
        if keys.contains(&key) {
            return Err(malformed("an extension stands twice"));
        }
        if keys.len() == MAX_EXTENSIONS {
            return Err(malformed("more than 32 extensions"));
        }
        keys.push(key);
        match key {
            "apple_cd_hash_hash_01" => found.code_hash = Some(cursor.bytes()?),
            "apple_cd_hash_type_01" => found.code_hash_type = Some(cursor.bytes()?),
            "apple_validation_category_01" => found.category = Some(cursor.bytes()?),
            "apple_bundle_version_01" => found.bundle_version = Some(cursor.text()?),
            _ => cursor.skip(0)?,
        }
    }
    Ok(found)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], Refused> {
        let (taken, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length))
            .ok_or_else(|| malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Refused> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(|| malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn expect(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if self.take(bytes.len() as u64)? == bytes {
            Ok(())
        } else {
            Err(malformed("the key is not a COSE key for ES256 on P-256"))
        }
    }

    /// Major type and argument, in the shortest form.
    fn head(&mut self) -> Result<(u8, u64), Refused> {
        let first = self.array::<1>()?[0];
        let (value, least) = match first & 0x1f {
            info @ 0..=23 => (u64::from(info), 0),
            24 => (u64::from(self.array::<1>()?[0]), 24),
            25 => (u64::from(u16::from_be_bytes(*self.array()?)), 0x100),
            26 => (u64::from(u32::from_be_bytes(*self.array()?)), 0x1_0000),
            27 => (u64::from_be_bytes(*self.array()?), 0x1_0000_0000),
            _ => return Err(malformed("an indefinite length")),
        };
        if value < least {
            return Err(malformed("a CBOR number that is not in its shortest form"));
        }
        Ok((first >> 5, value))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Refused> {
        match self.head()? {
            (BYTES, length) => self.take(length),
            _ => Err(malformed("an extension of another type than it has")),
        }
    }

    fn text(&mut self) -> Result<&'a str, Refused> {
        match self.head()? {
            (TEXT, length) => {
                core::str::from_utf8(self.take(length)?).map_err(|_| malformed("a text is not UTF-8"))
            }
            _ => Err(malformed("a name or a text of an extension is none")),
        }
    }

    fn skip(&mut self, depth: usize) -> Result<(), Refused> {
        if depth == MAX_DEPTH {
            return Err(malformed("an extension is nested too deep"));
        }
        match self.head()? {
            (0 | 1, _) => Ok(()),
            (BYTES | TEXT, length) => self.take(length).map(|_| ()),
            // Each item takes a byte, so a length beyond the end runs into it.
            (ARRAY, items) => (0..items).try_for_each(|_| self.skip(depth + 1)),
            (MAP, entries) => (0..entries).try_for_each(|_| {
                self.skip(depth + 1)?;
                self.skip(depth + 1)
            }),
            // false, true and null
            (7, 20..=22) => Ok(()),
            _ => Err(malformed("an extension holds a kind of value that is not allowed")),
        }
    }
}

fn malformed(what: &str) -> Refused {
    Refused::malformed(format!("authenticator data: {what}"))
}

const ATTESTED_DATA: u8 = 0x40;
const EXTENSION_DATA: u8 = 0x80;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const MAX_EXTENSIONS: usize = 32;
const MAX_DEPTH: usize = 4;
