//! What a log signed against itself: the specification lets a witness keep it.

use std::{fs, io, path::Path};

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    note::{SignatureLine, SignedNote},
};

use crate::audit::{Seen, StateError, fork};

/// Files kept for one log: a log that signs whatever it is asked to must not fill the disk.
const MAX_FILES: usize = 16;

/// Keeps both notes when they have one size and two roots. That it cannot is logged: it changes no answer.
pub(super) async fn keep(folder: &Path, first: Vec<u8>, head: TreeHead, signatures: Vec<SignatureLine>) {
    let folder = folder.to_owned();
    let kept = tokio::task::spawn_blocking(move || write(&folder, first, &head, signatures)).await;
    match kept {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("evidence was not kept: {error}"),
        Err(error) => tracing::warn!("evidence was not kept: {error}"),
    }
}

fn write(
    folder: &Path,
    first: Vec<u8>,
    head: &TreeHead,
    signatures: Vec<SignatureLine>,
) -> Result<(), StateError> {
    let parsed = SignedNote::parse(&first).and_then(|note| TreeHead::parse(&note.text));
    let seen = Seen { head: parsed.map_err(io::Error::other)?, note: first };
    // The log may have moved on since the request was compared.
    if seen.head.size != head.size || seen.head.root == head.root {
        return Ok(());
    }
    let own = format!("fork-{}", &Hash::of(head.origin.as_bytes()).to_string()[..8]);
    let is_own = |file: &io::Result<fs::DirEntry>| {
        file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().starts_with(&own))
    };
    let kept = match fs::read_dir(folder.join("evidence")) {
        Ok(files) => files.filter(is_own).count(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    if kept >= MAX_FILES {
        return Ok(());
    }
    let newer = SignedNote { text: head.to_string(), signatures }.encode();
    let shows = format!("at size {} the log signed {} and {}", head.size, seen.head.root, head.root);
    let path = fork::write(folder, &seen, head, &newer, &shows)?;
    tracing::error!(origin = head.origin, "a fork, signed by the log: {}", path.display());
    Ok(())
}
