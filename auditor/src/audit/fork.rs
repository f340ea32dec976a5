//! The file that proves a fork to anyone who has the log's key.

use std::path::{Path, PathBuf};

use glassbloom_service::durable;
use glassbloom_spec::{checkpoint::TreeHead, hash::Hash};
use serde_json::json;

use super::state::{Seen, StateError};

/// Writes both notes below the state folder and returns the file's path.
pub(crate) fn write(
    folder: &Path,
    seen: &Seen,
    newer: &TreeHead,
    newer_note: &[u8],
    shows: &str,
) -> Result<PathBuf, StateError> {
    let evidence = folder.join("evidence");
    durable::create_folder(&evidence)?;
    let log = &Hash::of(newer.origin.as_bytes()).to_string()[..8];
    let both = &Hash::of_parts(&[&seen.note, newer_note]).to_string()[..8];
    let path = evidence.join(format!("fork-{log}-{}-{}-{both}.json", seen.head.size, newer.size));
    // Notes are text by their own definition, so they stay readable in the file.
    let file = json!({
        "kind": "equivocation",
        "origin": newer.origin,
        "shows": shows,
        "first_seen": String::from_utf8_lossy(&seen.note),
        "then_served": String::from_utf8_lossy(newer_note),
    });
    let text = serde_json::to_vec_pretty(&file).expect("strings are JSON");
    durable::write(&path, &text)?;
    Ok(path)
}
