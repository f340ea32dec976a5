//! Copying a whole log, verified: every entry is hashed on the way, and the tiles above are made here, so that what
//! arrives is what the checkpoint signs or nothing is signed or shown.
//!
//! [`export`] makes a folder that any static file server can serve. [`import`](crate::import) fills an empty log.

use std::{
    fs::{self, File},
    io,
    num::NonZero,
    ops::Range,
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use glassbloom_service::durable;
use glassbloom_spec::{
    checkpoint::{Checkpoint, TreeHead},
    hash::Hash,
    id::TreeSize,
    merkle::root_of,
    policy::Policy,
    tile::{FULL_WIDTH, TileLevel, TilePath, decode_bundle},
};
use tokio::time::Instant;

use crate::{
    fsck::{FsckError, Source, state},
    source::read_tile,
};

/// A bundle of the source, cut to the width that it has in the tree, and the hashes of its entries.
struct Bundle {
    path: TilePath,
    bytes: Bytes,
    leaves: Vec<Hash>,
    /// The root over the leaves.
    root: Hash,
}

/// Bundles fetched at once over the network.
const FETCHES: usize = 16;
/// Bundles that one thread reads, and that are written and synced together.
const RUN: u64 = 32;
/// How often it is written down how far the copy has come.
const SAVE_EVERY: Duration = Duration::from_secs(5);

fn damaged(path: TilePath, why: &str) -> FsckError {
    FsckError::Damaged { path, why: why.to_owned() }
}

fn split(path: TilePath, found: Option<(TilePath, Bytes)>) -> Result<Bundle, FsckError> {
    let (found, bytes) = found.ok_or_else(|| damaged(path, "it is missing"))?;
    let entries = decode_bundle(&bytes, found.width());
    let entries = entries.ok_or_else(|| damaged(found, "it is not a bundle of that many entries"))?;
    let entries = &entries[..usize::from(path.width())];
    let leaves: Vec<Hash> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
    let length: usize = entries.iter().map(|entry| entry.len() + 2).sum();
    let root = root_of(leaves.iter().copied());
    Ok(Bundle { path, leaves, root, bytes: bytes.slice(..length) })
}

/// Reads and hashes runs of bundles, several at once, in order.
fn bundles(
    source: &Source,
    first: u64,
    size: TreeSize,
) -> impl Stream<Item = Result<Vec<Bundle>, FsckError>> + '_ {
    let all = size.get().div_ceil(u64::from(FULL_WIDTH));
    let (run, parallel) = match source {
        Source::Folder(_) => (RUN, available_parallelism().map_or(2, NonZero::get) + 1),
        Source::Bucket(_) | Source::Http(..) | Source::Store(_) => (1, FETCHES),
    };
    let path = move |index| TilePath::entries(index, size).expect("the index is below the number of bundles");
    stream::iter((first..all).step_by(run as usize).map(move |begin| begin..(begin + run).min(all)))
        .map(move |run: Range<u64>| async move {
            let died =
                FsckError::Unreachable { path: path(run.start).to_string(), why: "a thread died".into() };
            let done = if let Source::Folder(folder) = source {
                let folder = folder.clone();
                let read = move |index| split(path(index), read_tile(&folder, path(index))?);
                tokio::task::spawn_blocking(move || run.map(read).collect()).await
            } else {
                let found = source.tile(path(run.start)).await?;
                tokio::task::spawn_blocking(move || Ok(vec![split(path(run.start), found)?])).await
            };
            done.unwrap_or(Err(died))
        })
        .buffered(parallel)
}

/// Where the objects of a copy go. What was put is durable when [`Sink::put`] returns.
pub(crate) trait Sink {
    /// Writes objects that may be there already, with the same bytes.
    fn put(&self, objects: Vec<(TilePath, Bytes)>) -> impl Future<Output = Result<(), FsckError>> + Send;
}

