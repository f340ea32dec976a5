//! The endorser over HTTP. See `spec/api.md`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use glassbloom_service::{Clock, Problem, Shutdown};
use glassbloom_spec::evidence::exchange::path;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpListener;

use super::{Config, Endorser, Refusal, keys};

/// The largest request body in bytes: six certificates of 16 KiB, in base64.
pub const MAX_BODY: usize = 192 * 1024;

/// Why the endorser did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The keys.
    #[error(transparent)]
    Key(#[from] keys::KeyError),
}

/// Serves the endorser until shutdown.
///
/// # Errors
/// When the keys are not usable, or the socket fails.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let keys = keys::load(&config.data)?;
    if config.anchors.is_empty() {
        tracing::warn!("the policy names no maker of TPMs, so none is vouched for: it takes lines `anchor`");
    }
    for anchor in &config.anchors {
        tracing::info!(tier = %anchor.tier, key = %anchor.key, name = anchor.name, "vouching for TPMs of");
    }
    let endorser = Arc::new(Endorser::new(keys, config.anchors, config.rate, clock));
    tracing::info!(key = %endorser.public_key(), "endorser");
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let stopping = async move { shutdown.requested().await };
    Ok(axum::serve(listener, router(endorser)).with_graceful_shutdown(stopping).await?)
}

/// The routes, all `POST` but `GET /healthz`.
pub fn router(endorser: Arc<Endorser>) -> Router {
    Router::new()
        .route(path::TPM_CHALLENGE, post(challenge))
        .route(path::TPM_ANSWER, post(answer))
        .route(path::MDA, post(mda))
        .route("/healthz", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(endorser)
}

type Body = Result<Bytes, BytesRejection>;

async fn challenge(State(endorser): State<Arc<Endorser>>, body: Body) -> Response {
    respond(body, |activation| endorser.challenge(activation))
}

async fn answer(State(endorser): State<Arc<Endorser>>, body: Body) -> Response {
    respond(body, |answer| endorser.answer(&answer))
}

async fn mda(State(endorser): State<Arc<Endorser>>, body: Body) -> Response {
    respond(body, |mda| endorser.mda(mda))
}

fn respond<Request: DeserializeOwned, Answer: Serialize>(
    body: Body,
    act: impl FnOnce(Request) -> Result<Answer, Refusal>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let detail = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => format!("a request has at most {MAX_BODY} bytes"),
                _ => "the body did not arrive whole".to_owned(),
            };
            return Problem::new(rejection.status(), "body", detail).into_response();
        }
    };
    let request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let detail = format!("not the JSON of this request: {error}");
            return Problem::new(StatusCode::BAD_REQUEST, "malformed", detail).into_response();
        }
    };
    match act(request) {
        Ok(answer) => ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

impl Refusal {
    /// Status and code of this case.
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Evidence(refused) => (StatusCode::UNPROCESSABLE_ENTITY, refused.reason),
            Self::Expired => (StatusCode::GONE, "expired"),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate-limited"),
            Self::Sign(_) => (StatusCode::INTERNAL_SERVER_ERROR, "signing"),
            Self::Unknown => (StatusCode::NOT_FOUND, "unknown-exchange"),
            Self::WrongSecret => (StatusCode::FORBIDDEN, "wrong-secret"),
        }
    }

    const fn wait(&self) -> Option<Duration> {
        match self {
            Self::Busy(wait) | Self::RateLimited(wait) => Some(*wait),
            _ => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let mut response = Problem::new(status, code, self.to_string()).into_response();
        if let Some(wait) = self.wait() {
            // Whole seconds, rounded up: sooner would be refused again.
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
