//! A C2SP witness: cosigns a log's checkpoint when it is consistent with the last one it cosigned.
//! `[c2sp.org/tlog-witness]`
//!
//! The order of checks is fixed, because each answer tells the submitter what to do next:
//! parse (400), origin (404), signature (403), sizes (400, 409), proof (422). What the witness cosigned is on
//! disk before the cosignature leaves. Only signature lines that were verified are kept or served.

mod http;
mod keys;
mod request;
mod store;

use std::{path::PathBuf, sync::Arc};

use glassbloom_service::Clock;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::TreeSize,
    merkle,
    note::{NoteSigner, SignError, SignatureLine, SignedNote, VerifierKey},
};

pub use http::{MAX_BODY, router, serve};
pub use keys::{KeyError, add_logs, init};
pub use request::{AddCheckpoint, MAX_PROOF_LINES, RequestError};
pub use store::{Cosigned, Latest, Store, StoreError};

/// What `witness serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder with `witness.key` (made by `witness init`) and `witness.sqlite`.
    pub data: PathBuf,
    /// Logs to accept besides those in the database; they are added to it.
    pub logs: Vec<VerifierKey>,
}

/// Why a checkpoint was not cosigned; [`Refusal::status`] gives each its status.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The submitter's old size is not the one cosigned last. 409, the body is the size.
    #[error("the last checkpoint cosigned has size {0}; send a proof from there")]
    Conflict(TreeSize),
    /// The proof does not show that the new tree extends the last one. 422.
    #[error("the checkpoint does not extend the last one cosigned: {0}")]
    Inconsistent(&'static str),
    /// The body does not parse, or the old size is larger than the checkpoint's. 400.
    #[error("{0}")]
    Malformed(String),
    /// This witness cannot sign: its clock stands at 1970. 500; nothing was promised.
    #[error("cannot cosign: {0}; check the clock of the witness")]
    Sign(#[from] SignError),
    /// No signature by a trusted key, or an invalid one under a trusted key's name and id. 403.
    #[error("{0}")]
    Signature(&'static str),
    /// The state could not be read or written. 500; nothing was promised.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No log of this origin is configured. 404.
    #[error("log {0:?} is not followed here; its operator can ask for `glassbloom-auditor witness add-log`")]
    UnknownOrigin(String),
}

/// The witness itself, below HTTP.
pub struct Witness {
    signer: NoteSigner,
    store: Store,
    clock: Arc<dyn Clock>,
}

/// A request that passed every check against the state as it was: what is left is to swap the state.
pub struct Checked {
    head: TreeHead,
    signatures: Vec<SignatureLine>,
    old: Latest,
}

impl Witness {
    /// A witness over its key and its state.
    pub fn new(signer: NoteSigner, store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { signer, store, clock }
    }

    /// Checks, stores, cosigns: the answer's body is the cosignature line.
    pub async fn add_checkpoint(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let checked = self.check(body).await?;
        self.commit(checked).await
    }

    /// Every check, in the order of the specification, without changing anything.
    pub async fn check(&self, body: &[u8]) -> Result<Checked, Refusal> {
        let request = AddCheckpoint::parse(body).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let AddCheckpoint { old, proof, note, head } = request;
        let keys = self.store.keys(&head.origin).await?;
        let Some(latest) = self.store.latest(&head.origin).await?.filter(|_| !keys.is_empty()) else {
            return Err(Refusal::UnknownOrigin(head.origin));
        };
        let signatures = verified_lines(&note, &head, &keys)?;
        check_sizes(old, &head, latest)?;
        check_proof(&head, &proof, latest)?;
        Ok(Checked { head, signatures, old: latest })
    }

    /// Swaps the state and returns the cosignature; a request that was overtaken since its check gets 409.
    pub async fn commit(&self, checked: Checked) -> Result<Vec<u8>, Refusal> {
        let Checked { head, mut signatures, old } = checked;
        let at = self.clock.now().seconds();
        let cosignature = self.signer.cosign(&head, at)?;
        signatures.push(cosignature.clone());
        let note = SignedNote { text: head.to_string(), signatures }.encode();
        let new = Cosigned { latest: Latest { size: head.size, root: head.root }, note, at };
        if !self.store.advance(&head.origin, old, &new).await? {
            let now =
                self.store.latest(&head.origin).await?.ok_or(StoreError::Corrupt("log that vanished"))?;
            return Err(Refusal::Conflict(now.size));
        }
        tracing::debug!(origin = head.origin, size = head.size.get(), "cosigned");
        Ok(format!("{cosignature}\n").into_bytes())
    }

    /// The cosigned checkpoint of the log whose origin has this SHA-256.
    pub async fn note(&self, origin_hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.note(origin_hash).await
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// The lines by trusted keys, all valid, at least one. Lines by anyone else are dropped, not judged: they may claim
/// any witness's name, and keeping them would let a submitter put words into our published checkpoint.
fn verified_lines(
    note: &SignedNote,
    head: &TreeHead,
    keys: &[VerifierKey],
) -> Result<Vec<SignatureLine>, Refusal> {
    let mut verified = Vec::new();
    for line in &note.signatures {
        for key in keys.iter().filter(|key| key.claims(line)) {
            key.verify(head, line)
                .map_err(|_| Refusal::Signature("a signature under a trusted key is invalid"))?;
            verified.push(line.clone());
        }
    }
    if verified.is_empty() {
        return Err(Refusal::Signature("no signature by a key that is trusted for this log"));
    }
    Ok(verified)
}

fn check_sizes(old: TreeSize, head: &TreeHead, latest: Latest) -> Result<(), Refusal> {
    if old > head.size {
        return Err(Refusal::Malformed(format!(
            "old size {old} is larger than the checkpoint's {}",
            head.size
        )));
    }
    if i64::try_from(head.size.get()).is_err() {
        return Err(Refusal::Malformed("the checkpoint's size is above 2^63-1".to_owned()));
    }
    if old != latest.size {
        return Err(Refusal::Conflict(latest.size));
    }
    Ok(())
}

fn check_proof(head: &TreeHead, proof: &[Hash], latest: Latest) -> Result<(), Refusal> {
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
    merkle::verify_consistency(latest.size, head.size, latest.root, head.root, proof)
        .map_err(|_| Refusal::Inconsistent("the consistency proof does not hold"))
}
