//! Chat in plain text, for people who only change the base URL: here the coordinator is the client. It seals on their
//! behalf, reads prompt and answer in doing so, and says that in every answer and in the receipt.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{State, rejection::BytesRejection},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use glassbloom_spec::{
    api::header as names,
    envelope::{ClientExchange, ClientRequest, Ended, Opened, seal},
    openai::{self, ChatRequest, DONE, SseParser, sse, sse_data},
    receipt::{LoggedReceipt, SealedBy},
    verify::{Continuity, Known, Report, RevocationState, VerifiedProvider},
};
use serde_json::{Value, json};

use crate::{
    app::App,
    error::ApiError,
    logs::Appended,
    routes::RequestId,
    sealed::{begin, body_error},
    session::{Event, Exchange, Order},
    store::Account,
};

/// Seals a plain request to a live provider and opens the answer.
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(account): Extension<Account>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    if !app.config.api.plaintext {
        return Err(ApiError::PlaintextOff);
    }
    let body = body.map_err(|error| body_error(&error))?;
    let request = ChatRequest::parse(&body).map_err(ApiError::Openai)?;
    let order = Order {
        account: account.id,
        model: request.model.clone(),
        request_id,
        sealed_by: SealedBy::Coordinator,
        started: app.clock.now(),
    };
    let answered = match Answer::start(&app, &request, &body, &order).await {
        Ok(answer) if request.stream && answer.status == Some(StatusCode::OK) => Ok(streamed(answer)),
        Ok(answer) => whole(answer).await,
        Err(error) => Err(error),
    };
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    let sealed_by = HeaderValue::from_static(SealedBy::Coordinator.name());
    response.headers_mut().insert(HeaderName::from_static(names::SEALED_BY), sealed_by);
    Ok(response)
}

/// An answer whose head has been opened.
struct Answer {
    app: Arc<App>,
    provider: VerifiedProvider,
    opener: Option<ClientExchange>,
    exchange: Exchange,
    /// Opened and not handed on yet.
    ready: VecDeque<Vec<u8>>,
    /// Of the head, once it has been opened.
    status: Option<StatusCode>,
    /// Once it is over: the receipt, unless the provider refused the request.
    over: Option<Option<Box<LoggedReceipt>>>,
}

/// What comes next of an answer.
enum Piece {
    Chunk(Vec<u8>),
    /// The end, with the receipt unless the provider refused the request.
    End(Option<Box<LoggedReceipt>>),
}

impl Answer {
    /// Tries the providers of the model, least loaded first, until one begins to answer.
    async fn start(
        app: &Arc<App>,
        request: &ChatRequest,
        body: &[u8],
        order: &Order,
    ) -> Result<Self, ApiError> {
        app.registry.refresh().await;
        let serving = app.sessions.serving(&request.model, app.clock.now().seconds());
        let mut last = ApiError::ModelNotFound(request.model.clone());
        for (attempt, live) in (1..=ATTEMPTS).zip(serving) {
            let tried = async {
                let provider = verify(app, &live.admitted.attestation, &request.model)?;
                let ask = ClientRequest {
                    body: body.to_vec(),
                    sampling: Some(request.sampling.encode()),
                    sealed_by: SealedBy::Coordinator,
                    attempt,
                };
                let (sealed, opener) = seal(&provider, &ask, &glassbloom_service::random())
                    .map_err(|error| ApiError::BadRequest(error.to_string()))?;
                let (first, exchange) =
                    begin(app, live.admitted.attestation, order.clone(), sealed.into()).await?;
                let mut answer = Self {
                    app: Arc::clone(app),
                    provider,
                    opener: Some(opener),
                    exchange,
                    ready: VecDeque::new(),
                    status: None,
                    over: None,
                };
                answer.head(first).await?;
                Ok::<_, ApiError>(answer)
            };
            match tried.await {
                Err(error) if error.is_worth_another() => {
                    tracing::warn!(%error, attempt, "trying the next provider");
                    last = error;
                }
                other => return other,
            }
        }
        Err(last)
    }

    /// Opens bytes until the head is there.
    async fn head(&mut self, first: Event) -> Result<(), ApiError> {
        let mut event = first;
        loop {
            match event {
                Event::Ended(Ok(_)) => return Err(broken("it ended before it began")),
                Event::Ended(Err(error)) => return Err(error),
                Event::Sealed(bytes) => self.take(&bytes)?,
            }
            if self.status.is_some() {
                return Ok(());
            }
            event = self.exchange.next().await;
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        let opener = self.opener.as_mut().ok_or_else(|| broken("it goes on after its end"))?;
        for opened in opener.push(bytes).map_err(|error| broken(&error.to_string()))? {
            self.keep(opened)?;
        }
        Ok(())
    }

    fn keep(&mut self, opened: Opened) -> Result<(), ApiError> {
        match opened {
            Opened::Chunk(chunk) => self.ready.push_back(chunk),
            Opened::Head { status, .. } => {
                self.status = Some(StatusCode::from_u16(status).map_err(|_| broken("its status is none"))?);
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Piece, ApiError> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Piece::Chunk(chunk));
            }
            if let Some(receipt) = self.over.take() {
                return Ok(Piece::End(receipt));
            }
            match self.exchange.next().await {
                Event::Sealed(bytes) => self.take(&bytes)?,
                Event::Ended(Err(error)) if error.code() != REFUSED => {
                    self.app.metrics.request(error.code());
                    return Err(error);
                }
                // Whoever asks in plain text has no key to hold the log to its promise with.
                Event::Ended(Ok(Appended::Promise(_))) => {
                    let late = ApiError::LogLate("it only promised to publish it".to_owned());
                    self.app.metrics.request(late.code());
                    return Err(late);
                }
                Event::Ended(Ok(Appended::Proof(proof))) => self.over = Some(self.end(Some(proof))?),
                Event::Ended(Err(_)) => self.over = Some(self.end(None)?),
            }
        }
    }

