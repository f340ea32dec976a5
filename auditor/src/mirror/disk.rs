//! One log's copy on disk, laid out so that any static file server can serve it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use glassbloom_service::durable;
use glassbloom_spec::{
    checkpoint::TreeHead,
    id::TreeSize,
    merkle::NodeId,
    note::SignedNote,
    tile::{TilePath, TileSet, tiles_between},
};

/// `FOLDER/checkpoint` and `FOLDER/tile/…`. All calls block on the disk.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
}

/// The checkpoint up to which the copy is complete.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) head: TreeHead,
    pub(super) note: SignedNote,
}

impl Disk {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        durable::create_folder(&folder)?;
        Ok(Self { folder })
    }

    /// The checkpoint; `None` before the first.
    pub(super) fn published(&self) -> io::Result<Option<Published>> {
        let Some(bytes) = optional(fs::read(self.folder.join("checkpoint")))? else { return Ok(None) };
        let parsed = SignedNote::parse(&bytes).and_then(|note| Ok((TreeHead::parse(&note.text)?, note)));
        let (head, note) = parsed.map_err(io::Error::other)?;
        Ok(Some(Published { head, note }))
    }

    /// Replaces the checkpoint, durably.
    pub(super) fn publish(&self, note: &SignedNote) -> io::Result<()> {
        durable::write(&self.folder.join("checkpoint"), &note.encode())
    }

    /// A tile or bundle in exactly this width.
    pub(super) fn read(&self, path: TilePath) -> io::Result<Option<Bytes>> {
        Ok(optional(fs::read(self.folder.join(path.to_string())))?.map(Bytes::from))
    }

    /// The hash tiles that hold these nodes of a tree of this size; one that is missing is left out.
    pub(super) fn tiles(&self, nodes: &[NodeId], size: TreeSize) -> io::Result<TileSet> {
        let mut tiles = TileSet::new();
        for path in TileSet::needed(nodes, size) {
            for path in [path, path.to_full()] {
                if let Some(bytes) = self.read(path)? {
                    tiles.insert(path, &bytes).map_err(io::Error::other)?;
                    break;
                }
            }
        }
        Ok(tiles)
    }

    /// Writes tiles and bundles, durably; those that are there already with this content are not written again.
    pub(super) fn put(&self, objects: &[(TilePath, Bytes)]) -> io::Result<()> {
        let (mut folders, mut renames) = (BTreeSet::new(), Vec::new());
        for (path, bytes) in objects {
            let target = self.folder.join(path.to_string());
            let parent = parent(&target);
            durable::create_folder(&parent)?;
            folders.insert(parent);
            if optional(fs::read(&target))?.is_some_and(|found| found == *bytes) {
                continue;
            }
            let temporary = target.with_extension("tmp");
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            renames.push((temporary, target));
        }
        for (temporary, target) in renames {
            fs::rename(temporary, target)?;
        }
        // Also where nothing was renamed: a file may be there and its name not yet on disk.
        folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
    }

    /// Forgets full tiles that were written on the way from one size to another and turned out wrong. Partial tiles
    /// are only written when a root held, and stay.
    pub(super) fn discard(&self, from: TreeSize, to: TreeSize) -> io::Result<()> {
        for path in tiles_between(from, to).filter(|path| path.is_full()) {
            optional(fs::remove_file(self.folder.join(path.to_string())))?;
        }
        Ok(())
    }

    /// Removes partial tiles whose full tile is there, once no reader needs them: a client that misses a partial tile
    /// asks for the full one.
    pub(super) fn discard_partials(&self, from: TreeSize, to: TreeSize) -> io::Result<()> {
        // Only tiles that were partial before can have any.
        let edge = tiles_between(TreeSize::new(0), from).filter(|path| !path.is_full());
        let grown: BTreeSet<TilePath> = tiles_between(from, to).filter(|path| path.is_full()).collect();
        for path in edge.map(TilePath::to_full).filter(|path| grown.contains(path)) {
            optional(fs::remove_dir_all(self.folder.join(format!("{path}.p"))))?;
        }
        Ok(())
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().expect("a tile path has at least two parts").to_owned()
}

fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
