//! Inclusion promises: what a log signs when it has an entry and cannot prove it yet. See `spec/promise.md`.

use core::fmt;

use crate::{
    hash::Hash,
    id::{LeafIndex, UnixSeconds},
    note::{BadSignature, NoteError, NoteSigner, SignError, SignedNote},
    policy::{Checkpoint, Logged, Policy},
};

/// The longest promise accepted, in bytes.
pub const MAX_PROMISE: usize = 8 * 1024;

/// That an entry will be covered by every checkpoint from a deadline on; not signed, or not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The log that promises.
    pub origin: String,
    /// The entry's place in it.
    pub index: LeafIndex,
    /// The hash of the entry's bytes in the tree.
    pub leaf: Hash,
    /// From when on each published checkpoint covers the entry.
    pub deadline: UnixSeconds,
}

/// Why a note is not a promise under the policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromiseError {
    /// A key of the log has a line in the note that it did not make.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
    /// The text is not a promise in canonical form.
    #[error("not a promise of exactly five lines: {HEADER}, origin, index, leaf hash, deadline")]
    NotAPromise,
    /// The bytes are not a note.
    #[error("not a promise: {0}")]
    Note(#[from] NoteError),
    /// More bytes than [`MAX_PROMISE`].
    #[error("the promise is longer than {MAX_PROMISE} bytes")]
    TooLong,
    /// No key of the log signed.
    #[error("no key of the policy for {origin} has signed the promise")]
    Unsigned {
        /// The origin in the note.
        origin: String,
    },
    /// Not a log of the policy, or not the one asked for.
    #[error("{origin} is not the log expected here")]
    UnknownLog {
        /// The origin in the note.
        origin: String,
    },
}

impl Promise {
    /// Signs the promise as its log.
    ///
    /// # Errors
    /// With any key but the log's own Ed25519 key, or an origin that is not one line.
    pub fn sign(&self, signer: &NoteSigner) -> Result<SignedNote, SignError> {
        if self.origin.is_empty() || self.origin.contains('\n') {
            return Err(SignError::BadHead);
        }
        if signer.vkey().name() != self.origin {
            return Err(SignError::WrongKey);
        }
        let text = self.to_string();
        let line = signer.sign_promise(&text)?;
        Ok(SignedNote { text, signatures: vec![line] })
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.strip_suffix('\n')?.split('\n').collect();
        let [HEADER, origin, index, leaf, deadline] = lines[..] else { return None };
        let promise = Self {
            origin: origin.to_owned(),
            index: index.parse().ok()?,
            leaf: Hash::from_base64(leaf)?,
            deadline: deadline.parse().ok()?,
        };
        // One spelling: what was parsed must be what would be written.
        (!origin.is_empty() && promise.to_string() == text).then_some(promise)
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, index, leaf, deadline } = self;
        write!(f, "{HEADER}\n{origin}\n{index}\n{}\n{deadline}\n", leaf.to_base64())
    }
}

/// A promise that a log of the policy signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promised {
    promise: Promise,
    note: Vec<u8>,
}

/// What became of a promise, as far as the evidence at hand shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fulfilment {
    /// The log did not do what it signed.
    Broken,
    /// The entry is where it was promised to be.
    Kept,
    /// Nothing is shown yet.
    Open,
}

impl Policy {
    /// Opens a promise: signed by the log it names. With an origin given, no other log will do.
    ///
    /// # Errors
    /// [`PromiseError`] says what is wrong with it.
    pub fn open_promise(&self, origin: Option<&str>, note: &[u8]) -> Result<Promised, PromiseError> {
        if note.len() > MAX_PROMISE {
            return Err(PromiseError::TooLong);
        }
        let SignedNote { text, signatures } = SignedNote::parse(note)?;
        let promise = Promise::parse(&text).ok_or(PromiseError::NotAPromise)?;
        let unknown = || PromiseError::UnknownLog { origin: promise.origin.clone() };
        let log = self.log(&promise.origin).ok_or_else(unknown)?;
        if origin.is_some_and(|origin| origin != promise.origin) {
            return Err(unknown());
        }
        let mut signed = false;
        for line in &signatures {
            for key in log.keys.iter().filter(|key| key.claims(line)) {
                key.verify_promise(&text, line)?;
                signed = true;
            }
        }
        if !signed {
            return Err(PromiseError::Unsigned { origin: promise.origin });
        }
        Ok(Promised { promise, note: note.to_vec() })
    }
}

impl Promised {
    /// What was promised.
    pub const fn promise(&self) -> &Promise {
        &self.promise
    }

    /// The note as it was given.
    pub fn note_bytes(&self) -> &[u8] {
        &self.note
    }

    /// Whether it is about this entry.
    pub fn is_about(&self, entry: &[u8]) -> bool {
        Hash::leaf(entry) == self.promise.leaf
    }

    /// Holds a checkpoint against it: broken when the quorum cosigned it after the deadline and it does not cover the
    /// entry.
    pub fn against_checkpoint(&self, checkpoint: &Checkpoint) -> Fulfilment {
        let Promise { origin, index, deadline, .. } = &self.promise;
        let late = checkpoint.cosigned_at() > *deadline && checkpoint.size().get() <= index.get();
        if checkpoint.origin() == origin && late { Fulfilment::Broken } else { Fulfilment::Open }
    }

    /// Holds an entry that is proven to be in a log against it: at the promised place there must be the promised one.
    pub fn against_entry<T>(&self, entry: &Logged<T>) -> Fulfilment {
        let Promise { origin, index, leaf, .. } = &self.promise;
        if (&entry.checkpoint().origin, entry.index()) != (origin, *index) {
            return Fulfilment::Open;
        }
        if entry.leaf_hash() == *leaf { Fulfilment::Kept } else { Fulfilment::Broken }
    }
}

