//! The mirror over HTTP: each copy as its log serves itself. `[c2sp.org/tlog-mirror]` `[c2sp.org/tlog-tiles]`

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    http::{Extensions, HeaderMap, Method, StatusCode, Version, header},
    response::{IntoResponse, Response},
    routing::get,
};
use glassbloom_service::{Problem, Shutdown};
use glassbloom_spec::tile::{TileLevel, TilePath};
use tokio::net::TcpListener;
use tower_http::{
    compression::CompressionLayer,
    cors::{Any, CorsLayer},
};

use super::{Copy, Mirror, SyncError};

type Prefixes = BTreeMap<String, Arc<Copy>>;

/// Follows the logs and serves their copies until shutdown. A log that forked is not followed any further; its copy is
/// served all the same.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    mirror: Mirror,
    listener: TcpListener,
    interval: Duration,
    shutdown: Shutdown,
) -> io::Result<()> {
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let followers: Vec<_> = mirror
        .copies()
        .iter()
        .map(|copy| tokio::spawn(follow(Arc::clone(copy), interval, shutdown.clone())))
        .collect();
    axum::serve(listener, router(&mirror)).with_graceful_shutdown(shutdown.requested_owned()).await?;
    for follower in followers {
        follower.await.map_err(io::Error::other)?;
    }
    Ok(())
}

async fn follow(copy: Arc<Copy>, interval: Duration, shutdown: Shutdown) {
    loop {
        // Interrupted anywhere, it goes on from what is on disk.
        let Some(synced) = shutdown.unless_requested(copy.sync()).await else { return };
        match synced {
            Ok(_) => {}
            Err(error @ SyncError::Fork { .. }) => {
                tracing::error!(origin = copy.origin(), "not followed any further: {error}");
                return;
            }
            Err(error) => tracing::warn!(origin = copy.origin(), "{error}"),
        }
        if shutdown.unless_requested(tokio::time::sleep(interval)).await.is_none() {
            return;
        }
    }
}

/// Marks answers that are worth compressing: entries are often text, hashes never are.
#[derive(Clone, Copy)]
struct Compressible;

/// `GET /<prefix>/checkpoint`, `/<prefix>/tile/…`, `/healthz`.
pub fn router(mirror: &Mirror) -> Router {
    let cors =
        CorsLayer::new().allow_origin(Any).allow_methods([Method::GET, Method::HEAD]).allow_headers(Any);
    let compressible = |_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions| {
        extensions.get::<Compressible>().is_some()
    };
    Router::new()
        .route("/healthz", get(healthz))
        .route("/{*path}", get(object))
        .with_state(Arc::new(mirror.prefixes()))
        .layer(CompressionLayer::new().compress_when(compressible))
        .layer(cors)
}

async fn healthz(State(prefixes): State<Arc<Prefixes>>) -> Response {
    let trouble: BTreeMap<&str, String> =
        prefixes.values().filter_map(|copy| Some((copy.origin(), copy.trouble()?))).collect();
    if trouble.is_empty() {
        return "ok\n".into_response();
    }
    let detail: Vec<String> =
        trouble.iter().map(|(origin, trouble)| format!("{origin}: {trouble}")).collect();
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-current", detail.join("; ")).into_response()
}

async fn object(
    State(prefixes): State<Arc<Prefixes>>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let disk = |error: io::Error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "disk", format!("the mirror's folder: {error}"))
    };
    if let Some(copy) = path.strip_suffix("/checkpoint").and_then(|prefix| prefixes.get(prefix)) {
        let note = copy.checkpoint().await.map_err(disk)?.ok_or_else(nothing_here)?;
        let headers =
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
        return Ok((headers, note).into_response());
    }
    let (prefix, rest) = path.split_once("/tile/").ok_or_else(nothing_here)?;
    let copy = prefixes.get(prefix).ok_or_else(nothing_here)?;
    let path: TilePath = format!("tile/{rest}").parse().map_err(|_| nothing_here())?;
    let bytes = copy.tile(path).await.map_err(disk)?.ok_or_else(nothing_here)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "public, max-age=604800, immutable"),
    ];
    let mut response = (headers, bytes).into_response();
    if path.level() == TileLevel::Entries {
        response.extensions_mut().insert(Compressible);
    }
    Ok(response)
}

fn nothing_here() -> Problem {
    let detail =
        "not in this mirror: a log is at /<lowercase hex SHA-256 of its origin>/checkpoint and /tile/";
    Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
}
