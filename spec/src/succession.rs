//! The first entry of a log that goes on where another one ended. See `spec/succession.md`.

use crate::{
    checkpoint::{Checkpoint, Logged, TreeHead},
    id::LeafIndex,
    note::{NoteError, SignedNote},
    policy::{OpenError, Policy},
    receipt::is_receipts,
    tile::MAX_ENTRY,
};

/// An entry that names the final checkpoint of a predecessor; nothing in it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    note: Vec<u8>,
    head: TreeHead,
}

/// Why an entry does not make its log a successor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// The note does not open under the policy.
    #[error("the final checkpoint of the predecessor: {0}")]
    Checkpoint(#[from] OpenError),
    /// A receipts log may only follow a receipts log, and no other log may.
    #[error("{successor} cannot go on where {predecessor} ended: one is a receipts log, the other is not")]
    Kind {
        /// The log that ended.
        predecessor: String,
        /// The log that has the entry.
        successor: String,
    },
    /// The bytes after the header are not a checkpoint note.
    #[error("not a succession: {0}")]
    Note(#[from] NoteError),
    /// The entry does not begin with the header.
    #[error("not a succession: it does not begin with the line {}", HEADER.trim_end())]
    NotASuccession,
    /// A log cannot follow itself.
    #[error("{0} names itself as its predecessor")]
    Itself(String),
    /// The entry is somewhere else than at the beginning.
    #[error("a succession stands at index 0, not at {0}")]
    Place(LeafIndex),
    /// More bytes than an entry can have.
    #[error("the succession is longer than {MAX_ENTRY} bytes")]
    TooLong,
}

const HEADER: &str = "glassbloom.org/log-succession@v1\n";

impl Succession {
    /// Names this note as the final checkpoint of a predecessor.
    ///
    /// # Errors
    /// When it is not a checkpoint note, or too long for an entry.
    pub fn new(note: &[u8]) -> Result<Self, SuccessionError> {
        let head = TreeHead::parse(&SignedNote::parse(note)?.text)?;
        if HEADER.len() + note.len() > MAX_ENTRY {
            return Err(SuccessionError::TooLong);
        }
        Ok(Self { note: note.to_vec(), head })
    }

    /// Parses an entry. Every succession has one spelling: [`Succession::encode`] gives the same bytes back.
    ///
    /// # Errors
    /// When the bytes are not the header and a checkpoint note.
    pub fn parse(entry: &[u8]) -> Result<Self, SuccessionError> {
        let note = entry.strip_prefix(HEADER.as_bytes()).ok_or(SuccessionError::NotASuccession)?;
        Self::new(note)
    }

    /// Whether an entry claims to be one.
    pub fn is_claimed(entry: &[u8]) -> bool {
        entry.starts_with(HEADER.as_bytes())
    }

    /// The entry's bytes.
    pub fn encode(&self) -> Vec<u8> {
        [HEADER.as_bytes(), &self.note].concat()
    }

    /// What the predecessor's final checkpoint says; nobody has checked its signatures yet.
    pub const fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The final checkpoint's note.
    pub fn note_bytes(&self) -> &[u8] {
        &self.note
    }

    /// Opens the final checkpoint, as named by the log with origin `successor`.
    ///
    /// # Errors
    /// When it does not open under the policy, or the successor is not one that may name it.
    pub fn verify(&self, policy: &Policy, successor: &str) -> Result<Checkpoint, SuccessionError> {
        let predecessor = &self.head.origin;
        if predecessor == successor {
            return Err(SuccessionError::Itself(successor.to_owned()));
        }
        if is_receipts(predecessor) != is_receipts(successor) {
            let (predecessor, successor) = (predecessor.clone(), successor.to_owned());
            return Err(SuccessionError::Kind { predecessor, successor });
        }
        Ok(policy.open(None, &self.note)?)
    }
}

/// That one log goes on where another one ended, both under the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succeeded {
    predecessor: Checkpoint,
    successor: TreeHead,
}

impl Succeeded {
    /// The final checkpoint of the log that ended.
    pub const fn predecessor(&self) -> &Checkpoint {
        &self.predecessor
    }

    /// The head under which the entry was shown to be the first of the successor.
    pub const fn successor(&self) -> &TreeHead {
        &self.successor
    }

    /// Whether a checkpoint of the predecessor contradicts that it has ended there: it is larger, or of another tree.
    pub fn is_broken_by(&self, later: &Checkpoint) -> bool {
        let end = self.predecessor.head();
        let (size, root) = (later.size(), later.root());
        later.origin() == end.origin && (size > end.size || (size == end.size && root != end.root))
    }
}

