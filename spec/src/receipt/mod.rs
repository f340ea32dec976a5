//! The `receipt` statement: what a provider signs for every answer, and what both ends can later prove of it.
//!
//! The public learns nothing of the text, the token counts or the charge: each is a salted commitment whose salt
//! comes from the HPKE exporter, so that user and provider share it and the relay has none. See `spec/receipt.md`.

mod verified;

pub use verified::{LoggedReceipt, ReceiptError, Transcript, VerifiedReceipt, is_receipts};
pub(crate) use verified::{amounts, references};

use core::{fmt, ops::Range, str::FromStr};

use zeroize::Zeroizing;

use crate::{
    cbor::{FieldError, Fields, Value, map},
    hash::{Hash, hkdf_expand, hmac_sha256},
    id::{TreeSize, UnixMinutes},
    leaf::{Payload, Price},
    merkle::Frontier,
    pedersen::{Commitment, CommitmentError, Opening},
    statement::Kind,
};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The client went away or cancelled.
    Cancelled,
    /// The token limit was reached.
    Length,
    /// The model ended it, or a stop string did.
    Stop,
    /// The model called tools.
    ToolCalls,
}

impl Finish {
    /// As in receipts; the same words as OpenAI's `finish_reason` where that has one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Length => "length",
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
        }
    }
}

impl FromStr for Finish {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Cancelled, Self::Length, Self::Stop, Self::ToolCalls]
            .into_iter()
            .find(|finish| finish.name() == text)
            .ok_or(())
    }
}

/// Who sealed the request: a receipt for what the coordinator sealed says less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedBy {
    /// The coordinator, which therefore read the prompt and the answer.
    Coordinator,
    /// The user's own device.
    User,
}

impl SealedBy {
    /// As in receipts and in the `glassbloom-sealed-by` header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::User => "user",
        }
    }
}

impl FromStr for SealedBy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Coordinator, Self::User].into_iter().find(|by| by.name() == text).ok_or(())
    }
}

impl fmt::Display for SealedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The payload of a receipt. Everything in it is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Leaf hash of the provider's attestation.
    pub attestation: Hash,
    /// Leaf hash of the model statement.
    pub model: Hash,
    /// Leaf hash of the policy in force.
    pub policy: Hash,
    /// Leaf hash of the price table in force.
    pub prices: Hash,
    /// Size of the registry that the client relied on, and its root.
    pub registry: (TreeSize, Hash),
    /// Root over the salted commitments of the request's segments.
    pub request: Hash,
    /// Root over the salted commitments of the answer's chunks.
    pub response: Hash,
    /// Number of chunks of the answer.
    pub chunks: u64,
    /// Why it ended.
    pub finish: Finish,
    /// Commitments to the tokens of the prompt and of the answer.
    pub usage: [Commitment; 2],
    /// Commitment to the charge, in pico-dollars.
    pub charge: Commitment,
    /// Salted commitment to the sampling parameters.
    pub sampling: Hash,
    /// 1 for the first provider that was tried, then counting up.
    pub attempt: u64,
    /// When the request came and when the answer ended, to the minute.
    pub times: [UnixMinutes; 2],
    /// Who sealed the request.
    pub sealed_by: SealedBy,
}

impl Receipt {
    /// Whether the charge is what the price asks for the committed tokens; needs no secret.
    pub fn charge_matches(&self, price: &Price) -> bool {
        let [prompt, completion] = self.usage;
        Commitment::linear(&[(price.prompt, prompt), (price.completion, completion)]) == self.charge
    }
}

impl Payload for Receipt {
    const KIND: Kind = Kind::Receipt;

