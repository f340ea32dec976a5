//! Proofs of logging that verify offline, in one text file. `[c2sp.org/tlog-proof]`

use core::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    hash::Hash,
    id::LeafIndex,
    merkle::ProofError,
    note::MAX_NOTE,
    policy::{Logged, OpenError, Policy},
};

/// The longest proof accepted, in bytes: a note, as much extra data in base64, and the hashes.
pub const MAX_PROOF: usize = 3 * MAX_NOTE;

/// The most hashes an inclusion proof can have.
pub const MAX_HASHES: usize = 64;

/// Bytes that are not a proof in canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFormatError {
    /// The `extra` line is not base64.
    #[error("the extra line is not base64")]
    BadExtra,
    /// A proof line is not a hash, or there are too many.
    #[error("line {line} is not base64 of a 32-byte hash, or there are more than {MAX_HASHES}")]
    BadHash {
        /// Counted from 1, in the file.
        line: usize,
    },
    /// The first line is another.
    #[error("the first line is not {HEADER}")]
    BadHeader,
    /// No `index` line, or its number is not decimal.
    #[error("there is no index line with a decimal number")]
    BadIndex,
    /// Nothing after the blank line, or no blank line.
    #[error("there is no checkpoint after a blank line")]
    NoCheckpoint,
    /// Not UTF-8, or longer than [`MAX_PROOF`].
    #[error("the proof is not text of at most {MAX_PROOF} bytes")]
    NotText,
}

/// Why a proof does not show that an entry was logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// The checkpoint in it does not satisfy the policy.
    #[error("the proof's checkpoint: {0}")]
    Checkpoint(#[from] OpenError),
    /// The bytes are not a proof.
    #[error("malformed proof: {0}")]
    Malformed(#[from] ProofFormatError),
    /// The hashes do not lead from the entry to the checkpoint.
    #[error("the proof's hashes: {0}")]
    Proof(#[from] ProofError),
}

/// An inclusion proof together with its checkpoint; nothing in it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// What the application put there. Not covered by any signature.
    pub extra: Option<Vec<u8>>,
    /// The entry's place in the log.
    pub index: LeafIndex,
    /// The audit path, from the leaf's sibling upwards.
    pub hashes: Vec<Hash>,
    /// The checkpoint's note, verbatim.
    pub checkpoint: Vec<u8>,
}

impl TlogProof {
    /// Parses a proof. Every proof has one spelling: [`TlogProof::encode`] gives the same bytes back.
    ///
    /// The checkpoint is only split off; [`TlogProof::open`] judges it.
    ///
    /// # Errors
    /// When the bytes are not a proof in canonical form.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofFormatError> {
        let text = (bytes.len() <= MAX_PROOF).then(|| core::str::from_utf8(bytes).ok()).flatten();
        let (header, checkpoint) = text
            .ok_or(ProofFormatError::NotText)?
            .split_once("\n\n")
            .ok_or(ProofFormatError::NoCheckpoint)?;
        let mut lines = header.split('\n').enumerate().peekable();
        if lines.next().is_none_or(|(_, line)| line != HEADER) {
            return Err(ProofFormatError::BadHeader);
        }
        let extra = match lines.next_if(|(_, line)| line.starts_with(EXTRA)) {
            None => None,
            Some((_, line)) => {
                let extra =
                    BASE64_STANDARD.decode(&line[EXTRA.len()..]).map_err(|_| ProofFormatError::BadExtra)?;
                Some(extra)
            }
        };
        let index = lines.next().and_then(|(_, line)| line.strip_prefix(INDEX)?.parse().ok());
        let index = index.ok_or(ProofFormatError::BadIndex)?;
        let mut hashes = Vec::new();
        for (at, line) in lines {
            let hash = (hashes.len() < MAX_HASHES).then(|| Hash::from_base64(line)).flatten();
            hashes.push(hash.ok_or(ProofFormatError::BadHash { line: at + 1 })?);
        }
        if checkpoint.is_empty() {
            return Err(ProofFormatError::NoCheckpoint);
        }
        Ok(Self { extra, index, hashes, checkpoint: checkpoint.as_bytes().to_vec() })
    }

    /// The proof's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header().into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    fn header(&self) -> String {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            text.push_str(&format!("{EXTRA}{}\n", BASE64_STANDARD.encode(extra)));
        }
        text.push_str(&format!("{INDEX}{}\n", self.index));
        for hash in &self.hashes {
            text.push_str(&format!("{}\n", hash.to_base64()));
        }
        text.push('\n');
        text
    }

    /// Checks that the entry is in a log of the policy.
    ///
    /// Where only one log will do, use [`TlogProof::open_from`].
    ///
    /// # Errors
    /// When the checkpoint does not satisfy the policy, or the entry is not in its tree at this index.
    pub fn open(&self, policy: &Policy, entry: &[u8]) -> Result<Logged<Vec<u8>>, TlogProofError> {
        self.open_in(policy, None, entry)
    }

    /// Checks that the entry is in the log with this origin.
    ///
    /// # Errors
    /// As [`TlogProof::open`], and when the checkpoint is of another log.
    pub fn open_from(
        &self,
        policy: &Policy,
        origin: &str,
        entry: &[u8],
    ) -> Result<Logged<Vec<u8>>, TlogProofError> {
        self.open_in(policy, Some(origin), entry)
    }

    fn open_in(
        &self,
        policy: &Policy,
        origin: Option<&str>,
        entry: &[u8],
    ) -> Result<Logged<Vec<u8>>, TlogProofError> {
        let checkpoint = policy.open(origin, &self.checkpoint)?;
        Ok(checkpoint.includes(entry.to_vec(), self.index, &self.hashes)?)
    }
}

impl fmt::Display for TlogProof {
    /// Writes the text of [`TlogProof::encode`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.header(), String::from_utf8_lossy(&self.checkpoint))
    }
}

const HEADER: &str = "c2sp.org/tlog-proof@v1";
const EXTRA: &str = "extra ";
const INDEX: &str = "index ";
