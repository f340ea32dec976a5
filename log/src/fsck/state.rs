//! How far a check has come, in a file, so that an interrupted one goes on and a grown log is not read twice.
//!
//! What is in the file is not believed: before it is used, the tree that it stands for is proven to be a prefix of
//! the tree that the log's newest checkpoint signs.

use std::{fs, io, path::Path};

use glassbloom_service::durable;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::TreeSize,
    merkle::{self, ProofError},
};
use serde::{Deserialize, Serialize};

use super::{FsckError, tree::Rebuilt};
use crate::source::Source;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Says what the file is.
    kind: String,
    /// The checkpoint that was checked against.
    head: TreeHead,
    /// Entries that were checked: whole bundles.
    checked: TreeSize,
    /// Root over them.
    root: Hash,
    /// The unfinished tile of each level, lowest first; level 0 has none.
    rows: Vec<Vec<Hash>>,
    /// What was found so far, in words.
    findings: Vec<String>,
}

const KIND: &str = "glassbloom-log fsck state v1";

/// Writes how far the check has come.
pub(crate) fn save(
    path: &Path,
    head: &TreeHead,
    tree: &Rebuilt,
    findings: &[String],
) -> Result<(), FsckError> {
    let file = File {
        kind: KIND.to_owned(),
        head: head.clone(),
        checked: tree.size(),
        root: tree.root(),
        rows: tree.rows().to_vec(),
        findings: findings.to_vec(),
    };
    let text = serde_json::to_vec(&file).expect("numbers and strings are JSON");
    durable::write(path, &text)
        .map_err(|error| FsckError::Unwritable { path: path.display().to_string(), why: error.to_string() })
}

/// Reads how far an earlier check of this log has come, and what it found; `None` when there was none.
pub(crate) async fn load(
    path: &Path,
    head: &TreeHead,
    source: &Source,
) -> Result<Option<(Rebuilt, Vec<String>)>, FsckError> {
    let name = path.display().to_string();
    let malformed = |why: String| FsckError::StateMalformed { path: name.clone(), why };
    let wrong = |why: String| FsckError::StateWrong { path: name.clone(), why };
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| malformed(error.to_string()))?,
    };
    let file: File = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    if file.kind != KIND {
        return Err(malformed(format!("it is not a {KIND}")));
    }
    let File { head: old, checked, root, rows, findings, .. } = file;
    if old.origin != head.origin {
        return Err(wrong(format!("it is of {}, not of {}", old.origin, head.origin)));
    }
    if old.size > head.size {
        let (old, new) = (old.size, head.size);
        return Err(wrong(format!(
            "it has seen a signed checkpoint of size {old}; the log now shows only {new}"
        )));
    }
    let tree = Rebuilt::restore(checked, root, &rows).filter(|tree| tree.size() <= old.size);
    let tree = tree.ok_or_else(|| wrong("its hashes contradict each other".to_owned()))?;
    for (size, root, what) in
        [(old.size, old.root, "the checkpoint it was made against"), (checked, root, "it")]
    {
        if let Err(error) = prove(source, size, root, head).await? {
            return Err(wrong(format!("{what} is not shown to be a prefix of the signed tree ({error})")));
        }
    }
    Ok(Some((tree, findings)))
}

/// Proves from the log's tiles that the older tree is a prefix of the signed one.
async fn prove(
    source: &Source,
    size: TreeSize,
    root: Hash,
    head: &TreeHead,
) -> Result<Result<(), ProofError>, FsckError> {
    let nodes = match merkle::consistency_nodes(size, head.size) {
        Ok(nodes) => source.nodes(&nodes, head.size).await?,
        Err(error) => return Ok(Err(error)),
    };
    Ok(merkle::prove_consistency(size, head.size, &nodes)
        .and_then(|proof| merkle::verify_consistency(size, head.size, root, head.root, &proof)))
}
