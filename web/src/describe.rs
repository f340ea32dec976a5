//! What statements say, field by field, in words.

use glassbloom_spec::{
    cbor::Value,
    curve::PublicKey,
    evidence::{endorsement::Endorsement, tpm},
    hash::Hash,
    id::{LeafIndex, UnixSeconds},
    leaf::{
        Attestation, ChallengeBatch, Coordinator, LeafError, Model, OperatorAction, Payload, PolicyLeaf,
        PriceTable, Release, Revocation, Tier, Verdict,
    },
    receipt::{Receipt, SealedBy},
    statement::{Kind, Statement, key_id},
};

use crate::{
    registry::Registry,
    route::{LogName, Route},
    time,
};

/// A field's value, in a form that pages know how to draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    /// Bytes, in hexadecimal.
    Bytes(Vec<u8>),
    /// A digest.
    Digest(Hash),
    /// Several.
    List(Vec<Self>),
    /// An entry of the registry, by its leaf hash, and where it is when it is known.
    Reference(Hash, Option<Route>),
    /// Words or a number.
    Text(String),
    /// A time.
    Time(UnixSeconds),
}

/// A field of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: Datum,
    /// What it means, in a sentence.
    pub note: &'static str,
}

/// What a kind of statement is for, in one line.
pub const fn purpose(kind: Kind) -> &'static str {
    match kind {
        Kind::Attestation => "A provider's keys, and what vouches for them",
        Kind::ChallengeBatch => "Who answered the challenges of an epoch, and who did not",
        Kind::Coordinator => "A coordinator's key and build",
        Kind::Endorsement => "An auditor's word for evidence that the public does not see",
        Kind::Model => "What a model's name stands for, file by file",
        Kind::OperatorAction => "State that a person changed by hand",
        Kind::Policy => "The rules that verdicts are given under",
        Kind::PriceTable => "What a token costs",
        Kind::Receipt => "A provider's signature over one answer",
        Kind::Release => "A provider build that may serve",
        Kind::Revocation => "A key that is dead",
        Kind::Verdict => "A coordinator's judgement of an attestation, which anyone can recompute",
    }
}

/// One line about an entry.
pub fn summary(statement: &Statement) -> String {
    let told = match statement.kind() {
        Kind::Attestation => Attestation::of(statement).map(|it| {
            format!("key {} for {}", short(&key_id(&it.signing_key).0), plural(it.models.len(), "model"))
        }),
        Kind::ChallengeBatch => ChallengeBatch::of(statement)
            .map(|it| format!("{} of {} answered", it.expected.len() - it.missing.len(), it.expected.len())),
        Kind::Coordinator => Coordinator::of(statement).map(|it| it.name),
        Kind::Endorsement => Endorsement::of(statement).map(|it| format!("evidence of format {}", it.format)),
        Kind::OperatorAction => OperatorAction::of(statement).map(|it| it.what),
        Kind::Model => Model::of(statement)
            .map(|it| format!("{}, {}, {}", it.alias, it.quantisation, plural(it.files.len(), "file"))),
        Kind::Policy => PolicyLeaf::of(statement).map(|it| format!("accepts {}", it.tiers.join(", "))),
        Kind::PriceTable => PriceTable::of(statement)
            .map(|it| it.prices.into_iter().map(|price| price.alias).collect::<Vec<_>>().join(", ")),
        Kind::Receipt => Receipt::of(statement).map(|it| {
            format!(
                "sealed by {}, {}, {}",
                sealer(it.sealed_by),
                plural(it.chunks as usize, "chunk"),
                it.finish.name()
            )
        }),
        Kind::Release => Release::of(statement).map(|it| format!("{} for {}", it.version, it.platform)),
        Kind::Revocation => {
            Revocation::of(statement).map(|it| format!("key {}: {}", short(&it.key.0), it.reason))
        }
        Kind::Verdict => Verdict::of(statement).map(|it| match it.tier {
            Some(tier) => format!("{} may serve as {tier}", short(&it.attestation)),
            None => format!("{} may not serve: {}", short(&it.attestation), it.reasons.join(", ")),
        }),
    };
    told.unwrap_or_else(|error| error.to_string())
}