    fn to_value(&self) -> Value {
        let bytes = |commitment: &Commitment| Value::from(commitment.as_bytes().as_slice());
        map([
            (1, self.attestation.into()),
            (2, self.model.into()),
            (3, self.policy.into()),
            (4, self.prices.into()),
            (5, Value::Array(vec![self.registry.0.get().into(), self.registry.1.into()])),
            (6, self.request.into()),
            (7, self.response.into()),
            (8, self.chunks.into()),
            (9, self.finish.name().into()),
            (10, Value::Array(self.usage.iter().map(bytes).collect())),
            (11, bytes(&self.charge)),
            (12, self.sampling.into()),
            (13, self.attempt.into()),
            (14, Value::Array(self.times.iter().map(|minute| minute.get().into()).collect())),
            (15, self.sealed_by.name().into()),
        ])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        let point = |value: &[u8], key| {
            <[u8; 32]>::try_from(value)
                .ok()
                .and_then(|bytes| Commitment::from_bytes(bytes).ok())
                .ok_or(FieldError::Field { key, expected: "a ristretto255 point" })
        };
        Ok(Self {
            attestation: fields.hash(1)?,
            model: fields.hash(2)?,
            policy: fields.hash(3)?,
            prices: fields.hash(4)?,
            registry: match fields.array(5)?.as_slice() {
                [Value::Unsigned(size), Value::Bytes(root)] => {
                    let expected = FieldError::Field { key: 5, expected: "[size, root]" };
                    (TreeSize::new(*size), Hash::try_from(root.as_slice()).map_err(|_| expected)?)
                }
                _ => return Err(FieldError::Field { key: 5, expected: "[size, root]" }),
            },
            request: fields.hash(6)?,
            response: fields.hash(7)?,
            chunks: fields.unsigned(8)?,
            finish: fields
                .text(9)?
                .parse()
                .map_err(|()| FieldError::Field { key: 9, expected: "a finish reason" })?,
            usage: match fields.array(10)?.as_slice() {
                [Value::Bytes(prompt), Value::Bytes(completion)] => {
                    [point(prompt, 10)?, point(completion, 10)?]
                }
                _ => return Err(FieldError::Field { key: 10, expected: "two ristretto255 points" }),
            },
            charge: point(&fields.bytes(11)?, 11)?,
            sampling: fields.hash(12)?,
            attempt: match fields.unsigned(13)? {
                0 => return Err(FieldError::Field { key: 13, expected: "an attempt, counted from 1" }),
                attempt => attempt,
            },
            times: match fields.array(14)?.as_slice() {
                [Value::Unsigned(start), Value::Unsigned(end)] if start <= end => {
                    [(*start).into(), (*end).into()]
                }
                _ => return Err(FieldError::Field { key: 14, expected: "[start, end] in minutes" }),
            },
            sealed_by: fields
                .text(15)?
                .parse()
                .map_err(|()| FieldError::Field { key: 15, expected: "\"user\" or \"coordinator\"" })?,
        })
    }
}

/// What salts and blindings are for: each purpose has its own, so disclosing one discloses no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A chunk of the answer, by index.
    Chunk(u64),
    /// The sampling parameters.
    Sampling,
    /// A segment of the request, by index.
    Segment(u64),
}

/// The secret that user and provider share for one exchange, from the HPKE exporter.
#[derive(Clone)]
pub struct ReceiptSecret(Zeroizing<[u8; 32]>);

impl ReceiptSecret {
    /// Wraps the exported bytes.
    pub const fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the bundle that the user keeps.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The salt of one commitment: whoever has it can open that commitment and no other.
    pub fn salt(&self, purpose: Purpose) -> Hash {
        let (tag, index): (&[u8], u64) = match purpose {
            Purpose::Chunk(index) => (b"chunk", index),
            Purpose::Sampling => (b"sampling", 0),
            Purpose::Segment(index) => (b"segment", index),
        };
        let mut salt = [0; Hash::LEN];
        hkdf_expand(
            self.0.as_slice(),
            &[b"glassbloom/salt/v1\0", tag, b"\0", &index.to_be_bytes()],
            &mut salt,
        );
        Hash::from_bytes(salt)
    }

    /// The salted commitment to data.
    pub fn commit(&self, purpose: Purpose, data: &[u8]) -> Hash {
        commitment(&self.salt(purpose), data)
    }

    /// The openings of the usage commitments for these token counts.
    pub fn usage(&self, tokens: Usage) -> [Opening; 2] {
        let opening = |tag: &[u8], value| {
            let mut wide = Zeroizing::new([0; 64]);
            hkdf_expand(self.0.as_slice(), &[b"glassbloom/blinding/v1\0", tag], wide.as_mut());
            Opening::new(value, &wide)
        };
        [opening(b"prompt", tokens.prompt), opening(b"completion", tokens.completion)]
    }
}

impl fmt::Debug for ReceiptSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiptSecret(secret)")
    }
}

/// Tokens of one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the answer.
    pub completion: u64,
}

/// A salted commitment: HMAC-SHA256(salt, tag || length || data).
pub fn commitment(salt: &Hash, data: &[u8]) -> Hash {
    hmac_sha256(salt.as_ref(), &[b"glassbloom/commitment/v1\0", &(data.len() as u64).to_be_bytes(), data])
}

