//! The alarm: this log's key has signed a tree that this log does not have, or no longer has as it was.
//!
//! That a witness says so is not enough: anybody who runs a witness could then stop the log. It must show the note,
//! and the note must carry this log's own signature. What was shown is kept in a file that convinces others, too, and
//! while such a file is there nothing is added or published: an entry that is acknowledged on a branch that can never
//! be published is lost.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use glassbloom_service::durable;
use glassbloom_spec::{checkpoint::TreeHead, hash::Hash, tile::TilePath};
use serde_json::json;

/// Two notes signed by one log that are not known to be of one history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// What this log has.
    pub(crate) ours: TreeHead,
    /// The note that says so.
    pub(crate) ours_note: Vec<u8>,
    /// What the witness has.
    pub(crate) theirs: TreeHead,
    /// The note that it showed.
    pub(crate) theirs_note: Vec<u8>,
    /// Where the witness is.
    pub(crate) witness: String,
}

/// Raised once, stays raised: also over a restart, by the files in its folder.
#[derive(Debug)]
pub(crate) struct Alarm {
    folder: PathBuf,
    raised: AtomicBool,
}

impl Alarm {
    /// Raised when evidence is left in the folder, which need not exist.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let mut files = match std::fs::read_dir(folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { folder: folder.to_owned(), raised: false.into() });
            }
            Err(error) => return Err(error),
        };
        // A file that was never renamed to its name is of a crash while the first evidence was written: as good.
        let raised = files.next().transpose()?.is_some();
        if raised {
            tracing::error!(
                "ALARM: nothing is added or published while there is evidence in {}: hand it to the witnesses and \
                 users of this log, move it elsewhere, and start again",
                folder.display()
            );
        }
        Ok(Self { folder: folder.to_owned(), raised: raised.into() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(SeqCst)
    }

    /// Raises the alarm because an object is not as it was when its tree was signed.
    pub(crate) async fn damaged(&self, origin: &str, object: TilePath, what: &str) {
        self.raised.store(true, SeqCst);
        tracing::error!(
            origin, %object,
            "ALARM: {object} is damaged: {what}; nothing more is added or published. Run `glassbloom-log fsck` on this \
             log, replace what is damaged from a mirror or a copy, remove the file in {}, and start again",
            self.folder.display()
        );
        let (folder, origin, what) = (self.folder.clone(), origin.to_owned(), what.to_owned());
        let written =
            tokio::task::spawn_blocking(move || write_damage(&folder, &origin, object, &what)).await;
        if let Ok(Err(error)) = written {
            tracing::error!("cannot write to {}: {error}", self.folder.display());
        }
    }

    /// Raises the alarm, then keeps the evidence as well as it can.
    pub(crate) async fn raise(&self, evidence: Evidence) {
        self.raised.store(true, SeqCst);
        let Evidence { ours, theirs, witness, .. } = &evidence;
        tracing::error!(
            witness, origin = %ours.origin, theirs = %theirs.size, ours = %ours.size, their_root = %theirs.root,
            "ALARM: this log's key has signed a tree that this log does not have; nothing more is added or published. \
             The log was restored from a backup, or somebody else holds its key"
        );
        let folder = self.folder.clone();
        match tokio::task::spawn_blocking(move || write(&folder, &evidence)).await {
            Ok(Ok(path)) => tracing::error!("both notes are in {}", path.display()),
            Ok(Err(error)) => {
                tracing::error!("cannot write the evidence to {}: {error}", self.folder.display());
            }
            // Only when the process stops.
            Err(_) => {}
        }
    }
}

/// Writes what was found damaged, for whoever looks for the cause.
fn write_damage(folder: &Path, origin: &str, object: TilePath, what: &str) -> io::Result<()> {
    durable::create_folder(folder)?;
    let name = object.to_string().replace('/', "-");
    let file = json!({
        "kind": "damage",
        "origin": origin,
        "object": object.to_string(),
        "shows": what,
    });
    durable::write(
        &folder.join(format!("damage-{name}.json")),
        &serde_json::to_vec_pretty(&file).expect("strings are JSON"),
    )
}

/// Writes both notes in the form that the auditor uses for two checkpoints of one log.
fn write(folder: &Path, evidence: &Evidence) -> io::Result<PathBuf> {
    let Evidence { ours, ours_note, theirs, theirs_note, witness } = evidence;
    durable::create_folder(folder)?;
    let both = &Hash::of_parts(&[ours_note, theirs_note]).to_string()[..8];
    let path = folder.join(format!("fork-{}-{}-{both}.json", ours.size, theirs.size));
    let (kind, shows) = if theirs.size > ours.size {
        (
            "larger-tree",
            "the key of this log signed a tree larger than the log has: it went back in time, or forked",
        )
    } else {
        ("equivocation", "the key of this log signed a tree of which the log's own tree is no continuation")
    };
    // Notes are text by their own definition, so they stay readable in the file.
    let file = json!({
        "kind": kind,
        "origin": ours.origin,
        "shows": shows,
        "witness": witness,
        "first_seen": String::from_utf8_lossy(theirs_note),
        "then_served": String::from_utf8_lossy(ours_note),
    });
    durable::write(&path, &serde_json::to_vec_pretty(&file).expect("strings are JSON"))?;
    Ok(path)
}
