//! The witness over HTTP: submission and monitoring endpoints.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use glassbloom_service::{Clock, Problem, Shutdown, durable};
use tokio::net::TcpListener;
use tower_http::cors::CorsLayer;

use super::{Config, Refusal, Store, StoreError, Witness, keys};

/// The largest request body in bytes. ML-DSA signature lines are 3.3 kB each and a proof has at most 63 lines, so
/// this leaves room for some thirty signatures.
pub const MAX_BODY: usize = 128 * 1024;

/// Why the witness did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder.
    #[error("data folder: {0}")]
    Io(#[from] std::io::Error),
    /// The key.
    #[error(transparent)]
    Key(#[from] keys::KeyError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Serves the witness until shutdown.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    durable::create_folder(&config.data)?;
    let signer = keys::load(&config.data)?;
    let store = Store::open(&keys::database(&config.data)).await?;
    keys::add_to(&store, signer.vkey(), &config.logs).await?;
    let origins = store.origins().await?;
    if origins.is_empty() {
        tracing::warn!("no log is followed yet: `glassbloom-auditor witness add-log --data DIR --vkey VKEY`");
    }
    tracing::info!(vkey = %signer.vkey(), logs = ?origins, "witness");
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let witness = Arc::new(Witness::new(signer, store.clone(), clock));
    axum::serve(listener, router(witness)).with_graceful_shutdown(shutdown.requested_owned()).await?;
    store.close().await;
    Ok(())
}

/// The routes: `POST /add-checkpoint`, `GET /<sha256 of origin>/checkpoint`, `GET /healthz`.
pub fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin}/checkpoint", get(checkpoint))
        .route("/healthz", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CorsLayer::permissive())
        .with_state(witness)
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Bytes) -> Result<Response, Refusal> {
    let cosignature = witness.add_checkpoint(&body).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], cosignature).into_response())
}

async fn checkpoint(
    State(witness): State<Arc<Witness>>,
    Path(origin): Path<String>,
) -> Result<Response, Response> {
    let not_found = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-checkpoint",
            "no checkpoint was cosigned for this origin hash",
        )
    };
    let origin_hash = origin.parse().map_err(|_| not_found().into_response())?;
    match witness.note(&origin_hash).await {
        Ok(Some(note)) => Ok((
            [
                (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            ],
            note,
        )
            .into_response()),
        Ok(None) => Err(not_found().into_response()),
        Err(error) => Err(Refusal::Store(error).into_response()),
    }
}

impl Refusal {
    /// The status that the specification gives this case.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Inconsistent(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Sign(_) | Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Signature(_) => StatusCode::FORBIDDEN,
            Self::UnknownOrigin(_) => StatusCode::NOT_FOUND,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "conflict",
            Self::Inconsistent(_) => "inconsistent",
            Self::Malformed(_) => "malformed",
            Self::Sign(_) => "clock",
            Self::Signature(_) => "signature",
            Self::Store(_) => "store",
            Self::UnknownOrigin(_) => "unknown-origin",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            // The one error body that the specification fixes: submitters read their next old size from it.
            Self::Conflict(size) => {
                (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n"))
                    .into_response()
            }
            other => Problem::new(other.status(), other.code(), other.to_string()).into_response(),
        }
    }
}
