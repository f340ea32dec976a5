//! Whether one tree is a prefix of another, told apart from a log whose hash tiles are damaged.

use glassbloom_service::LogClient;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    merkle::{consistency_nodes, frontier_nodes, prove_consistency, root_from_nodes, verify_consistency},
    tile::TileSet,
};

use super::ReplayError;

/// How an older head relates to a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// The newer tree begins with the older one.
    Extends,
    /// It provably does not: at the older size it had this root.
    Forks(Hash),
    /// The hash tiles served do not lead to the newer root, so they show nothing either way.
    Unproven,
}

/// Compares two heads of one log, with tiles fetched for the newer one.
///
/// # Errors
/// When tiles cannot be fetched.
pub async fn history(client: &LogClient, older: &TreeHead, newer: &TreeHead) -> Result<History, ReplayError> {
    if older.size == newer.size {
        return Ok(if older.root == newer.root { History::Extends } else { History::Forks(newer.root) });
    }
    let Ok(mut nodes) = consistency_nodes(older.size, newer.size) else { return Ok(History::Unproven) };
    // Rebuilding the older root as well tells which side of a failing proof is wrong.
    nodes.extend(frontier_nodes(older.size));
    let mut tiles = TileSet::new();
    for path in TileSet::needed(&nodes, newer.size) {
        let bytes = client.fetch(path).await?;
        tiles.insert(path, &bytes).map_err(|error| ReplayError::Malformed(error.to_string()))?;
    }
    let (Ok(proof), Ok(root)) =
        (prove_consistency(older.size, newer.size, &tiles), root_from_nodes(older.size, &tiles))
    else {
        return Ok(History::Unproven);
    };
    if verify_consistency(older.size, newer.size, root, newer.root, &proof).is_err() {
        return Ok(History::Unproven);
    }
    Ok(if root == older.root { History::Extends } else { History::Forks(root) })
}
