//! Header and trailer fields.

use super::{BadMessage, MAX_FIELDS, MAX_FIELDS_LEN};
use crate::seal::varint;

/// Checked field lines in order: lower-case names, values without control characters or blanks at the ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    lines: Vec<(String, String)>,
    /// Bytes of all names and values.
    len: usize,
}

impl Fields {
    /// No fields.
    pub const fn new() -> Self {
        Self { lines: Vec::new(), len: 0 }
    }

    /// The same with one more field.
    ///
    /// # Errors
    /// When the name or value is not allowed, or the section would be too long.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, BadMessage> {
        self.push(name.as_bytes(), value.as_bytes())?;
        Ok(self)
    }

    /// The value of the field with this lower-case name; `None` when there is none, and also when there are
    /// several, since which of them counts is not for a reader to guess.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.lines.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        values.next().filter(|_| values.next().is_none())
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many field lines there are.
    pub const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Checks that `content-length`, where given, is `len`.
    pub(super) fn check_content_length(&self, len: u64) -> Result<(), BadMessage> {
        let mut announced = self.lines.iter().filter(|(name, _)| name == CONTENT_LENGTH);
        if announced.all(|(_, value)| crate::id::parse_decimal(value) == Ok(len)) {
            Ok(())
        } else {
            Err(BadMessage::ContentLength)
        }
    }

    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        let bad = || BadMessage::Field(String::from_utf8_lossy(name).chars().take(64).collect());
        if !is_name(name) || !is_value(value) {
            return Err(bad());
        }
        self.len += name.len() + value.len();
        if self.len > MAX_FIELDS_LEN || self.lines.len() == MAX_FIELDS {
            return Err(BadMessage::TooLong("field section"));
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| bad());
        self.lines.push((text(name)?, text(value)?));
        Ok(())
    }

    /// The field lines, each with its lengths, without anything around them.
    pub(super) fn encode_lines(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len + 4 * self.lines.len());
        for (name, value) in &self.lines {
            for part in [name, value] {
                varint::push(&mut out, part.len());
                out.extend_from_slice(part.as_bytes());
            }
        }
        out
    }
}

/// A token in lower case that does not steer a connection. Pseudo-fields are no tokens, so they fall out too.
fn is_name(name: &[u8]) -> bool {
    is_token(name) && !name.iter().any(u8::is_ascii_uppercase) && !CONNECTION_FIELDS.contains(&name)
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

fn is_value(value: &[u8]) -> bool {
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    value.iter().all(|&b| matches!(b, b'\t' | b' '..=b'~')) && !blank(value.first()) && !blank(value.last())
}

const CONTENT_LENGTH: &str = "content-length";
const CONNECTION_FIELDS: [&[u8]; 8] = [
    b"connection",
    b"host",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];
