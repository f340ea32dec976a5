//! One chat request: verify, seal, send, open, check the receipt, keep it. Fails closed, saying why.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use glassbloom_service::{Clock, log_client::root_cause, random};
use glassbloom_spec::{
    api::frame::{Decoder, Frame, RelayError},
    bundle::ReceiptBundle,
    envelope::{ClientExchange, ClientRequest, Ended, EnvelopeError, FinishError, Opened, seal},
    id::UnixSeconds,
    openai::{ChatRequest, Error as ApiError},
    receipt::{LoggedReceipt, ReceiptError, SealedBy},
    verify::{Continuity, Report, State},
};

use crate::{
    store::Store,
    trust::{Trust, TrustError, Trusted},
    upstream::{Upstream, UpstreamError},
};

/// Why an exchange did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// What arrived does not open.
    #[error("the sealed answer was altered or cut: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The log did not prove the receipt in time, and promised to.
    #[error(
        "the answer is whole and its receipt is signed, but the log only promised to publish it until {until} (seconds since 1970); both are kept: `glassbloom receipts promises`"
    )]
    Promised {
        /// The log's deadline.
        until: UnixSeconds,
    },
    /// The receipt does not hold, or is missing.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The relay gave up.
    #[error("the relay ended the answer: {} ({})", .0.message, .0.code)]
    Relay(RelayError),
    /// The connection broke.
    #[error("the answer was cut: {0}")]
    Transport(String),
    /// Nothing that may be sealed to, or a log that contradicts itself.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The coordinator refused.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

impl From<FinishError> for ExchangeError {
    fn from(error: FinishError) -> Self {
        match error {
            FinishError::Envelope(error) => error.into(),
            FinishError::Receipt(error) => error.into(),
        }
    }
}

impl From<&ExchangeError> for ApiError {
    fn from(error: &ExchangeError) -> Self {
        let message = format!("Glassbloom refused: {error}");
        match error {
            ExchangeError::Upstream(UpstreamError::Refused { status: 503, .. }) => Self::overloaded(message),
            ExchangeError::Upstream(UpstreamError::Refused { status: 401, .. })
            | ExchangeError::Trust(TrustError::Upstream(UpstreamError::Refused { status: 401, .. })) => {
                Self::unauthorized(message)
            }
            ExchangeError::Upstream(_) | ExchangeError::Trust(TrustError::Upstream(_)) => {
                Self::upstream("coordinator_error", message)
            }
            ExchangeError::Trust(_) => Self::upstream("provider_not_verified", message),
            ExchangeError::Promised { .. } => Self::upstream("log_late", message),
            ExchangeError::Relay(relay) => Self::upstream(&relay.code, message),
            ExchangeError::Envelope(_) | ExchangeError::Transport(_) => {
                Self::upstream("answer_broken", message)
            }
            ExchangeError::Receipt(_) => Self::upstream("receipt_not_verified", message),
        }
    }
}

/// What is needed to answer requests; clones share everything.
#[derive(Clone)]
pub struct Exchanges {
    /// What this client believes.
    pub trust: Arc<Trust>,
    /// The coordinator.
    pub upstream: Upstream,
    /// The user's receipts.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether bundles keep the text.
    pub keep_text: bool,
}

/// Providers tried for one request.
const ATTEMPTS: u64 = 3;

