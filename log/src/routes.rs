//! The HTTP interface: tiles for everybody, appending for the bearer of the token. `[c2sp.org/tlog-tiles]`

use std::{fmt::Write, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use glassbloom_service::Problem;
use glassbloom_spec::{
    api::{Appended, PromisedEntry},
    hash::Hash,
    tile::{MAX_ENTRY, TilePath},
};
use serde_json::json;
use tower_http::{
    CompressionLevel,
    compression::CompressionLayer,
    cors::{Any, CorsLayer},
};

use crate::{Log, error::Error, metrics::sample};

/// What the handlers need.
pub struct Service {
    /// The logs with the path segment each is served under.
    pub logs: Vec<(String, Log)>,
    /// Writers must send the token with this SHA-256.
    pub token: Hash,
    /// The policy, as text.
    pub policy: String,
    /// How long `append` waits for a published checkpoint.
    pub append_timeout: Duration,
    /// When `/healthz` calls a checkpoint too old.
    pub max_age: Duration,
}

struct One {
    log: Log,
    service: Arc<Service>,
}

/// `/LOG/checkpoint`, `/LOG/tile/…`, `/LOG/add`, `/LOG/append` for each log, and what concerns all.
pub fn router(service: Service) -> Router {
    let service = Arc::new(service);
    let mut router = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/policy", get(policy))
        .with_state(Arc::clone(&service));
    for (segment, log) in &service.logs {
        let one = Arc::new(One { log: log.clone(), service: Arc::clone(&service) });
        router = router.nest(&format!("/{segment}"), log_router(one));
    }
    let cors =
        CorsLayer::new().allow_origin(Any).allow_methods([Method::GET, Method::HEAD]).allow_headers(Any);
    router.fallback(nothing_here).layer(map_response(errors_are_not_kept)).layer(cors)
}

fn log_router(one: Arc<One>) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*rest}", get(tile))
        // Entries are often text; hashes do not compress. What takes longer saves little more.
        .route(
            "/tile/entries/{*rest}",
            get(bundle).layer(CompressionLayer::new().quality(CompressionLevel::Fastest)),
        )
        .route("/add", post(add))
        .route("/append", post(append))
        .with_state(one)
}

async fn nothing_here() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "nothing is served here; a log has checkpoint and tile/ below its prefix",
    )
}

/// A cache that keeps a 404 hides a tile that exists a moment later.
async fn errors_are_not_kept(mut response: Response) -> Response {
    if response.status().is_client_error() || response.status().is_server_error() {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.remove(header::ETAG);
    }
    response
}

async fn checkpoint(State(one): State<Arc<One>>) -> Result<Response, Problem> {
    let published = one.log.published().ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-checkpoint",
            "no checkpoint with enough cosignatures was published yet; are the witnesses of the policy running?",
        )
    })?;
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, published.note.clone()).into_response())
}

async fn tile(state: State<Arc<One>>, Path(rest): Path<String>) -> Result<Response, Problem> {
    read(state, &format!("tile/{rest}")).await
}

async fn bundle(state: State<Arc<One>>, Path(rest): Path<String>) -> Result<Response, Problem> {
    read(state, &format!("tile/entries/{rest}")).await
}

async fn read(State(one): State<Arc<One>>, path: &str) -> Result<Response, Problem> {
    let path: TilePath = path.parse().map_err(|e: glassbloom_spec::tile::TileError| {
        Problem::new(StatusCode::NOT_FOUND, "not-a-tile", e.to_string())
    })?;
    let bytes = one.log.reader().get(path).await.map_err(|e| Problem::from(Error::from(e)))?;
    let bytes = bytes.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-such-tile",
            format!("the log has no {path}; see its checkpoint"),
        )
    })?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "public, max-age=604800, immutable"),
    ];
    Ok((headers, bytes).into_response())
}

async fn add(State(one): State<Arc<One>>, request: Request) -> Result<Response, Problem> {
    let entry = authorised_entry(&one, request).await?;
    let index = one.log.add(entry).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], index.to_string()).into_response())
}

async fn append(State(one): State<Arc<One>>, request: Request) -> Result<Response, Problem> {
    let entry = authorised_entry(&one, request).await?;
    let not_kept = [(header::CACHE_CONTROL, "no-store")];
    match one.log.append(entry, one.service.append_timeout).await {
        Ok(proof) => {
            let appended = Appended { index: proof.index, proof: proof.to_string() };
            Ok((not_kept, axum::Json(appended)).into_response())
        }
        Err(Error::Late { index, promise, .. }) => {
            let promise = String::from_utf8(promise.encode()).expect("a note is text");
            let promised = PromisedEntry { index, promise };
            Ok((StatusCode::ACCEPTED, not_kept, axum::Json(promised)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// The body, if the bearer of the token sent it.
async fn authorised_entry(one: &One, request: Request) -> Result<Bytes, Problem> {
    if !is_authorised(request.headers(), one.service.token) {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "wrong-token",
            "writing needs the header `Authorization: Bearer TOKEN` with the token of this log",
        ));
    }
    let (parts, body): (_, Body) = request.into_parts();
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let too_long = |length| Problem::from(Error::EntryTooLong { length });
    if let Some(length) = announced.filter(|length| *length > MAX_ENTRY) {
        return Err(too_long(length));
    }
    let body = to_bytes(body, MAX_ENTRY).await.map_err(|error| {
        // The limit is the only error of ours in there; all others are the connection's.
        match std::error::Error::source(&error) {
            Some(source) if source.to_string().contains("limit") => too_long(MAX_ENTRY + 1),
            _ => Problem::new(StatusCode::BAD_REQUEST, "body-cut", "the entry did not arrive whole"),
        }
    })?;
    // A copy of its own size: the original holds on to the connection's buffer.
    Ok(Bytes::copy_from_slice(&body))
}

/// Compares hashes of the tokens: how long that takes tells nothing about the token itself.
fn is_authorised(headers: &HeaderMap, token: Hash) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    given.is_some_and(|(_, given)| Hash::of(given.trim().as_bytes()) == token)
}

async fn healthz(State(service): State<Arc<Service>>) -> Response {
    let mut healthy = true;
    let logs: Vec<_> = service
        .logs
        .iter()
        .map(|(_, log)| {
            let fresh = log.is_fresh(service.max_age);
            healthy &= fresh;
            json!({
                "origin": log.origin(),
                "size": log.size(),
                "published": log.published().map(|published| published.head.size),
                "fresh": fresh,
            })
        })
        .collect();
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], axum::Json(json!({ "healthy": healthy, "logs": logs })))
        .into_response()
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let mut text = String::new();
    for (_, log) in &service.logs {
        log.metrics().render(log.origin(), &mut text);
        let labels = [("log", log.origin())];
        sample(&mut text, "size", &labels, log.size().get());
        if let Some(published) = log.published() {
            sample(&mut text, "published_size", &labels, published.head.size.get());
            sample(&mut text, "published_cosigned_at_seconds", &labels, published.cosigned_at.get());
        }
    }
    writeln!(text, "glassbloom_log_up 1").expect("a string takes all that is written");
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4"), (header::CACHE_CONTROL, "no-store")], text)
        .into_response()
}

async fn policy(State(service): State<Arc<Service>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (headers, service.policy.clone()).into_response()
}
