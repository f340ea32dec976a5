//! The witness over HTTP: submission and monitoring endpoints.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use glassbloom_service::{Clock, Problem, Shutdown, durable};
use glassbloom_spec::hash::Hash;
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
///
/// # Errors
/// When the folder, the keys or the database are not usable, and when a write failed: then nothing more is cosigned
/// until the database is opened anew.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    durable::create_folder(&config.data)?;
    let signers = keys::load(&config.data)?;
    let store = Store::open(&keys::database(&config.data)).await?;
    keys::add_to(&store, signers[0].vkey().name(), &config.logs).await?;
    let count = store.count().await?;
    if count == 0 {
        tracing::warn!("no log is followed yet: `glassbloom-auditor witness add-log --data DIR --vkey VKEY`");
    }
    for signer in &signers {
        tracing::info!(vkey = %signer.vkey(), logs = count, "witness");
    }
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let (witness, mut writer) = Witness::start(signers, store.clone(), config.rate, clock).await?;
    let witness = Arc::new(witness.keeping_evidence(config.data));
    let halted = Shutdown::new();
    let stopping = {
        let halted = halted.clone();
        async move {
            tokio::select! {
                () = shutdown.requested() => {}
                () = halted.requested() => {}
            }
        }
    };
    let server = axum::serve(listener, router(Arc::clone(&witness))).with_graceful_shutdown(stopping);
    let mut server = core::pin::pin!(server.into_future());
    let written = tokio::select! {
        served = &mut server => {
            served?;
            witness.stop();
            (&mut writer).await
        }
        // Before the server only when a write failed.
        written = &mut writer => {
            halted.trigger();
            server.await?;
            written
        }
    };
    store.close().await;
    Ok(written.map_err(std::io::Error::other)??)
}

/// The routes: `POST /add-checkpoint`, `POST /sign-subtree` where there is a key for it,
/// `GET /<sha256 of origin>/checkpoint`, `GET /healthz`.
pub fn router(witness: Arc<Witness>) -> Router {
    let mut router = Router::new().route("/add-checkpoint", post(add_checkpoint));
    if witness.signs_subtrees() {
        router = router.route("/sign-subtree", post(sign_subtree));
    }
    router
        .route("/{origin}/checkpoint", get(checkpoint))
        .route("/healthz", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CorsLayer::permissive())
        .with_state(witness)
}

type Body = Result<Bytes, BytesRejection>;

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Body) -> Result<Response, Response> {
    let body = body.map_err(not_read)?;
    Ok(signatures(witness.add_checkpoint(&body).await.map_err(Refusal::into_response)?))
}

async fn sign_subtree(State(witness): State<Arc<Witness>>, body: Body) -> Result<Response, Response> {
    let body = body.map_err(not_read)?;
    Ok(signatures(witness.sign_subtree(&body).await.map_err(Refusal::into_response)?))
}

fn signatures(lines: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], lines)
        .into_response()
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn not_read(rejection: BytesRejection) -> Response {
    let detail = match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => format!("a request has at most {MAX_BODY} bytes"),
        _ => "the body did not arrive whole".to_owned(),
    };
    Problem::new(rejection.status(), "body", detail).into_response()
}

async fn checkpoint(
    State(witness): State<Arc<Witness>>,
    Path(origin): Path<String>,
) -> Result<Response, Response> {
    let not_found = || {
        let detail =
            "no checkpoint was cosigned for this origin hash (lowercase hexadecimal SHA-256 of the origin)";
        Problem::new(StatusCode::NOT_FOUND, "no-checkpoint", detail).into_response()
    };
    let origin_hash: Hash = origin.parse().map_err(|_| not_found())?;
    match witness.note(&origin_hash).await {
        Ok(Some(note)) => Ok((
            [
                (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            ],
            note,
        )
            .into_response()),
        Ok(None) => Err(not_found()),
        Err(error) => Err(Refusal::Store(error).into_response()),
    }
}

impl Refusal {
    /// The status that the specification gives this case.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Clock(_) | Self::Sign(_) | Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Inconsistent(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Malformed(_) | Self::TooLarge => StatusCode::BAD_REQUEST,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Signature(_) => StatusCode::FORBIDDEN,
            Self::UnknownOrigin(_) => StatusCode::NOT_FOUND,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Clock(_) | Self::Sign(_) => "clock",
            Self::Conflict(_) => "conflict",
            Self::Inconsistent(_) => "inconsistent",
            Self::Malformed(_) | Self::TooLarge => "malformed",
            Self::RateLimited(_) => "rate-limited",
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
                let headers =
                    [(header::CONTENT_TYPE, "text/x.tlog.size"), (header::CACHE_CONTROL, "no-store")];
                (StatusCode::CONFLICT, headers, format!("{size}\n")).into_response()
            }
            other => {
                let mut response =
                    Problem::new(other.status(), other.code(), other.to_string()).into_response();
                if let Self::RateLimited(wait) = other {
                    // Whole seconds, rounded up: sooner would be refused again.
                    let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
                    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                }
                response
            }
        }
    }
}
