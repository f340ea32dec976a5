//! From bytes to checkpoints, and from checkpoints to logged entries.

use super::Policy;
use crate::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixSeconds},
    merkle::{Frontier, ProofError, verify_consistency, verify_inclusion},
    note::{BadSignature, NoteError, SignatureLine, SignedNote},
};

/// Why a note is not a checkpoint under the policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A key of the policy has a line in the note that it did not make.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
    /// The bytes are not a checkpoint note.
    #[error("not a checkpoint: {0}")]
    Malformed(#[from] NoteError),
    /// Too few witnesses cosigned.
    #[error("{have} of {need} needed witnesses or groups cosigned; missing: {}", missing.join(", "))]
    Quorum {
        /// Direct members of the quorum that agree.
        have: usize,
        /// How many of them must.
        need: usize,
        /// Names of the quorum's witnesses without a cosignature.
        missing: Vec<String>,
    },
    /// None of the log's keys signed.
    #[error("no key of the policy for {origin} has signed")]
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

impl Policy {
    /// Opens a checkpoint: signed by the log, cosigned by the quorum, and every signature by a key of the policy
    /// valid. Lines by other keys are ignored. With an origin given, no other log will do.
    ///
    /// # Errors
    /// [`OpenError`] says which of these fails.
    pub fn open(&self, origin: Option<&str>, note: &[u8]) -> Result<Checkpoint, OpenError> {
        let signed = self.open_uncosigned(origin, note)?;
        let Some(cosigned_at) = self.quorum_time(&signed.times) else {
            let (have, need, missing) = self.shortfall(&signed.times);
            return Err(OpenError::Quorum { have, need, missing });
        };
        let LogSigned { head, note, cosignatures, .. } = signed;
        Ok(Checkpoint { head, note, cosigned_at, cosignatures })
    }

    /// Opens a checkpoint without asking for the quorum: for the log itself, and for witnesses, who are asked before
    /// there is one. Users must not rely on the result.
    ///
    /// # Errors
    /// As [`Policy::open`], except for the quorum.
    pub fn open_uncosigned(&self, origin: Option<&str>, note: &[u8]) -> Result<LogSigned, OpenError> {
        let SignedNote { text, signatures } = SignedNote::parse(note)?;
        let head = TreeHead::parse(&text)?;
        let unknown = || OpenError::UnknownLog { origin: head.origin.clone() };
        if origin.is_some_and(|origin| origin != head.origin) || self.log(&head.origin).is_none() {
            return Err(unknown());
        }
        let (mut signed, mut times) = (false, vec![None; self.witnesses.len()]);
        for line in &signatures {
            signed |= self.check_log_line(&head, line)?;
            self.check_witness_line(&head, line, &mut times)?;
        }
        if !signed {
            return Err(OpenError::Unsigned { origin: head.origin });
        }
        let named = self.witnesses.iter().zip(&times);
        let cosignatures = named.filter_map(|(w, time)| Some((w.name.clone(), (*time)?))).collect();
        Ok(LogSigned { head, note: note.to_vec(), signatures, times, cosignatures })
    }

    /// Whether the line is a valid one by the head's own log. A line by another log of the policy must verify too.
    fn check_log_line(&self, head: &TreeHead, line: &SignatureLine) -> Result<bool, BadSignature> {
        let mut signed = false;
        for log in &self.logs {
            for key in log.keys.iter().filter(|key| key.claims(line)) {
                key.verify(head, line)?;
                signed |= log.origin == head.origin;
            }
        }
        Ok(signed)
    }

    /// Notes the time of a witness's line. Several lines by one witness count once, with the newest time.
    fn check_witness_line(
        &self,
        head: &TreeHead,
        line: &SignatureLine,
        times: &mut [Option<UnixSeconds>],
    ) -> Result<(), BadSignature> {
        for (witness, newest) in self.witnesses.iter().zip(times) {
            if witness.key.claims(line) {
                let time = witness.key.verify(head, line)?;
                // Only a statement about a time says that the witness knew no larger tree.
                if time.get() == 0 {
                    return Err(BadSignature { name: line.name.clone() });
                }
                *newest = (*newest).max(Some(time));
            }
        }
        Ok(())
    }
}

/// A checkpoint that its log signed, whoever cosigned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSigned {
    head: TreeHead,
    note: Vec<u8>,
    signatures: Vec<SignatureLine>,
    times: Vec<Option<UnixSeconds>>,
    cosignatures: Vec<(String, UnixSeconds)>,
}

