//! The statements by which a network says what it is: coordinator, policy, prices, models, releases, verdicts and
//! revocations.

use super::{Payload, Tier, public_key};
use crate::{
    cbor::{FieldError, Fields, Value, is_plain, map},
    curve::{COMPRESSED_LEN, PublicKey, SIGNATURE_LEN},
    evidence::{Anchor, Trust},
    hash::Hash,
    id::{KeyId, TreeSize, UnixSeconds},
    statement::{Kind, Statement},
};

/// A coordinator's key and build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinator {
    /// Signs this statement, verdicts, policies, prices and models.
    pub key: PublicKey,
    /// What it calls itself.
    pub name: String,
    /// Hash of the program that runs.
    pub build: Hash,
    /// A hardware quote over the key; `None` is an explicit "no hardware quote".
    pub quote: Option<Vec<u8>>,
}

impl Payload for Coordinator {
    const KIND: Kind = Kind::Coordinator;

    fn to_value(&self) -> Value {
        map([
            (1, self.key.as_bytes().as_slice().into()),
            (2, self.name.as_str().into()),
            (3, self.build.into()),
            (4, self.quote.as_deref().map_or(Value::Null, Value::from)),
        ])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self {
            key: public_key(fields, 1)?,
            name: fields.text(2)?,
            build: fields.hash(3)?,
            quote: match fields.value(4, "a quote or null")? {
                Value::Bytes(quote) => Some(quote),
                Value::Null => None,
                _ => return Err(FieldError::Field { key: 4, expected: "a quote or null" }),
            },
        })
    }
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelFile {
    /// Name below the model's folder.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: Hash,
}

/// What an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The name in requests.
    pub alias: String,
    /// Its files, in order of their names.
    pub files: Vec<ModelFile>,
    /// How the weights are stored, for example `bf16`.
    pub quantisation: String,
    /// SPDX expression.
    pub licence: String,
    /// Where the files come from.
    pub source: String,
}

impl Model {
    /// Names the set of files, whoever signs for it under whatever alias.
    pub fn digest(&self) -> Hash {
        Self::digest_of(&self.files)
    }

    /// The digest of a set of files, which must be in order of their names.
    pub fn digest_of(files: &[ModelFile]) -> Hash {
        Hash::of_parts(&[b"glassbloom/model/v1\0", &files_value(files).encode()])
    }
}

fn files_value(files: &[ModelFile]) -> Value {
    let file = |file: &ModelFile| {
        Value::Array(vec![file.name.as_str().into(), file.size.into(), file.sha256.into()])
    };
    Value::Array(files.iter().map(file).collect())
}

impl Payload for Model {
    const KIND: Kind = Kind::Model;

    fn to_value(&self) -> Value {
        map([
            (1, self.alias.as_str().into()),
            (2, files_value(&self.files)),
            (3, self.quantisation.as_str().into()),
            (4, self.licence.as_str().into()),
            (5, self.source.as_str().into()),
        ])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        let expected = FieldError::Field {
            key: 2,
            expected: "an array of [name, size, sha256], names below the folder and in order",
        };
        let alias = fields.text(1)?;
        let files: Vec<ModelFile> = fields
            .array(2)?
            .into_iter()
            .map(|file| {
                let Value::Array(parts) = file else { return None };
                let [Value::Text(name), Value::Unsigned(size), Value::Bytes(sha256)] =
                    <[Value; 3]>::try_from(parts).ok()?
                else {
                    return None;
                };
                Some(ModelFile { name, size, sha256: Hash::try_from(sha256.as_slice()).ok()? })
            })
            .collect::<Option<_>>()
            .ok_or(expected.clone())?;
        if !files.is_sorted_by(|a, b| a.name < b.name) || !files.iter().all(|file| is_below(&file.name)) {
            return Err(expected);
        }
        Ok(Self {
            alias,
            files,
            quantisation: fields.text(3)?,
            licence: fields.text(4)?,
            source: fields.text(5)?,
        })
    }
}

/// Whether a file's name stays below the folder it is joined to, on any system.
fn is_below(name: &str) -> bool {
    is_plain(name)
        && !name.contains(['\\', ':'])
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// The rules that verdicts are given under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyLeaf {
    /// Names of the tiers that may serve.
    pub tiers: Vec<String>,
    /// Longest life of an attestation, in seconds from its beacon.
    pub max_lifetime: u64,
    /// Whether the coordinator seals on behalf of users who send it plain text.
    pub plaintext_api: bool,
    /// Makers of TPMs that count.
    pub anchors: Vec<Anchor>,
    /// Auditors who may vouch for evidence that the public does not see.
    pub endorsers: Vec<PublicKey>,
    /// Application identifiers (`TEAM.bundle`) that may use App Attest.
    pub apps: Vec<String>,
    /// How long a release must have been in the log before it serves, in seconds.
    pub cool_off: u64,
    /// How old the lasting part of evidence may be, in seconds; 0 for any age.
    pub max_enrolment: u64,
}

