//! A C2SP witness: cosigns a log's checkpoint when it is consistent with the last one it cosigned.
//! `[c2sp.org/tlog-witness]`
//!
//! The order of checks is fixed, because each answer tells the submitter what to do next:
//! parse (400), origin (404), signature (403), sizes (400, 409), proof (422), rate (429). What the witness cosigned
//! is on disk before the cosignature leaves. Only signature lines that were verified are kept or served.

mod book;
mod evidence;
mod http;
pub(crate) mod keys;
pub(crate) mod rate;
mod store;
mod writer;

use std::{path::PathBuf, sync::Arc, time::Duration};

use glassbloom_service::{Clock, Shutdown};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    merkle,
    note::{Algorithm, NoteSigner, SignError, SignatureLine, SignedNote, VerifierKey},
    subtree::verify_subtree,
    witness::{AddCheckpoint, RequestError, SignSubtree},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub use book::Latest;
pub use http::{MAX_BODY, ServeError, router, serve};
pub use keys::{KeyError, add_logs, init, init_ed25519};
pub use rate::Rate;
pub use store::{Advance, Store, StoreError};

use book::{Book, Log};
use writer::{Job, Outcome};

/// What `witness serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder with the keys (made by `witness init`) and `witness.sqlite`.
    pub data: PathBuf,
    /// Logs to accept besides those in the database; they are added to it.
    pub logs: Vec<VerifierKey>,
    /// How often each log may have a checkpoint cosigned.
    pub rate: Rate,
}

