//! One entry of a log: what it says, who signed it, and how it hangs in the tree.

use glassbloom_spec::{
    cbor::Value,
    checkpoint::Checkpoint,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixMillis},
    leaf::{Model, Payload, PriceTable},
    merkle::root_of,
    proof::TlogProof,
    receipt::{Receipt, SealedBy},
    statement::{Kind, Statement},
};

use super::{Site, Trouble, overview, pin, site::not_opened};
use crate::{
    check::{Outcome, Step, sentence},
    describe::{self, Field},
    reader::Fetch,
    registry::{Authority, Registry},
    route::{LogName, Route},
    time,
};

/// What the page of an entry shows.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which log.
    pub log: LogName,
    /// The log's origin.
    pub origin: String,
    /// Where the entry stands.
    pub index: LeafIndex,
    /// The size of the tree that it was looked up in.
    pub size: TreeSize,
    /// The entry, to the byte.
    pub bytes: Vec<u8>,
    /// Its leaf hash.
    pub leaf: Hash,
    /// The statement, or why the bytes are none.
    pub statement: Result<Decoded, String>,
    /// From the leaf up to the root.
    pub path: Vec<PathNode>,
    /// The root that the path leads to.
    pub root: Hash,
    /// The same as a `.tlog-proof` file, where it could be built.
    pub proof: Option<String>,
    /// Every check.
    pub outcome: Outcome,
    /// The checkpoint to keep as seen last: origin and note.
    pub keep: Option<(String, Vec<u8>)>,
}

/// A statement, taken apart.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Its kind.
    pub kind: Kind,
    /// Its fields, explained.
    pub fields: Vec<Field>,
    /// The payload in diagnostic notation.
    pub diagnostic: String,
    /// Who signed.
    pub signer: Signer,
    /// The parts of the bytes, for highlighting.
    pub parts: Vec<Part>,
    /// What makes this statement say less than others of its kind.
    pub weaker: Option<&'static str>,
}

/// Who signed a statement.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The key that the statement names.
    pub key: Hash,
    /// Who that is, in words.
    pub who: String,
    /// The page about them.
    pub route: Option<Route>,
}

/// A stretch of an entry's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// One step of an inclusion path, upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathNode {
    /// The hash that the proof gives.
    pub sibling: Hash,
    /// Whether it stands left of the path.
    pub is_left: bool,
    /// The entries beneath it: first, and the one after the last.
    pub range: (u64, u64),
    /// The hash of both, computed here.
    pub parent: Hash,
}

/// Loads an entry. `kept` gives the note that was seen last of an origin.
///
/// # Errors
/// When there is nothing to show: no log, no checkpoint that counts, or no such entry.
pub async fn load<F: Fetch + Clone>(
    site: &Site<F>,
    name: LogName,
    index: LeafIndex,
    kept: impl Fn(&str) -> Option<String>,
    now: UnixMillis,
) -> Result<Entry, Trouble> {
    let log = site.log(name)?;
    let (note, opened) = site.checkpoint(&log).await.map_err(|error| Trouble::unreachable(&error))?;
    let checkpoint = opened.map_err(|error| not_opened(&error))?;
    let size = checkpoint.size();
    if index.get() >= size.get() {
        return Err(no_such_entry(name, index, size));
    }
    let entries = log
        .reader
        .entries(index.get()..index.get() + 1, size)
        .await
        .map_err(|error| Trouble::read(&error))?;
    let bytes =
        entries.into_iter().next().map(|(_, entry)| entry).ok_or_else(|| no_such_entry(name, index, size))?;
    let registry = match name {
        LogName::Registry => site.replay(&log, &checkpoint).await,
        LogName::Receipts => site.registry().await.map(|(_, registry)| registry),
    }
    .ok();

    let mut steps = overview::checkpoint_steps(site, &checkpoint, now);
    steps[0] = steps[0].clone().with_bytes(&note);
    let continuity = pin::compare(site.policy(), kept(&log.origin).as_deref(), &log, &checkpoint).await;
    steps.push(continuity.step());
    let leaf = Hash::leaf(&bytes);
    let proof = log.reader.inclusion(index, size).await;
    steps.push(match &proof {
        Ok(proof) => inclusion_step(&checkpoint, &bytes, index, proof),
        Err(error) => Step::not_verifiable("Included in the log", sentence(&error.to_string())),
    });
    let proof = proof.unwrap_or_default();
    let statement = match Statement::parse(&bytes) {
        Ok(statement) => {
            steps.push(overview::signature_step(site, &statement, registry.as_ref()));
            if statement.kind() == Kind::Receipt {
                steps.extend(receipt_steps(&statement, index, registry.as_ref()));
            }
            decode(site, &statement, registry.as_ref())
        }
        Err(error) => {
            steps.push(Step::not_verifiable("A statement", sentence(&error.to_string())));
            Err(error.to_string())
        }
    };
    let tlog_proof = TlogProof { extra: None, index, hashes: proof.clone(), checkpoint: note };
    Ok(Entry {
        log: name,
        origin: log.origin,
        index,
        size,
        leaf,
        path: path(leaf, index, size, &proof),
        root: checkpoint.root(),
        proof: steps
            .iter()
            .any(|step| step.name == INCLUDED && step.state == crate::check::State::Verified)
            .then(|| tlog_proof.to_string()),
        outcome: Outcome::of(
            steps,
            "This entry is in the log that witnesses saw, and the key that may say so signed it.",
        ),
        keep: continuity.keep(&checkpoint),
        bytes,
        statement,
    })
}