impl Exchanges {
    /// Seals the request to a verified provider and waits for the start of its answer.
    ///
    /// A provider that fails before that is passed over: the request is sealed anew to the next.
    pub async fn start(&self, request: &ChatRequest, body: &[u8]) -> Result<Started, ExchangeError> {
        let (mut attempt, mut last) = (0, None);
        loop {
            let providers = match (self.trust.providers(&request.model).await, last.take()) {
                // Nobody is left to try: what went wrong with those who were there says more.
                (Err(TrustError::Upstream(_)), Some(failed)) => return Err(failed),
                (providers, failed) => {
                    last = failed;
                    providers?
                }
            };
            for trusted in providers.iter() {
                attempt += 1;
                match self.attempt(trusted, request, body, attempt).await {
                    Ok(started) => return Ok(started),
                    Err(error) if attempt < ATTEMPTS && is_worth_another(&error) => {
                        tracing::warn!(%error, attempt, "trying the next verified provider");
                        last = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            // The list may be out of date: ask once more, then give up.
            self.trust.forget(&request.model);
            if attempt >= ATTEMPTS {
                return Err(last.unwrap_or_else(|| UpstreamError::nobody(&request.model).into()));
            }
        }
    }

    async fn attempt(
        &self,
        trusted: &Trusted,
        request: &ChatRequest,
        body: &[u8],
        attempt: u64,
    ) -> Result<Started, ExchangeError> {
        let ask = ClientRequest {
            body: body.to_vec(),
            sampling: Some(request.sampling.encode()),
            sealed_by: SealedBy::User,
            attempt,
        };
        let (sealed, exchange) = seal(&trusted.provider, &ask, &random())?;
        let response =
            self.upstream.sealed(trusted.provider.attestation_hash(), &request.model, sealed).await?;
        let mut started = Started {
            exchanges: self.clone(),
            trusted: trusted.clone(),
            source: Source { frames: response.bytes_stream().boxed(), decoder: Decoder::default() },
            exchange: Some(exchange),
            request: body.to_vec(),
            chunks: Vec::new(),
            ready: Vec::new(),
            status: 0,
            content_type: String::new(),
        };
        started.head().await?;
        Ok(started)
    }
}

/// Whether another provider may do better: this one did not answer, or is no longer there.
const fn is_worth_another(error: &ExchangeError) -> bool {
    match error {
        ExchangeError::Upstream(UpstreamError::Refused { status, .. }) => matches!(status, 409 | 502 | 503),
        ExchangeError::Relay(_) | ExchangeError::Transport(_) => true,
        ExchangeError::Envelope(_)
        | ExchangeError::Promised { .. }
        | ExchangeError::Receipt(_)
        | ExchangeError::Trust(_)
        | ExchangeError::Upstream(_) => false,
    }
}

struct Source {
    frames: BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: Decoder,
}

impl Source {
    async fn next(&mut self) -> Result<Frame, ExchangeError> {
        loop {
            let frame =
                self.decoder.next_frame().map_err(|error| ExchangeError::Transport(error.to_string()))?;
            if let Some(frame) = frame {
                return Ok(frame);
            }
            match self.frames.next().await {
                Some(Ok(bytes)) => self.decoder.push(&bytes),
                Some(Err(error)) => return Err(ExchangeError::Transport(root_cause(&error))),
                None => return Err(ExchangeError::Transport("it ended without a proof".to_owned())),
            }
        }
    }
}

/// An answer whose start has been opened.
pub struct Started {
    exchanges: Exchanges,
    trusted: Trusted,
    source: Source,
    exchange: Option<ClientExchange>,
    request: Vec<u8>,
    chunks: Vec<Vec<u8>>,
    ready: Vec<Vec<u8>>,
    /// Status inside the sealed answer.
    pub status: u16,
    /// Media type inside the sealed answer.
    pub content_type: String,
}

/// What comes next of an answer.
pub enum Next {
    /// A piece, opened with a key that only the verified provider and this client have.
    Chunk(Vec<u8>),
    /// The end, checked.
    End(End),
}

/// How an answer ended.
pub enum End {
    /// With a receipt that is in the log.
    Answered(Box<Kept>),
    /// The provider refused the request; nothing is charged.
    Refused,
}

/// A receipt that was verified, logged and kept.
pub struct Kept {
    /// The logged receipt.
    pub logged: LoggedReceipt,
    /// Every step, in order.
    pub report: Report,
}

impl Started {
    /// Waits for the head, keeping chunks that come with it.
    async fn head(&mut self) -> Result<(), ExchangeError> {
        while self.status == 0 {
            match self.source.next().await? {
                Frame::Error(error) => return Err(ExchangeError::Relay(error)),
                Frame::Promise(_) | Frame::Proof(_) => return Err(ReceiptError::Missing.into()),
                Frame::Sealed(bytes) => self.open(&bytes)?,
            }
        }
        Ok(())
    }

    fn open(&mut self, sealed: &[u8]) -> Result<(), ExchangeError> {
        let exchange = self.exchange.as_mut().expect("taken only when the answer ends");
        for opened in exchange.push(sealed)? {
            match opened {
                Opened::Chunk(chunk) => self.ready.push(chunk),
                Opened::Head { status, content_type } => {
                    (self.status, self.content_type) = (status, content_type)
                }
            }
        }
        Ok(())
    }

    /// What comes next. After [`Next::End`] or an error there is nothing more.
    pub async fn next(&mut self) -> Result<Next, ExchangeError> {
        loop {
            if !self.ready.is_empty() {
                let chunk = self.ready.remove(0);
                if self.exchanges.keep_text {
                    self.chunks.push(chunk.clone());
                }
                return Ok(Next::Chunk(chunk));
            }
            match self.source.next().await? {
                Frame::Sealed(bytes) => self.open(&bytes)?,
                Frame::Promise(promise) => return Err(self.promised(&promise).await),
                Frame::Proof(proof) => return self.end(Some(&proof)).await,
                Frame::Error(error) if error.code == "refused" => return self.end(None).await,
                Frame::Error(error) => return Err(ExchangeError::Relay(error)),
            }
        }
    }

    /// The answer is whole and its receipt is signed, but the log only gives its word. That is no proof, so the answer
    /// ends with an error; receipt and promise are kept, to hold the log to it.
    async fn promised(&mut self, promise: &[u8]) -> ExchangeError {
        let exchange = self.exchange.take().expect("an answer ends once");
        let receipt = match exchange.finish(&self.trusted.provider) {
            Ok((_, Ended::Answered(receipt))) => receipt,
            Ok((_, Ended::Refused)) => return ReceiptError::Missing.into(),
            Err(error) => return error.into(),
        };
        let promised = match receipt.promised(self.exchanges.trust.policy(), promise) {
            Ok(promised) => promised,
            Err(error) => return error.into(),
        };
        let (store, now) = (&self.exchanges.store, self.exchanges.clock.now());
        match store.keep_promise(receipt.statement(), &promised, now).await {
            Ok(()) => ExchangeError::Promised { until: promised.promise().deadline },
            Err(error) => TrustError::from(error).into(),
        }
    }

    async fn end(&mut self, proof: Option<&[u8]>) -> Result<Next, ExchangeError> {
        let exchange = self.exchange.take().expect("an answer ends once");
        let provider = &self.trusted.provider;
        // The last sealed chunk holds the receipt and no content; the spec's reader refuses anything else.
        let (_, ended) = exchange.finish(provider)?;
        let (receipt, proof) = match (ended, proof) {
            (Ended::Answered(receipt), Some(proof)) => (receipt, proof),
            (Ended::Refused, None) => return Ok(Next::End(End::Refused)),
            (Ended::Answered(_), None) => {
                return Err(ReceiptError::NotLogged("the relay sent no proof".to_owned()).into());
            }
            (Ended::Refused, Some(_)) => return Err(ReceiptError::Missing.into()),
        };
        let mut report = self.trusted.report.clone();
        let detail = "signed by the key sealed to; names this request, this answer, this model, these prices";
        report.push("receipt", State::Verified, detail);
        let logged = receipt.logged(self.exchanges.trust.policy(), proof)?;
        let head = logged.head();
        let detail =
            format!("index {} of {}, cosigned checkpoint of size {}", logged.index(), head.origin, head.size);
        report.push("receipt logged", State::Verified, detail);
        let (state, detail) = match self.exchanges.trust.follow_receipts(&logged).await? {
            Continuity::Consistent { older } => (
                State::Verified,
                format!("one history with the checkpoint of size {older} that this client saw"),
            ),
            Continuity::FirstSeen | Continuity::NotChecked => {
                let detail = "the first that this client sees; kept, and compared from the next on";
                (State::NotVerifiable, detail.to_owned())
            }
        };
        report.push("receipts log consistent", state, detail);

        let mut bundle = ReceiptBundle::new(provider, &logged);
        if self.exchanges.keep_text {
            bundle.request = Some(std::mem::take(&mut self.request));
            bundle.response = Some(std::mem::take(&mut self.chunks));
        }
        let now = self.exchanges.clock.now();
        self.exchanges.store.keep(&bundle, provider, &logged, now).await.map_err(TrustError::from)?;
        Ok(Next::End(End::Answered(Box::new(Kept { logged, report }))))
    }
}
