//! How requests reach a witness. Apart from the client, so that a test can put a model of a witness in its place.

use async_trait::async_trait;
use axum::http::StatusCode;
use glassbloom_service::{http_client, read_bounded};
use glassbloom_spec::hash::Hash;

/// The reply of an honest witness is a few lines; a note with many cosignatures is some tens of kilobytes.
const MAX_REPLY: usize = 128 * 1024;

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Carries requests to witnesses. The caller sets the time limits, checks every answer, and may drop a call at any
/// time. An error is for people to read: the witness could not be reached, or the answer could not be received.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// `POST PREFIX/add-checkpoint`. `[c2sp.org/tlog-witness]`
    async fn add_checkpoint(&self, prefix: &str, body: Vec<u8>) -> Result<Reply, String>;

    /// `GET PREFIX/<lowercase hex of the origin's SHA-256>/checkpoint`: the newest note of this log that the witness
    /// cosigned; `None` when it says that there is none. `[c2sp.org/tlog-witness, monitoring]`
    async fn checkpoint(&self, prefix: &str, origin: &str) -> Result<Option<Vec<u8>>, String>;
}

/// Witnesses over HTTP.
#[derive(Clone, Debug)]
pub struct HttpTransport(reqwest::Client);

impl HttpTransport {
    /// A transport with connections of its own.
    ///
    /// # Panics
    /// When the TLS library cannot start.
    pub fn new() -> Self {
        Self(http_client())
    }
}

impl Default for HttpTransport {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn add_checkpoint(&self, prefix: &str, body: Vec<u8>) -> Result<Reply, String> {
        let url = format!("{}/add-checkpoint", prefix.trim_end_matches('/'));
        receive(self.0.post(url).body(body)).await
    }

    async fn checkpoint(&self, prefix: &str, origin: &str) -> Result<Option<Vec<u8>>, String> {
        let url = format!("{}/{}/checkpoint", prefix.trim_end_matches('/'), Hash::of(origin.as_bytes()));
        let reply = receive(self.0.get(url)).await?;
        match reply.status {
            StatusCode::OK => Ok(Some(reply.body)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(format!("its read API answered {status}")),
        }
    }
}

async fn receive(request: reqwest::RequestBuilder) -> Result<Reply, String> {
    let response = request.send().await.map_err(|e| describe(&e))?;
    let status = response.status();
    let body = read_bounded(response, MAX_REPLY).await.map_err(|e| e.to_string())?;
    Ok(Reply { status, body })
}

/// What went wrong, without the address that the caller names anyway.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    // The outer message only repeats the address; the cause says "connection refused".
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