fn no_such_entry(name: LogName, index: LeafIndex, size: TreeSize) -> Trouble {
    let entries = match size.get() {
        0 => "It is empty so far.".to_owned(),
        size => format!("Its newest entry is {}.", time::grouped(size - 1)),
    };
    Trouble {
        title: format!("The {name} log has no entry {index}"),
        cause: entries,
        next: "Go back to the overview and choose an entry there.".to_owned(),
    }
}

fn inclusion_step(checkpoint: &Checkpoint, bytes: &[u8], index: LeafIndex, proof: &[Hash]) -> Step {
    let included = checkpoint.includes(bytes.to_vec(), index, proof);
    let holds = format!(
        "{} hashes lead from entry {index} to the root of {} entries.",
        proof.len(),
        checkpoint.size()
    );
    Step::of(INCLUDED, &included, holds).with_bytes(bytes)
}

fn decode<F: Fetch + Clone>(
    site: &Site<F>,
    statement: &Statement,
    registry: Option<&Registry>,
) -> Result<Decoded, String> {
    let authority = registry.map_or_else(
        || Registry::default().authority(site.policy(), statement),
        |registry| registry.authority(site.policy(), statement),
    );
    let (who, route) = match authority {
        Authority::Coordinator => ("a coordinator that the policy names".to_owned(), None),
        Authority::Release => ("a release key that the policy names".to_owned(), None),
        Authority::Provider(leaf) => {
            (format!("the provider of attestation {}", describe::short(&leaf)), Some(Route::Provider(leaf)))
        }
        Authority::Forged(_) => ("nobody: the signature is not by the key that it names".to_owned(), None),
        Authority::Unknown => ("a key that neither the policy nor the registry has".to_owned(), None),
    };
    let payload = Value::decode(statement.payload()).map_err(|error| error.to_string())?;
    Ok(Decoded {
        kind: statement.kind(),
        fields: describe::fields(statement, registry).map_err(|error| error.to_string())?,
        diagnostic: describe::diagnostic(&payload),
        signer: Signer { key: statement.key_id().0, who, route },
        parts: parts(statement),
        weaker: Receipt::of(statement).is_ok_and(|receipt| receipt.sealed_by == SealedBy::Coordinator).then_some(
            "The coordinator sealed this request on the user's behalf, so it could read the prompt and the answer. A receipt for what the user sealed says more.",
        ),
    })
}

/// Where header, payload and signature lie in a statement's bytes.
pub fn parts(statement: &Statement) -> Vec<Part> {
    let bytes = statement.bytes();
    let find = |part: &[u8], from: usize| {
        let at = bytes[from..].windows(part.len().max(1)).position(|window| window == part)?;
        Some((from + at, from + at + part.len()))
    };
    let Ok(Value::Tag(_, body)) = Value::decode(bytes) else { return Vec::new() };
    let Value::Array(items) = *body else { return Vec::new() };
    let mut from = 0;
    let mut found = Vec::new();
    for (name, item) in
        [("protected header", items.first()), ("payload", items.get(2)), ("signature", items.get(3))]
    {
        if let Some(Value::Bytes(part)) = item
            && let Some((start, end)) = find(part, from)
        {
            found.push(Part { name, start, end });
            from = end;
        }
    }
    found
}

/// What a receipt refers to, as far as the registry tells.
fn receipt_steps(statement: &Statement, index: LeafIndex, registry: Option<&Registry>) -> Vec<Step> {
    let Some(registry) = registry else {
        return vec![Step::not_verifiable(
            "What it refers to",
            "The registry cannot be read or verified, so nothing it refers to can be looked up.",
        )];
    };
    let Ok(receipt) = Receipt::of(statement) else {
        return vec![Step::failed("A receipt", "The payload is not that of a receipt.")];
    };
    vec![
        registry_step(&receipt, registry),
        revocation_step(statement, index, registry),
        charge_step(&receipt, registry),
    ]
}