/// The charge for the tokens at the price, in pico-dollars, with its opening.
pub fn charge(usage: &[Opening; 2], price: &Price) -> Result<Opening, CommitmentError> {
    Opening::linear(&[(price.prompt, usage[0]), (price.completion, usage[1])])
}

/// A tree over salted commitments, filled while data passes.
#[derive(Clone, Debug)]
pub struct CommitmentTree {
    secret: ReceiptSecret,
    purpose: fn(u64) -> Purpose,
    tree: Frontier,
}

impl CommitmentTree {
    /// For the chunks of an answer.
    pub fn chunks(secret: ReceiptSecret) -> Self {
        Self { secret, purpose: Purpose::Chunk, tree: Frontier::new() }
    }

    /// For the segments of a request.
    pub fn segments(secret: ReceiptSecret) -> Self {
        Self { secret, purpose: Purpose::Segment, tree: Frontier::new() }
    }

    /// Adds the next item.
    pub fn push(&mut self, data: &[u8]) {
        let commitment = self.secret.commit((self.purpose)(self.len()), data);
        self.tree.append(Hash::leaf(commitment.as_ref()));
    }

    /// How many items were added.
    pub fn len(&self) -> u64 {
        self.tree.size().get()
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The root over what was added.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }
}

/// The commitment to a request: a root over its segments, in the order of [`segments`].
pub fn request_commitment(secret: &ReceiptSecret, body: &[u8]) -> Hash {
    let mut tree = CommitmentTree::segments(secret.clone());
    for range in segments(body) {
        tree.push(&body[range]);
    }
    tree.root()
}

/// Cuts a request body so that each message can later be disclosed alone: what is before the first message, each
/// element of the top-level `messages` array with what separates it from the one before, and the rest. Joined, the
/// segments are the body, to the byte. A body that is not such a JSON object is one segment.
pub fn segments(body: &[u8]) -> Vec<Range<usize>> {
    #[derive(serde::Deserialize)]
    struct Messages<'a> {
        #[serde(borrow)]
        messages: Vec<&'a serde_json::value::RawValue>,
    }
    let whole: Vec<Range<usize>> = std::iter::once(0..body.len()).collect();
    let Ok(text) = core::str::from_utf8(body) else { return whole };
    let Ok(Messages { messages }) = serde_json::from_str::<Messages<'_>>(text) else { return whole };
    let Some(first) = messages.first() else { return whole };
    let offset = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    let mut cuts = vec![0, offset(first.get())];
    cuts.extend(messages.iter().map(|message| offset(message.get()) + message.get().len()));
    cuts.push(body.len());
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> ReceiptSecret {
        ReceiptSecret::new(Zeroizing::new([7; 32]))
    }

    #[test]
    fn segments_join_to_the_body() {
        for body in [
            &br#"{"model":"m","messages":[{"role":"user","content":"a"}, {"role":"assistant","content":"b"}],"stream":true}"#[..],
            br#"{"messages":[]}"#,
            b"not json",
            b"",
            b"\xff",
        ] {
            let joined: Vec<u8> = segments(body).into_iter().flat_map(|range| body[range].to_vec()).collect();
            assert_eq!(joined, body);
        }
    }

    #[test]
    fn a_message_has_a_segment_of_its_own() {
        let body = br#"{"messages":[{"a":1},{"b":2}],"stream":true}"#;
        let parts: Vec<&[u8]> = segments(body).into_iter().map(|range| &body[range]).collect();
        assert_eq!(parts, [&br#"{"messages":["#[..], br#"{"a":1}"#, br#",{"b":2}"#, br#"],"stream":true}"#]);
    }

    #[test]
    fn salts_differ_by_purpose_and_index() {
        let salts = [Purpose::Chunk(0), Purpose::Chunk(1), Purpose::Segment(0), Purpose::Sampling]
            .map(|p| secret().salt(p));
        for (i, salt) in salts.iter().enumerate() {
            assert!(!salts[..i].contains(salt));
        }
    }

    #[test]
    fn one_changed_byte_changes_the_commitment() {
        let body = br#"{"messages":[{"a":1}]}"#.to_vec();
        for i in 0..body.len() {
            let mut other = body.clone();
            other[i] ^= 1;
            assert_ne!(request_commitment(&secret(), &body), request_commitment(&secret(), &other));
        }
    }

    #[test]
    fn usage_opens_and_charges() {
        let price = Price { alias: "m".to_owned(), prompt: 3, completion: 5 };
        let usage = secret().usage(Usage { prompt: 10, completion: 20 });
        assert_eq!(charge(&usage, &price).unwrap().value(), 130);
    }
}