impl Policy {
    /// Opens the first entry of a successor.
    ///
    /// # Errors
    /// When the entry is not a succession, not the first, or names what does not open under this policy.
    pub fn open_succession(&self, entry: &Logged<Vec<u8>>) -> Result<Succeeded, SuccessionError> {
        if entry.index() != LeafIndex::new(0) {
            return Err(SuccessionError::Place(entry.index()));
        }
        let successor = entry.checkpoint().clone();
        let predecessor = Succession::parse(entry.value())?.verify(self, &successor.origin)?;
        Ok(Succeeded { predecessor, successor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::Hash,
        id::{TreeSize, UnixSeconds},
        note::NoteSigner,
    };

    const OLD: &str = "log.example/receipts";
    const NEW: &str = "log.example/receipts/2027";

    fn policy() -> Policy {
        let log = |origin, seed| NoteSigner::ed25519_log(origin, [seed; 32]).unwrap();
        let witness = NoteSigner::ed25519_witness("w.example", [9; 32]).unwrap();
        let text = format!(
            "log {}\nlog {}\nwitness w {}\nquorum w\n",
            log(OLD, 1).vkey(),
            log(NEW, 2).vkey(),
            witness.vkey()
        );
        Policy::parse(&text).unwrap()
    }

    fn note(origin: &str, seed: u8, size: u64, root: Hash) -> Vec<u8> {
        let head = TreeHead { origin: origin.to_owned(), size: TreeSize::new(size), root };
        let log = NoteSigner::ed25519_log(origin, [seed; 32]).unwrap();
        let witness = NoteSigner::ed25519_witness("w.example", [9; 32]).unwrap();
        let signatures = vec![
            log.sign_checkpoint(&head).unwrap(),
            witness.cosign(&head, UnixSeconds::new(1_795_000_000)).unwrap(),
        ];
        SignedNote { text: head.to_string(), signatures }.encode()
    }

    fn succeeded() -> Succeeded {
        let entry = Succession::new(&note(OLD, 1, 5, Hash::of(b"end"))).unwrap().encode();
        let first = policy().open(None, &note(NEW, 2, 1, Hash::leaf(&entry))).unwrap();
        policy().open_succession(&first.includes(entry, LeafIndex::new(0), &[]).unwrap()).unwrap()
    }

    #[test]
    fn the_end_of_one_log_is_the_beginning_of_the_next() {
        let succeeded = succeeded();
        assert_eq!(succeeded.predecessor().size(), TreeSize::new(5));
        assert_eq!(succeeded.successor().origin, NEW);
        let open = |size, root| policy().open(None, &note(OLD, 1, size, root)).unwrap();
        assert!(!succeeded.is_broken_by(&open(5, Hash::of(b"end"))));
        assert!(!succeeded.is_broken_by(&open(4, Hash::of(b"before"))), "an old copy proves nothing");
        assert!(succeeded.is_broken_by(&open(5, Hash::of(b"another"))));
        assert!(succeeded.is_broken_by(&open(6, Hash::of(b"more"))));
    }

    #[test]
    fn only_at_the_beginning() {
        let entry = Succession::new(&note(OLD, 1, 5, Hash::of(b"end"))).unwrap().encode();
        let root = Hash::node(&Hash::leaf(b"first"), &Hash::leaf(&entry));
        let head = policy().open(None, &note(NEW, 2, 2, root)).unwrap();
        let second = head.includes(entry, LeafIndex::new(1), &[Hash::leaf(b"first")]).unwrap();
        assert_eq!(policy().open_succession(&second), Err(SuccessionError::Place(LeafIndex::new(1))));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = Succession::new(&note(OLD, 1, 5, Hash::of(b"end"))).unwrap().encode();
        let check = |entry: &[u8]| Succession::parse(entry)?.verify(&policy(), NEW);
        assert!(check(&good).is_ok());
        for bit in 0..good.len() * 8 {
            let mut entry = good.clone();
            entry[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&entry).is_err(), "bit {bit}");
        }
        for end in 0..good.len() {
            assert!(check(&good[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_does_not_fit_an_entry_is_refused() {
        let mut note = note(OLD, 1, 5, Hash::of(b"end"));
        let line = NoteSigner::mldsa44("w2.example", [8; 32])
            .unwrap()
            .cosign(&TreeHead::parse(&SignedNote::parse(&note).unwrap().text).unwrap(), UnixSeconds::new(1))
            .unwrap();
        for _ in 0..21 {
            note.extend_from_slice(format!("{line}\n").as_bytes());
        }
        assert!(note.len() > MAX_ENTRY && SignedNote::parse(&note).is_ok());
        assert_eq!(Succession::new(&note), Err(SuccessionError::TooLong));
    }
}
