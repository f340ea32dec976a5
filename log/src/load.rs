//! What a log checks and finishes before it goes on: the state that the last process left.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixMillis},
    merkle,
    policy::Policy,
    tile::{FULL_WIDTH, TilePath},
};

use crate::{
    edge::Edge,
    error::Error,
    integrator::{apply, check_last_bundle},
    keys::LogKeys,
    publisher::Published,
    reader::TileReader,
    staging,
    store::{BatchName, HeadStore, StoredHead, TileStore},
};

/// The state in which a log may go on.
pub(crate) struct Loaded {
    pub(crate) stored: StoredHead,
    pub(crate) head: TreeHead,
    pub(crate) edge: Edge,
    pub(crate) frontier: merkle::Frontier,
    pub(crate) staged: VecDeque<BatchName>,
    /// Batches beyond the head that lead nowhere, unless another process is about to swap in the head of one.
    pub(crate) strays: Vec<BatchName>,
    pub(crate) last: Option<Bytes>,
}

/// Reads the state, replays what is staged, and refuses what does not fit together.
pub(crate) async fn load(
    keys: &LogKeys,
    tiles: &dyn TileStore,
    heads: &dyn HeadStore,
    reader: &TileReader,
) -> Result<Loaded, Error> {
    let origin = keys.origin().to_owned();
    let corrupt = |what: String| Error::Corrupt { origin: keys.origin().to_owned(), what };
    let stored = heads.load(&origin).await?.ok_or(Error::HeadMissing { origin })?;
    let head = keys
        .open_head(&stored.note)
        .ok_or_else(|| corrupt("the stored head is not signed by the key of this log".to_owned()))?;
    let last = tiles.published().await?;
    let published = last.as_ref().map(|note| published_head(keys, note)).transpose()?;
    if let Some(published) = published.as_ref().filter(|published| published.size > head.size) {
        return Err(Error::HeadWentBack { origin: head.origin, head: head.size, published: published.size });
    }

    let staged = tiles.staged().await?;
    let (replay, begin) = chain(tiles, &staged, &head, stored.applied).await?;
    let mut edge = read_edge(reader, stored.applied).await?;
    if edge.root() != begin {
        return Err(corrupt(format!("the tiles of size {} are of another tree", edge.size())));
    }
    // Before anything is built on it: entries of a damaged bundle would be written again into the next ones.
    check_last_bundle(reader, &TreeHead { size: stored.applied, root: begin, ..head.clone() }).await?;
    for name in &replay {
        let leaves = tiles.read_staged(*name).await?.and_then(|bytes| staging::decode(*name, &bytes));
        let leaves = leaves.ok_or_else(|| corrupt(format!("staged batch {name} cannot be read")))?;
        let reached = TreeHead { origin: head.origin.clone(), size: name.new, root: name.root };
        apply(&mut edge, &leaves, &reached, tiles, reader).await?;
    }
    check_last_bundle(reader, &head).await?;
    if let Some(published) = published {
        let root = reader.root(published.size).await?;
        if root != published.root {
            return Err(corrupt(format!(
                "the published checkpoint of size {} is of another tree",
                published.size
            )));
        }
    }
    // Tiles of the first are complete. Heads of the others were not swapped in, and nobody was told of their entries;
    // but where no lock keeps processes apart, another one may still do so, until this one has swapped the head.
    let dropped = staged.into_iter().filter(|name| !replay.contains(name));
    let (dropped, strays) = dropped.partition::<Vec<_>, _>(|name| name.new <= stored.applied);
    tiles.unstage(&dropped).await?;
    let frontier = read_frontier(reader, head.size).await?;
    Ok(Loaded { stored, head, edge, frontier, staged: replay.into(), strays, last })
}

/// The staged batches that lead from `applied` to the head, in order, and the root they begin at.
async fn chain(
    tiles: &dyn TileStore,
    staged: &[BatchName],
    head: &TreeHead,
    applied: TreeSize,
) -> Result<(Vec<BatchName>, Hash), Error> {
    let corrupt = |what: String| Error::Corrupt { origin: head.origin.clone(), what };
    let (mut names, mut size, mut root) = (Vec::new(), head.size, head.root);
    while size > applied {
        let name = staged.iter().find(|name| (name.new, name.root) == (size, root));
        let name = *name.ok_or_else(|| {
            corrupt(format!(
                "the batch that leads to size {size} is not staged; tiles are complete to {applied}"
            ))
        })?;
        let bytes = tiles.read_staged(name).await?;
        root = bytes
            .and_then(|bytes| staging::old_root(name, &bytes))
            .ok_or_else(|| corrupt(format!("staged batch {name} cannot be read")))?;
        size = name.old;
        names.push(name);
    }
    if size != applied {
        return Err(corrupt(format!("staged batches begin at size {size}; tiles are complete to {applied}")));
    }
    names.reverse();
    Ok((names, root))
}

async fn read_frontier(reader: &TileReader, size: TreeSize) -> Result<merkle::Frontier, Error> {
    let tiles = reader.tiles(&merkle::frontier_nodes(size), size).await?;
    Ok(merkle::Frontier::from_nodes(size, &tiles)?)
}

async fn read_edge(reader: &TileReader, size: TreeSize) -> Result<Edge, Error> {
    let tiles = reader.tiles(&merkle::frontier_nodes(size), size).await?;
    let bundle = match TilePath::entries(size.get() / u64::from(FULL_WIDTH), size) {
        None => Bytes::new(),
        Some(path) => reader.get(path).await?.ok_or(Error::MissingTile { path })?,
    };
    Ok(Edge::restore(size, &tiles, bundle.to_vec())?)
}

/// The head of a note that this log published.
pub(crate) fn published_head(keys: &LogKeys, note: &[u8]) -> Result<TreeHead, Error> {
    keys.open_head(note).ok_or_else(|| Error::Corrupt {
        origin: keys.origin().to_owned(),
        what: "the published checkpoint is not signed by the key of this log".to_owned(),
    })
}

/// The last checkpoint, if it still meets the policy: an operator may have changed the witnesses since.
pub(crate) fn reopen(policy: &Policy, origin: &str, note: Bytes) -> Option<Arc<Published>> {
    let checkpoint = policy.open(Some(origin), &note).ok()?;
    // Without a time of its own it counts as old, and is refreshed at once.
    let at = UnixMillis::new(checkpoint.cosigned_at().get().saturating_mul(1000));
    let (head, cosigned_at) = (checkpoint.head().clone(), checkpoint.cosigned_at());
    Some(Arc::new(Published { head, note, at, cosigned_at }))
}
