//! Strict DER, as vendors' certificates and quotes carry it: one encoding per value, borrowed from the input.
//!
//! # In scope
//! Definite, shortest lengths; shortest tags; TRUE as 0xff; no byte left over. `[X.690 §8, §10, §11]`
//!
//! # Out of scope
//! BER, and SET order: nothing here compares sets by value.

use core::fmt;

/// The identifier octets of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Class and the constructed bit: the top three bits of the first octet.
    form: u8,
    /// The number, from either the first octet or those after it.
    number: u32,
}

impl Tag {
    /// BOOLEAN
    pub const BOOLEAN: Self = Self::universal(1);
    /// INTEGER
    pub const INTEGER: Self = Self::universal(2);
    /// BIT STRING
    pub const BIT_STRING: Self = Self::universal(3);
    /// OCTET STRING
    pub const OCTET_STRING: Self = Self::universal(4);
    /// NULL
    pub const NULL: Self = Self::universal(5);
    /// OBJECT IDENTIFIER
    pub const OBJECT_IDENTIFIER: Self = Self::universal(6);
    /// ENUMERATED
    pub const ENUMERATED: Self = Self::universal(10);
    /// UTF8String
    pub const UTF8_STRING: Self = Self::universal(12);
    /// PrintableString
    pub const PRINTABLE_STRING: Self = Self::universal(19);
    /// SEQUENCE and SEQUENCE OF
    pub const SEQUENCE: Self = Self { form: CONSTRUCTED, number: 16 };
    /// SET and SET OF
    pub const SET: Self = Self { form: CONSTRUCTED, number: 17 };
    /// UTCTime
    pub const UTC_TIME: Self = Self::universal(23);
    /// GeneralizedTime
    pub const GENERALIZED_TIME: Self = Self::universal(24);

    const fn universal(number: u32) -> Self {
        Self { form: 0, number }
    }

    /// A context-specific tag around another value.
    pub const fn context(number: u32) -> Self {
        Self { form: CONTEXT | CONSTRUCTED, number }
    }

    /// A context-specific tag in place of a primitive one.
    pub const fn implicit(number: u32) -> Self {
        Self { form: CONTEXT, number }
    }

    /// Whether the contents are values themselves.
    pub const fn is_constructed(self) -> bool {
        self.form & CONSTRUCTED != 0
    }

    /// Whether the meaning depends on where it stands.
    pub const fn is_context(self) -> bool {
        self.form & CLASS == CONTEXT
    }

    /// The number within its class.
    pub const fn number(self) -> u32 {
        self.number
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = ["universal", "application", "context", "private"][usize::from(self.form >> 6)];
        write!(f, "{class} {}", self.number)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why bytes are not DER, or not the DER that a format asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("DER is nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// A length that is indefinite, not the shortest, or beyond 16 MiB.
    #[error("a DER length is not in its shortest definite form")]
    Length,
    /// Another value stands there.
    #[error("DER: expected {expected}, found {found}")]
    Other {
        /// What the format has there.
        expected: Tag,
        /// What stands there.
        found: Tag,
    },
    /// A tag that is not the shortest, or whose number no format here reaches.
    #[error("a DER tag is not in its shortest form")]
    Tag,
    /// Bytes after the value.
    #[error("bytes after the end of a DER value")]
    Trailing,
    /// The bytes end inside a value, or where one should stand.
    #[error("DER ends where a value should stand")]
    Truncated,
    /// Contents that DER does not allow for the type.
    #[error("DER: {0}")]
    Value(&'static str),
}

/// Deepest nesting that [`well_formed`] walks; certificates need nine levels.
pub const MAX_DEPTH: usize = 16;

/// One value: its tag, its contents, and all of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// What it is.
    pub tag: Tag,
    /// Without tag and length.
    pub contents: &'a [u8],
    /// With tag and length: what signatures and digests cover.
    pub whole: &'a [u8],
}

/// Reads values that stand one after another.
#[derive(Clone, Copy, Debug)]
pub struct Der<'a> {
    rest: &'a [u8],
}

impl<'a> Der<'a> {
    /// Reads from the start of the bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The contents of exactly one value of this tag, and nothing after it.
    pub fn only(bytes: &'a [u8], tag: Tag) -> Result<&'a [u8], DerError> {
        let mut reader = Self::new(bytes);
        let contents = reader.read(tag)?;
        reader.finish()?;
        Ok(contents)
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses what nobody read.
    pub const fn finish(self) -> Result<(), DerError> {
        if self.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }

    /// The tag of the next value, if there is one.
    pub fn peek(&self) -> Result<Option<Tag>, DerError> {
        if self.is_empty() { Ok(None) } else { Self::new(self.rest).tag().map(Some) }
    }

    /// The next value, whatever it is.
    pub fn any(&mut self) -> Result<Tlv<'a>, DerError> {
        let start = self.rest;
        let tag = self.tag()?;
        let length = self.length()?;
        let contents = self.take(length)?;
        Ok(Tlv { tag, contents, whole: &start[..start.len() - self.rest.len()] })
    }

    /// The next value, which must have this tag.
    pub fn tlv(&mut self, expected: Tag) -> Result<Tlv<'a>, DerError> {
        let mut ahead = *self;
        let tlv = ahead.any()?;
        if tlv.tag != expected {
            return Err(DerError::Other { expected, found: tlv.tag });
        }
        *self = ahead;
        Ok(tlv)
    }

