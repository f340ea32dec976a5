//! Bringing the copy of one log up to date.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use futures_util::StreamExt;
use glassbloom_service::LogClient;
use glassbloom_spec::{
    checkpoint::{Checkpoint, TreeHead},
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    merkle::{Frontier, frontier_nodes, root_from_nodes},
    note::{SignatureLine, SignedNote, VerifierKey},
    tile::{FULL_WIDTH, TileLevel, TilePath, decode_bundle, encode_bundle},
};
use tokio::sync::Mutex;

use super::{
    Common, SyncError,
    disk::{Disk, Published},
    first_difference,
    submit::Uploads,
};
use crate::{
    audit::{Seen, fork},
    replay::{Batch, History, ReplayError, batches, history},
};

/// One log and its copy.
pub struct Copy {
    pub(super) common: Arc<Common>,
    origin: String,
    /// Where the log is read; `None` when it is uploaded.
    client: Option<LogClient>,
    disk: Arc<Disk>,
    /// Size of the complete copy, for the server.
    size: RwLock<Option<TreeSize>>,
    /// What was wrong at the last attempt.
    trouble: RwLock<Option<String>>,
    /// Read when the first upload comes.
    pub(super) uploads: Mutex<Option<Uploads>>,
}

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Entries in the copy now.
    pub size: TreeSize,
    /// Of those, entries that were not there before.
    pub new: u64,
}

/// Tiles that wait to be written together: an fsync each, but one of their folders for all.
const QUEUE: usize = 64;
pub(super) const WIDTH: u64 = FULL_WIDTH as u64;

