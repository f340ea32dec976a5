//! Reads a tlog-tiles log over HTTP. What it returns is unverified until a checkpoint vouches for it.
//!
//! Full tiles never change, so a client keeps those it has fetched, up to a bound.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use glassbloom_spec::{
    api::{Appended, PromisedEntry},
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle::{self, NodeId, ProofError},
    note::MAX_NOTE,
    tile::{FULL_WIDTH, MAX_ENTRY, TileError, TileLevel, TilePath, TileSet, decode_bundle},
};
use reqwest::StatusCode;

use crate::http::{ReadError, http_client, read_bounded};

/// Why something could not be read from a log.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server answered something that is not what the path names.
    #[error("{url}: not a valid tile or entry bundle")]
    Malformed {
        /// What was asked for.
        url: String,
    },
    /// The tiles do not give the proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The server answered with an error.
    #[error("{url}: the log answered {status}: {detail}")]
    Refused {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
        /// Start of the answer.
        detail: String,
    },
    /// A tile has the wrong length.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The server cannot be reached; is it running?
    #[error("{url}: cannot be reached ({detail}); check the address and that the log is running")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The transport's words.
        detail: String,
    },
}

/// What a log answers to a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Append {
    /// The entry is proven to be in the log.
    Proven(Appended),
    /// The entry is in the log, which promises to prove it later.
    Promised(PromisedEntry),
}

/// A client of one log; clones share connections and cache.
#[derive(Clone, Debug)]
pub struct LogClient {
    http: reqwest::Client,
    prefix: String,
    tiles: Arc<Mutex<HashMap<TilePath, Bytes>>>,
}

/// Full tiles that are kept, 8 KiB each.
const KEPT_TILES: usize = 512;
/// Requests under way at once.
const PARALLEL: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(20);

impl LogClient {
    /// A client of the log at a URL prefix, for example `http://127.0.0.1:8789/registry`.
    pub fn new(prefix: &str) -> Self {
        Self { http: http_client(), prefix: prefix.trim_end_matches('/').to_owned(), tiles: Arc::default() }
    }

    /// The URL prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The published checkpoint's bytes.
    pub async fn checkpoint_bytes(&self) -> Result<Vec<u8>, FetchError> {
        Ok(self.get("checkpoint", MAX_NOTE).await?.to_vec())
    }

    /// A tile or entry bundle; where a partial one is gone, the full one, cut to its width.
    pub async fn fetch(&self, path: TilePath) -> Result<Bytes, FetchError> {
        if let Some(kept) = self.kept(path) {
            return Ok(kept);
        }
        let limit = usize::from(FULL_WIDTH) * (MAX_ENTRY + 2);
        let bytes = match self.get(&path.to_string(), limit).await {
            Err(FetchError::Refused { status: 404 | 410, .. }) if !path.is_full() => {
                let full = self.get(&path.to_full().to_string(), limit).await?;
                return self.cut(path, &full);
            }
            other => other?,
        };
        if path.is_full() && path.level() != TileLevel::Entries {
            let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
            if tiles.len() >= KEPT_TILES {
                tiles.clear();
            }
            tiles.insert(path, bytes.clone());
        }
        Ok(bytes)
    }