/// The fields of a statement, each explained; references lead to their entries where the registry is at hand.
///
/// # Errors
/// When the payload is not one of its kind.
pub fn fields(statement: &Statement, registry: Option<&Registry>) -> Result<Vec<Field>, LeafError> {
    let refer = |leaf: Hash| Datum::Reference(leaf, registry.and_then(|registry| route_of(registry, &leaf)));
    Ok(match statement.kind() {
        Kind::Attestation => attestation(&Attestation::of(statement)?, refer),
        Kind::ChallengeBatch => challenges(&ChallengeBatch::of(statement)?, refer),
        Kind::Coordinator => coordinator(Coordinator::of(statement)?),
        Kind::Endorsement => endorsement(Endorsement::of(statement)?),
        Kind::OperatorAction => action(OperatorAction::of(statement)?),
        Kind::Model => model(Model::of(statement)?),
        Kind::Policy => policy(&PolicyLeaf::of(statement)?),
        Kind::PriceTable => prices(&PriceTable::of(statement)?),
        Kind::Receipt => receipt(&Receipt::of(statement)?, refer),
        Kind::Release => release(Release::of(statement)?),
        Kind::Revocation => revocation(Revocation::of(statement)?),
        Kind::Verdict => verdict(&Verdict::of(statement)?, refer),
    })
}

fn route_of(registry: &Registry, leaf: &Hash) -> Option<Route> {
    let entry = registry.by_leaf(leaf)?;
    match entry.statement.as_ref().map(Statement::kind) {
        Some(Kind::Attestation) => Some(Route::Provider(*leaf)),
        _ => Some(Route::Entry(LogName::Registry, entry.index)),
    }
}

fn field(name: &'static str, value: impl Into<Datum>, note: &'static str) -> Field {
    Field { name, value: value.into(), note }
}

fn attestation(it: &Attestation, refer: impl Fn(Hash) -> Datum) -> Vec<Field> {
    let format = it.evidence.format.as_str();
    let tier_note = match format.parse::<Tier>() {
        Ok(tier) => tier.proves(),
        Err(_) if format == tpm::FORMAT => "A TPM's signatures; who made it decides what they are worth.",
        Err(_) => "A format that this version does not know, so it counts for nothing.",
    };
    let mut fields = vec![
        field("Signing key", &it.signing_key, "Signs this statement and every receipt."),
        field("Sealing key", it.key_config.public_key(), "Prompts are encrypted to it."),
        field("Evidence", format.to_owned(), tier_note),
        field("Build", it.build, "The program that is said to run; a release must name it."),
        field(
            "Models",
            Datum::List(it.models.iter().map(|digest| Datum::Digest(*digest)).collect()),
            "Digests over all files of each model it serves.",
        ),
        field("Endpoint", it.endpoint.clone(), "The coordinator through which it answers."),
        field("Not after", it.not_after, "The keys must not be used from then on."),
        field(
            "Beacon",
            it.beacon.digest(),
            "The witnessed checkpoint that the evidence was made after: nobody could know it earlier.",
        ),
        field(
            "Nonce",
            it.nonce,
            "What the evidence covers: derived from the beacon and both keys, chosen by nobody.",
        ),
    ];
    fields.extend(it.previous.map(|previous| {
        field("Previous", refer(previous), "The same provider's attestation before this one.")
    }));
    fields.extend(it.possession.map(|signature| {
        field("Possession", Datum::Bytes(signature.to_vec()), "The sealing key signed that it is at hand.")
    }));
    fields.extend(it.countersignature.map(|signature| {
        field(
            "Counter-signature",
            Datum::Bytes(signature.to_vec()),
            "By the signing key before: without it, another key is a discontinuity.",
        )
    }));
    fields.extend(it.enrolment.map(|leaf| {
        field("Enrolment", refer(leaf), "Where the lasting part of the evidence was logged first.")
    }));
    fields
}

