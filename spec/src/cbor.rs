//! Deterministic CBOR, decoded strictly: one byte string for each value, and no other. `[RFC 8949 §4.2.1]`
//!
//! # In scope
//! Integers, byte and text strings, arrays, maps, tags, booleans and null: what statements are made of.
//!
//! # Out of scope
//! Floating point, indefinite lengths, simple values, bignums. All are refused.

use std::collections::BTreeMap;

use crate::hash::Hash;

/// Why bytes are not one deterministic CBOR value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The value nests deeper than [`MAX_DEPTH`].
    #[error("CBOR nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A map has the same key twice, or its keys are not in bytewise order.
    #[error("CBOR map keys repeat or are out of order")]
    KeyOrder,
    /// A number or length is longer than it needs to be.
    #[error("CBOR integer or length is not in its shortest form")]
    NotShortest,
    /// Bytes follow the value.
    #[error("bytes follow the CBOR value")]
    Trailing,
    /// The bytes end inside a value.
    #[error("CBOR ends inside a value")]
    Truncated,
    /// A text string is not UTF-8.
    #[error("CBOR text is not UTF-8")]
    Utf8,
    /// A kind of value that this format does not use.
    #[error(
        "CBOR value of a kind that is not allowed: floats, indefinite lengths and simple values are refused"
    )]
    Unsupported,
}

/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 8;

/// One CBOR value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An array.
    Array(Vec<Self>),
    /// `true` or `false`.
    Bool(bool),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A map; keys in deterministic order once encoded.
    Map(Vec<(Self, Self)>),
    /// A negative integer, held as -1 - n.
    Negative(u64),
    /// `null`.
    Null,
    /// A tagged value.
    Tag(u64, Box<Self>),
    /// A text string.
    Text(String),
    /// An unsigned integer.
    Unsigned(u64),
}

