//! Reads the whole log again, slowly, as long as it runs: a disk that goes bad is noticed before what it held is needed.

use std::{sync::Arc, time::Duration};

use glassbloom_service::{Clock, Shutdown};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::LeafIndex,
    merkle::{self, NodeId},
    tile::{FULL_WIDTH, TileError, TilePath, TileSet, decode_bundle},
};
use tokio::sync::watch;

use crate::{
    error::Error,
    metrics::Metrics,
    reader::TileReader,
    store::{StoreError, TileStore},
    witness::alarm::Alarm,
};

pub(crate) struct Scrub {
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) applied: watch::Receiver<TreeHead>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How often in a row the next bundle could not be read.
    pub(crate) failures: u32,
    pub(crate) metrics: Arc<Metrics>,
    /// The next bundle; `None` at first.
    pub(crate) next: Option<u64>,
    /// Between two bundles.
    pub(crate) pause: Duration,
    /// Whether the next bundle waits for the usual pause only: not when a new round begins.
    pub(crate) rested: bool,
    pub(crate) tiles: Arc<dyn TileStore>,
}

/// Pauses after the last bundle: a small log need not be read all the time.
const REST: u32 = 100;
/// A read may fail for reasons that pass; a bundle that cannot be read so often is lost.
const ATTEMPTS: u32 = 5;

/// An object that is not as it was when its tree was signed.
struct Finding {
    path: TilePath,
    what: String,
}

impl Scrub {
    /// Waits, then checks one bundle with its hashes up to the root; `false` when the log stops.
    pub(crate) async fn step(&mut self, stop: &Shutdown) -> bool {
        let pause = self.pause * if self.rested { 1 } else { REST };
        if stop.unless_requested(tokio::time::sleep(pause)).await.is_none() {
            return false;
        }
        self.rested = true;
        let head = self.applied.borrow().clone();
        let bundles = head.size.get().div_ceil(u64::from(FULL_WIDTH));
        if bundles == 0 || self.alarm.is_raised() {
            return true;
        }
        // A process that is restarted often would otherwise only ever see the beginning of a large log.
        let next = self.next.unwrap_or_else(|| self.clock.now().get()) % bundles;
        let finding = match look(&self.tiles, next, &head).await {
            Ok(found) => found,
            Err(error) => {
                self.failures += 1;
                tracing::warn!(origin = %head.origin, bundle = next, "scrub cannot read: {error}");
                let path = TilePath::entries(next, head.size).expect("it is below the number of bundles");
                let lost = self.failures >= ATTEMPTS;
                if !lost {
                    self.next = Some(next);
                    return true;
                }
                Some(Finding { path, what: error.to_string() })
            }
        };
        if let Some(Finding { path, what }) = finding {
            self.metrics.scrub_found();
            self.alarm.damaged(&head.origin, path, &what).await;
        }
        self.failures = 0;
        self.metrics.bundle_scrubbed();
        self.next = Some(next + 1);
        self.rested = next + 1 < bundles;
        true
    }
}

/// Compares one bundle with its leaf hashes, and these with the root. Nothing comes from the cache.
async fn look(
    tiles: &Arc<dyn TileStore>,
    bundle: u64,
    head: &TreeHead,
) -> Result<Option<Finding>, StoreError> {
    let reader = TileReader::new(Arc::clone(tiles));
    let first = bundle * u64::from(FULL_WIDTH);
    let entries = TilePath::entries(bundle, head.size).expect("it is below the number of bundles");
    let hashes = TilePath::hashes(0, bundle, head.size).expect("every bundle has a tile of hashes beside it");
    let found = |path, what: &str| Ok(Some(Finding { path, what: what.to_owned() }));

    // The proof of the first entry takes in every hash of the tiles above it.
    let nodes = merkle::inclusion_nodes(LeafIndex::new(first), head.size);
    let mut nodes = nodes.expect("the first entry of a bundle is in the tree");
    nodes.push(NodeId { level: 0, index: first });
    let set = match reader.tiles(&nodes, head.size).await {
        Ok(set) => set,
        Err(Error::Store(error)) => return Err(error),
        Err(Error::MissingTile { path }) => return found(path, "it is missing"),
        Err(Error::Tile(TileError::WrongContent { path })) => return found(path, "it has another length"),
        Err(error) => return found(hashes, &error.to_string()),
    };
    let Some(leaves) = set.get(hashes) else { return found(hashes, "it is missing") };
    let proof = merkle::prove_inclusion(LeafIndex::new(first), head.size, &set);
    let proven = proof.and_then(|proof| {
        merkle::verify_inclusion(leaves[0], LeafIndex::new(first), head.size, head.root, &proof)
    });
    let Some(bytes) = reader.get(entries).await? else { return found(entries, "it is missing") };
    let Some(split) = decode_bundle(&bytes, entries.width()) else {
        return found(entries, "it cannot be split into its entries");
    };
    let wrong = split.iter().zip(leaves).position(|(entry, leaf)| Hash::leaf(entry) != *leaf);
    match (proven, wrong) {
        (Ok(()), None) => Ok(None),
        (Ok(()), Some(row)) => {
            found(entries, &format!("entry {} does not hash to its leaf", first + row as u64))
        }
        (Err(error), Some(_)) => found(hashes, &format!("it does not lead to the signed root: {error}")),
        // The leaves are right, so it is one of the tiles above them or at the right edge of the tree.
        (Err(_), None) => {
            let mut others = TileSet::needed(&nodes, head.size);
            others.retain(|path| *path != hashes);
            let names: Vec<String> = others.iter().map(ToString::to_string).collect();
            let what = format!("{hashes} does not lead to the signed root with {}", names.join(", "));
            found(others.first().copied().unwrap_or(hashes), &what)
        }
    }
}