/// Copies everything below the checkpoint to the sink. How far it came is kept in the file `state`, so that a copy that
/// was interrupted goes on; the file is removed by the caller, when all is done.
pub(crate) async fn copy(
    source: &Source,
    head: &TreeHead,
    sink: &impl Sink,
    state: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), FsckError> {
    let size = head.size;
    let remembered = state::load(state, head, source).await?;
    let mut tree = remembered.map(|(tree, _)| tree).unwrap_or_default();
    let mut runs = std::pin::pin!(bundles(source, tree.size().get() / u64::from(FULL_WIDTH), size));
    let (mut last, mut saved) = (Vec::new(), Instant::now());
    while let Some(run) = runs.next().await {
        let run = match run {
            Ok(run) => run,
            Err(error) => {
                // What was copied so far stays copied.
                state::save(state, head, &tree, &[])?;
                return Err(error);
            }
        };
        let mut objects = Vec::new();
        for Bundle { path, bytes, leaves, root } in run {
            let hashes: Vec<u8> = leaves.iter().flat_map(|leaf| *leaf.as_bytes()).collect();
            let tile = TilePath::new(TileLevel::Hashes(0), path.index(), path.width());
            objects.push((path, bytes));
            objects.push((tile.expect("every bundle has a tile of hashes beside it"), hashes.into()));
            if path.is_full() {
                objects.extend(tree.append_bundle(root));
            } else {
                last = leaves;
            }
        }
        sink.put(objects).await?;
        progress(tree.size().get(), size.get());
        if saved.elapsed() >= SAVE_EVERY {
            state::save(state, head, &tree, &[])?;
            saved = Instant::now();
        }
    }
    sink.put(tree.unfinished()).await?;
    let found = tree.root_with(&last);
    if found != head.root {
        return Err(FsckError::OtherRoot { size, found, signed: head.root });
    }
    progress(size.get(), size.get());
    Ok(())
}

/// Tiles in a folder, each written whole and synced.
struct FolderSink(PathBuf);

impl Sink for FolderSink {
    async fn put(&self, objects: Vec<(TilePath, Bytes)>) -> Result<(), FsckError> {
        let folder = self.0.clone();
        let shown = folder.display().to_string();
        let written = tokio::task::spawn_blocking(move || write_all(&folder, &objects)).await;
        let why = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(FsckError::Unwritable { path: shown, why })
    }
}

fn write_all(folder: &Path, objects: &[(TilePath, Bytes)]) -> io::Result<()> {
    let mut folders = std::collections::BTreeSet::new();
    for (path, bytes) in objects {
        let target = folder.join(path.to_string());
        let parent = target.parent().expect("a tile path has at least two parts").to_owned();
        durable::create_folder(&parent)?;
        let temporary = target.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(temporary, target)?;
        folders.insert(parent);
    }
    folders.into_iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

/// Makes a verified copy of a log: tiles, bundles, the policy and, last, the checkpoint. Run again it goes on, or
/// brings the copy up to date.
///
/// # Errors
/// When source and checkpoint do not fit, or the folder cannot be written. Without the checkpoint the copy is none yet.
pub async fn export(
    source: &Source,
    policy: &Policy,
    origin: &str,
    folder: &Path,
    progress: impl FnMut(u64, u64),
) -> Result<Checkpoint, FsckError> {
    let unwritable = |error: io::Error| FsckError::Unwritable {
        path: folder.display().to_string(),
        why: error.to_string(),
    };
    let note = source.get("checkpoint").await?.ok_or_else(|| FsckError::NoCheckpoint(origin.to_owned()))?;
    let checkpoint = policy.open(Some(origin), &note)?;
    durable::create_folder(folder).map_err(unwritable)?;
    let state = folder.join("export-state");
    copy(source, checkpoint.head(), &FolderSink(folder.to_owned()), &state, progress).await?;
    durable::write(&folder.join("policy"), policy.to_string().as_bytes()).map_err(unwritable)?;
    durable::write(&folder.join("checkpoint"), &note).map_err(unwritable)?;
    match fs::remove_file(&state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(error)),
        _ => Ok(checkpoint),
    }
}
