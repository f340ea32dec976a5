//! Signed notes: a text and signature lines under it, and the keys that make and check them.
//! `[c2sp.org/signed-note]` `[c2sp.org/tlog-cosignature]`

mod ed25519;
mod key;
mod mldsa;
mod signer;

use core::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};

pub use self::{
    key::{Algorithm, BadSignature, KeyError, VerifierKey},
    signer::{NoteSigner, SignError},
};

/// The longest note accepted, in bytes. A dozen post-quantum signatures take 40 KiB.
pub const MAX_NOTE: usize = 128 * 1024;

/// The most signature lines accepted. `[c2sp.org/signed-note]` asks for at least 16.
pub const MAX_SIGNATURES: usize = 64;

/// Bytes that are not a signed note in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A control character other than newline, or bytes that are not UTF-8.
    #[error("the note is not plain UTF-8 text")]
    BadText,
    /// No blank line followed by signature lines, or the text does not end in a newline.
    #[error("the note has no text followed by a blank line and signatures")]
    NoSignatures,
    /// A line in the place of the root is not 32 bytes of base64, the size is not decimal, or there are extra lines.
    #[error("not a checkpoint of exactly three lines: origin, size, root hash")]
    NotACheckpoint,
    /// A line that should be a signature is not one.
    #[error("signature line {line} is not of the form `\u{2014} name base64`")]
    SignatureLine {
        /// Counted from 1, among the signature lines.
        line: usize,
    },
    /// More bytes than [`MAX_NOTE`].
    #[error("the note is longer than {MAX_NOTE} bytes")]
    TooLong,
    /// More lines than [`MAX_SIGNATURES`].
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
}

/// One signature line, of any algorithm, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// The name of the key.
    pub name: String,
    /// The first four bytes of a hash over the name and the public key.
    pub key_id: [u8; 4],
    /// What the algorithm makes; for cosignatures with the timestamp in front.
    pub signature: Vec<u8>,
}

/// A line that is not of the form `— name base64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signature line of the form `\u{2014} name base64`")]
pub struct NotASignatureLine;

impl fmt::Display for SignatureLine {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = [self.key_id.as_slice(), &self.signature].concat();
        write!(f, "{PREFIX}{} {}", self.name, BASE64_STANDARD.encode(blob))
    }
}

impl FromStr for SignatureLine {
    type Err = NotASignatureLine;

    fn from_str(line: &str) -> Result<Self, NotASignatureLine> {
        let (name, blob) =
            line.strip_prefix(PREFIX).and_then(|l| l.split_once(' ')).ok_or(NotASignatureLine)?;
        let blob = BASE64_STANDARD.decode(blob).map_err(|_| NotASignatureLine)?;
        match blob.split_first_chunk() {
            Some((key_id, signature)) if is_key_name(name) && !signature.is_empty() => {
                Ok(Self { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
            }
            _ => Err(NotASignatureLine),
        }
    }
}

/// Parses lines such as a witness answers with: one or more, each ending in a newline.
///
/// # Errors
/// When there is none, there are more than [`MAX_SIGNATURES`], or a line is not a signature.
pub fn parse_signature_lines(text: &str) -> Result<Vec<SignatureLine>, NoteError> {
    let lines = text.strip_suffix('\n').ok_or(NoteError::NoSignatures)?.split('\n');
    let mut signatures = Vec::new();
    for (at, line) in lines.enumerate() {
        if at == MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        signatures.push(line.parse().map_err(|_| NoteError::SignatureLine { line: at + 1 })?);
    }
    Ok(signatures)
}

/// A text with signature lines, none of them verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    /// What is signed; ends in a newline.
    pub text: String,
    /// The signatures in the order given.
    pub signatures: Vec<SignatureLine>,
}

impl SignedNote {
    /// Parses a note. Every note has one spelling: [`SignedNote::encode`] gives the same bytes back.
    ///
    /// # Errors
    /// When the bytes are not a note in canonical form or exceed a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::TooLong);
        }
        let note = core::str::from_utf8(bytes).map_err(|_| NoteError::BadText)?;
        if note.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err(NoteError::BadText);
        }
        // The last blank line: the text may itself contain blank lines.
        let split = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, signatures) = (&note[..=split], &note[split + 2..]);
        Ok(Self { text: text.to_owned(), signatures: parse_signature_lines(signatures)? })
    }

    /// The note's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut note = format!("{}\n", self.text);
        for line in &self.signatures {
            note.push_str(&format!("{line}\n"));
        }
        note.into_bytes()
    }
}

/// Whether a key may have this name: not empty, no space of any script, no plus sign. `[c2sp.org/signed-note]`
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+' || c < ' ')
}

const PREFIX: &str = "\u{2014} ";