/// Whether the user of this receipt relied on the registry that this page sees.
fn registry_step(receipt: &Receipt, registry: &Registry) -> Step {
    const NAME: &str = "The same registry as yours";
    let (size, root) = receipt.registry;
    if size > registry.size() {
        return Step::not_verifiable(
            NAME,
            format!("It relied on a registry of {size} entries, which is newer than the one read here."),
        );
    }
    let first = registry.entries().iter().take(usize::try_from(size.get()).unwrap_or(usize::MAX));
    if root_of(first.map(|entry| entry.leaf)) == root {
        Step::verified(
            NAME,
            format!("The first {size} entries that you see are those that its user relied on."),
        )
    } else {
        Step::failed(
            NAME,
            format!(
                "Its user was shown another registry of {size} entries than you: the log forked, or the provider signed for one that never was."
            ),
        )
    }
}

fn revocation_step(statement: &Statement, index: LeafIndex, registry: &Registry) -> Step {
    const NAME: &str = "Key not revoked";
    match registry.revocation(statement.key_id()) {
        Some((entry, revocation)) if index.get() >= revocation.from.get() => Step::failed(
            NAME,
            format!(
                "Registry entry {} voids receipts of this key from {} on: {}",
                entry.index, revocation.from, revocation.reason
            ),
        ),
        Some((entry, revocation)) => Step::verified(
            NAME,
            format!(
                "Registry entry {} revokes the key only from receipt {} on.",
                entry.index, revocation.from
            ),
        ),
        None => Step::verified(NAME, format!("None of the {} registry entries revokes it.", registry.size())),
    }
}

fn charge_step(receipt: &Receipt, registry: &Registry) -> Step {
    const NAME: &str = "Charge is the logged price";
    let payload = |leaf: &Hash| registry.by_leaf(leaf)?.statement.as_ref();
    let table = payload(&receipt.prices).and_then(|statement| PriceTable::of(statement).ok());
    let model = payload(&receipt.model).and_then(|statement| Model::of(statement).ok());
    let (Some(table), Some(model)) = (table, model) else {
        return Step::not_verifiable(
            NAME,
            "The registry read here does not have the price table or the model that it names.",
        );
    };
    match table.price(&model.alias) {
        Some(price) if receipt.charge_matches(price) => Step::verified(
            NAME,
            format!(
                "The committed charge is the committed tokens at the price of {}; the numbers stay hidden.",
                model.alias
            ),
        ),
        Some(_) => Step::failed(
            NAME,
            format!("The committed charge is not the committed tokens at the price of {}.", model.alias),
        ),
        None => Step::failed(NAME, format!("The price table names no price for {}.", model.alias)),
    }
}

/// The inclusion path with what each hash covers, from the leaf up. `[RFC 6962 §2.1.1]`
pub fn path(leaf: Hash, index: LeafIndex, size: TreeSize, proof: &[Hash]) -> Vec<PathNode> {
    // From the root down: at each fork, which half the entry is in, and which entries the other half has.
    let (mut begin, mut end) = (0, size.get());
    let mut siblings = Vec::new();
    while end - begin > 1 {
        let left = ((end - begin - 1).ilog2() as u64).min(63);
        let middle = begin + (1_u64 << left);
        if index.get() < middle {
            siblings.push((false, (middle, end)));
            end = middle;
        } else {
            siblings.push((true, (begin, middle)));
            begin = middle;
        }
    }
    let mut hash = leaf;
    let up = siblings.into_iter().rev().zip(proof);
    up.map(|((is_left, range), sibling)| {
        hash = if is_left { Hash::node(sibling, &hash) } else { Hash::node(&hash, sibling) };
        PathNode { sibling: *sibling, is_left, range, parent: hash }
    })
    .collect()
}

const INCLUDED: &str = "Included in the log";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_covers_the_tree_and_ends_at_the_root() {
        use glassbloom_spec::merkle::{NodeId, prove_inclusion};
        use std::collections::BTreeMap;
        for size in 1..40_u64 {
            let leaves: Vec<Hash> = (0..size).map(|i| Hash::leaf(&i.to_be_bytes())).collect();
            let mut nodes = BTreeMap::new();
            for level in 0..6_u8 {
                for index in 0..size >> level {
                    let range = (index << level) as usize..((index + 1) << level) as usize;
                    nodes.insert(NodeId { level, index }, root_of(leaves[range].iter().copied()));
                }
            }
            for index in 0..size {
                let proof = prove_inclusion(index.into(), size.into(), &nodes).unwrap();
                let path = path(leaves[index as usize], index.into(), size.into(), &proof);
                assert_eq!(path.len(), proof.len());
                assert_eq!(
                    path.last().map_or(leaves[0], |node| node.parent),
                    root_of(leaves.iter().copied())
                );
                let covered: u64 = path.iter().map(|node| node.range.1 - node.range.0).sum();
                assert_eq!(covered + 1, size);
            }
        }
    }
}
