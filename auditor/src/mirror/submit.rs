//! What a log, or anyone on its behalf, uploads: pending checkpoints and the entries below them.
//! `[c2sp.org/tlog-mirror]`
//!
//! Each package of entries is proven to belong to a pending checkpoint before it is kept, and pending checkpoints are
//! consistent with each other, so that uploads that run at the same time only ever add to one history. Entries are
//! kept in order: the next entry is the first that is missing.

use std::io;

use bytes::Bytes;
use glassbloom_service::durable;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    merkle::{Frontier, root_of},
    note::{SignatureLine, SignedNote},
    subtree::{Subtree, verify_subtree},
    tile::{FULL_WIDTH, TileLevel, TilePath, encode_bundle},
    witness::AddCheckpoint,
};
use serde::{Deserialize, Serialize};

use super::{
    Copy, SyncError,
    copy::{Builder, WIDTH, concat, tile},
};
use crate::witness::{Latest, Refusal, check_proof, verified_lines};

/// Pending checkpoints that an upload may still be for. They stand in for tickets, which are empty here.
const KEPT: usize = 16;
/// Entries that an upload may repeat: what a client that was cut off at the limit of one request sends again.
const MAX_EXCESS: u64 = 8192;

/// What uploads have brought so far.
pub(super) struct Uploads {
    /// The newest last; each consistent with the one before.
    pending: Vec<Pending>,
    /// The right edge, up to the last full bundle.
    edge: Builder,
    /// The entries after it.
    rest: Vec<Bytes>,
}

/// A pending checkpoint: the head, and the lines that were verified.
#[derive(Clone, Debug)]
struct Pending {
    head: TreeHead,
    signatures: Vec<SignatureLine>,
}

/// The file in which pending checkpoints survive.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingFile {
    /// Notes with verified lines alone, the newest last.
    pending: Vec<String>,
}

/// What an upload is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Index of the first entry that follows.
    pub(super) start: u64,
    /// Size of the pending checkpoint that the proofs lead to.
    pub(super) end: u64,
}

/// One bundle's part of an upload.
pub(super) struct Package {
    /// Index of the first entry.
    pub(super) start: u64,
    /// The entries.
    pub(super) entries: Vec<Bytes>,
    /// From the bundle's beginning to the last entry, as part of the pending checkpoint.
    pub(super) proof: Vec<Hash>,
}

/// Where a mirror stands, for a client that is to try again from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info {
    /// A pending checkpoint's size.
    pub(super) size: TreeSize,
    /// The next entry.
    pub(super) next: u64,
}

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The client must go on from elsewhere. 409.
    #[error("go on from entry {} of size {}", _0.next, _0.size)]
    Conflict(Info),
    /// A pending checkpoint that a witness would not cosign either.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The mirror's side failed. 500.
    #[error(transparent)]
    Mirror(#[from] SyncError),
    /// There is no pending checkpoint, or the proof of a package does not hold. 422.
    #[error("{0}")]
    Unproven(&'static str),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        Self::Mirror(error.into())
    }
}

impl Uploads {
    fn next(&self) -> u64 {
        self.edge.size() + self.rest.len() as u64
    }

    /// The root of the pending checkpoint of this size.
    fn root(&self, size: u64) -> Option<&Pending> {
        self.pending.iter().rev().find(|pending| pending.head.size.get() == size)
    }

    fn info(&self, size: Option<u64>) -> Info {
        let newest = self.pending.last().map_or(TreeSize::new(0), |pending| pending.head.size);
        Info { size: size.map_or(newest, TreeSize::new), next: self.next() }
    }

    /// The tiles at the right edge of a tree of this size, as far as there is no full tile yet.
    fn partial_at(&self, size: u64) -> io::Result<Vec<(TilePath, Bytes)>> {
        let mut objects = Vec::new();
        if size / WIDTH * WIDTH == self.edge.size() && !size.is_multiple_of(WIDTH) {
            let rest = &self.rest[..(size % WIDTH) as usize];
            let bundle = encode_bundle(rest).map_err(io::Error::other)?;
            objects.push((tile(TileLevel::Entries, size / WIDTH, rest.len() as u16), bundle.into()));
            let rows: Vec<Hash> = rest.iter().map(|entry| Hash::leaf(entry)).collect();
            objects.push((tile(TileLevel::Hashes(0), size / WIDTH, rest.len() as u16), concat(&rows)));
        }
        for level in 1..8_u8 {
            let (rows, had) = (size >> (8 * level), self.edge.size() >> (8 * level));
            if rows / WIDTH == had / WIDTH && !rows.is_multiple_of(WIDTH) {
                let width = (rows % WIDTH) as usize;
                let rows = &self.edge.rows[usize::from(level)][..width];
                objects.push((tile(TileLevel::Hashes(level), had / WIDTH, width as u16), concat(rows)));
            }
        }
        Ok(objects)
    }
}

