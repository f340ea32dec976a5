//! Load for a witness: checkpoints of several logs, signed and proved beforehand.

use std::{collections::BTreeMap, collections::VecDeque, net::SocketAddr};

use anyhow::{Context, Result};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::TreeSize,
    merkle::{Frontier, prove_consistency},
    note::{NoteSigner, SignedNote},
};

use super::{
    http::{Connection, post},
    load::Client,
};

/// A log that exists only as checkpoints: each has one leaf more than the last.
#[derive(Debug)]
pub struct Prepared {
    /// For the witness, so that it follows the log.
    pub vkey: String,
    /// The bodies of `add-checkpoint` in order.
    pub bodies: VecDeque<Vec<u8>>,
}

/// Signs this many checkpoints of a log of this name.
///
/// # Errors
/// When the name cannot name a log.
pub fn prepare(name: &str, checkpoints: u64) -> Result<Prepared> {
    let signer = NoteSigner::ed25519_log(name, *Hash::of(name.as_bytes()).as_bytes())?;
    let (mut frontier, mut nodes) = (Frontier::new(), BTreeMap::new());
    let mut bodies = VecDeque::new();
    for number in 0..checkpoints {
        let old = frontier.size();
        frontier.append_with(Hash::leaf(&number.to_be_bytes()), |id, hash| {
            nodes.insert(id, hash);
        });
        let head = TreeHead { origin: name.to_owned(), size: frontier.size(), root: frontier.root() };
        let proof = prove_consistency(old, head.size, &nodes)?;
        bodies.push_back(body(&signer, old, &proof, &head)?);
    }
    Ok(Prepared { vkey: signer.vkey().to_string(), bodies })
}

fn body(signer: &NoteSigner, old: TreeSize, proof: &[Hash], head: &TreeHead) -> Result<Vec<u8>> {
    let mut body = format!("old {old}\n").into_bytes();
    for hash in proof {
        body.extend_from_slice(hash.to_base64().as_bytes());
        body.push(b'\n');
    }
    body.push(b'\n');
    let signatures = vec![signer.sign_checkpoint(head)?];
    body.extend(SignedNote { text: head.to_string(), signatures }.encode());
    Ok(body)
}

/// Sends the checkpoints of one log in order.
#[derive(Debug)]
pub struct Submitter {
    address: SocketAddr,
    bodies: VecDeque<Vec<u8>>,
    connection: Connection,
}

impl Submitter {
    /// Connects to a witness.
    ///
    /// # Errors
    /// When it does not listen.
    pub async fn open(address: SocketAddr, bodies: VecDeque<Vec<u8>>) -> Result<Self> {
        Ok(Self { address, bodies, connection: Connection::open(address).await? })
    }
}

impl Client for Submitter {
    async fn call(&mut self) -> Result<()> {
        let body = self
            .bodies
            .pop_front()
            .context("all prepared checkpoints were sent: the witness is faster than planned for")?;
        let mut request = post(self.address, "/add-checkpoint", None, body.len());
        request.extend(body);
        self.connection.expect_ok(&request).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use glassbloom_spec::{merkle::verify_consistency, note::VerifierKey};

    use super::*;

    #[test]
    fn prepared_checkpoints_are_signed_and_consistent() {
        let prepared = prepare("a.example/log", 9).unwrap();
        let key: VerifierKey = prepared.vkey.parse().unwrap();
        let mut last: Option<TreeHead> = None;
        for body in &prepared.bodies {
            let text = std::str::from_utf8(body).unwrap();
            let (request, note) = text.split_once("\n\n").unwrap();
            let proof: Vec<Hash> =
                request.lines().skip(1).map(|line| Hash::from_base64(line).unwrap()).collect();
            let note = SignedNote::parse(note.as_bytes()).unwrap();
            let head = TreeHead::parse(&note.text).unwrap();
            key.verify(&head, &note.signatures[0]).unwrap();
            if let Some(last) = last {
                verify_consistency(last.size, head.size, last.root, head.root, &proof).unwrap();
            }
            last = Some(head);
        }
        assert_eq!(last.unwrap().size, TreeSize::new(9));
    }
}