impl Value {
    /// Decodes exactly one value from all of the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader { rest: bytes };
        let value = reader.value(0)?;
        if reader.rest.is_empty() { Ok(value) } else { Err(CborError::Trailing) }
    }

    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Array(items) => {
                head(out, 4, items.len() as u64);
                for item in items {
                    item.encode_into(out);
                }
            }
            Self::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
            Self::Bytes(bytes) => {
                head(out, 2, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Self::Map(entries) => {
                let mut encoded: Vec<(Vec<u8>, &Self)> =
                    entries.iter().map(|(key, value)| (key.encode(), value)).collect();
                encoded.sort_by(|a, b| a.0.cmp(&b.0));
                head(out, 5, encoded.len() as u64);
                for (key, value) in encoded {
                    out.extend_from_slice(&key);
                    value.encode_into(out);
                }
            }
            Self::Negative(n) => head(out, 1, *n),
            Self::Null => out.push(0xf6),
            Self::Tag(tag, value) => {
                head(out, 6, *tag);
                value.encode_into(out);
            }
            Self::Text(text) => {
                head(out, 3, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Unsigned(n) => head(out, 0, *n),
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Hash> for Value {
    fn from(value: Hash) -> Self {
        Self::Bytes(value.as_bytes().to_vec())
    }
}

fn head(out: &mut Vec<u8>, major: u8, n: u64) {
    let major = major << 5;
    match n {
        0..=23 => out.push(major | n as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, n as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).map_err(|_| CborError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let (n, least) = match info {
            0..=23 => (u64::from(info), 0),
            24 => (u64::from(self.take(1)?[0]), 24),
            25 => (u64::from(u16::from_be_bytes(self.array()?)), 0x100),
            26 => (u64::from(u32::from_be_bytes(self.array()?)), 0x1_0000),
            27 => (u64::from_be_bytes(self.array()?), 0x1_0000_0000),
            _ => return Err(CborError::Unsupported),
        };
        // Major type 7 carries simple values, whose longer forms are refused by the caller.
        if n < least && major != 7 { Err(CborError::NotShortest) } else { Ok((major, n)) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        Ok(self.take(N as u64)?.try_into().expect("take returns as many bytes as asked for"))
    }

    fn value(&mut self, depth: usize) -> Result<Value, CborError> {
        if depth == MAX_DEPTH {
            return Err(CborError::TooDeep);
        }
        let start = self.rest;
        let (major, n) = self.head()?;
        Ok(match major {
            0 => Value::Unsigned(n),
            1 => Value::Negative(n),
            2 => Value::Bytes(self.take(n)?.to_vec()),
            3 => Value::Text(core::str::from_utf8(self.take(n)?).map_err(|_| CborError::Utf8)?.to_owned()),
            4 => {
                // Every item takes at least a byte, so a length beyond the rest cannot be true.
                let mut items = Vec::with_capacity(self.plausible(n)?.min(MAX_RESERVED));
                for _ in 0..n {
                    items.push(self.value(depth + 1)?);
                }
                Value::Array(items)
            }
            5 => {
                let mut entries = Vec::with_capacity(self.plausible(n)?.min(MAX_RESERVED));
                let mut previous: Option<&[u8]> = None;
                for _ in 0..n {
                    let before = self.rest;
                    let key = self.value(depth + 1)?;
                    let encoded = &before[..before.len() - self.rest.len()];
                    if previous.is_some_and(|previous| previous >= encoded) {
                        return Err(CborError::KeyOrder);
                    }
                    previous = Some(encoded);
                    entries.push((key, self.value(depth + 1)?));
                }
                Value::Map(entries)
            }
            6 => Value::Tag(n, Box::new(self.value(depth + 1)?)),
            _ => match start[0] {
                0xf4 => Value::Bool(false),
                0xf5 => Value::Bool(true),
                0xf6 => Value::Null,
                _ => return Err(CborError::Unsupported),
            },
        })
    }

    fn plausible(&self, n: u64) -> Result<usize, CborError> {
        usize::try_from(n).ok().filter(|n| *n <= self.rest.len()).ok_or(CborError::Truncated)
    }
}

/// How many items are reserved before they are read: a value in memory is larger than on the wire, so that a
/// length that is merely plausible must not decide how much memory is taken.
const MAX_RESERVED: usize = 64;

/// Why a payload does not have the fields its kind asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not a CBOR map with unsigned keys.
    #[error("the payload is not a map with unsigned integer keys")]
    NotAMap,
    /// A field is missing or of another type.
    #[error("field {key} is missing, or is not {expected}")]
    Field {
        /// The map key.
        key: u64,
        /// What the format asks for, in words.
        expected: &'static str,
    },
    /// A field below [`FIRST_OPTIONAL`] that this version does not know.
    #[error("field {0} is unknown, and fields below {FIRST_OPTIONAL} must be understood")]
    Critical(u64),
    /// The bytes are not CBOR.
    #[error(transparent)]
    Cbor(#[from] CborError),
}

/// Fields from this key on may be added without breaking older readers, which skip them.
pub const FIRST_OPTIONAL: u64 = 128;

/// The fields of a payload map, taken one by one; [`finish`](Self::finish) refuses what nobody took.
#[derive(Debug)]
pub struct Fields(BTreeMap<u64, Value>);

impl Fields {
    /// Decodes a payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        Self::of(Value::decode(bytes)?)
    }

    /// Takes a map apart.
    pub fn of(value: Value) -> Result<Self, FieldError> {
        let Value::Map(entries) = value else { return Err(FieldError::NotAMap) };
        entries
            .into_iter()
            .map(|(key, value)| match key {
                Value::Unsigned(key) => Ok((key, value)),
                _ => Err(FieldError::NotAMap),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the field is there.
    pub fn has(&self, key: u64) -> bool {
        self.0.contains_key(&key)
    }

    /// A field of any type.
    pub fn value(&mut self, key: u64, expected: &'static str) -> Result<Value, FieldError> {
        self.0.remove(&key).ok_or(FieldError::Field { key, expected })
    }

    /// An unsigned integer.
    pub fn unsigned(&mut self, key: u64) -> Result<u64, FieldError> {
        match self.value(key, "an unsigned integer")? {
            Value::Unsigned(n) => Ok(n),
            _ => Err(FieldError::Field { key, expected: "an unsigned integer" }),
        }
    }

    /// A text string of at most 1,024 bytes without control characters: people read it in terminals and pages.
    pub fn text(&mut self, key: u64) -> Result<String, FieldError> {
        match self.value(key, "a text")? {
            Value::Text(text) if is_plain(&text) => Ok(text),
            _ => Err(FieldError::Field { key, expected: PLAIN_TEXT }),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self, key: u64) -> Result<Vec<u8>, FieldError> {
        match self.value(key, "a byte string")? {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(FieldError::Field { key, expected: "a byte string" }),
        }
    }

    /// A byte string of exactly `N` bytes.
    pub fn fixed<const N: usize>(&mut self, key: u64) -> Result<[u8; N], FieldError> {
        self.bytes(key)?
            .try_into()
            .map_err(|_| FieldError::Field { key, expected: "a byte string of the right length" })
    }

    /// A 32-byte hash.
    pub fn hash(&mut self, key: u64) -> Result<Hash, FieldError> {
        self.fixed(key).map(Hash::from_bytes)
    }

    /// An array.
    pub fn array(&mut self, key: u64) -> Result<Vec<Value>, FieldError> {
        match self.value(key, "an array")? {
            Value::Array(items) => Ok(items),
            _ => Err(FieldError::Field { key, expected: "an array" }),
        }
    }

    /// An array of texts.
    pub fn texts(&mut self, key: u64) -> Result<Vec<String>, FieldError> {
        self.array(key)?
            .into_iter()
            .map(|item| match item {
                Value::Text(text) if is_plain(&text) => Ok(text),
                _ => Err(FieldError::Field {
                    key,
                    expected: "an array of texts of at most 1024 bytes without control characters",
                }),
            })
            .collect()
    }

    /// A boolean.
    pub fn boolean(&mut self, key: u64) -> Result<bool, FieldError> {
        match self.value(key, "a boolean")? {
            Value::Bool(value) => Ok(value),
            _ => Err(FieldError::Field { key, expected: "a boolean" }),
        }
    }

    /// Refuses fields that nobody took and that must be understood.
    pub fn finish(self) -> Result<(), FieldError> {
        match self.0.keys().find(|key| **key < FIRST_OPTIONAL) {
            Some(key) => Err(FieldError::Critical(*key)),
            None => Ok(()),
        }
    }
}

/// Whether a text is short and without control characters, as every text of a payload must be.
pub fn is_plain(text: &str) -> bool {
    text.len() <= 1024 && !text.chars().any(char::is_control)
}

const PLAIN_TEXT: &str = "a text of at most 1024 bytes without control characters";

/// Builds a payload map from numbered fields.
pub fn map<const N: usize>(fields: [(u64, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(key, value)| (Value::Unsigned(key), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_of_rfc_8949_appendix_a() {
        for (hex_text, value) in [
            ("00", Value::Unsigned(0)),
            ("17", Value::Unsigned(23)),
            ("1818", Value::Unsigned(24)),
            ("1903e8", Value::Unsigned(1000)),
            ("1a000f4240", Value::Unsigned(1_000_000)),
            ("1bffffffffffffffff", Value::Unsigned(u64::MAX)),
            ("26", Value::Negative(6)),
            ("4401020304", Value::from(&[1u8, 2, 3, 4][..])),
            ("6449455446", Value::from("IETF")),
            ("83010203", Value::Array(vec![1.into(), 2.into(), 3.into()])),
            ("a201020304", Value::Map(vec![(1.into(), 2.into()), (3.into(), 4.into())])),
            ("f4", Value::Bool(false)),
            ("f6", Value::Null),
            ("d282f5f6", Value::Tag(18, Box::new(Value::Array(vec![Value::Bool(true), Value::Null])))),
        ] {
            let bytes = hex::decode(hex_text).unwrap();
            assert_eq!(value.encode(), bytes);
            assert_eq!(Value::decode(&bytes).unwrap(), value);
        }
    }

    #[test]
    fn refuses_every_other_encoding() {
        for (hex_text, error) in [
            ("1817", CborError::NotShortest),
            ("190017", CborError::NotShortest),
            ("5801", CborError::NotShortest),
            ("0000", CborError::Trailing),
            ("", CborError::Truncated),
            ("4401", CborError::Truncated),
            ("9bffffffffffffffff", CborError::Truncated),
            ("a203040102", CborError::KeyOrder),
            ("a201020102", CborError::KeyOrder),
            ("9f01ff", CborError::Unsupported),
            ("fb3ff199999999999a", CborError::Unsupported),
            ("f7", CborError::Unsupported),
            ("f800", CborError::Unsupported),
            ("61ff", CborError::Utf8),
            ("818181818181818100", CborError::TooDeep),
        ] {
            assert_eq!(Value::decode(&hex::decode(hex_text).unwrap()), Err(error), "{hex_text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            if let Ok(value) = Value::decode(&bytes) {
                proptest::prop_assert_eq!(value.encode(), bytes);
            }
        }
    }
}