fn challenges(it: &ChallengeBatch, refer: impl Fn(Hash) -> Datum) -> Vec<Field> {
    let missing =
        it.missing.iter().map(|(leaf, reason)| Datum::List(vec![refer(*leaf), reason.clone().into()]));
    vec![
        field("Epoch", it.epoch, "When it began."),
        field("Length", time::span(it.seconds), "How long it lasts."),
        field(
            "Beacon",
            it.beacon.digest(),
            "The witnessed checkpoint that the challenges were derived from.",
        ),
        field("Answers", it.root, "Root over every answer, each signed by the provider."),
        field(
            "Expected",
            Datum::List(it.expected.iter().map(|leaf| refer(*leaf)).collect()),
            "Those that served when the epoch began.",
        ),
        field("Missing", Datum::List(missing.collect()), "Those of them that did not answer well, and why."),
    ]
}

fn endorsement(it: Endorsement) -> Vec<Field> {
    vec![
        field("Format", it.format, "The format of the evidence."),
        field("Subject", it.subject, "Digest of what the auditor saw."),
        field("Nonce", it.nonce, "The attestation's nonce that it was seen for."),
    ]
}

fn action(it: OperatorAction) -> Vec<Field> {
    let approvers = it.approvals.iter().map(|(key, _)| Datum::Digest(key_id(key).0)).collect();
    vec![
        field("What", it.what, "What was done."),
        field("Scope", it.scope, "What it touched."),
        field(
            "Change",
            it.change,
            "Digest of the change, so that it can be shown later that it was this one.",
        ),
        field("Reason", it.reason, "Why."),
        field("Approvers", Datum::List(approvers), "The keys of those who signed for it."),
    ]
}

fn coordinator(it: Coordinator) -> Vec<Field> {
    let quote = it.quote.map_or_else(|| Datum::from("no hardware quote".to_owned()), Datum::Bytes);
    vec![
        field("Name", it.name, "What it calls itself."),
        field("Key", &it.key, "Signs verdicts, policies, prices and models."),
        field("Build", it.build, "Hash of the program that is said to run."),
        field("Quote", quote, "What hardware says about the key; without one, the build is only asserted."),
    ]
}

fn model(it: Model) -> Vec<Field> {
    let digest = it.digest();
    let file = |file: &glassbloom_spec::leaf::ModelFile| {
        Datum::List(vec![format!("{} ({})", file.name, time::bytes(file.size)).into(), file.sha256.into()])
    };
    vec![
        field("Alias", it.alias, "The name in requests."),
        field("Digest", digest, "Over all files: what attestations name."),
        field(
            "Files",
            Datum::List(it.files.iter().map(file).collect()),
            "Each with its SHA-256, checked by the provider before it serves.",
        ),
        field("Quantisation", it.quantisation, "How the weights are stored."),
        field("Licence", it.licence, "SPDX expression."),
        field("Source", it.source, "Where the files come from."),
    ]
}