impl LogSigned {
    /// Origin, size and root.
    pub const fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The note as it was given.
    pub fn note_bytes(&self) -> &[u8] {
        &self.note
    }

    /// All signature lines, those of keys that the policy does not know included.
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// The witnesses of the policy that cosigned, by their names in the policy, each with its newest time.
    pub fn cosignatures(&self) -> &[(String, UnixSeconds)] {
        &self.cosignatures
    }
}

/// A tree head that its log signed and the policy's quorum of witnesses cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    head: TreeHead,
    note: Vec<u8>,
    cosigned_at: UnixSeconds,
    cosignatures: Vec<(String, UnixSeconds)>,
}

impl Checkpoint {
    /// Origin, size and root.
    pub const fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The log it is of.
    pub fn origin(&self) -> &str {
        &self.head.origin
    }

    /// The number of entries.
    pub const fn size(&self) -> TreeSize {
        self.head.size
    }

    /// The root over them.
    pub const fn root(&self) -> Hash {
        self.head.root
    }

    /// The note as it was given, with all its signatures.
    pub fn note_bytes(&self) -> &[u8] {
        &self.note
    }

    /// The newest time such that the quorum holds among the cosignatures made then or later: for k of n witnesses
    /// the k-th newest. By then the quorum knew no larger tree. 0 when the policy asks for no witness.
    pub const fn cosigned_at(&self) -> UnixSeconds {
        self.cosigned_at
    }

    /// The witnesses of the policy that cosigned, by their names in the policy, each with its newest time.
    pub fn cosignatures(&self) -> &[(String, UnixSeconds)] {
        &self.cosignatures
    }

    /// SHA-256 over the note with all its signatures: the beacon, which nobody can know before the witnesses signed.
    pub fn digest(&self) -> Hash {
        Hash::of(&self.note)
    }

    /// Checks that an entry is in the log.
    ///
    /// # Errors
    /// When the proof is not one for this entry, index and tree.
    pub fn includes(
        &self,
        entry: Vec<u8>,
        index: LeafIndex,
        proof: &[Hash],
    ) -> Result<Logged<Vec<u8>>, ProofError> {
        let leaf_hash = Hash::leaf(&entry);
        verify_inclusion(leaf_hash, index, self.size(), self.root(), proof)?;
        Ok(self.logged(entry, index, leaf_hash))
    }

    /// Checks that the entries are all that the log has appended since the tree with this frontier, which proves
    /// the inclusion of each and that the log only grew. The frontier need not be trusted: the root binds it.
    ///
    /// # Errors
    /// When the number of entries is not the difference of the sizes, or the root is another.
    pub fn replays(
        &self,
        older: &Frontier,
        entries: Vec<Vec<u8>>,
    ) -> Result<Vec<Logged<Vec<u8>>>, ProofError> {
        let (old, new) = (older.size(), self.size());
        let want = new.get().checked_sub(old.get()).ok_or(ProofError::SizesReversed { old, new })?;
        if want != entries.len() as u64 {
            let want = usize::try_from(want).unwrap_or(usize::MAX);
            return Err(ProofError::WrongLength { got: entries.len(), want });
        }
        let (mut frontier, mut logged) = (older.clone(), Vec::with_capacity(entries.len()));
        for entry in entries {
            let (index, leaf_hash) = (LeafIndex::new(frontier.size().get()), Hash::leaf(&entry));
            frontier.append(leaf_hash);
            logged.push(self.logged(entry, index, leaf_hash));
        }
        if frontier.root() != self.root() {
            return Err(ProofError::RootMismatch { size: new });
        }
        Ok(logged)
    }

