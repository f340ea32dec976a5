//! The rules that an audit applies, one file each, with stable names.
//!
//! `GB-LOG-*` are about a log as a structure, `GB-STMT-*` about any statement, the others about one kind. A name, once
//! published, keeps its meaning.

mod altered_entry;
mod altered_tile;
mod beacon;
mod challenge_batch;
mod checkpoint;
mod discontinuity;
mod duplicate;
mod fork;
mod memory;
mod misplaced;
mod operator_action;
mod receipt_key;
mod receipt_price;
mod receipt_references;
mod receipt_registry;
mod receipt_revoked;
mod release_equivocation;
mod replayed_evidence;
mod rollback;
mod root;
mod shared_device;
mod shared_key;
mod signature;
mod statement;
mod succession;
mod verdict;

use glassbloom_spec::{
    id::{KeyId, LeafIndex},
    leaf::Payload,
    policy::Policy,
    receipt::Receipt,
    statement::{Kind, Statement},
    succession::Succession,
};

use crate::replay::{Entry, Fault, Registry};

pub use altered_entry::RULE as ALTERED_ENTRY;
pub use altered_tile::RULE as ALTERED_TILE;
pub use beacon::{RULE as BEACON, check as check_beacon};
pub use challenge_batch::{GAP as CHALLENGE_GAP, RULE as CHALLENGE_BATCH};
pub use checkpoint::RULE as CHECKPOINT;
pub use discontinuity::RULE as DISCONTINUITY;
pub use duplicate::RULE as DUPLICATE;
pub use fork::RULE as FORK;
pub use memory::Memory;
pub use misplaced::RULE as MISPLACED;
pub use operator_action::RULE as OPERATOR_ACTION;
pub use receipt_key::RULE as RECEIPT_KEY;
pub use receipt_price::RULE as RECEIPT_PRICE;
pub use receipt_references::RULE as RECEIPT_REFERENCES;
pub use receipt_registry::RULE as RECEIPT_REGISTRY;
pub use receipt_revoked::RULE as RECEIPT_REVOKED;
pub use release_equivocation::RULE as RELEASE_EQUIVOCATION;
pub use replayed_evidence::RULE as REPLAYED_EVIDENCE;
pub use rollback::RULE as ROLLBACK;
pub use root::RULE as ROOT;
pub use shared_device::RULE as SHARED_DEVICE;
pub use shared_key::RULE as SHARED_KEY;
pub use signature::RULE as SIGNATURE;
pub use statement::RULE as STATEMENT;
pub use succession::RULE as SUCCESSION;
pub use verdict::{RULE as VERDICT, check as check_verdict};

/// What it means that a rule does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A fact that people should see; no proof that anybody did wrong, so an audit does not fail for it.
    Notice,
    /// Something that cannot be in a log that is kept honestly.
    Violation,
}

/// A rule and the page that explains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable name.
    pub id: &'static str,
    /// What does not hold, in one line.
    pub title: &'static str,
    /// What it means that it does not hold.
    pub severity: Severity,
    /// What is checked, why it matters, and what can cause it.
    pub text: &'static str,
    /// What the reader of a finding should do.
    pub action: &'static str,
}

impl Rule {
    /// The page that `explain` prints.
    pub fn page(&self) -> String {
        let weight = match self.severity {
            Severity::Notice => "\n\nA notice: an audit that finds nothing worse ends with 0.",
            Severity::Violation => "",
        };
        format!("{}  {}\n\n{}{weight}\n\nWhat to do: {}", self.id, self.title, self.text.trim(), self.action)
    }
}

/// Every rule, by name.
pub const ALL: [&Rule; 26] = [
    &BEACON,
    &DISCONTINUITY,
    &SHARED_DEVICE,
    &SHARED_KEY,
    &REPLAYED_EVIDENCE,
    &CHALLENGE_BATCH,
    &CHALLENGE_GAP,
    &FORK,
    &ROLLBACK,
    &ALTERED_ENTRY,
    &ALTERED_TILE,
    &ROOT,
    &CHECKPOINT,
    &SUCCESSION,
    &OPERATOR_ACTION,
    &RECEIPT_REFERENCES,
    &RECEIPT_KEY,
    &RECEIPT_REVOKED,
    &RECEIPT_PRICE,
    &RECEIPT_REGISTRY,
    &RELEASE_EQUIVOCATION,
    &STATEMENT,
    &SIGNATURE,
    &DUPLICATE,
    &MISPLACED,
    &VERDICT,
];

/// The rule with this name.
pub fn find(id: &str) -> Option<&'static Rule> {
    ALL.into_iter().find(|rule| rule.id == id)
}

