//! One exchange, sealed: a verified provider is the only thing to seal to, and a matching receipt the only way to end.
//!
//! The inner request is a `POST /v1/chat/completions` whose headers carry what the provider must repeat in its receipt:
//! the attestation that was sealed to, the registry checkpoint relied on, the attempt and who sealed. A provider refuses
//! another's. The receipt and the token counts ride in the trailers of the sealed answer. See `spec/envelope.md`.

use core::fmt;
use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    api::UsageOpening,
    curve::{DiffieHellman, SignError, Signer},
    hash::Hash,
    id::{TreeSize, UnixMinutes},
    leaf::{Payload, Price},
    pedersen::CommitmentError,
    receipt::{
        CommitmentTree, Finish, Purpose, Receipt, ReceiptError, ReceiptSecret, SealedBy, Transcript, Usage,
        VerifiedReceipt, charge, request_commitment,
    },
    seal::{
        KeyConfig, Padding, RECEIPT_TRAILER, RequestContext, ResponseReader, ResponseWriter, SealError,
        Unsealed,
        bhttp::{BadMessage, Event, Fields, Request},
        open_request, seal_request,
    },
    statement::Statement,
    verify::VerifiedProvider,
};

/// The one path that the provider's inner server has.
pub const INNER_PATH: &str = "/v1/chat/completions";
const ATTESTATION: &str = "glassbloom-attestation";
const REGISTRY: &str = "glassbloom-registry";
const ATTEMPT: &str = "glassbloom-attempt";
const SEALED_BY: &str = "glassbloom-sealed-by";
const USAGE_TRAILER: &str = "glassbloom-usage";

/// Why a sealed exchange failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The token counts or prices do not fit.
    #[error(transparent)]
    Amount(#[from] CommitmentError),
    /// The request inside lacks something, or has it in another form.
    #[error("the sealed request's {0} is missing or malformed")]
    Inner(&'static str),
    /// The request was sealed to another attestation than this provider's.
    #[error("the request was sealed to attestation {found}, and this provider's is {own}")]
    OtherAttestation {
        /// What the request names.
        found: Hash,
        /// The provider's.
        own: Hash,
    },
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The signing key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Opening failed: the bytes were altered, cut, or sealed to another key.
    #[error(transparent)]
    Unsealed(#[from] Unsealed),
}

impl From<BadMessage> for EnvelopeError {
    fn from(error: BadMessage) -> Self {
        Self::Seal(error.into())
    }
}

/// What a client asks of a provider.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// An OpenAI chat request, as JSON.
    pub body: Vec<u8>,
    /// Canonical sampling parameters of that body, when the client knows them.
    pub sampling: Option<Vec<u8>>,
    /// Who seals.
    pub sealed_by: SealedBy,
    /// 1 for the first provider tried.
    pub attempt: u64,
}

/// Seals a request to a verified provider. `ephemeral` is 32 random bytes for this one request.
///
/// # Errors
/// When the request is too large for Binary HTTP.
pub fn seal(
    provider: &VerifiedProvider,
    request: &ClientRequest,
    ephemeral: &[u8; 32],
) -> Result<(Vec<u8>, ClientExchange), EnvelopeError> {
    let (size, root) = provider.registry();
    let mut inner = Request::post_json(INNER_PATH, request.body.clone());
    inner.headers = inner
        .headers
        .with(ATTESTATION, &provider.attestation_hash().to_string())?
        .with(REGISTRY, &format!("{size} {root}"))?
        .with(ATTEMPT, &request.attempt.to_string())?
        .with(SEALED_BY, request.sealed_by.name())?;
    let (sealed, reader) =
        seal_request(&provider.attestation().key_config, &inner, Padding::default(), ephemeral)?;
    let secret = ReceiptSecret::new(reader.receipt_secret().clone());
    let exchange = ClientExchange {
        transcript: Transcript {
            request: request_commitment(&secret, &request.body),
            response: (Hash::EMPTY_TREE, 0),
            sampling: request.sampling.clone(),
            attempt: request.attempt,
            sealed_by: request.sealed_by,
            secret: secret.clone(),
        },
        chunks: CommitmentTree::chunks(secret),
        status: None,
        reader,
    };
    Ok((sealed, exchange))
}

/// What arriving bytes complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A piece of the answer.
    Chunk(Vec<u8>),
    /// The start of the answer.
    Head {
        /// Status inside.
        status: u16,
        /// Media type inside.
        content_type: String,
    },
}

/// How an exchange ended well.
#[derive(Clone, Debug)]
pub enum Ended {
    /// With a receipt that holds.
    Answered(Box<VerifiedReceipt>),
    /// The provider refused the request, with the status in the head; nothing was computed and nothing is charged.
    Refused,
}

/// The client's side of an exchange.
pub struct ClientExchange {
    reader: ResponseReader,
    transcript: Transcript,
    chunks: CommitmentTree,
    status: Option<u16>,
}

