//! A log with two keys, four witnesses, and checkpoints by them.

use std::collections::BTreeMap;

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    merkle::{Frontier, NodeId},
    note::{NoteSigner, SignatureLine, SignedNote},
    policy::Policy,
};

pub(crate) const ORIGIN: &str = "log.example/registry";

pub(crate) fn log_key() -> NoteSigner {
    NoteSigner::ed25519_log(ORIGIN, [1; 32]).unwrap()
}

pub(crate) fn log_pq_key() -> NoteSigner {
    NoteSigner::mldsa44(ORIGIN, [2; 32]).unwrap()
}

/// Witnesses 1 to 4; the even ones are post-quantum.
pub(crate) fn witness(number: u8) -> NoteSigner {
    let (name, seed) = (format!("w{number}.example"), [10 + number; 32]);
    if number.is_multiple_of(2) {
        NoteSigner::mldsa44(&name, seed)
    } else {
        NoteSigner::ed25519_witness(&name, seed)
    }
    .unwrap()
}

/// The policy lines of the log's two keys and of witnesses `w1` to `w4`.
pub(crate) fn policy_text(rules: &str) -> String {
    let mut text = format!("log {} https://{ORIGIN}\nlog {}\n", log_key().vkey(), log_pq_key().vkey());
    for number in 1..=4 {
        text.push_str(&format!("witness w{number} {}\n", witness(number).vkey()));
    }
    text + rules
}

pub(crate) fn policy(rules: &str) -> Policy {
    Policy::parse(&policy_text(rules)).unwrap()
}

pub(crate) fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// The tree over the first entries, with all its nodes.
pub(crate) fn tree(size: u64) -> (Frontier, BTreeMap<NodeId, Hash>) {
    let (mut frontier, mut nodes) = (Frontier::new(), BTreeMap::new());
    for index in 0..size {
        frontier.append_with(Hash::leaf(&entry(index)), |id, hash| {
            nodes.insert(id, hash);
        });
    }
    (frontier, nodes)
}

pub(crate) fn head(size: u64) -> TreeHead {
    TreeHead { origin: ORIGIN.to_owned(), size: TreeSize::new(size), root: tree(size).0.root() }
}

pub(crate) fn note(head: &TreeHead, signatures: impl IntoIterator<Item = SignatureLine>) -> Vec<u8> {
    SignedNote { text: head.to_string(), signatures: signatures.into_iter().collect() }.encode()
}

pub(crate) fn cosigned(number: u8, head: &TreeHead, time: u64) -> SignatureLine {
    witness(number).cosign(head, UnixSeconds::new(time)).unwrap()
}

/// A checkpoint by both keys of the log and the given witnesses at the given times.
pub(crate) fn checkpoint(size: u64, cosignatures: &[(u8, u64)]) -> Vec<u8> {
    let head = head(size);
    let log = [log_key(), log_pq_key()].map(|key| key.sign_checkpoint(&head).unwrap());
    note(
        &head,
        log.into_iter().chain(cosignatures.iter().map(|&(number, time)| cosigned(number, &head, time))),
    )
}