fn policy(it: &PolicyLeaf) -> Vec<Field> {
    let plaintext = if it.plaintext_api { "offered" } else { "off" };
    vec![
        field("Tiers", it.tiers.join(", "), "Kinds of evidence that may serve."),
        field("Longest life", time::span(it.max_lifetime), "Of an attestation, counted from its beacon."),
        field(
            "Plain-text API",
            plaintext.to_owned(),
            "Where it is offered, the coordinator reads what is sent to it and seals on the caller's behalf.",
        ),
        field(
            "Roots",
            list(
                &it.anchors
                    .iter()
                    .map(|anchor| format!("{} ({})", anchor.name, anchor.tier))
                    .collect::<Vec<_>>(),
            ),
            "Makers of TPMs that count; Apple, AMD and Intel are pinned in the protocol.",
        ),
        field(
            "Endorsers",
            list(&it.endorsers.iter().map(|key| short(&key_id(key).0)).collect::<Vec<_>>()),
            "Auditors who may vouch for evidence that the public does not see.",
        ),
        field("Applications", list(&it.apps), "Those that may use App Attest."),
        field("Cool-off", time::span(it.cool_off), "How long a release is in the log before it serves."),
    ]
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn prices(it: &PriceTable) -> Vec<Field> {
    let line = |price: &glassbloom_spec::leaf::Price| {
        let per_million = |picodollars: u64| format!("{:.4} USD", picodollars as f64 / 1e6);
        format!(
            "{}: {} per million prompt tokens, {} per million answer tokens",
            price.alias,
            per_million(price.prompt),
            per_million(price.completion)
        )
        .into()
    };
    vec![field(
        "Prices",
        Datum::List(it.prices.iter().map(line).collect()),
        "Kept as whole pico-dollars per token.",
    )]
}

fn receipt(it: &Receipt, refer: impl Fn(Hash) -> Datum) -> Vec<Field> {
    let sealed = match it.sealed_by {
        SealedBy::User => {
            "The provider signs that the prompt came sealed by the user's own device: the coordinator relayed what it could not read."
        }
        SealedBy::Coordinator => {
            "The coordinator sealed it, so it read the prompt and the answer: such a receipt says less."
        }
    };
    vec![
        field("Provider", refer(it.attestation), "The attestation whose key signed this."),
        field("Sealed by", sealer(it.sealed_by).to_owned(), sealed),
        field("Model", refer(it.model), "What the model's name stood for."),
        field("Policy", refer(it.policy), "The rules in force."),
        field("Prices", refer(it.prices), "The prices in force."),
        field("Registry", format!("size {}", it.registry.0), "The registry that the user relied on."),
        field("Registry root", it.registry.1, "A user who was shown another registry holds proof of it."),
        field(
            "Request",
            it.request,
            "Root over salted commitments of the request: it says nothing to whoever lacks the salts.",
        ),
        field("Response", it.response, "Root over salted commitments of the answer's chunks."),
        field("Chunks", it.chunks.to_string(), "Pieces the answer was sent in."),
        field("Finish", it.finish.name().to_owned(), "Why the answer ended."),
        field(
            "Tokens",
            Datum::List(it.usage.iter().map(|c| Datum::Bytes(c.as_bytes().to_vec())).collect()),
            "Commitments to the tokens of prompt and answer; the numbers stay private.",
        ),
        field(
            "Charge",
            Datum::Bytes(it.charge.as_bytes().to_vec()),
            "Commitment to the charge; it must be the committed tokens at the logged price.",
        ),
        field("Sampling", it.sampling, "Salted commitment to the sampling parameters."),
        field("Attempt", it.attempt.to_string(), "1 for the first provider that was tried."),
        field("Started", UnixSeconds::new(it.times[0].get().saturating_mul(60)), "To the minute."),
        field("Ended", UnixSeconds::new(it.times[1].get().saturating_mul(60)), "To the minute."),
    ]
}

fn release(it: Release) -> Vec<Field> {
    vec![
        field("Version", it.version, "For people."),
        field("Build", it.build, "What attestations name."),
        field("Platform", it.platform, "Target triple."),
        field("Commit", it.commit, "The source it was built from."),
        field("Not before", it.not_before, "It must not serve before."),
        field(
            "Code",
            it.code.map_or_else(|| Datum::from("none".to_owned()), Datum::Digest),
            "What hardware that measures code must see.",
        ),
        field(
            "Approvals",
            Datum::List(it.approvals.iter().map(|(key, _)| Datum::Digest(key_id(key).0)).collect()),
            "Release keys that stand behind it beside the one that signed.",
        ),
    ]
}

fn revocation(it: Revocation) -> Vec<Field> {
    vec![
        field("Key", it.key.0, "The dead key."),
        field(
            "From receipt",
            it.from.to_string(),
            "Receipts at or after this index of the receipts log are void.",
        ),
        field("Reason", it.reason, "For people."),
    ]
}

fn verdict(it: &Verdict, refer: impl Fn(Hash) -> Datum) -> Vec<Field> {
    let reasons = if it.reasons.is_empty() { "none against".to_owned() } else { it.reasons.join(", ") };
    vec![
        field("Attestation", refer(it.attestation), "What was judged."),
        field(
            "Tier",
            it.tier.clone().unwrap_or_else(|| "may not serve".to_owned()),
            "How the provider's claims are backed.",
        ),
        field("Reasons", reasons, "In the order of the checks."),
        field("Policy", refer(it.policy), "The rules it was given under."),
    ]
}

/// Who sealed, in words.
pub const fn sealer(by: SealedBy) -> &'static str {
    match by {
        SealedBy::Coordinator => "the coordinator",
        SealedBy::User => "the user",
    }
}

