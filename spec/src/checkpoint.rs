//! Tree heads: what a log signs. `[c2sp.org/tlog-checkpoint]`
//!
//! A head becomes a [`Checkpoint`] only through [`Policy::open`](crate::policy::Policy::open).

use core::{fmt, str::FromStr};

pub use crate::policy::{Checkpoint, Inconsistency, LogSigned, Logged};
use crate::{hash::Hash, id::TreeSize, note::NoteError};

/// An origin, a size and a root hash, claimed by nobody yet.
///
/// Its text is the body of a checkpoint: three lines, no extension lines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeHead {
    /// Names the log: the name of its key.
    pub origin: String,
    /// The number of entries.
    pub size: TreeSize,
    /// The RFC 6962 root over them.
    pub root: Hash,
}

impl TreeHead {
    /// Parses the text of a checkpoint.
    ///
    /// Extension lines are refused: ML-DSA signatures do not cover them, and witnesses refuse them too.
    ///
    /// # Errors
    /// When it is not exactly three lines in canonical form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        Self::from_text(text).ok_or(NoteError::NotACheckpoint)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        if lines.next().is_some() {
            return None;
        }
        let head =
            Self { origin: origin.to_owned(), size: size.parse().ok()?, root: Hash::from_base64(root)? };
        head.is_well_formed().then_some(head)
    }

    /// Whether the origin is one line of plain text, so that the head's text says the same as the head.
    pub(crate) fn is_well_formed(&self) -> bool {
        !self.origin.is_empty() && self.origin.bytes().all(|b| b >= 0x20)
    }
}

impl fmt::Display for TreeHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root.to_base64())
    }
}

impl FromStr for TreeHead {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        Self::parse(text)
    }
}
