//! Reading a log from outside: a folder, an address or a store of this process.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use glassbloom_service::read_bounded;
use glassbloom_spec::{
    hash::Hash,
    id::TreeSize,
    merkle::NodeId,
    tile::{FULL_WIDTH, MAX_ENTRY, TilePath, TileSet},
};
use reqwest::StatusCode;

use crate::{
    fsck::FsckError,
    store::{Bucket, StoreError, TileStore},
    witness::describe,
};

/// Where a log is read from.
#[derive(Clone)]
pub enum Source {
    /// A folder with `checkpoint` and `tile/` in it.
    Folder(PathBuf),
    /// An address below which they are served.
    Http(reqwest::Client, String),
    /// A bucket below which they are.
    Bucket(Bucket),
    /// The store of a log in this process.
    Store(Arc<dyn TileStore>),
}

/// No object of a log is larger: 256 entries of 65,535 bytes.
const MAX_OBJECT: usize = FULL_WIDTH as usize * (MAX_ENTRY + 2);
/// How long an object may take: the largest is 16 MiB.
const TIMEOUT: Duration = Duration::from_secs(60);

fn unreachable(path: &str, why: &impl ToString) -> FsckError {
    FsckError::Unreachable { path: path.to_owned(), why: why.to_string() }
}

impl Source {
    /// Reads an object; `None` when there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, FsckError> {
        match self {
            Self::Folder(folder) => {
                let file = folder.join(path);
                let read = tokio::task::spawn_blocking(move || optional(fs::read(file))).await;
                let read = read.map_err(|error| unreachable(path, &error))?;
                Ok(read.map_err(|error| unreachable(path, &error))?.map(Bytes::from))
            }
            Self::Http(client, base) => {
                let url = format!("{}/{path}", base.trim_end_matches('/'));
                let sent = client.get(&url).timeout(TIMEOUT).send().await;
                let response = sent.map_err(|e| unreachable(path, &format!("{url}: {}", describe(&e))))?;
                match response.status() {
                    StatusCode::OK => {}
                    StatusCode::NOT_FOUND => return Ok(None),
                    status => return Err(unreachable(path, &format!("{url} answered {status}"))),
                }
                let body = read_bounded(response, MAX_OBJECT).await.map_err(|e| unreachable(path, &e))?;
                Ok(Some(body.into()))
            }
            Self::Bucket(bucket) => {
                bucket.get(path, MAX_OBJECT).await.map_err(|error| unreachable(path, &error))
            }
            Self::Store(store) => {
                let read = match path.parse::<TilePath>() {
                    Ok(path) => store.get(&path).await,
                    Err(_) => store.published().await,
                };
                read.map_err(|error: StoreError| unreachable(path, &error))
            }
        }
    }

    /// A tile or bundle, or the full one at its place: a log drops partial tiles when the full one is there. The
    /// path returned says which of the two it is.
    pub(crate) async fn tile(&self, path: TilePath) -> Result<Option<(TilePath, Bytes)>, FsckError> {
        for path in versions(path) {
            if let Some(bytes) = self.get(&path.to_string()).await? {
                return Ok(Some((path, bytes)));
            }
        }
        Ok(None)
    }

    /// The tiles of a tree of this size that hold these nodes. One that is missing or has the wrong length is left
    /// out: whoever builds a proof from the rest meets the missing node.
    pub(crate) async fn nodes(&self, nodes: &[NodeId], size: TreeSize) -> Result<TileSet, FsckError> {
        let mut set = TileSet::new();
        for path in TileSet::needed(nodes, size) {
            if let Some((found, bytes)) = self.tile(path).await? {
                let _ = set.insert(found, &bytes);
            }
        }
        Ok(set)
    }
}

/// Reads like [`Source::tile`], from a folder, on the thread of the caller.
pub(crate) fn read_tile(
    folder: &std::path::Path,
    path: TilePath,
) -> Result<Option<(TilePath, Bytes)>, FsckError> {
    for path in versions(path) {
        let name = path.to_string();
        let read = optional(fs::read(folder.join(&name))).map_err(|error| unreachable(&name, &error))?;
        if let Some(bytes) = read {
            return Ok(Some((path, bytes.into())));
        }
    }
    Ok(None)
}

fn versions(path: TilePath) -> impl Iterator<Item = TilePath> {
    let full = (!path.is_full()).then(|| path.to_full());
    std::iter::once(path).chain(full)
}

fn optional(read: io::Result<Vec<u8>>) -> io::Result<Option<Vec<u8>>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The first rows of a tile of hashes; `None` unless it is exactly as long as its path says.
pub(crate) fn rows(path: TilePath, bytes: &[u8], width: usize) -> Option<Vec<Hash>> {
    match bytes.as_chunks::<{ Hash::LEN }>() {
        (rows, []) if rows.len() == usize::from(path.width()) => {
            Some(rows.get(..width)?.iter().copied().map(Hash::from_bytes).collect())
        }
        _ => None,
    }
}