impl PolicyLeaf {
    /// Whom these rules believe.
    pub fn trust(&self) -> Trust<'_> {
        Trust { anchors: &self.anchors, apps: &self.apps, endorsers: &self.endorsers }
    }
}

impl Payload for PolicyLeaf {
    const KIND: Kind = Kind::Policy;

    fn to_value(&self) -> Value {
        let anchor = |anchor: &Anchor| {
            Value::Array(vec![anchor.tier.name().into(), anchor.key.into(), anchor.name.as_str().into()])
        };
        let endorser = |key: &PublicKey| key.as_bytes().as_slice().into();
        let mut fields = vec![
            (1, Value::Array(self.tiers.iter().map(|tier| tier.as_str().into()).collect())),
            (2, self.max_lifetime.into()),
            (3, Value::Bool(self.plaintext_api)),
        ];
        // What says nothing is left out: rules have one encoding.
        let mut list = |key, items: Vec<Value>| {
            if !items.is_empty() {
                fields.push((key, Value::Array(items)));
            }
        };
        list(4, self.anchors.iter().map(anchor).collect());
        list(5, self.endorsers.iter().map(endorser).collect());
        list(6, self.apps.iter().map(|app| app.as_str().into()).collect());
        for (key, seconds) in [(7, self.cool_off), (8, self.max_enrolment)] {
            if seconds != 0 {
                fields.push((key, seconds.into()));
            }
        }
        Value::Map(fields.into_iter().map(|(key, value)| (Value::Unsigned(key), value)).collect())
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self {
            tiers: fields.texts(1)?,
            max_lifetime: fields.unsigned(2)?,
            plaintext_api: fields.boolean(3)?,
            anchors: list(fields, 4, anchor, "[[tpm-hw or tpm-soft, key, name], …], not empty")?,
            endorsers: list(fields, 5, endorser, "compressed P-256 points, at least one")?,
            apps: list(fields, 6, app, "application identifiers, at least one")?,
            cool_off: seconds(fields, 7)?,
            max_enrolment: seconds(fields, 8)?,
        })
    }
}

/// A list that is left out when it is empty.
fn list<T>(
    fields: &mut Fields,
    key: u64,
    item: fn(Value) -> Option<T>,
    expected: &'static str,
) -> Result<Vec<T>, FieldError> {
    if !fields.has(key) {
        return Ok(Vec::new());
    }
    let items: Option<Vec<T>> = fields.array(key)?.into_iter().map(item).collect();
    items.filter(|items| !items.is_empty()).ok_or(FieldError::Field { key, expected })
}

/// A number of seconds that is left out when it is 0.
fn seconds(fields: &mut Fields, key: u64) -> Result<u64, FieldError> {
    match fields.has(key).then(|| fields.unsigned(key)).transpose()? {
        Some(0) => Err(FieldError::Field { key, expected: "seconds, left out when 0" }),
        seconds => Ok(seconds.unwrap_or(0)),
    }
}

fn anchor(value: Value) -> Option<Anchor> {
    let Value::Array(parts) = value else { return None };
    let [Value::Text(tier), Value::Bytes(key), Value::Text(name)] = <[Value; 3]>::try_from(parts).ok()?
    else {
        return None;
    };
    let tier = tier.parse().ok().filter(|tier| matches!(tier, Tier::TpmHw | Tier::TpmSoft))?;
    is_plain(&name).then_some(())?;
    Some(Anchor { tier, key: Hash::try_from(key.as_slice()).ok()?, name })
}

fn endorser(value: Value) -> Option<PublicKey> {
    match value {
        Value::Bytes(bytes) if bytes.len() == COMPRESSED_LEN => PublicKey::from_sec1(&bytes).ok(),
        _ => None,
    }
}

fn app(value: Value) -> Option<String> {
    match value {
        Value::Text(app) if is_plain(&app) && !app.is_empty() => Some(app),
        _ => None,
    }
}

/// What one model costs, in pico-dollars (10^-12 USD) per token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// The model's alias.
    pub alias: String,
    /// For each token of the prompt.
    pub prompt: u64,
    /// For each token of the answer.
    pub completion: u64,
}

/// The prices in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceTable {
    /// One price per alias.
    pub prices: Vec<Price>,
}

impl PriceTable {
    /// The price of a model.
    pub fn price(&self, alias: &str) -> Option<&Price> {
        self.prices.iter().find(|price| price.alias == alias)
    }
}

impl Payload for PriceTable {
    const KIND: Kind = Kind::PriceTable;

    fn to_value(&self) -> Value {
        let price = |price: &Price| {
            Value::Array(vec![price.alias.as_str().into(), price.prompt.into(), price.completion.into()])
        };
        map([(1, Value::Array(self.prices.iter().map(price).collect()))])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        let expected = FieldError::Field {
            key: 1,
            expected: "an array of [alias, prompt, completion] with each alias once",
        };
        let prices: Vec<Price> = fields
            .array(1)?
            .into_iter()
            .map(|price| {
                let Value::Array(parts) = price else { return None };
                let [Value::Text(alias), Value::Unsigned(prompt), Value::Unsigned(completion)] =
                    <[Value; 3]>::try_from(parts).ok()?
                else {
                    return None;
                };
                is_plain(&alias).then_some(Price { alias, prompt, completion })
            })
            .collect::<Option<_>>()
            .ok_or(expected.clone())?;
        let repeated = prices
            .iter()
            .enumerate()
            .any(|(i, price)| prices[..i].iter().any(|other| other.alias == price.alias));
        if repeated { Err(expected) } else { Ok(Self { prices }) }
    }
}

