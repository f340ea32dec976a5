//! What is sent to a witness: the bodies of `add-checkpoint` and `sign-subtree`. `[c2sp.org/tlog-witness]`
//!
//! Parsing judges the form alone; keys, state and proofs are the witness's.

use crate::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, parse_decimal},
    note::SignedNote,
    subtree::Subtree,
};

/// The most proof lines that a request may have: more than any tree of 2^63 entries needs.
pub const MAX_PROOF_LINES: usize = 63;

/// The body of `add-checkpoint`: asks for a cosignature on a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the submitter believes the witness cosigned last; not above that of the checkpoint.
    pub old: TreeSize,
    /// Consistency proof from `old` to the checkpoint.
    pub proof: Vec<Hash>,
    /// The checkpoint with whatever signature lines came along.
    pub note: SignedNote,
    /// The checkpoint's text, parsed.
    pub head: TreeHead,
}

/// The body of `sign-subtree`: asks for a cosignature on a subtree of a checkpoint that the witness cosigned before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignSubtree {
    /// The subtree; it ends within the checkpoint's tree.
    pub subtree: Subtree,
    /// Its root.
    pub hash: Hash,
    /// Subtree consistency proof from the subtree to the checkpoint.
    pub proof: Vec<Hash>,
    /// The checkpoint with the witness's own signature lines.
    pub note: SignedNote,
    /// The checkpoint's text, parsed.
    pub head: TreeHead,
}

/// Why a body is not a request. Surfaces as 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The note's text is not a checkpoint without extension lines.
    #[error("the note is not a checkpoint of three lines (origin, size, root); extension lines are refused")]
    Checkpoint,
    /// No blank line, or not UTF-8.
    #[error("the body must be a request line, hash lines, a blank line and a signed note")]
    Frame,
    /// A hash line is not 32 bytes in base64.
    #[error("a hash line is not base64 of a SHA-256 value")]
    Hash,
    /// The last part is not a signed note with at least one signature.
    #[error("the checkpoint is not a signed note with a signature line")]
    Note,
    /// The first line is not `old <size>` with a canonical decimal.
    #[error("the first line must be `old <size>`, a decimal without leading zeros")]
    Old,
    /// The checkpoint is smaller than the size it should extend.
    #[error("old size {old} is larger than the checkpoint's {size}")]
    OldTooLarge {
        /// The old size.
        old: TreeSize,
        /// The checkpoint's.
        size: TreeSize,
    },
    /// The first line is not `subtree <start> <end>` with canonical decimals that bound a subtree of the checkpoint.
    #[error(
        "the first line must be `subtree <start> <end>`, with start a multiple of the smallest power of two not below end - start, and end not above the checkpoint's size"
    )]
    Subtree,
    /// More than [`MAX_PROOF_LINES`].
    #[error("more than 63 proof lines")]
    TooManyHashes,
}

impl AddCheckpoint {
    /// Parses `old <N>\n`, up to 63 base64 hash lines, a blank line and the note, byte for byte.
    ///
    /// # Errors
    /// When the body has another form, or the old size is above that of the checkpoint.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let (front, note, head) = split(body)?;
        let mut lines = front.split('\n');
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix(OLD)?.parse::<TreeSize>().ok())
            .ok_or(RequestError::Old)?;
        let proof = hashes(lines)?;
        if old > head.size {
            return Err(RequestError::OldTooLarge { old, size: head.size });
        }
        Ok(Self { old, proof, note, head })
    }

    /// The body's bytes: [`AddCheckpoint::parse`] gives the same request back.
    pub fn encode(&self) -> Vec<u8> {
        join(format!("{OLD}{}\n", self.old), &self.proof, &self.note)
    }
}

impl SignSubtree {
    /// Parses `subtree <start> <end>\n`, the subtree's hash, up to 63 proof hashes, a blank line and the note.
    ///
    /// # Errors
    /// When the body has another form, or the range is not a subtree of the checkpoint's tree.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let (front, note, head) = split(body)?;
        let mut lines = front.split('\n');
        let (start, end) = lines
            .next()
            .and_then(|line| line.strip_prefix(SUBTREE)?.split_once(' '))
            .ok_or(RequestError::Subtree)?;
        let (Ok(start), Ok(end)) = (parse_decimal(start), parse_decimal(end)) else {
            return Err(RequestError::Subtree);
        };
        let subtree = Subtree::new(start.into(), end.into()).ok_or(RequestError::Subtree)?;
        let hash = lines.next().and_then(Hash::from_base64).ok_or(RequestError::Hash)?;
        let proof = hashes(lines)?;
        if subtree.end() > head.size {
            return Err(RequestError::Subtree);
        }
        Ok(Self { subtree, hash, proof, note, head })
    }

    /// The body's bytes: [`SignSubtree::parse`] gives the same request back.
    pub fn encode(&self) -> Vec<u8> {
        let (start, end) = (self.subtree.start(), self.subtree.end());
        join(format!("{SUBTREE}{start} {end}\n{}\n", self.hash.to_base64()), &self.proof, &self.note)
    }
}

fn split(body: &[u8]) -> Result<(&str, SignedNote, TreeHead), RequestError> {
    let body = core::str::from_utf8(body).map_err(|_| RequestError::Frame)?;
    let (front, note) = body.split_once("\n\n").ok_or(RequestError::Frame)?;
    let note = SignedNote::parse(note.as_bytes()).map_err(|_| RequestError::Note)?;
    let head = TreeHead::parse(&note.text).map_err(|_| RequestError::Checkpoint)?;
    Ok((front, note, head))
}

fn hashes<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Hash>, RequestError> {
    let mut hashes = Vec::new();
    for line in lines {
        if hashes.len() == MAX_PROOF_LINES {
            return Err(RequestError::TooManyHashes);
        }
        hashes.push(Hash::from_base64(line).ok_or(RequestError::Hash)?);
    }
    Ok(hashes)
}

fn join(mut front: String, proof: &[Hash], note: &SignedNote) -> Vec<u8> {
    for hash in proof {
        front.push_str(&hash.to_base64());
        front.push('\n');
    }
    front.push('\n');
    let mut body = front.into_bytes();
    body.extend_from_slice(&note.encode());
    body
}

const OLD: &str = "old ";
const SUBTREE: &str = "subtree ";