    /// The contents of the next value, which must have this tag.
    pub fn read(&mut self, expected: Tag) -> Result<&'a [u8], DerError> {
        Ok(self.tlv(expected)?.contents)
    }

    /// The contents of the next value if it has this tag.
    pub fn optional(&mut self, tag: Tag) -> Result<Option<&'a [u8]>, DerError> {
        if self.peek()? == Some(tag) { self.read(tag).map(Some) } else { Ok(None) }
    }

    /// Reads the values inside the next one.
    pub fn nested(&mut self, tag: Tag) -> Result<Self, DerError> {
        self.read(tag).map(Self::new)
    }

    /// A SEQUENCE.
    pub fn sequence(&mut self) -> Result<Self, DerError> {
        self.nested(Tag::SEQUENCE)
    }

    /// A BOOLEAN: 0xff or 0x00.
    pub fn boolean(&mut self) -> Result<bool, DerError> {
        match self.read(Tag::BOOLEAN)? {
            [0xff] => Ok(true),
            [0] => Ok(false),
            _ => Err(DerError::Value("a BOOLEAN is neither 0x00 nor 0xff")),
        }
    }

    /// A non-negative INTEGER as big-endian bytes without leading zeros; zero has none.
    pub fn unsigned(&mut self) -> Result<&'a [u8], DerError> {
        match self.read(Tag::INTEGER)? {
            [] => Err(DerError::Value("an INTEGER has no contents")),
            [0] => Ok(&[]),
            [0, rest @ ..] if rest[0] >= 0x80 => Ok(rest),
            [0, ..] => Err(DerError::Value("an INTEGER is not in its shortest form")),
            [first, ..] if *first >= 0x80 => Err(DerError::Value("an INTEGER is negative")),
            bytes => Ok(bytes),
        }
    }

    /// A non-negative INTEGER that fits 64 bits.
    pub fn small(&mut self) -> Result<u64, DerError> {
        let bytes = self.unsigned()?;
        if bytes.len() > 8 {
            return Err(DerError::Value("an INTEGER does not fit 64 bits"));
        }
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// An OCTET STRING.
    pub fn octets(&mut self) -> Result<&'a [u8], DerError> {
        self.read(Tag::OCTET_STRING)
    }

    /// The contents of an OBJECT IDENTIFIER, by which identifiers are compared.
    pub fn oid(&mut self) -> Result<&'a [u8], DerError> {
        let bytes = self.read(Tag::OBJECT_IDENTIFIER)?;
        // Each arc ends with a byte below 0x80 and does not begin with 0x80.
        let shortest = bytes.last().is_some_and(|last| *last < 0x80)
            && bytes.iter().enumerate().all(|(i, byte)| *byte != 0x80 || (i > 0 && bytes[i - 1] >= 0x80));
        if shortest { Ok(bytes) } else { Err(DerError::Value("an OBJECT IDENTIFIER is malformed")) }
    }

    /// A BIT STRING: the number of unused bits, and the bytes; unused bits are zero.
    pub fn bits(&mut self) -> Result<(u8, &'a [u8]), DerError> {
        let Some((unused, bytes)) = self.read(Tag::BIT_STRING)?.split_first() else {
            return Err(DerError::Value("a BIT STRING has no contents"));
        };
        let clear = match bytes.last() {
            None => *unused == 0,
            Some(last) => *unused < 8 && last & ((1 << unused) - 1) == 0,
        };
        if clear { Ok((*unused, bytes)) } else { Err(DerError::Value("a BIT STRING has unused bits set")) }
    }

    /// A BIT STRING of whole bytes.
    pub fn bit_bytes(&mut self) -> Result<&'a [u8], DerError> {
        match self.bits()? {
            (0, bytes) => Ok(bytes),
            _ => Err(DerError::Value("a BIT STRING does not end with a byte")),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DerError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DerError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DerError> {
        Ok(self.take(1)?[0])
    }

    fn tag(&mut self) -> Result<Tag, DerError> {
        let first = self.byte()?;
        let (form, low) = (first & !LOW_NUMBER, first & LOW_NUMBER);
        if low != LOW_NUMBER {
            return Ok(Tag { form, number: u32::from(low) });
        }
        let mut number = 0;
        for position in 0..3 {
            let byte = self.byte()?;
            if position == 0 && byte == 0x80 {
                return Err(DerError::Tag);
            }
            number = number << 7 | u32::from(byte & 0x7f);
            if byte < 0x80 {
                return if number >= u32::from(LOW_NUMBER) {
                    Ok(Tag { form, number })
                } else {
                    Err(DerError::Tag)
                };
            }
        }
        Err(DerError::Tag)
    }

    fn length(&mut self) -> Result<usize, DerError> {
        let first = self.byte()?;
        let count = match first {
            0..=0x7f => return Ok(usize::from(first)),
            0x81..=0x83 => usize::from(first & 0x7f),
            _ => return Err(DerError::Length),
        };
        let length = self.take(count)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let least = if count == 1 { 0x80 } else { 1 << (8 * (count - 1)) };
        if length < least { Err(DerError::Length) } else { Ok(length) }
    }
}