const HEADER: &str = "glassbloom.org/promise@v1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::TreeHead, id::TreeSize, merkle::root_of, note::VerifierKey};

    const ORIGIN: &str = "log.example/receipts";

    fn signers() -> [NoteSigner; 3] {
        [
            NoteSigner::ed25519_log(ORIGIN, [1; 32]).unwrap(),
            NoteSigner::mldsa44(ORIGIN, [2; 32]).unwrap(),
            NoteSigner::ed25519_witness("w", [3; 32]).unwrap(),
        ]
    }

    fn policy() -> Policy {
        let [log, pq, witness] = signers().map(|signer| signer.vkey().clone());
        Policy::parse(&format!("log {log}\nlog {pq}\nwitness w {witness}\nquorum w\n")).unwrap()
    }

    fn promise() -> Promise {
        Promise {
            origin: ORIGIN.into(),
            index: LeafIndex::new(2),
            leaf: Hash::leaf(b"c"),
            deadline: UnixSeconds::new(1000),
        }
    }

    fn opened() -> Promised {
        let note = promise().sign(&signers()[0]).unwrap().encode();
        policy().open_promise(Some(ORIGIN), &note).unwrap()
    }

    /// A checkpoint over these entries, cosigned at the time.
    fn checkpoint(entries: &[&[u8]], time: u64) -> Checkpoint {
        let root = root_of(entries.iter().map(|entry| Hash::leaf(entry)));
        let head = TreeHead { origin: ORIGIN.into(), size: TreeSize::new(entries.len() as u64), root };
        let [log, _, witness] = signers();
        let signatures =
            vec![log.sign_checkpoint(&head).unwrap(), witness.cosign(&head, UnixSeconds::new(time)).unwrap()];
        let note = SignedNote { text: head.to_string(), signatures };
        policy().open(Some(ORIGIN), &note.encode()).unwrap()
    }

    #[test]
    fn what_was_signed_opens_and_is_about_its_entry() {
        let opened = opened();
        assert_eq!(opened.promise(), &promise());
        assert!(opened.is_about(b"c") && !opened.is_about(b"d"));
        assert_eq!(policy().open_promise(None, opened.note_bytes()).unwrap(), opened);
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let note = opened().note_bytes().to_vec();
        for bit in 0..note.len() * 8 {
            let mut flipped = note.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(policy().open_promise(Some(ORIGIN), &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn only_the_ed25519_key_of_the_log_promises() {
        let [log, pq, witness] = signers();
        assert_eq!(promise().sign(&pq).unwrap_err(), SignError::WrongKey);
        assert_eq!(promise().sign(&witness).unwrap_err(), SignError::WrongKey);
        let other = Promise { origin: "other.example/receipts".into(), ..promise() };
        assert_eq!(other.sign(&log).unwrap_err(), SignError::WrongKey);

        // A line that claims to be by the ML-DSA key is a false one, whatever is in it.
        let mut note = promise().sign(&log).unwrap();
        let mut line = note.signatures[0].clone();
        line.key_id = pq.vkey().key_id();
        note.signatures.push(line);
        let error = policy().open_promise(None, &note.encode()).unwrap_err();
        assert!(matches!(error, PromiseError::BadSignature(_)), "{error}");
    }

    #[test]
    fn a_checkpoint_is_no_promise_and_a_promise_no_checkpoint() {
        let checkpoint = checkpoint(&[b"a"], 5);
        let error = policy().open_promise(None, checkpoint.note_bytes()).unwrap_err();
        assert_eq!(error, PromiseError::NotAPromise);
        assert!(policy().open(None, opened().note_bytes()).is_err());
    }

    #[test]
    fn a_log_that_is_not_the_one_asked_is_refused() {
        let error = policy().open_promise(Some("log.example/registry"), opened().note_bytes()).unwrap_err();
        assert!(matches!(error, PromiseError::UnknownLog { .. }), "{error}");
        let key: VerifierKey = NoteSigner::ed25519_log(ORIGIN, [9; 32]).unwrap().vkey().clone();
        let other = Policy::parse(&format!("log {key}\nquorum none\n")).unwrap();
        let error = other.open_promise(None, opened().note_bytes()).unwrap_err();
        assert!(matches!(error, PromiseError::Unsigned { .. }), "{error}");
    }

    #[test]
    fn checkpoints_and_entries_show_what_became_of_it() {
        let promised = opened();
        let judged = |entries: &[&[u8]], time| promised.against_checkpoint(&checkpoint(entries, time));
        assert_eq!(judged(&[b"a", b"b"], 1001), Fulfilment::Broken);
        assert_eq!(judged(&[b"a", b"b"], 1000), Fulfilment::Open, "cosigned before the deadline had passed");
        assert_eq!(judged(&[b"a", b"b", b"c"], 1001), Fulfilment::Open, "it covers the index");

        let logged = |entries: [&[u8]; 3], index: u64| {
            let checkpoint = checkpoint(&entries, 9);
            let empty = crate::merkle::Frontier::default();
            let all = entries.iter().map(|entry| entry.to_vec()).collect();
            checkpoint.replays(&empty, all).unwrap().swap_remove(index as usize)
        };
        assert_eq!(promised.against_entry(&logged([b"a", b"b", b"c"], 2)), Fulfilment::Kept);
        assert_eq!(promised.against_entry(&logged([b"a", b"b", b"x"], 2)), Fulfilment::Broken);
        assert_eq!(promised.against_entry(&logged([b"a", b"b", b"x"], 1)), Fulfilment::Open);
    }
}