/// A signature with the key that made it.
pub type SignedBy = (PublicKey, [u8; SIGNATURE_LEN]);

/// A provider build that may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Version, for people.
    pub version: String,
    /// What attestations name: see `spec/leaf.md` for what is hashed.
    pub build: Hash,
    /// Target triple.
    pub platform: String,
    /// The source commit it was built from.
    pub commit: String,
    /// It must not serve before.
    pub not_before: UnixSeconds,
    /// What hardware that measures code must see: the full SHA-256 of the CodeDirectory, or of a launch measurement.
    pub code: Option<Hash>,
    /// Other release keys that signed [`approval_message`](Self::approval_message).
    pub approvals: Vec<SignedBy>,
}

impl Release {
    /// What an approver signs: everything but the approvals.
    pub fn approval_message(&self) -> Vec<u8> {
        let bare = Self { approvals: Vec::new(), ..self.clone() };
        [b"glassbloom/release-approval/v1\0", bare.to_value().encode().as_slice()].concat()
    }

    /// How many of `keys` stand behind a release that `statement` carries: its signer, and each that approved.
    pub fn approved_by(&self, statement: &Statement, keys: &[PublicKey]) -> usize {
        let message = self.approval_message();
        let approves = |key: &&PublicKey| {
            statement.verify(key).is_ok()
                || self
                    .approvals
                    .iter()
                    .any(|(by, signature)| by == *key && key.verify(&message, signature).is_ok())
        };
        keys.iter().filter(approves).count()
    }
}

impl Payload for Release {
    const KIND: Kind = Kind::Release;

    fn to_value(&self) -> Value {
        let mut fields = vec![
            (1, self.version.as_str().into()),
            (2, self.build.into()),
            (3, self.platform.as_str().into()),
            (4, self.commit.as_str().into()),
            (5, self.not_before.get().into()),
        ];
        fields.extend(self.code.map(|code| (6, code.into())));
        if !self.approvals.is_empty() {
            fields.push((7, Value::Array(self.approvals.iter().map(signed_by_value).collect())));
        }
        Value::Map(fields.into_iter().map(|(key, value)| (Value::Unsigned(key), value)).collect())
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self {
            version: fields.text(1)?,
            build: fields.hash(2)?,
            platform: fields.text(3)?,
            commit: fields.text(4)?,
            not_before: fields.unsigned(5)?.into(),
            code: fields.has(6).then(|| fields.hash(6)).transpose()?,
            approvals: list(fields, 7, signed_by, "[[key, signature], …], not empty")?,
        })
    }
}

pub(super) fn signed_by(value: Value) -> Option<SignedBy> {
    let Value::Array(parts) = value else { return None };
    let [key, Value::Bytes(signature)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    Some((endorser(key)?, signature.try_into().ok()?))
}

pub(super) fn signed_by_value((key, signature): &SignedBy) -> Value {
    Value::Array(vec![key.as_bytes().as_slice().into(), signature.as_slice().into()])
}

/// A signing key that is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The key.
    pub key: KeyId,
    /// Receipts at or after this index of the receipts log are void.
    pub from: TreeSize,
    /// Why, for people.
    pub reason: String,
}

impl Payload for Revocation {
    const KIND: Kind = Kind::Revocation;

    fn to_value(&self) -> Value {
        map([(1, self.key.0.into()), (2, self.from.get().into()), (3, self.reason.as_str().into())])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self { key: KeyId(fields.hash(1)?), from: fields.unsigned(2)?.into(), reason: fields.text(3)? })
    }
}

/// A coordinator's judgement of an attestation, which anyone can recompute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Leaf hash of the policy it was given under.
    pub policy: Hash,
    /// Leaf hash of the attestation.
    pub attestation: Hash,
    /// The tier found, or the reasons alone.
    pub tier: Option<String>,
    /// Machine-readable reasons, in order of the checks.
    pub reasons: Vec<String>,
}

impl Payload for Verdict {
    const KIND: Kind = Kind::Verdict;

    fn to_value(&self) -> Value {
        map([
            (1, self.policy.into()),
            (2, self.attestation.into()),
            (3, self.tier.as_deref().map_or(Value::Null, Value::from)),
            (4, Value::Array(self.reasons.iter().map(|reason| reason.as_str().into()).collect())),
        ])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self {
            policy: fields.hash(1)?,
            attestation: fields.hash(2)?,
            tier: match fields.value(3, "a tier or null")? {
                Value::Text(tier) if is_plain(&tier) => Some(tier),
                Value::Null => None,
                _ => return Err(FieldError::Field { key: 3, expected: "a tier or null" }),
            },
            reasons: fields.texts(4)?,
        })
    }
}