    /// The inclusion proof of a leaf in the tree of this size.
    pub async fn inclusion_proof(&self, index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, FetchError> {
        let tiles = self.tiles_for(&merkle::inclusion_nodes(index, size)?, size).await?;
        Ok(merkle::prove_inclusion(index, size, &tiles)?)
    }

    /// The consistency proof between two sizes.
    pub async fn consistency_proof(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, FetchError> {
        let tiles = self.tiles_for(&merkle::consistency_nodes(old, new)?, new).await?;
        Ok(merkle::prove_consistency(old, new, &tiles)?)
    }

    /// The entries of an index range, in order, as of a tree of this size.
    pub async fn entries(&self, range: Range<u64>, size: TreeSize) -> Result<Vec<Vec<u8>>, FetchError> {
        let width = u64::from(FULL_WIDTH);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let bundles = range.start / width..range.end.div_ceil(width);
        let fetched: Vec<(u64, Vec<Vec<u8>>)> = stream::iter(bundles)
            .map(|index| async move {
                let path = TilePath::entries(index, size)
                    .ok_or(ProofError::IndexOutOfRange { index: (index * width).into(), size })?;
                let bytes = self.fetch(path).await?;
                let entries = decode_bundle(&bytes, path.width()).ok_or_else(|| self.malformed(path))?;
                Ok::<_, FetchError>((index, entries.into_iter().map(<[u8]>::to_vec).collect()))
            })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let numbered = fetched.into_iter().flat_map(|(bundle, entries)| (bundle * width..).zip(entries));
        Ok(numbered.filter(|(index, _)| range.contains(index)).map(|(_, entry)| entry).collect())
    }

    /// Appends an entry with the log's write token and waits for the published proof, or for the log's promise when it
    /// is late. An entry that is in the log already gets what belongs to its first index.
    ///
    /// A log that has ended names the one that goes on: it is asked once, if it is on the same server.
    pub async fn append(&self, entry: &[u8], token: &str) -> Result<Append, FetchError> {
        match self.append_here(entry, token).await {
            Err(FetchError::Refused { url, status: 410, detail }) => {
                let Some(prefix) = successor(&url, &detail) else {
                    return Err(FetchError::Refused { url, status: 410, detail });
                };
                Self { prefix, ..self.clone() }.append_here(entry, token).await
            }
            answer => answer,
        }
    }

    async fn append_here(&self, entry: &[u8], token: &str) -> Result<Append, FetchError> {
        let url = format!("{}/append", self.prefix);
        let request = self.http.post(&url).bearer_auth(token).timeout(TIMEOUT).body(entry.to_vec());
        let (status, body) = self.send(url.clone(), request, 1 << 20).await?;
        let answer = match status {
            StatusCode::ACCEPTED => serde_json::from_slice(&body).map(Append::Promised),
            _ => serde_json::from_slice(&body).map(Append::Proven),
        };
        answer.map_err(|_| FetchError::Malformed { url })
    }

    async fn tiles_for(&self, nodes: &[NodeId], size: TreeSize) -> Result<TileSet, FetchError> {
        let fetched: Vec<(TilePath, Bytes)> = stream::iter(TileSet::needed(nodes, size))
            .map(|path| async move { Ok::<_, FetchError>((path, self.fetch(path).await?)) })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let mut tiles = TileSet::new();
        for (path, bytes) in fetched {
            tiles.insert(path, &bytes)?;
        }
        Ok(tiles)
    }

    fn kept(&self, path: TilePath) -> Option<Bytes> {
        let tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        let full = tiles.get(&path.to_full())?.clone();
        drop(tiles);
        self.cut(path, &full).ok()
    }

    /// The part of a full tile or bundle that the path names.
    fn cut(&self, path: TilePath, full: &Bytes) -> Result<Bytes, FetchError> {
        if path.level() != TileLevel::Entries {
            let length = usize::from(path.width()) * Hash::LEN;
            return (length <= full.len()).then(|| full.slice(..length)).ok_or_else(|| self.malformed(path));
        }
        let entries = decode_bundle(full, FULL_WIDTH).ok_or_else(|| self.malformed(path))?;
        let length: usize = entries[..usize::from(path.width())].iter().map(|entry| entry.len() + 2).sum();
        Ok(full.slice(..length))
    }

    fn malformed(&self, path: TilePath) -> FetchError {
        FetchError::Malformed { url: format!("{}/{path}", self.prefix) }
    }

    async fn get(&self, path: &str, limit: usize) -> Result<Bytes, FetchError> {
        let url = format!("{}/{path}", self.prefix);
        let (_, body) = self.send(url.clone(), self.http.get(&url).timeout(TIMEOUT), limit).await?;
        Ok(body)
    }

    async fn send(
        &self,
        url: String,
        request: reqwest::RequestBuilder,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let unreachable = |detail: String| FetchError::Unreachable { url: url.clone(), detail };
        let response = request.send().await.map_err(|error| unreachable(root_cause(&error)))?;
        let status = response.status();
        let body = match read_bounded(response, limit).await {
            Ok(body) => body,
            Err(ReadError::TooLarge { .. }) => return Err(FetchError::Malformed { url }),
            Err(ReadError::Transport(error)) => return Err(unreachable(root_cause(&error))),
        };
        if !status.is_success() {
            // Where a log has ended, the end of the answer says where to go.
            let shown = if status == StatusCode::GONE { 4096 } else { 300 };
            let detail = String::from_utf8_lossy(&body[..body.len().min(shown)]).into_owned();
            return Err(FetchError::Refused { url, status: status.as_u16(), detail });
        }
        Ok((status, body.into()))
    }
}

/// The prefix of the log that goes on, from what the closed one answered. The token goes to no other server.
fn successor(url: &str, problem: &str) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_str(problem).ok()?;
    let reference = problem.get("successor_url").filter(|_| problem["code"] == "log-closed")?;
    let here = reqwest::Url::parse(url).ok()?;
    let next = here.join(reference.as_str()?).ok()?;
    let plain = next.query().is_none() && next.fragment().is_none() && next.username() == here.username();
    (plain && next.origin() == here.origin()).then(|| next.as_str().trim_end_matches('/').to_owned())
}

/// The innermost cause, which says what happened ("Connection refused") without the layers around it.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_no_other_server() {
        let next = |url: &str, reference: &str| {
            successor(url, &format!(r#"{{"code":"log-closed","successor_url":"{reference}"}}"#))
        };
        let (http, deep) = ("http://a.example:1/receipts/append", "https://a.example/x/receipts/2026/append");
        assert_eq!(next(http, "../receipts/2027").as_deref(), Some("http://a.example:1/receipts/2027"));
        assert_eq!(next(deep, "../../receipts/2027/").as_deref(), Some("https://a.example/x/receipts/2027"));
        for elsewhere in
            ["http://b.example/receipts", "https://a.example:1/r", "//b.example/r", "http://a.example/r"]
        {
            assert_eq!(next(http, elsewhere), None, "{elsewhere}");
        }
        assert_eq!(next(http, "../receipts?x=1"), None);
        assert_eq!(successor(http, r#"{"code":"other","successor_url":"../r"}"#), None);
        assert_eq!(successor(http, "gone"), None);
    }
}