/// Whether the bytes are exactly one value, and every constructed value in it holds whole values.
///
/// What nobody here reads, such as the inside of a name, is then at least DER.
pub fn well_formed(bytes: &[u8]) -> Result<(), DerError> {
    let mut reader = Der::new(bytes);
    let tlv = reader.any()?;
    reader.finish()?;
    walk(tlv, 0)
}

fn walk(tlv: Tlv, depth: usize) -> Result<(), DerError> {
    if depth == MAX_DEPTH {
        return Err(DerError::Depth);
    }
    if tlv.tag.is_constructed() {
        let mut inside = Der::new(tlv.contents);
        while !inside.is_empty() {
            walk(inside.any()?, depth + 1)?;
        }
    }
    Ok(())
}

const CLASS: u8 = 0xc0;
const CONTEXT: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;
const LOW_NUMBER: u8 = 0x1f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_one_encoding_and_refuses_others() {
        assert_eq!(Der::new(&[2, 1, 0]).small(), Ok(0));
        assert_eq!(Der::new(&[2, 2, 0, 0x80]).small(), Ok(128));
        for (bytes, error) in [
            (&[2, 2, 0, 0x7f][..], DerError::Value("an INTEGER is not in its shortest form")),
            (&[2, 1, 0x80], DerError::Value("an INTEGER is negative")),
            (&[2, 0], DerError::Value("an INTEGER has no contents")),
            (&[2, 0x81, 1, 0], DerError::Length),
            (&[2, 0x80, 0, 0], DerError::Length),
            (&[2, 0x82, 0, 1, 0], DerError::Length),
            (&[2, 2, 0], DerError::Truncated),
            (&[], DerError::Truncated),
            (&[0x1f, 0x80, 1, 0], DerError::Tag),
            (&[0x1f, 0x02, 0], DerError::Tag),
            (&[0x1f, 0x81, 0x81, 0x81, 1, 0], DerError::Tag),
            (&[4, 1, 0], DerError::Other { expected: Tag::INTEGER, found: Tag::OCTET_STRING }),
        ] {
            assert_eq!(Der::new(bytes).small(), Err(error), "{bytes:02x?}");
        }
        assert_eq!(Der::new(&[1, 1, 0xff]).boolean(), Ok(true));
        assert!(Der::new(&[1, 1, 1]).boolean().is_err());
        assert_eq!(Der::new(&[3, 2, 4, 0xf0]).bits(), Ok((4, &[0xf0][..])));
        for bytes in [&[3, 2, 4, 0xf8][..], &[3, 2, 8, 0], &[3, 0], &[3, 1, 1]] {
            assert!(Der::new(bytes).bits().is_err(), "{bytes:02x?}");
        }
        for bytes in [&[6, 2, 0x2a, 0x80][..], &[6, 3, 0x2a, 0x80, 1], &[6, 0]] {
            assert!(Der::new(bytes).oid().is_err(), "{bytes:02x?}");
        }
        assert_eq!(Der::only(&[4, 1, 7, 0], Tag::OCTET_STRING), Err(DerError::Trailing));
    }

    #[test]
    fn high_tag_numbers_as_apple_uses_them() {
        let mut reader = Der::new(&[0xbf, 0x89, 0x34, 3, 2, 1, 5]);
        assert_eq!(reader.nested(Tag::context(1204)).unwrap().small(), Ok(5));
        assert!(reader.is_empty());
    }

    #[test]
    fn nesting_has_an_end() {
        let mut bytes = vec![5, 0];
        for _ in 0..MAX_DEPTH {
            bytes = [&[0x30, bytes.len() as u8][..], &bytes].concat();
        }
        assert_eq!(well_formed(&bytes), Err(DerError::Depth));
        assert_eq!(well_formed(&bytes[2..]), Ok(()));
    }
}