    /// The end counts only with a receipt that is for this request and answer, and in the log.
    fn end(&mut self, proof: Option<Vec<u8>>) -> Result<Option<Box<LoggedReceipt>>, ApiError> {
        let opener = self.opener.take().ok_or_else(|| broken("it ended twice"))?;
        let (rest, ended) = opener.finish(&self.provider).map_err(|error| broken(&error.to_string()))?;
        for opened in rest {
            self.keep(opened)?;
        }
        self.app.metrics.request(if proof.is_some() { "ok" } else { REFUSED });
        match (ended, proof) {
            (Ended::Answered(receipt), Some(proof)) => {
                let logged = receipt.logged(self.app.registry.policy(), &proof);
                Ok(Some(Box::new(logged.map_err(|error| broken(&error.to_string()))?)))
            }
            (Ended::Refused, None) => Ok(None),
            (Ended::Answered(_), None) | (Ended::Refused, Some(_)) => {
                Err(broken("receipt and proof do not fit"))
            }
        }
    }
}

/// The same checks as a client's, with this coordinator's view of the registry.
fn verify(
    app: &App,
    attestation: &glassbloom_spec::hash::Hash,
    model: &str,
) -> Result<VerifiedProvider, ApiError> {
    let view = app.registry.view();
    let record = view.record(attestation, model).ok_or_else(|| ApiError::ModelNotFound(model.to_owned()))?;
    let statement = glassbloom_spec::statement::Statement::parse(&record.attestation.leaf)
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let revocation = match view.revoked(statement.key_id()) {
        Some(revocation) => RevocationState::Revoked { reason: revocation.reason.clone() },
        None => RevocationState::NotRevoked { as_of: view.size() },
    };
    let continuity = Continuity::Consistent { older: view.size() };
    let known = Known { now: app.clock.now(), continuity, revocation };
    let verified = app.registry.policy().verify(&record, model, &known, &mut Report::new());
    verified.map_err(|error| ApiError::Provider {
        code: "provider_not_verified".to_owned(),
        message: error.to_string(),
    })
}

/// Passes events on as they are opened; `[DONE]` only once the receipt is verified and logged.
fn streamed(mut answer: Answer) -> Response {
    let events = async_stream::stream! {
        let mut parser = SseParser::default();
        let mut last = Value::Null;
        loop {
            let error = match answer.next().await {
                Ok(Piece::Chunk(chunk)) => match parser.push(&chunk) {
                    Ok(events) => {
                        // Parsing drops the padding.
                        for event in events.into_iter().filter(|event| !event.is_done()) {
                            if let Ok(value) = serde_json::from_str(&event.data) {
                                last = value;
                            }
                            yield Ok::<_, Infallible>(format!("data: {}\n\n", event.data).into_bytes());
                        }
                        continue;
                    }
                    Err(error) => broken(&error.to_string()),
                },
                Ok(Piece::End(Some(receipt))) => {
                    let mut chunk = json!({
                        "id": last["id"], "object": "chat.completion.chunk", "created": last["created"],
                        "model": last["model"], "choices": [],
                    });
                    chunk["glassbloom"] = proof_object(&receipt);
                    yield Ok(sse_data(&chunk));
                    yield Ok(DONE.to_vec());
                    return;
                }
                Ok(Piece::End(None)) => broken("the provider refused in mid-stream"),
                Err(error) => error,
            };
            tracing::warn!(%error, "a plain answer was cut");
            yield Ok(sse_data(&error.body()));
            return;
        }
    };
    let headers = [(header::CONTENT_TYPE, sse::MEDIA_TYPE), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(events)).into_response()
}

/// Collects an answer and gives it out once the receipt is verified and logged.
async fn whole(mut answer: Answer) -> Result<Response, ApiError> {
    let status = answer.status.ok_or_else(|| broken("it has no head"))?;
    let mut body = Vec::new();
    let receipt = loop {
        match answer.next().await? {
            Piece::Chunk(chunk) => body.extend_from_slice(&chunk),
            Piece::End(receipt) => break receipt,
        }
        if body.len() > MAX_ANSWER {
            return Err(broken("it is too long"));
        }
    };
    let mut value: Value = serde_json::from_slice(&body).map_err(|_| broken("it is not JSON"))?;
    match &receipt {
        Some(receipt) => value["glassbloom"] = proof_object(receipt),
        // A refusal is an error in OpenAI's envelope, or it is nothing.
        None if openai::Error::from_response(status.as_u16(), &body).is_none() => {
            return Err(broken("the provider refused without saying why"));
        }
        None => {}
    }
    Ok((status, axum::Json(value)).into_response())
}

/// The receipt and its `tlog-proof`, with the same keys as the proxy's.
fn proof_object(logged: &LoggedReceipt) -> Value {
    let statement = logged.receipt().statement();
    json!({
        "receipt": statement.leaf_hash(),
        "statement": BASE64_STANDARD.encode(statement.bytes()),
        "log": logged.head().origin,
        "index": logged.index(),
        "proof": String::from_utf8_lossy(logged.proof()),
        "sealed_by": logged.receipt().receipt().sealed_by.name(),
    })
}

fn broken(why: &str) -> ApiError {
    ApiError::Provider {
        code: "answer_broken".to_owned(),
        message: format!("the provider's answer is broken: {why}"),
    }
}

/// Providers tried for one request.
const ATTEMPTS: u64 = 3;
/// Longest answer that is collected, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// The code with which a provider says that its sealed answer is a refusal.
const REFUSED: &str = "refused";