/// The first digits of a hash.
pub fn short(hash: &Hash) -> String {
    hash.to_string()[..8].to_owned()
}

/// A number with its noun.
pub fn plural(count: usize, noun: &str) -> String {
    let ending = match (count, noun.ends_with("sh")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {noun}{ending}")
}

/// CBOR in diagnostic notation, one item per line. `[RFC 8949 §8]`
pub fn diagnostic(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value, 0);
    text
}

fn write_value(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Array(items) => {
            let write = |text: &mut String, item: &Value| write_value(text, item, depth + 1);
            write_items(text, ['[', ']'], items, depth, write);
        }
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Bytes(bytes) => {
            text.push_str("h'");
            text.push_str(&hex(bytes));
            text.push('\'');
        }
        Value::Map(items) => write_items(text, ['{', '}'], items, depth, |text, (key, value)| {
            write_value(text, key, depth + 1);
            text.push_str(": ");
            write_value(text, value, depth + 1);
        }),
        // -1 - n does not fit an i64 for the largest n.
        Value::Negative(n) => text.push_str(&(-1 - i128::from(*n)).to_string()),
        Value::Null => text.push_str("null"),
        Value::Tag(tag, value) => {
            text.push_str(&format!("{tag}("));
            write_value(text, value, depth);
            text.push(')');
        }
        Value::Text(words) => text.push_str(&format!("{words:?}")),
        Value::Unsigned(n) => text.push_str(&n.to_string()),
    }
}

fn write_items<T>(
    text: &mut String,
    [open, close]: [char; 2],
    items: &[T],
    depth: usize,
    mut write: impl FnMut(&mut String, &T),
) {
    text.push(open);
    for (at, item) in items.iter().enumerate() {
        text.push_str(if at == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth + 1));
        write(text, item);
    }
    if !items.is_empty() {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    }
    text.push(close);
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The address of an entry of the registry.
pub const fn registry_entry(index: LeafIndex) -> Route {
    Route::Entry(LogName::Registry, index)
}

impl From<String> for Datum {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Hash> for Datum {
    fn from(digest: Hash) -> Self {
        Self::Digest(digest)
    }
}

impl From<UnixSeconds> for Datum {
    fn from(time: UnixSeconds) -> Self {
        Self::Time(time)
    }
}

impl From<&PublicKey> for Datum {
    fn from(key: &PublicKey) -> Self {
        Self::Bytes(key.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_diagnostic_notation() {
        let value = Value::Map(vec![
            (Value::Unsigned(1), Value::Bytes(vec![1, 255])),
            (Value::Unsigned(2), Value::Array(vec![Value::Negative(6), "a\"b".into(), Value::Null])),
            (Value::Unsigned(3), Value::Array(Vec::new())),
        ]);
        let expected = "{\n  1: h'01ff',\n  2: [\n    -7,\n    \"a\\\"b\",\n    null\n  ],\n  3: []\n}";
        assert_eq!(diagnostic(&value), expected);
    }
}
