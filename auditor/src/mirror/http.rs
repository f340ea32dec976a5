//! The mirror over HTTP: each copy as its log serves itself. `[c2sp.org/tlog-mirror]` `[c2sp.org/tlog-tiles]`

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use async_compression::tokio::bufread::GzipDecoder;
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, State},
    http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Version, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::TryStreamExt;
use glassbloom_service::{Problem, Shutdown};
use glassbloom_spec::{
    hash::Hash,
    tile::{TileLevel, TilePath},
    witness::{AddCheckpoint, MAX_PROOF_LINES},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpListener,
};
use tokio_util::io::StreamReader;
use tower_http::{
    compression::CompressionLayer,
    cors::{Any, CorsLayer},
    set_header::SetResponseHeaderLayer,
};

use super::{
    Copy, Mirror, SyncError,
    submit::{Header, Info, Package, UploadError},
};
use crate::witness::{MAX_BODY, Refusal};

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
    let read: &[Arc<Copy>] = if mirror.submissions { &[] } else { mirror.copies() };
    let followers: Vec<_> =
        read.iter().map(|copy| tokio::spawn(follow(Arc::clone(copy), interval, shutdown.clone()))).collect();
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

/// `GET /<prefix>/checkpoint`, `/<prefix>/tile/…`, `/healthz`, and where uploads are taken `POST /add-checkpoint`,
/// `/add-entries`.
pub fn router(mirror: &Mirror) -> Router {
    let cors =
        CorsLayer::new().allow_origin(Any).allow_methods([Method::GET, Method::HEAD]).allow_headers(Any);
    let compressible = |_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions| {
        extensions.get::<Compressible>().is_some()
    };
    let mut router = Router::new();
    if mirror.submissions {
        let by_origin = mirror.copies().iter().map(|copy| (copy.origin().to_owned(), Arc::clone(copy)));
        let accepts_gzip =
            SetResponseHeaderLayer::if_not_present(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let submissions = Router::new()
            .route("/add-checkpoint", post(add_checkpoint).layer(DefaultBodyLimit::max(MAX_BODY)))
            .route("/add-entries", post(add_entries).layer(accepts_gzip))
            .with_state(Arc::new(by_origin.collect::<Origins>()));
        router = router.merge(submissions);
    }
    router
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

type Origins = HashMap<String, Arc<Copy>>;

async fn add_checkpoint(State(origins): State<Arc<Origins>>, body: Bytes) -> Result<(), Response> {
    let request = AddCheckpoint::parse(&body).map_err(|error| Refusal::from(error).into_response())?;
    let Some(copy) = origins.get(&request.head.origin) else {
        return Err(Refusal::UnknownOrigin(request.head.origin).into_response());
    };
    copy.add_checkpoint(request).await.map_err(refused)
}

async fn add_entries(
    State(origins): State<Arc<Origins>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let value = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if value(header::CONTENT_TYPE) != Some("application/octet-stream") {
        return Err(malformed("the content type of entries is application/octet-stream"));
    }
    let Some(mut reader) = Reader::new(body, value(header::CONTENT_ENCODING)) else {
        let detail = "entries may be sent as they are, or gzip";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", detail).into_response());
    };
    let Some((origin, header)) = reader.header().await.filter(|(_, header)| header.start <= header.end)
    else {
        return Err(malformed("the body must begin with origin, start, end and ticket"));
    };
    let Some(copy) = origins.get(&origin) else { return Err(Refusal::UnknownOrigin(origin).into_response()) };
    copy.begin(&header).await.map_err(refused)?;
    let mut at = header.start;
    while at < header.end {
        let stop = header.end.min((at / 256 + 1) * 256);
        let Some(package) = reader.package(at, stop).await else { break };
        copy.add_package(header.end, &package).await.map_err(refused)?;
        at = stop;
    }
    if at < header.end && at == header.start {
        return Err(malformed("the body has no whole package of entries"));
    }
    if at < header.end {
        let info = copy.progress(header.end).await.map_err(refused)?;
        return Ok(mirror_info(StatusCode::ACCEPTED, info));
    }
    if reader.take(1).await.is_some() {
        return Err(malformed("the body goes on after the last package"));
    }
    let lines = copy.finish(header.end).await.map_err(refused)?;
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, lines).into_response())
}

fn malformed(detail: &str) -> Response {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", detail).into_response()
}

/// Where to go on, in the format that clients read. The ticket is empty: the mirror remembers by itself.
fn mirror_info(status: StatusCode, info: Info) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/x.tlog.mirror-info"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{}\n{}\n{}\n", info.size, info.next, BASE64_STANDARD.encode("")))
        .into_response()
}

fn refused(error: UploadError) -> Response {
    match error {
        UploadError::Conflict(info) => mirror_info(StatusCode::CONFLICT, info),
        UploadError::Mirror(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "mirror", error.to_string()).into_response()
        }
        UploadError::Refused(refusal) => refusal.into_response(),
        UploadError::Unproven(detail) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unproven", detail).into_response()
        }
    }
}

/// Reads an upload piece by piece: at most one package is in memory.
struct Reader(Box<dyn AsyncRead + Send + Unpin>);

impl Reader {
    /// `None` with an encoding that is not known here.
    fn new(body: Body, encoding: Option<&str>) -> Option<Self> {
        let plain = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
        match encoding {
            None | Some("identity") => Some(Self(Box::new(plain))),
            Some("gzip") => Some(Self(Box::new(GzipDecoder::new(plain)))),
            Some(_) => None,
        }
    }

    /// The next bytes; `None` when the body ends or breaks off before.
    async fn take(&mut self, count: usize) -> Option<Bytes> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).await.ok()?;
        Some(bytes.into())
    }

    async fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes).await?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Origin, start, end and ticket, which is ignored.
    async fn header(&mut self) -> Option<(String, Header)> {
        let length = self.number(2).await? as usize;
        let origin = String::from_utf8(self.take(length).await?.to_vec()).ok()?;
        let header = Header { start: self.number(8).await?, end: self.number(8).await? };
        let ticket = self.number(2).await? as usize;
        self.take(ticket).await?;
        Some((origin, header))
    }

    async fn package(&mut self, start: u64, stop: u64) -> Option<Package> {
        let mut entries = Vec::new();
        for _ in start..stop {
            let length = self.number(2).await? as usize;
            entries.push(self.take(length).await?);
        }
        let count = self.number(1).await? as usize;
        if count > MAX_PROOF_LINES {
            return None;
        }
        let hashes = self.take(count * Hash::LEN).await?;
        let (hashes, _) = hashes.as_chunks::<{ Hash::LEN }>();
        Some(Package { start, entries, proof: hashes.iter().copied().map(Hash::from_bytes).collect() })
    }
}