impl Copy {
    pub(super) fn open(common: Arc<Common>, origin: &str, url: Option<&str>) -> io::Result<Self> {
        let folder = common.data.join("public").join(Hash::of(origin.as_bytes()).to_string());
        let disk = Arc::new(Disk::open(folder)?);
        let size = disk.published()?.map(|published| published.head.size);
        Ok(Self {
            common,
            origin: origin.to_owned(),
            client: url.map(LogClient::new),
            disk,
            size: RwLock::new(size),
            trouble: RwLock::default(),
            uploads: Mutex::default(),
        })
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The size up to which the copy is complete; `None` before the first checkpoint.
    pub fn size(&self) -> Option<TreeSize> {
        *self.size.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was wrong at the last attempt to bring the copy up to date.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Brings the copy up to the log's checkpoint: fetches and verifies what is new, writes it, then the checkpoint.
    ///
    /// # Errors
    /// When the log cannot be read or is wrong. The copy is then as it was.
    pub async fn sync(&self) -> Result<Synced, SyncError> {
        let synced = self.sync_once().await;
        let trouble = synced.as_ref().err().map(ToString::to_string);
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = trouble;
        synced
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let disk = Arc::clone(&self.disk);
        tokio::task::spawn_blocking(move || work(&disk))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    fn client(&self) -> Result<&LogClient, SyncError> {
        self.client.as_ref().ok_or_else(|| SyncError::Damaged("this log is uploaded, not read".to_owned()))
    }

    async fn sync_once(&self) -> Result<Synced, SyncError> {
        let client = self.client()?;
        let note = client.checkpoint_bytes().await?;
        let checkpoint = self.common.policy.open(Some(&self.origin), &note)?;
        let published = self.blocking(Disk::published).await?;
        let Some(before) = &published else {
            return self.copy(&checkpoint, None).await;
        };
        if checkpoint.size() > before.head.size {
            return self.copy(&checkpoint, Some(before)).await;
        }
        let size = checkpoint.size();
        let had =
            if size == before.head.size { before.head.root } else { self.root_at(size, before).await? };
        if had != checkpoint.root() {
            let detail =
                format!("at size {size} the copy has root {had}, the log now signs {}", checkpoint.root());
            return Err(self.fork(before, &checkpoint, detail)?);
        }
        if size == before.head.size {
            self.publish(&checkpoint, Some(before)).await?;
        }
        Ok(Synced { size: before.head.size, new: 0 })
    }

    /// The root that the copy had at an earlier size.
    async fn root_at(&self, size: TreeSize, published: &Published) -> Result<Hash, SyncError> {
        let whole = published.head.size;
        let tiles = self.blocking(move |disk| disk.tiles(&frontier_nodes(size), whole)).await?;
        root_from_nodes(size, &tiles).map_err(|error| SyncError::Local(error.to_string()))
    }

    async fn copy(&self, checkpoint: &Checkpoint, before: Option<&Published>) -> Result<Synced, SyncError> {
        let from = before.map_or(TreeSize::new(0), |before| before.head.size);
        let to = checkpoint.size();
        let mut outcome = self.read(checkpoint, before, true).await?;
        if matches!(outcome, Read::Wrong { leftovers: true, .. }) {
            // An earlier run was interrupted, and the log served it something else than what it signed since.
            self.blocking(move |disk| disk.discard(from, to)).await?;
            outcome = self.read(checkpoint, before, false).await?;
        }
        match outcome {
            Read::Right(builder) => {
                let partial = builder.partial();
                self.blocking(move |disk| disk.put(&partial)).await?;
                self.publish(checkpoint, before).await?;
                self.blocking(move |disk| disk.discard_partials(from, to)).await?;
                tracing::info!(origin = self.origin, size = to.get(), "mirrored");
                Ok(Synced { size: to, new: to.get() - from.get() })
            }
            Read::Wrong { difference, .. } => {
                self.blocking(move |disk| disk.discard(from, to)).await?;
                Err(self.judge(checkpoint, before, difference).await?)
            }
        }
    }

    /// Reads everything between the copy and the checkpoint, and writes full tiles on the way. They count for nothing
    /// until the checkpoint is written.
    async fn read(
        &self,
        checkpoint: &Checkpoint,
        before: Option<&Published>,
        reuse: bool,
    ) -> Result<Read, SyncError> {
        let mut builder = self.resume(before).await?;
        let to = checkpoint.size();
        let mut leftovers = false;
        while reuse && builder.size() + WIDTH <= to.get() {
            let index = builder.size() / WIDTH;
            let path = TilePath::entries(index, to).expect("the bundle is below the size");
            let Some(bytes) = self.blocking(move |disk| disk.read(path)).await? else { break };
            let Some(entries) = decode_bundle(&bytes, FULL_WIDTH) else { break };
            leftovers = true;
            let hashes: Vec<Hash> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
            builder.push(&hashes, bytes);
            self.flush(&mut builder).await?;
        }
        let mut difference = None;
        {
            let from = TreeSize::new(builder.size());
            let mut stream = core::pin::pin!(batches(self.client()?, from, to));
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                difference = difference.or_else(|| first_mismatch(&batch));
                let bundle = encode_bundle(&batch.entries)
                    .map_err(|error| ReplayError::Malformed(error.to_string()))?;
                builder.push(&batch.hashes, bundle.into());
                if builder.missed {
                    break;
                }
                self.flush(&mut builder).await?;
            }
        }
        if builder.missed || builder.frontier.root() != checkpoint.root() {
            return Ok(Read::Wrong { leftovers, difference });
        }
        let queued = std::mem::take(&mut builder.queue);
        self.blocking(move |disk| disk.put(&queued)).await?;
        Ok(Read::Right(Box::new(builder)))
    }

    /// Where the last full bundle of the copy ends: the rest is read again, so that it passes the old root once more.
    pub(super) async fn resume(&self, before: Option<&Published>) -> Result<Builder, SyncError> {
        let Some(Published { head, .. }) = before.cloned() else { return Ok(Builder::default()) };
        let boundary = TreeSize::new(head.size.get() / WIDTH * WIDTH);
        let local = |error: &dyn std::error::Error| SyncError::Local(error.to_string());
        let whole = head.size;
        let tiles = self
            .blocking(move |disk| {
                let nodes = [frontier_nodes(boundary), frontier_nodes(whole)].concat();
                disk.tiles(&nodes, whole)
            })
            .await?;
        let root = root_from_nodes(whole, &tiles).map_err(|error| local(&error))?;
        if root != head.root {
            return Err(SyncError::Local(format!(
                "its tiles lead to root {root}, its checkpoint has {}",
                head.root
            )));
        }
        let frontier = Frontier::from_nodes(boundary, &tiles).map_err(|error| local(&error))?;
        let mut builder = Builder { frontier, passes: Some((whole.get(), head.root)), ..Builder::default() };
        for level in 1..8_u8 {
            let rows = boundary.get() >> (8 * level);
            let Some(path) =
                TilePath::hashes(level, rows / WIDTH, whole).filter(|_| !rows.is_multiple_of(WIDTH))
            else {
                continue;
            };
            let bytes = self.blocking(move |disk| disk.read(path)).await?;
            let bytes = bytes.ok_or_else(|| SyncError::Local(format!("{path} is missing")))?;
            let (rows, _) = bytes.as_chunks::<{ Hash::LEN }>();
            builder.rows[usize::from(level)] = rows.iter().copied().map(Hash::from_bytes).collect();
        }
        Ok(builder)
    }

    async fn flush(&self, builder: &mut Builder) -> io::Result<()> {
        if builder.queue.len() < QUEUE {
            return Ok(());
        }
        let queued = std::mem::take(&mut builder.queue);
        self.blocking(move |disk| disk.put(&queued)).await
    }

    /// Moves the copy's checkpoint: the log's verified lines, then ours.
    async fn publish(&self, checkpoint: &Checkpoint, before: Option<&Published>) -> Result<(), SyncError> {
        let policy = &self.common.policy;
        let log = policy.logs().iter().filter(|log| log.origin == self.origin).flat_map(|log| &log.keys);
        let known: Vec<&VerifierKey> =
            log.chain(policy.witnesses().iter().map(|witness| &witness.key)).collect();
        let note = SignedNote::parse(checkpoint.note_bytes())
            .map_err(|error| ReplayError::Malformed(error.to_string()))?;
        // Opening the checkpoint has verified every line by a key of the policy; others may claim any name.
        let verified = note.signatures.iter().filter(|line| known.iter().any(|key| key.claims(line)));
        self.publish_lines(checkpoint.head(), verified.cloned().collect(), before).await.map(drop)
    }

    /// Moves the copy's checkpoint to a head with these lines and ours, and returns ours.
    pub(super) async fn publish_lines(
        &self,
        head: &TreeHead,
        mut signatures: Vec<SignatureLine>,
        before: Option<&Published>,
    ) -> Result<Vec<SignatureLine>, SyncError> {
        let Common { signers, clock, .. } = &*self.common;
        signatures.retain(|line| !signers.iter().any(|signer| signer.vkey().claims(line)));
        let own = |line: &SignatureLine, at: &Published| {
            signers.iter().find_map(|signer| signer.vkey().verify(&at.head, line).ok())
        };
        // Our time never goes back.
        let last =
            before.and_then(|before| before.note.signatures.iter().filter_map(|l| own(l, before)).max());
        let at = clock.now().seconds().max(last.unwrap_or(UnixSeconds::new(0)));
        let own = signers.iter().map(|signer| signer.cosign(head, at)).collect::<Result<Vec<_>, _>>();
        let own = own.map_err(io::Error::other)?;
        signatures.extend_from_slice(&own);
        let note = SignedNote { text: head.to_string(), signatures };
        self.blocking(move |disk| disk.publish(&note)).await?;
        *self.size.write().unwrap_or_else(PoisonError::into_inner) = Some(head.size);
        Ok(own)
    }

    /// What it means that the entries do not lead from the copy to the checkpoint.
    async fn judge(
        &self,
        checkpoint: &Checkpoint,
        before: Option<&Published>,
        difference: Option<LeafIndex>,
    ) -> Result<SyncError, SyncError> {
        let damage = first_difference(checkpoint.size(), difference);
        let Some(before) = before else { return Ok(SyncError::Damaged(damage)) };
        match history(self.client()?, &before.head, checkpoint.head()).await {
            Ok(History::Forks(root)) => {
                let TreeHead { size, root: had, .. } = &before.head;
                let detail = format!("at size {size} the copy has root {had}, the log's tree now has {root}");
                self.fork(before, checkpoint, detail)
            }
            Ok(History::Extends) => Ok(SyncError::Damaged(damage)),
            // Neither entries nor tiles show that the new tree extends the copy: both notes are worth keeping.
            Ok(History::Unproven) | Err(_) => {
                self.fork(before, checkpoint, format!("{damage}, and no proof leads there from the copy"))
            }
        }
    }

    fn fork(
        &self,
        before: &Published,
        checkpoint: &Checkpoint,
        detail: String,
    ) -> Result<SyncError, SyncError> {
        let seen = Seen { head: before.head.clone(), note: before.note.encode() };
        let evidence =
            fork::write(&self.common.data, &seen, checkpoint.head(), checkpoint.note_bytes(), &detail)
                .map_err(io::Error::other)?;
        Ok(SyncError::Fork { detail, evidence })
    }

    /// The checkpoint's bytes, for the server.
    pub(super) async fn checkpoint(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.blocking(Disk::published).await?.map(|published| published.note.encode()))
    }

    /// A tile or bundle of the copy, for the server; `None` beyond the checkpoint.
    pub(super) async fn tile(&self, path: TilePath) -> io::Result<Option<Bytes>> {
        let size = self.size().unwrap_or_default();
        let there = match path.level() {
            TileLevel::Entries => TilePath::entries(path.index(), size),
            TileLevel::Hashes(level) => TilePath::hashes(level, path.index(), size),
        };
        if there.is_none_or(|there| there.width() < path.width()) {
            return Ok(None);
        }
        self.blocking(move |disk| disk.read(path)).await
    }
}

/// How reading up to a checkpoint ended.
enum Read {
    /// At its root.
    Right(Box<Builder>),
    /// Elsewhere.
    Wrong {
        /// Whether bundles were used that an earlier run had left.
        leftovers: bool,
        /// The first entry that is not what the log's hash tiles say.
        difference: Option<LeafIndex>,
    },
}

/// The right edge of the copy while it grows. Memory: the edge and the tiles that wait to be written.
#[derive(Clone, Default)]
pub(super) struct Builder {
    pub(super) frontier: Frontier,
    /// The unfinished tile of each level.
    pub(super) rows: [Vec<Hash>; 8],
    /// The unfinished bundle, with its width.
    bundle: Option<(u16, Bytes)>,
    pub(super) queue: Vec<(TilePath, Bytes)>,
    /// The size and root of the copy, which the new tree must pass.
    passes: Option<(u64, Hash)>,
    /// Whether it did not.
    missed: bool,
}

impl Builder {
    pub(super) fn size(&self) -> u64 {
        self.frontier.size().get()
    }