/// A rule that does not hold, and the values that show it.
pub type Broken = (&'static Rule, String);

type ReceiptCheck = fn(Received<'_>) -> Result<(), String>;

/// A registry entry to judge. The registry holds it and everything before it, nothing after.
#[derive(Clone, Copy)]
pub struct Registered<'a> {
    /// The copy of the registry, up to and including the entry.
    pub registry: &'a Registry,
    /// The auditor's policy.
    pub policy: &'a Policy,
    /// The entry.
    pub entry: &'a Entry,
}

/// A receipt to judge. The registry is at least as new as any that the receipt can name.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// The copy of the registry.
    pub registry: &'a Registry,
    /// Place in the receipts log.
    pub index: LeafIndex,
    /// The statement.
    pub statement: &'a Statement,
    /// What it says.
    pub receipt: &'a Receipt,
}

/// Applies every rule to a registry entry that is about this entry alone; [`Memory`] has the others.
pub fn check_registered(context: Registered<'_>) -> Vec<Broken> {
    let Registered { entry, registry, .. } = context;
    let mut broken = Vec::new();
    match &entry.leaf {
        Ok(_) => {}
        Err(Fault::Malformed(detail)) => broken.push((&STATEMENT, detail.clone())),
        Err(Fault::Signature(detail)) => broken.push((&SIGNATURE, detail.clone())),
        Err(Fault::WrongLog(kind)) => broken.push((&MISPLACED, misplaced::detail(*kind, "registry"))),
    }
    let first = registry.find(&entry.leaf_hash).map(|entry| entry.index);
    broken.extend(first.filter(|first| *first < entry.index).map(duplicate::broken));
    broken.extend(beacon::check(context).err().map(|detail| (&BEACON, detail)));
    broken.extend(operator_action::check(context).err().map(|detail| (&OPERATOR_ACTION, detail)));
    broken.extend(verdict::check(context).err().map(|detail| (&VERDICT, detail)));
    broken
}

/// Judges an entry that claims to name the end of a log before this one; `None` when it claims no such thing.
pub fn check_succession(
    entry: &[u8],
    index: LeafIndex,
    origin: &str,
    policy: &Policy,
) -> Option<Result<(), Broken>> {
    let judged = || succession::check(entry, index, origin, policy).map_err(|detail| (&SUCCESSION, detail));
    Succession::is_claimed(entry).then(judged)
}

/// Parses an entry of the receipts log, or says which rule it breaks.
pub fn parse_receipt(bytes: &[u8]) -> Result<(Statement, Receipt), Broken> {
    let statement = Statement::parse(bytes).map_err(|error| (&STATEMENT, error.to_string()))?;
    if statement.kind() != Kind::Receipt {
        return Err((&MISPLACED, misplaced::detail(statement.kind(), "receipts")));
    }
    let receipt = Receipt::of(&statement).map_err(|error| (&STATEMENT, error.to_string()))?;
    Ok((statement, receipt))
}

/// Applies every rule to a receipt; `first` is the place of an equal entry before it, with the log's origin when that is
/// another receipts log.
pub fn check_received(context: Received<'_>, first: Option<(LeafIndex, Option<String>)>) -> Vec<Broken> {
    let mut broken = Vec::new();
    broken.extend(first.map(|(index, origin)| match origin {
        None => duplicate::broken(index),
        Some(origin) => duplicate::broken_elsewhere(index, &origin),
    }));
    let checks: [(&'static Rule, ReceiptCheck); 5] = [
        (&RECEIPT_REFERENCES, receipt_references::check),
        (&RECEIPT_KEY, receipt_key::check),
        (&RECEIPT_REVOKED, receipt_revoked::check),
        (&RECEIPT_PRICE, receipt_price::check),
        (&RECEIPT_REGISTRY, receipt_registry::check),
    ];
    broken.extend(
        checks.into_iter().filter_map(|(rule, check)| check(context).err().map(|detail| (rule, detail))),
    );
    broken
}

/// Judges by the revocations alone a receipt that was judged by everything else before.
pub fn check_revoked(registry: &Registry, key: &KeyId, index: LeafIndex) -> Option<Broken> {
    receipt_revoked::check_key(registry, key, index).err().map(|detail| (&RECEIPT_REVOKED, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_page_says_what_to_do() {
        for (place, rule) in ALL.iter().enumerate() {
            assert!(ALL[..place].iter().all(|other| other.id < rule.id), "{} is out of order", rule.id);
            assert!(rule.id.starts_with("GB-") && !rule.title.is_empty() && !rule.action.is_empty());
            assert!(rule.text.trim().len() > 80, "{} explains nothing", rule.id);
            assert!(rule.page().contains("What to do: "));
            assert_eq!(find(rule.id), Some(*rule));
        }
        assert_eq!(find("GB-LOG-999"), None);
    }
}
