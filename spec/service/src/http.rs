//! Outgoing HTTP with limits: no redirects, a connect time-out, bodies no larger than the caller allows.

use std::{sync::Once, time::Duration};

use futures_util::StreamExt;

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The body is longer than the caller allows.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The limit that was passed, in bytes.
        limit: usize,
    },
    /// The connection failed while reading.
    #[error(transparent)]
    Transport(#[from] reqwest::Error),
}

/// A client that follows no redirects and ignores proxies of the environment: an address is what it says.
///
/// # Panics
/// When the TLS library cannot start.
pub fn http_client() -> reqwest::Client {
    install_tls();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .build()
        .expect("the TLS provider is installed above")
}

/// Makes ring the cryptography of every TLS connection of this process. [`http_client`] does so by itself; a library
/// that makes its own connections needs it to be done before.
pub fn install_tls() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only when a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Reads a whole body of at most `limit` bytes.
pub async fn read_bounded(response: reqwest::Response, limit: usize) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        if body.len() + piece.len() > limit {
            return Err(ReadError::TooLarge { limit });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