    /// Adds the next bundle, full or the last.
    pub(super) fn push(&mut self, leaves: &[Hash], bundle: Bytes) {
        let index = self.size() / WIDTH;
        for leaf in leaves {
            let rows = &mut self.rows;
            self.frontier.append_with(*leaf, |node, hash| {
                if node.level.is_multiple_of(8) {
                    rows[usize::from(node.level / 8)].push(hash);
                }
            });
            if let Some((_, root)) = self.passes.filter(|(size, _)| *size == self.size()) {
                self.missed |= self.frontier.root() != root;
            }
        }
        let width = leaves.len() as u16;
        if width < FULL_WIDTH {
            self.bundle = Some((width, bundle));
            return;
        }
        self.queue.push((tile(TileLevel::Entries, index, FULL_WIDTH), bundle));
        for level in 0..8_u8 {
            let rows = &mut self.rows[usize::from(level)];
            if rows.len() == usize::from(FULL_WIDTH) {
                let index = (self.frontier.size().get() >> (8 * level)) / WIDTH - 1;
                self.queue.push((tile(TileLevel::Hashes(level), index, FULL_WIDTH), concat(rows)));
                rows.clear();
            }
        }
    }

    /// The partial tiles at the right edge.
    fn partial(&self) -> Vec<(TilePath, Bytes)> {
        let size = self.size();
        let levels = (0..8_u8).zip(&self.rows).filter(|(_, rows)| !rows.is_empty());
        let hashes = levels.map(|(level, rows)| {
            let index = (size >> (8 * level)) / WIDTH;
            (tile(TileLevel::Hashes(level), index, rows.len() as u16), concat(rows))
        });
        let bundle = self
            .bundle
            .iter()
            .map(|(width, bytes)| (tile(TileLevel::Entries, size / WIDTH, *width), bytes.clone()));
        bundle.chain(hashes).collect()
    }
}

pub(super) fn tile(level: TileLevel, index: u64, width: u16) -> TilePath {
    TilePath::new(level, index, width).expect("a tile of a tree below 2^64 entries has a name")
}

pub(super) fn concat(rows: &[Hash]) -> Bytes {
    rows.iter().flat_map(|row| *row.as_bytes()).collect()
}

fn first_mismatch(batch: &Batch) -> Option<LeafIndex> {
    let differs = batch.hashes.iter().zip(&batch.tile).position(|(entry, tile)| entry != tile)?;
    Some(LeafIndex::new(batch.first.get() + differs as u64))
}