impl ClientExchange {
    /// Takes bytes of the sealed answer, in pieces of any size.
    ///
    /// # Errors
    /// When they do not open. Nothing that was opened before can be trusted to be the whole answer.
    pub fn push(&mut self, sealed: &[u8]) -> Result<Vec<Opened>, EnvelopeError> {
        let events = self.reader.push(sealed)?;
        Ok(events.into_iter().filter_map(|event| self.take(event)).collect())
    }

    /// Ends the exchange: the answer is whole only when this succeeds.
    ///
    /// # Errors
    /// When the stream was cut, or ends without a receipt for exactly this request and answer.
    pub fn finish(mut self, provider: &VerifiedProvider) -> Result<(Vec<Opened>, Ended), FinishError> {
        let events = self.reader.finish().map_err(EnvelopeError::from)?;
        let mut opened = Vec::new();
        let mut trailers = None;
        for event in events {
            match event {
                Event::Head { status, .. } => self.status = Some(status),
                Event::Content(content) => {
                    self.chunks.push(&content);
                    opened.push(Opened::Chunk(content));
                }
                Event::End { trailers: found } => trailers = Some(found),
            }
        }
        let trailers = trailers.ok_or(ReceiptError::Missing)?;
        let Some(receipt) = trailers.get(RECEIPT_TRAILER) else {
            let refused = self.status.is_some_and(|status| (400..500).contains(&status));
            return if refused { Ok((opened, Ended::Refused)) } else { Err(ReceiptError::Missing.into()) };
        };
        let receipt = BASE64_STANDARD.decode(receipt).map_err(|_| ReceiptError::Mismatch("its encoding"))?;
        let usage = trailers
            .get(USAGE_TRAILER)
            .and_then(parse_usage)
            .ok_or(ReceiptError::Mismatch("its token counts"))?;
        let transcript = Transcript { response: (self.chunks.root(), self.chunks.len()), ..self.transcript };
        let receipt = VerifiedReceipt::check(&receipt, provider, &transcript, usage)?;
        Ok((opened, Ended::Answered(Box::new(receipt))))
    }

    fn take(&mut self, event: Event) -> Option<Opened> {
        match event {
            Event::Head { status, headers } => {
                self.status = Some(status);
                let content_type = headers.get("content-type").unwrap_or_default().to_owned();
                Some(Opened::Head { status, content_type })
            }
            Event::Content(content) => {
                self.chunks.push(&content);
                Some(Opened::Chunk(content))
            }
            Event::End { .. } => None,
        }
    }
}

impl fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientExchange({} chunks)", self.chunks.len())
    }
}

/// Why an exchange did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// The sealed stream is broken.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The receipt does not hold.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
}

/// A request that a provider opened.
#[derive(Clone, Debug)]
pub struct OpenedRequest {
    /// An OpenAI chat request, as JSON.
    pub body: Vec<u8>,
    /// Size and root of the registry that the client relied on.
    pub registry: (TreeSize, Hash),
    /// Which attempt this is.
    pub attempt: u64,
    /// Who sealed it.
    pub sealed_by: SealedBy,
}

/// Opens a request sealed to this provider's attestation.
///
/// # Errors
/// When it does not open, is for another attestation, or is not a chat request.
pub fn open(
    key: Arc<dyn DiffieHellman>,
    config: &KeyConfig,
    attestation: Hash,
    sealed: &[u8],
) -> Result<(OpenedRequest, ProviderExchange), EnvelopeError> {
    let (inner, context) = open_request(config, key, sealed)?;
    if inner.method != "POST" || inner.path != INNER_PATH {
        return Err(EnvelopeError::Inner("method or path"));
    }
    let header = |name, what| inner.headers.get(name).ok_or(EnvelopeError::Inner(what));
    let found: Hash =
        header(ATTESTATION, "attestation")?.parse().map_err(|_| EnvelopeError::Inner("attestation"))?;
    if found != attestation {
        return Err(EnvelopeError::OtherAttestation { found, own: attestation });
    }
    let registry = header(REGISTRY, "registry")?
        .split_once(' ')
        .and_then(|(size, root)| Some((size.parse().ok()?, root.parse().ok()?)))
        .ok_or(EnvelopeError::Inner("registry"))?;
    let attempt = crate::id::parse_decimal(header(ATTEMPT, "attempt")?).ok().filter(|attempt| *attempt > 0);
    let attempt = attempt.ok_or(EnvelopeError::Inner("attempt"))?;
    let sealed_by = header(SEALED_BY, "sealer")?.parse().map_err(|()| EnvelopeError::Inner("sealer"))?;
    let secret = ReceiptSecret::new(context.receipt_secret().clone());
    let terms = Terms {
        attestation,
        registry,
        attempt,
        sealed_by,
        request: request_commitment(&secret, &inner.content),
        chunks: CommitmentTree::chunks(secret.clone()),
        secret,
    };
    let opened = OpenedRequest { body: inner.content, registry, attempt, sealed_by };
    Ok((opened, ProviderExchange { context, terms }))
}