    /// Checks that this checkpoint's tree begins with the older one.
    ///
    /// # Errors
    /// With all that was compared, to keep and to show. See [`Inconsistency::is_fork`] for what it proves.
    pub fn extends(&self, older: &TreeHead, proof: &[Hash]) -> Result<(), Box<Inconsistency>> {
        let fail = |reason| {
            let (older, newer) = (older.clone(), self.note.clone());
            Box::new(Inconsistency { older, newer, proof: proof.to_vec(), reason })
        };
        if older.origin != self.head.origin {
            return Err(fail(InconsistencyReason::OtherLog));
        }
        verify_consistency(older.size, self.size(), older.root, self.root(), proof)
            .map_err(|error| fail(InconsistencyReason::Proof(error)))
    }

    fn logged(&self, value: Vec<u8>, index: LeafIndex, leaf_hash: Hash) -> Logged<Vec<u8>> {
        Logged { value, index, leaf_hash, checkpoint: self.head.clone(), cosigned_at: self.cosigned_at }
    }
}

/// Two heads of one log that were not shown to agree, with everything that was compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log does not extend its tree of size {}: {reason}", older.size)]
pub struct Inconsistency {
    /// The head that was held.
    pub older: TreeHead,
    /// The newer checkpoint's note.
    pub newer: Vec<u8>,
    /// The proof that was given.
    pub proof: Vec<Hash>,
    /// What failed.
    pub reason: InconsistencyReason,
}

impl Inconsistency {
    /// Whether the two heads alone prove a fork: the same size with two roots. Otherwise the proof may merely be
    /// wrong, and whoever gave it has to give the right one.
    pub fn is_fork(&self) -> bool {
        matches!(self.reason, InconsistencyReason::Proof(ProofError::RootMismatch { .. })) && {
            let note = SignedNote::parse(&self.newer).ok();
            let newer = note.and_then(|note| TreeHead::parse(&note.text).ok());
            newer.is_some_and(|newer| newer.size == self.older.size && newer.root != self.older.root)
        }
    }
}

/// What failed when two heads were compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InconsistencyReason {
    /// The heads have two origins.
    #[error("the checkpoint is of another log")]
    OtherLog,
    /// The consistency proof does not hold.
    #[error(transparent)]
    Proof(ProofError),
}

/// Something that was shown to be in a log, or was parsed from such an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged<T> {
    value: T,
    index: LeafIndex,
    leaf_hash: Hash,
    checkpoint: TreeHead,
    cosigned_at: UnixSeconds,
}

impl<T> Logged<T> {
    /// The entry, or what was parsed from it.
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// The entry alone, without the proof that it was logged.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Its place in the log.
    pub const fn index(&self) -> LeafIndex {
        self.index
    }

    /// The hash of the entry's bytes in the tree.
    pub const fn leaf_hash(&self) -> Hash {
        self.leaf_hash
    }

    /// The head of the tree it was shown to be in.
    pub const fn checkpoint(&self) -> &TreeHead {
        &self.checkpoint
    }

    /// [`Checkpoint::cosigned_at`] of that tree.
    pub const fn cosigned_at(&self) -> UnixSeconds {
        self.cosigned_at
    }

    /// Parses the entry further. The function must derive its result from the entry alone.
    ///
    /// # Errors
    /// The function's own.
    pub fn try_map<U, E>(self, parse: impl FnOnce(T) -> Result<U, E>) -> Result<Logged<U>, E> {
        let Self { value, index, leaf_hash, checkpoint, cosigned_at } = self;
        Ok(Logged { value: parse(value)?, index, leaf_hash, checkpoint, cosigned_at })
    }
}