/// Why nothing was cosigned; [`Refusal::status`] gives each its status.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The clock stands far behind the last cosignature. 500; nothing was promised.
    #[error(
        "the clock of the witness went back by {0} s since it last cosigned this log; set the clock right"
    )]
    Clock(u64),
    /// The submitter's old size is not the one cosigned last. 409, the body is the size.
    #[error("the last checkpoint cosigned has size {0}; send a proof from there")]
    Conflict(TreeSize),
    /// The proof does not show that the new tree extends the last one. 422.
    #[error("{0}")]
    Inconsistent(&'static str),
    /// The body does not parse, or the old size is larger than the checkpoint's. 400.
    #[error(transparent)]
    Malformed(#[from] RequestError),
    /// The log had its share of this second. 429 with `Retry-After`.
    #[error("this log has had its share of cosignatures; try again in {0:?}")]
    RateLimited(Duration),
    /// This witness cannot sign: its clock stands at 1970. 500; nothing was promised.
    #[error("cannot cosign: {0}; check the clock of the witness")]
    Sign(#[from] SignError),
    /// No signature by a trusted key, or an invalid one under a trusted key's name and id. 403.
    #[error("{0}")]
    Signature(&'static str),
    /// The state could not be read or written. 500; nothing was promised.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint is larger than any log can be. 400.
    #[error("the checkpoint's size is above 2^63-1")]
    TooLarge,
    /// No log of this origin is configured. 404.
    #[error("log {0:?} is not followed here; its operator can ask for `glassbloom-auditor witness add-log`")]
    UnknownOrigin(String),
}

/// The witness itself, below HTTP.
pub struct Witness {
    signers: Vec<NoteSigner>,
    store: Store,
    book: Book,
    rate: Rate,
    clock: Arc<dyn Clock>,
    jobs: mpsc::Sender<Job>,
    stop: Shutdown,
    /// Where what a log signed against itself is kept.
    evidence: Option<PathBuf>,
}

/// The task that writes. It ends when the witness is stopped or a write failed.
pub type Writer = JoinHandle<Result<(), StoreError>>;

/// A request that passed every check against the state as it was: what is left is to swap the state.
pub struct Checked {
    log: Arc<Log>,
    head: TreeHead,
    signatures: Vec<SignatureLine>,
    old: Latest,
}

/// Steps back of the clock that a witness rides out with the time of its last cosignature, in seconds. A step by a
/// time server is smaller; after a larger one nobody can say which of the two times is right.
const MAX_STEP_BACK: u64 = 300;
/// Requests that wait for the writer.
const QUEUE: usize = 1024;

impl Witness {
    /// A witness over its keys and its state, and the task that writes for it.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn start(
        signers: Vec<NoteSigner>,
        store: Store,
        rate: Rate,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Writer), StoreError> {
        let book = Book::open(store.clone()).await?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let stop = Shutdown::new();
        let writer = tokio::spawn(writer::run(store.clone(), queue, stop.clone()));
        Ok((Self { signers, store, book, rate, clock, jobs, stop, evidence: None }, writer))
    }

    /// Keeps two checkpoints of one size and different roots, both signed by the log, below this folder.
    #[must_use]
    pub fn keeping_evidence(self, folder: PathBuf) -> Self {
        Self { evidence: Some(folder), ..self }
    }

    /// Tells the writer to end with what has arrived.
    pub fn stop(&self) {
        self.stop.trigger();
    }

    /// Checks, stores, cosigns: the answer's body is one cosignature line per key.
    pub async fn add_checkpoint(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let checked = self.check(body).await?;
        self.commit(checked).await
    }

    /// Every check, in the order of the specification, without changing anything.
    pub async fn check(&self, body: &[u8]) -> Result<Checked, Refusal> {
        let AddCheckpoint { old, proof, note, head } = AddCheckpoint::parse(body)?;
        let Some(log) = self.book.log(&head.origin).await? else {
            return Err(Refusal::UnknownOrigin(head.origin));
        };
        let signatures = match verified_lines(&note, &head, &log.keys()) {
            // A key may have been added since.
            Err(Refusal::Signature(_)) if self.book.look_again().await? => {
                verified_lines(&note, &head, &log.keys())?
            }
            other => other?,
        };
        if i64::try_from(head.size.get()).is_err() {
            return Err(Refusal::TooLarge);
        }
        let latest = log.standing.lock().await.latest;
        if old != latest.size {
            return Err(Refusal::Conflict(latest.size));
        }
        if let Err(refusal) = check_proof(&head, &proof, latest) {
            if head.size == latest.size
                && let Some(folder) = &self.evidence
                && let Some(first) = self.store.note(&head.origin).await?
            {
                evidence::keep(folder, first, head, signatures).await;
            }
            return Err(refusal);
        }
        Ok(Checked { log, head, signatures, old: latest })
    }

    /// Swaps the state and returns the cosignatures; a request that was overtaken since its check gets 409.
    pub async fn commit(&self, checked: Checked) -> Result<Vec<u8>, Refusal> {
        let Checked { log, head, mut signatures, old } = checked;
        let mut standing = Arc::clone(&log.standing).lock_owned().await;
        let latest = standing.latest;
        if (latest.size, latest.root) != (old.size, old.root) {
            return Err(Refusal::Conflict(latest.size));
        }
        let now = self.clock.now();
        standing.meter.take(self.rate, now).map_err(Refusal::RateLimited)?;
        let at = not_before(now.seconds(), latest.at)?;
        let mut answer = String::new();
        for signer in &self.signers {
            let cosignature = signer.cosign(&head, at)?;
            answer.push_str(&format!("{cosignature}\n"));
            signatures.push(cosignature);
        }
        let note = SignedNote { text: head.to_string(), signatures }.encode();
        let new = Latest { size: head.size, root: head.root, at };
        let (reply, outcome) = oneshot::channel();
        let job = Job { advance: Advance { origin: head.origin, old: latest, new, note }, standing, reply };
        // Both fail only when the writer is gone.
        self.jobs.send(job).await.map_err(|_| StoreError::Halted)?;
        match outcome.await.map_err(|_| StoreError::Halted)? {
            Outcome::Failed(error) => Err(error.into()),
            Outcome::Moved => {
                tracing::debug!(origin = &*log.origin, size = head.size.get(), "cosigned");
                Ok(answer.into_bytes())
            }
            Outcome::Overtaken(size) => Err(Refusal::Conflict(size)),
        }
    }

    /// Cosigns a subtree of a checkpoint that this witness cosigned: no state, no time.
    pub async fn sign_subtree(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let SignSubtree { subtree, hash, proof, note, head } = SignSubtree::parse(body)?;
        if self.book.log(&head.origin).await?.is_none() {
            return Err(Refusal::UnknownOrigin(head.origin));
        }
        let own: Vec<VerifierKey> = self.signers.iter().map(|signer| signer.vkey().clone()).collect();
        verified_lines(&note, &head, &own).map_err(|_| {
            Refusal::Signature(
                "the checkpoint has no valid cosignature by this witness, or one that is invalid",
            )
        })?;
        verify_subtree(subtree, hash, head.size, head.root, &proof).map_err(|_| {
            Refusal::Inconsistent("the proof does not lead from the subtree to the checkpoint")
        })?;
        let mut answer = String::new();
        for signer in self.signers.iter().filter(|signer| signer.vkey().algorithm() == Algorithm::MlDsa44) {
            answer.push_str(&format!("{}\n", signer.cosign_subtree(&head.origin, subtree, hash)?));
        }
        Ok(answer.into_bytes())
    }

    /// Whether there is a key that can sign subtrees.
    pub fn signs_subtrees(&self) -> bool {
        self.signers.iter().any(|signer| signer.vkey().algorithm() == Algorithm::MlDsa44)
    }

    /// The cosigned checkpoint of the log whose origin has this SHA-256.
    pub async fn note(&self, origin_hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        match self.book.by_hash(origin_hash).await? {
            Some(log) => self.store.note(&log.origin).await,
            None => Ok(None),
        }
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// The lines by these keys, one of each, all valid, at least one. Lines by anyone else are dropped, not judged: they
/// may claim any witness's name, and keeping them would let a submitter put words into our published checkpoint.
pub(crate) fn verified_lines(
    note: &SignedNote,
    head: &TreeHead,
    keys: &[VerifierKey],
) -> Result<Vec<SignatureLine>, Refusal> {
    let mut verified: Vec<SignatureLine> = Vec::new();
    for line in &note.signatures {
        for key in keys.iter().filter(|key| key.claims(line)) {
            key.verify(head, line)
                .map_err(|_| Refusal::Signature("a signature under a trusted key is invalid"))?;
            if !verified.iter().any(|other| key.claims(other)) {
                verified.push(line.clone());
            }
        }
    }
    if verified.is_empty() {
        return Err(Refusal::Signature("no signature by a key that is trusted for this log"));
    }
    Ok(verified)
}

pub(crate) fn check_proof(head: &TreeHead, proof: &[Hash], latest: Latest) -> Result<(), Refusal> {
    if head.size.get() == 0 && head.root != Hash::EMPTY_TREE {
        return Err(Refusal::Inconsistent("an empty tree has the root SHA-256(\"\")"));
    }
    if latest.size.get() == 0 {
        // Every tree extends the empty one, so there is nothing that a proof could say.
        return match proof {
            [] => Ok(()),
            _ => Err(Refusal::Inconsistent("a proof from size 0 has no hashes")),
        };
    }
    merkle::verify_consistency(latest.size, head.size, latest.root, head.root, proof).map_err(|_| {
        Refusal::Inconsistent(
            "the consistency proof does not lead from the last checkpoint cosigned to this one",
        )
    })
}

/// The time to sign with, which never goes back: "as of then, this was the largest tree".
fn not_before(now: UnixSeconds, last: UnixSeconds) -> Result<UnixSeconds, Refusal> {
    match last.get().saturating_sub(now.get()) {
        0 => Ok(now),
        behind if behind <= MAX_STEP_BACK => Ok(last),
        behind => Err(Refusal::Clock(behind)),
    }
}
