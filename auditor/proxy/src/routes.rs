//! The OpenAI-compatible surface that applications on this device see.

use std::{convert::Infallible, sync::Arc};

use async_stream::stream;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Request, State as Shared},
    http::{HeaderValue, StatusCode, header},
    middleware::{Next as Layer, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use glassbloom_service::random;
use glassbloom_spec::openai::{ChatRequest, DONE, Error as ApiError, MAX_BODY, SseParser, sse, sse_data};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::{
    exchange::{End, ExchangeError, Exchanges, Kept, Next, Started},
    upstream::UpstreamError,
};

/// What handlers share.
pub struct Server {
    /// Answers requests.
    pub exchanges: Exchanges,
    /// What applications must present.
    pub api_key: String,
}

/// Header that names the receipt of an answer that is not streamed.
const RECEIPT_HEADER: &str = "glassbloom-receipt";

/// Every route. Those before the `route_layer` need the key; `/healthz` is public.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route_layer(from_fn_with_state(Arc::clone(&server), needs_key))
        .route("/healthz", get(|| async { "ok\n" }))
        .method_not_allowed_fallback(|request: Request| async move {
            refuse(&ApiError::method_not_allowed(request.method().as_str(), request.uri().path()))
        })
        .fallback(|request: Request| async move {
            refuse(&ApiError::unknown_url(request.method().as_str(), request.uri().path()))
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(server)
}

async fn needs_key(Shared(server): Shared<Arc<Server>>, request: Request, next: Layer) -> Response {
    let presented = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let matches = bool::from(presented.as_bytes().ct_eq(server.api_key.as_bytes()));
    let mut response = match matches {
        true => next.run(request).await,
        false => refuse(&ApiError::unauthorized(
            "The API key is missing or wrong: set OPENAI_API_KEY to the key that `cargo up` or your coordinator gave you, or start the program with `glassbloom run -- PROGRAM`.",
        )),
    };
    let id = format!("req-{}", u128::from_be_bytes(random()));
    response
        .headers_mut()
        .insert("x-request-id", HeaderValue::from_str(&id).expect("digits are a header value"));
    response
}

async fn models(Shared(server): Shared<Arc<Server>>) -> Response {
    match server.exchanges.upstream.models().await {
        Ok(models) => json_response(StatusCode::OK, &models),
        Err(error) => refuse(&(&ExchangeError::from(error)).into()),
    }
}

async fn model(Shared(server): Shared<Arc<Server>>, Path(id): Path<String>) -> Response {
    match server.exchanges.upstream.models().await {
        Ok(models) => {
            match models["data"].as_array().into_iter().flatten().find(|model| model["id"] == id.as_str()) {
                Some(model) => json_response(StatusCode::OK, model),
                None => refuse(&ApiError::model_not_found(&id)),
            }
        }
        Err(error) => refuse(&(&ExchangeError::from(error)).into()),
    }
}

async fn chat(Shared(server): Shared<Arc<Server>>, body: Bytes) -> Response {
    let request = match ChatRequest::parse(&body) {
        Ok(request) => request,
        Err(error) => return refuse(&error),
    };
    let started = match server.exchanges.start(&request, &body).await {
        Ok(started) => started,
        Err(ExchangeError::Trust(crate::trust::TrustError::Upstream(UpstreamError::Refused {
            status: 404,
            ..
        }))) => {
            return refuse(&ApiError::model_not_found(&request.model));
        }
        Err(error) => {
            tracing::error!(%error, "request refused");
            return refuse(&(&error).into());
        }
    };
    if request.stream && started.status == 200 { streamed(started) } else { whole(started).await }
}

/// Passes events on as they are opened; the end only once the receipt is verified and logged.
fn streamed(mut started: Started) -> Response {
    let events = stream! {
        let mut parser = SseParser::default();
        let mut last = Value::Null;
        loop {
            match started.next().await {
                Ok(Next::Chunk(chunk)) => {
                    let Ok(events) = parser.push(&chunk) else {
                        yield Ok(sse::sse_error(&ApiError::upstream("answer_broken", "The provider's stream is malformed.")));
                        return;
                    };
                    // Parsing drops the padding; `[DONE]` waits for the receipt.
                    for event in events.into_iter().filter(|event| !event.is_done()) {
                        if let Ok(value) = serde_json::from_str::<Value>(&event.data) {
                            last = value;
                        }
                        yield Ok::<_, Infallible>(format!("data: {}\n\n", event.data).into_bytes());
                    }
                }
                Ok(Next::End(end)) => {
                    let End::Answered(kept) = end else {
                        yield Ok(sse::sse_error(&ApiError::upstream("refused", "The provider refused in mid-stream.")));
                        return;
                    };
                    let mut chunk = json!({"id": last["id"], "object": "chat.completion.chunk", "created": last["created"], "model": last["model"], "choices": []});
                    chunk["glassbloom"] = proof_object(&kept);
                    yield Ok(sse_data(&chunk));
                    yield Ok(DONE.to_vec());
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "answer refused");
                    yield Ok(sse::sse_error(&(&error).into()));
                    return;
                }
            }
        }
    };
    let headers = [(header::CONTENT_TYPE, sse::MEDIA_TYPE), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(events)).into_response()
}

/// Collects an answer and gives it out once the receipt is verified and logged.
async fn whole(mut started: Started) -> Response {
    let mut body = Vec::new();
    let end = loop {
        match started.next().await {
            Ok(Next::Chunk(chunk)) => body.extend_from_slice(&chunk),
            Ok(Next::End(end)) => break end,
            Err(error) => {
                tracing::error!(%error, "answer refused");
                return refuse(&(&error).into());
            }
        }
    };
    let status = StatusCode::from_u16(started.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
        return refuse(&ApiError::upstream("answer_broken", "The provider's answer is not JSON."));
    };
    let End::Answered(kept) = end else { return json_response(status, &answer) };
    answer["glassbloom"] = proof_object(&kept);
    let mut response = json_response(status, &answer);
    let id = kept.logged.receipt().statement().leaf_hash().to_string();
    response
        .headers_mut()
        .insert(RECEIPT_HEADER, HeaderValue::from_str(&id).expect("hexadecimal is a header value"));
    response
}

/// The receipt, its `tlog-proof` and the steps that were verified.
fn proof_object(kept: &Kept) -> Value {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let statement = kept.logged.receipt().statement();
    json!({
        "receipt": statement.leaf_hash(),
        "statement": BASE64_STANDARD.encode(statement.bytes()),
        "log": kept.logged.head().origin,
        "index": kept.logged.index(),
        "proof": String::from_utf8_lossy(kept.logged.proof()),
        "sealed_by": kept.logged.receipt().receipt().sealed_by.name(),
        "steps": kept.report,
    })
}

fn refuse(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_response(status, &error.to_value())
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
