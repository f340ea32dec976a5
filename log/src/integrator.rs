//! Writes the tiles and bundles of committed batches, and reads them back before anything is signed over them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::TreeSize,
    tile::{FULL_WIDTH, TileLevel, TilePath, decode_bundle},
};
use tokio::sync::{mpsc, watch};

use crate::{
    edge::{Edge, Leaf},
    error::Error,
    reader::TileReader,
    sequencer::Batch,
    store::TileStore,
};

pub(crate) struct Integrator {
    pub(crate) applied: watch::Sender<TreeHead>,
    pub(crate) batches: mpsc::Receiver<Batch>,
    pub(crate) edge: Edge,
    /// Bytes of entries that are written without waiting for the publisher.
    pub(crate) enough: usize,
    pub(crate) reader: TileReader,
    /// The size of the newest head that the publisher has looked at.
    pub(crate) taken: watch::Receiver<TreeSize>,
    pub(crate) tiles: Arc<dyn TileStore>,
    /// Leaves whose tiles are written, in order.
    pub(crate) to_index: mpsc::Sender<Vec<Hash>>,
}

/// Entries that are written without waiting for the publisher.
const ENOUGH: usize = 4096;

impl Integrator {
    /// Takes all batches that wait and writes them as one; `false` when no more can come.
    ///
    /// Partial tiles are of use only at sizes that are published. So while the publisher is busy and one more size
    /// already waits for it, further batches are put together.
    pub(crate) async fn step(&mut self) -> Result<bool, Error> {
        let Some(mut run) = self.batches.recv().await else { return Ok(false) };
        let mut bytes = size(&run.leaves);
        while bytes < self.enough && run.leaves.len() < ENOUGH {
            let more = match self.batches.try_recv() {
                Ok(more) => more,
                Err(_) if *self.taken.borrow_and_update() >= self.edge.size() => break,
                Err(_) => tokio::select! {
                    biased;
                    more = self.batches.recv() => match more {
                        Some(more) => more,
                        None => break,
                    },
                    taken = self.taken.changed() => match taken {
                        Ok(()) => continue,
                        Err(_) => break,
                    },
                },
            };
            bytes += size(&more.leaves);
            run.head = more.head;
            run.leaves.extend(more.leaves);
            run.budget.extend(more.budget);
        }
        let Batch { head, leaves, budget } = run;
        apply(&mut self.edge, &leaves, &head, &*self.tiles, &self.reader).await?;
        self.applied.send_replace(head);
        drop(budget);
        // It is gone only when the log stops.
        let _ = self.to_index.send(leaves.iter().map(|leaf| leaf.hash).collect()).await;
        Ok(true)
    }
}

fn size(leaves: &[Leaf]) -> usize {
    leaves.iter().map(|leaf| leaf.entry.len()).sum()
}

/// Appends the leaves to the edge, writes what changed, and checks both against the head and the bytes on disk.
pub(crate) async fn apply(
    edge: &mut Edge,
    leaves: &[Leaf],
    head: &TreeHead,
    tiles: &dyn TileStore,
    reader: &TileReader,
) -> Result<(), Error> {
    let old = edge.size();
    let objects = edge.append(leaves);
    let corrupt = |what: String| Error::Corrupt { origin: head.origin.clone(), what };
    if (edge.size(), edge.root()) != (head.size, head.root) {
        return Err(corrupt(format!(
            "the batch that ends at size {} does not hash to the signed head",
            head.size
        )));
    }
    tiles.put(objects.clone()).await?;
    for (path, bytes) in objects {
        match path.level() {
            TileLevel::Hashes(_) => reader.remember(path, bytes),
            // Memory may have flipped a bit between hashing and writing: a log that signs a root over an entry that
            // no longer hashes is dead for good.
            TileLevel::Entries => {
                let stored = tiles.get(&path).await?.ok_or(Error::MissingTile { path })?;
                if let Some(index) = first_wrong(path, &stored, old, leaves) {
                    return Err(corrupt(format!(
                        "entry {index} as written in {path} does not hash to its leaf"
                    )));
                }
            }
        }
    }
    Ok(())
}

/// The first of the new entries in a bundle that does not have the leaf hash it should.
fn first_wrong(path: TilePath, bundle: &Bytes, old: TreeSize, leaves: &[Leaf]) -> Option<u64> {
    let begin = path.index() * u64::from(FULL_WIDTH);
    let Some(entries) = decode_bundle(bundle, path.width()) else { return Some(begin.max(old.get())) };
    (begin..).zip(entries).find_map(|(index, entry)| {
        let expected = leaves.get(usize::try_from(index.checked_sub(old.get())?).ok()?)?;
        (Hash::leaf(entry) != expected.hash).then_some(index)
    })
}

/// Re-hashes the bundle that holds the last entry against the hash tile beside it: a disk that went bad is noticed at
/// start, before new entries pile up on it.
pub(crate) async fn check_last_bundle(reader: &TileReader, head: &TreeHead) -> Result<(), Error> {
    let Some(last) = head.size.get().checked_sub(1) else { return Ok(()) };
    let index = last / u64::from(FULL_WIDTH);
    let paths = [TilePath::entries(index, head.size), TilePath::hashes(0, index, head.size)];
    let [bundle, hashes] = paths.map(|path| path.expect("the last entry is in the tree"));
    let mut read = BTreeMap::new();
    for path in [bundle, hashes] {
        read.insert(path, reader.get(path).await?.ok_or(Error::MissingTile { path })?);
    }
    let entries = decode_bundle(&read[&bundle], bundle.width());
    let hashed =
        entries.map(|entries| entries.iter().flat_map(|entry| *Hash::leaf(entry).as_bytes()).collect());
    if hashed.is_none_or(|hashed: Vec<u8>| hashed != read[&hashes]) {
        return Err(Error::Corrupt {
            origin: head.origin.clone(),
            what: format!("{bundle} does not hash to {hashes}"),
        });
    }
    Ok(())
}
