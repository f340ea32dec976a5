//! The checkpoint that this browser saw last: what makes a visitor a witness of their own.
//!
//! A log cannot show two histories to one visitor without being caught, as long as the visitor keeps the last head.

use glassbloom_spec::{
    checkpoint::{Checkpoint, TreeHead},
    merkle::{frontier_nodes, root_from_nodes},
    policy::Policy,
};

use super::site::SiteLog;
use crate::{
    check::{Step, sentence},
    reader::{Fetch, ReadError},
    time::grouped,
};

/// How the newest checkpoint compares with the one that was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// This browser saw none before; the newest is kept from now on.
    FirstSeen,
    /// The newest extends the last one.
    Extends {
        /// Size of the last one.
        older: u64,
    },
    /// The log shows a tree that cannot have grown from the one that it signed before.
    Forked(Box<Fork>),
    /// The log shows less than it did.
    RolledBack(Box<Fork>),
    /// The tiles needed for the comparison could not be read, or are not those of the newest checkpoint.
    Unknown(String),
}

/// Two checkpoints of one log that do not go together; both are signed, so together they are evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The origin of the log.
    pub origin: String,
    /// The checkpoint that was kept, with its signatures.
    pub kept: String,
    /// The checkpoint that the log shows now, with its signatures.
    pub shown: String,
    /// What does not agree.
    pub reason: String,
    /// Whether the log merely shows less than before: it then withholds, but need not have rewritten anything.
    pub is_rollback: bool,
}

impl Continuity {
    /// Whether the newest checkpoint may take the place of the last one.
    const fn may_replace(&self) -> bool {
        matches!(self, Self::FirstSeen | Self::Extends { .. })
    }

    /// The same as a step.
    pub fn step(&self) -> Step {
        const NAME: &str = "Consistent with your last visit";
        match self {
            Self::FirstSeen => Step::verified(
                "Kept for your next visit",
                "There is nothing to compare with yet; from now on your browser compares.",
            ),
            Self::Extends { older } => Step::verified(
                NAME,
                format!("It extends the tree of {} entries that your browser kept.", grouped(*older)),
            ),
            Self::Forked(fork) | Self::RolledBack(fork) => {
                Step::failed(NAME, format!("{} The overview has the evidence.", fork.reason))
            }
            Self::Unknown(reason) => Step::not_verifiable(NAME, sentence(reason)),
        }
    }

    /// What to keep as seen last: origin and note.
    pub fn keep(&self, newest: &Checkpoint) -> Option<(String, Vec<u8>)> {
        self.may_replace().then(|| (newest.origin().to_owned(), newest.note_bytes().to_vec()))
    }

    /// The evidence, when there is some.
    pub fn fork(&self) -> Option<&Fork> {
        match self {
            Self::Forked(fork) | Self::RolledBack(fork) => Some(fork),
            Self::FirstSeen | Self::Extends { .. } | Self::Unknown(_) => None,
        }
    }
}

impl Fork {
    /// The evidence as a file: both notes.
    pub fn evidence(&self) -> String {
        let Self { kept, shown, reason, .. } = self;
        let kind = if self.is_rollback { "rollback" } else { "equivocation" };
        serde_json::json!({ "kind": kind, "kept": kept, "shown": shown, "reason": reason }).to_string()
    }
}

/// Compares the newest checkpoint with the note that was kept.
pub async fn compare<F: Fetch>(
    policy: &Policy,
    kept: Option<&str>,
    log: &SiteLog<F>,
    newest: &Checkpoint,
) -> Continuity {
    // A note that the policy does not accept (any more) says nothing about this log.
    let opened = kept.and_then(|note| Some((note, policy.open(Some(&log.origin), note.as_bytes()).ok()?)));
    let Some((note, older)) = opened else { return Continuity::FirstSeen };
    let fork = |reason: String| {
        let shown = String::from_utf8_lossy(newest.note_bytes()).into_owned();
        let is_rollback = newest.size() < older.size();
        Box::new(Fork { origin: log.origin.clone(), kept: note.to_owned(), shown, reason, is_rollback })
    };
    let (old, new) = (older.head(), newest.head());
    if new.size < old.size {
        return Continuity::RolledBack(fork(format!(
            "It had {} entries when you last looked and shows {} now.",
            old.size, new.size
        )));
    }
    if new.size == old.size && new.root != old.root {
        return Continuity::Forked(fork(format!("It signed two different trees of {} entries.", old.size)));
    }
    match consistency(log, old, newest).await {
        Ok(true) => Continuity::Extends { older: old.size.get() },
        Ok(false) => Continuity::Forked(fork(format!(
            "The first {} entries of the tree that it shows now are not the tree of {} entries that it signed before.",
            old.size, old.size
        ))),
        Err(reason) => Continuity::Unknown(reason),
    }
}

/// Whether the tree begins with the older head's; an error when the tiles cannot tell.
async fn consistency<F: Fetch>(
    log: &SiteLog<F>,
    old: &TreeHead,
    newest: &Checkpoint,
) -> Result<bool, String> {
    let text = |error: ReadError| error.to_string();
    let proof = log.reader.consistency(old.size, newest.size()).await.map_err(text)?;
    if newest.extends(old, &proof).is_ok() {
        return Ok(true);
    }
    // A wrong proof alone says nothing. But tiles that hash to the newest root are that tree, and then a different
    // root at the older size is a fork.
    let mut nodes = frontier_nodes(newest.size());
    nodes.extend(frontier_nodes(old.size));
    let tiles = log.reader.tiles(&nodes, newest.size()).await.map_err(text)?;
    let root = |size| root_from_nodes(size, &tiles).map_err(|error| error.to_string());
    if root(newest.size())? != newest.root() {
        return Err("the log's tiles are not those of its checkpoint".to_owned());
    }
    Ok(root(old.size)? == old.root)
}
