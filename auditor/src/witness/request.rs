//! The body of `add-checkpoint`. `[c2sp.org/tlog-witness]`

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, parse_decimal},
    note::SignedNote,
};

/// The most proof lines that a request may have: more than any tree of 2^63 entries needs.
pub const MAX_PROOF_LINES: usize = 63;

/// A parsed request. Nothing in it has been checked against keys or state.
#[derive(Clone, Debug)]
pub struct AddCheckpoint {
    /// The size that the submitter believes the witness cosigned last.
    pub old: TreeSize,
    /// Consistency proof from `old` to the checkpoint.
    pub proof: Vec<Hash>,
    /// The checkpoint with whatever signature lines came along.
    pub note: SignedNote,
    /// The checkpoint's text, parsed.
    pub head: TreeHead,
}

/// Why a body is not an `add-checkpoint` request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The note's text is not a checkpoint without extension lines.
    #[error("the note is not a checkpoint of three lines (origin, size, root); extension lines are refused")]
    Checkpoint,
    /// No blank line, or not UTF-8.
    #[error("the body must be `old <size>`, proof lines, a blank line and a signed note")]
    Frame,
    /// A proof line is not 32 bytes in base64.
    #[error("a proof line is not a base64 SHA-256 value")]
    Hash,
    /// The last part is not a signed note with at least one signature.
    #[error("the checkpoint is not a signed note with a signature line")]
    Note,
    /// The first line is not `old <size>` with a canonical decimal.
    #[error("the first line must be `old <size>`, a decimal without leading zeros")]
    Old,
    /// More than [`MAX_PROOF_LINES`].
    #[error("more than 63 proof lines")]
    TooManyHashes,
}

impl AddCheckpoint {
    /// Parses `old <N>\n`, up to 63 base64 hash lines, a blank line and the note, byte for byte.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let body = core::str::from_utf8(body).map_err(|_| RequestError::Frame)?;
        let (front, note) = body.split_once("\n\n").ok_or(RequestError::Frame)?;
        let mut lines = front.split('\n');
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(|decimal| parse_decimal(decimal).ok())
            .map(TreeSize::from)
            .ok_or(RequestError::Old)?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == MAX_PROOF_LINES {
                return Err(RequestError::TooManyHashes);
            }
            proof.push(Hash::from_base64(line).ok_or(RequestError::Hash)?);
        }
        let note = SignedNote::parse(note.as_bytes()).map_err(|_| RequestError::Note)?;
        let head = TreeHead::parse(&note.text).map_err(|_| RequestError::Checkpoint)?;
        Ok(Self { old, proof, note, head })
    }
}