/// What the provider knows at the end of an answer.
#[derive(Clone, Debug)]
pub struct ReceiptFacts<'a> {
    /// Leaf hash of the model statement.
    pub model: Hash,
    /// Leaf hash of the policy in force.
    pub policy: Hash,
    /// Leaf hash of the price table in force.
    pub prices: Hash,
    /// What the model costs.
    pub price: &'a Price,
    /// Why the answer ended.
    pub finish: Finish,
    /// Tokens.
    pub usage: Usage,
    /// Canonical sampling parameters.
    pub sampling: &'a [u8],
    /// When the request came and when the answer ended.
    pub times: [UnixMinutes; 2],
}

/// A provider's side of an exchange that has not begun to answer.
pub struct ProviderExchange {
    context: RequestContext,
    terms: Terms,
}

/// What the request fixes of the receipt, and the tree over what is answered.
struct Terms {
    secret: ReceiptSecret,
    attestation: Hash,
    registry: (TreeSize, Hash),
    attempt: u64,
    sealed_by: SealedBy,
    request: Hash,
    chunks: CommitmentTree,
}

impl ProviderExchange {
    /// Names this sealed request: new for every request that an honest client seals.
    ///
    /// A provider MUST answer each once. A relay that sends a request again would get a second receipt, and both
    /// would have the same blinding factors, so that their commitments give away how much the token counts differ.
    pub const fn encapsulated_key(&self) -> &[u8; 65] {
        self.context.encapsulated_key()
    }

    /// Starts the answer: the first bytes to send. `nonce` is 32 random bytes.
    ///
    /// # Errors
    /// When status or media type have no place in Binary HTTP.
    pub fn start(
        self,
        status: u16,
        content_type: &str,
        nonce: [u8; 32],
    ) -> Result<(Vec<u8>, ProviderAnswer), EnvelopeError> {
        let headers = Fields::new().with("content-type", content_type)?;
        let (sealed, writer) =
            ResponseWriter::start(self.context, nonce, status, &headers, Padding::default())?;
        Ok((sealed, ProviderAnswer { writer, terms: self.terms }))
    }
}

/// A provider's side of an exchange that is being answered.
pub struct ProviderAnswer {
    writer: ResponseWriter,
    terms: Terms,
}

impl ProviderAnswer {
    /// The bytes to send for one chunk: one server-sent event, or a whole JSON body. Nothing for nothing, because
    /// a client cannot see an empty chunk and would count one less.
    ///
    /// # Errors
    /// When the chunk is too large.
    pub fn chunk(&mut self, content: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let sealed = self.writer.content(content)?;
        if !content.is_empty() {
            self.terms.chunks.push(content);
        }
        Ok(sealed)
    }

    /// Signs the receipt for what was received and sent.
    ///
    /// # Errors
    /// When the key does not sign, or the charge does not fit.
    pub fn receipt(
        &self,
        facts: &ReceiptFacts<'_>,
        signer: &dyn Signer,
    ) -> Result<(Statement, UsageOpening), EnvelopeError> {
        let openings = self.terms.secret.usage(facts.usage);
        let receipt = Receipt {
            attestation: self.terms.attestation,
            model: facts.model,
            policy: facts.policy,
            prices: facts.prices,
            registry: self.terms.registry,
            request: self.terms.request,
            response: self.terms.chunks.root(),
            chunks: self.terms.chunks.len(),
            finish: facts.finish,
            usage: openings.each_ref().map(|opening| opening.commitment()),
            charge: charge(&openings, facts.price)?.commitment(),
            sampling: self.terms.secret.commit(Purpose::Sampling, facts.sampling),
            attempt: self.terms.attempt,
            times: facts.times,
            sealed_by: self.terms.sealed_by,
        };
        let opening = UsageOpening {
            prompt: facts.usage.prompt,
            completion: facts.usage.completion,
            blindings: openings.each_ref().map(|opening| Hash::from_bytes(opening.blinding())),
        };
        Ok((receipt.sign(signer)?, opening))
    }

    /// The bytes that end the answer, with the receipt.
    ///
    /// # Errors
    /// When the trailers have no place in Binary HTTP.
    pub fn finish(self, receipt: &Statement, usage: Usage) -> Result<Vec<u8>, EnvelopeError> {
        let trailers = Fields::new()
            .with(RECEIPT_TRAILER, &BASE64_STANDARD.encode(receipt.bytes()))?
            .with(USAGE_TRAILER, &format!("{} {}", usage.prompt, usage.completion))?;
        Ok(self.writer.finish(&trailers)?)
    }

    /// The bytes that end an answer which refuses the request: no receipt, no charge. A client accepts this only
    /// after a 4xx status.
    ///
    /// # Errors
    /// When the transport is used up.
    pub fn finish_refused(self) -> Result<Vec<u8>, EnvelopeError> {
        Ok(self.writer.finish(&Fields::new())?)
    }
}

fn parse_usage(text: &str) -> Option<Usage> {
    let (prompt, completion) = text.split_once(' ')?;
    let parse = |text| crate::id::parse_decimal(text).ok();
    Some(Usage { prompt: parse(prompt)?, completion: parse(completion)? })
}