impl Copy {
    /// Reads what an earlier process had pending, and where the copy stands. Entries that were uploaded beyond the
    /// copy's checkpoint are asked for again.
    async fn uploads<'a>(&self, slot: &'a mut Option<Uploads>) -> Result<&'a mut Uploads, SyncError> {
        if slot.is_none() {
            let path = self.pending_path();
            let file = match tokio::fs::read(&path).await {
                Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => PendingFile { pending: Vec::new() },
                Err(error) => return Err(error.into()),
            };
            let parse = |note: &SignedNote| {
                let head = TreeHead::parse(&note.text)?;
                Ok(Pending { head, signatures: note.signatures.clone() })
            };
            let read = |text: &String| SignedNote::parse(text.as_bytes()).and_then(|note| parse(&note));
            let mut pending: Vec<Pending> =
                file.pending.iter().map(read).collect::<Result<_, _>>().map_err(io::Error::other)?;
            let published = self.blocking(super::disk::Disk::published).await?;
            if let (true, Some(published)) = (pending.is_empty(), &published) {
                pending.push(parse(&published.note).map_err(io::Error::other)?);
            }
            let edge = self.resume(published.as_ref()).await?;
            let rest = match &published {
                Some(published) => self.rest_of(published.head.size).await?,
                None => Vec::new(),
            };
            *slot = Some(Uploads { pending, edge, rest });
        }
        Ok(slot.as_mut().expect("filled above"))
    }

    /// The entries of the copy's last, partial bundle.
    async fn rest_of(&self, size: TreeSize) -> Result<Vec<Bytes>, SyncError> {
        let Some(path) = TilePath::entries(size.get() / WIDTH, size) else { return Ok(Vec::new()) };
        let bytes = self.blocking(move |disk| disk.read(path)).await?;
        let bytes = bytes.ok_or_else(|| SyncError::Local(format!("{path} is missing")))?;
        let entries = glassbloom_spec::tile::decode_bundle(&bytes, path.width());
        let entries = entries.ok_or_else(|| SyncError::Local(format!("{path} is no bundle")))?;
        Ok(entries.into_iter().map(|entry| bytes.slice_ref(entry)).collect())
    }

    fn pending_path(&self) -> std::path::PathBuf {
        let name = format!("{}.json", Hash::of(self.origin().as_bytes()));
        self.common.data.join("pending").join(name)
    }

    /// Takes a checkpoint as pending, under the rules of a witness; signs nothing.
    pub(super) async fn add_checkpoint(&self, request: AddCheckpoint) -> Result<(), UploadError> {
        let AddCheckpoint { old, proof, note, head } = request;
        let policy = &self.common.policy;
        let keys = &policy.log(self.origin()).expect("a copy is of a log of the policy").keys;
        let mut signatures = verified_lines(&note, &head, keys)?;
        if i64::try_from(head.size.get()).is_err() {
            return Err(Refusal::TooLarge.into());
        }
        // Witnesses' lines make the copy's checkpoint worth more; a wrong one says nothing about the log.
        let cosigned = note
            .signatures
            .iter()
            .filter(|line| policy.witnesses().iter().any(|witness| witness.key.verify(&head, line).is_ok()));
        for line in cosigned {
            if !signatures.contains(line) {
                signatures.push(line.clone());
            }
        }
        let mut slot = self.uploads.lock().await;
        let uploads = self.uploads(&mut slot).await?;
        let latest = match uploads.pending.last() {
            Some(Pending { head, .. }) => {
                Latest { size: head.size, root: head.root, at: UnixSeconds::new(0) }
            }
            None => Latest { size: TreeSize::new(0), root: Hash::EMPTY_TREE, at: UnixSeconds::new(0) },
        };
        if old != latest.size {
            return Err(Refusal::Conflict(latest.size).into());
        }
        check_proof(&head, &proof, latest)?;
        let mut pending = uploads.pending.clone();
        pending.retain(|other| other.head.size != head.size);
        pending.push(Pending { head, signatures });
        if pending.len() > KEPT {
            // The one that the copy stands at is never displaced: an upload up to it is answered again.
            let oldest = pending.iter().position(|other| Some(other.head.size) != self.size());
            pending.remove(oldest.unwrap_or(0));
        }
        self.keep(&pending).await?;
        uploads.pending = pending;
        Ok(())
    }

    async fn keep(&self, pending: &[Pending]) -> io::Result<()> {
        let note = |pending: &Pending| {
            let note = SignedNote { text: pending.head.to_string(), signatures: pending.signatures.clone() };
            String::from_utf8_lossy(&note.encode()).into_owned()
        };
        let file = PendingFile { pending: pending.iter().map(note).collect() };
        let bytes = serde_json::to_vec_pretty(&file).map_err(io::Error::other)?;
        let path = self.pending_path();
        self.blocking(move |_| {
            durable::create_folder(path.parent().unwrap_or(&path))?;
            durable::write(&path, &bytes)
        })
        .await
    }

    /// Whether an upload can begin here.
    pub(super) async fn begin(&self, header: &Header) -> Result<(), UploadError> {
        let mut slot = self.uploads.lock().await;
        let uploads = self.uploads(&mut slot).await?;
        if uploads.pending.is_empty() {
            return Err(UploadError::Unproven(
                "there is no pending checkpoint yet: send add-checkpoint first",
            ));
        }
        let known = uploads.root(header.end).is_some();
        let current = self.size().is_none_or(|size| header.end >= size.get());
        let next = uploads.next();
        let repeated = header.end.min(next).saturating_sub(header.start);
        if !known || !current || header.start > next || repeated > MAX_EXCESS {
            return Err(UploadError::Conflict(uploads.info((known && current).then_some(header.end))));
        }
        Ok(())
    }

    /// Verifies one package and keeps what is new of it.
    pub(super) async fn add_package(&self, end: u64, package: &Package) -> Result<(), UploadError> {
        let mut slot = self.uploads.lock().await;
        let uploads = self.uploads(&mut slot).await?;
        let base = package.start / WIDTH * WIDTH;
        let stop = package.start + package.entries.len() as u64;
        let next = uploads.next();
        // A pending checkpoint may have been displaced since the upload began.
        let Some(pending) = uploads.root(end) else { return Err(UploadError::Conflict(uploads.info(None))) };
        if package.start > next {
            return Err(UploadError::Conflict(uploads.info(Some(end))));
        }
        let mut leaves = self.leaves(uploads, base, package.start).await?;
        leaves.extend(package.entries.iter().map(|entry| Hash::leaf(entry)));
        let subtree = Subtree::new(LeafIndex::new(base), TreeSize::new(stop))
            .ok_or(UploadError::Unproven("a package has at least one entry"))?;
        let hash = root_of(leaves.iter().copied());
        verify_subtree(subtree, hash, pending.head.size, pending.head.root, &package.proof).map_err(
            |_| {
                UploadError::Unproven(
                    "the proof of a package does not lead from its entries to the checkpoint",
                )
            },
        )?;
        if stop <= next {
            return Ok(());
        }
        // Here the package is of the unfinished bundle: nothing above the next entry is kept.
        let mut rest = uploads.rest.clone();
        rest.extend_from_slice(&package.entries[(next - package.start) as usize..]);
        if rest.len() == usize::from(FULL_WIDTH) {
            let mut edge = uploads.edge.clone();
            edge.push(&leaves, encode_bundle(&rest).map_err(io::Error::other)?.into());
            let queued = std::mem::take(&mut edge.queue);
            self.blocking(move |disk| disk.put(&queued)).await?;
            uploads.edge = edge;
            rest.clear();
        }
        uploads.rest = rest;
        Ok(())
    }

    /// Leaf hashes of entries that are there already, within one bundle.
    async fn leaves(&self, uploads: &Uploads, from: u64, to: u64) -> Result<Vec<Hash>, SyncError> {
        if from == uploads.edge.size() {
            return Ok(uploads.rest[..(to - from) as usize].iter().map(|entry| Hash::leaf(entry)).collect());
        }
        if from == to {
            return Ok(Vec::new());
        }
        let path = tile(TileLevel::Hashes(0), from / WIDTH, FULL_WIDTH);
        let bytes = self.blocking(move |disk| disk.read(path)).await?;
        let bytes = bytes.ok_or_else(|| SyncError::Local(format!("{path} is missing")))?;
        let (rows, _) = bytes.as_chunks::<{ Hash::LEN }>();
        Ok(rows.iter().take((to - from) as usize).copied().map(Hash::from_bytes).collect())
    }

    /// Where an upload that is not complete stands.
    pub(super) async fn progress(&self, end: u64) -> Result<Info, UploadError> {
        let mut slot = self.uploads.lock().await;
        Ok(self.uploads(&mut slot).await?.info(Some(end)))
    }

    /// Moves the copy's checkpoint to the pending one of this size, all of whose entries are there, and returns the
    /// mirror's lines.
    pub(super) async fn finish(&self, end: u64) -> Result<String, UploadError> {
        let mut slot = self.uploads.lock().await;
        let uploads = self.uploads(&mut slot).await?;
        let published = self.blocking(super::disk::Disk::published).await?;
        let from = published.as_ref().map_or(TreeSize::new(0), |published| published.head.size);
        let Some(pending) = uploads.root(end).filter(|_| end >= from.get() && end <= uploads.next()).cloned()
        else {
            return Err(UploadError::Conflict(uploads.info(None)));
        };
        let partial = uploads.partial_at(end)?;
        if end == uploads.next() {
            let mut whole: Frontier = uploads.edge.frontier.clone();
            uploads.rest.iter().for_each(|entry| whole.append(Hash::leaf(entry)));
            if whole.root() != pending.head.root {
                return Err(SyncError::Local("its entries do not lead to the pending root".to_owned()).into());
            }
        }
        self.blocking(move |disk| disk.put(&partial)).await?;
        let lines = self.publish_lines(&pending.head, pending.signatures, published.as_ref()).await?;
        let to = pending.head.size;
        self.blocking(move |disk| disk.discard_partials(from, to)).await?;
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }
}
