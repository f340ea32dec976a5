//! Sealing: what a user's request and a provider's answer look like on the wire.
//!
//! Binary HTTP ([`bhttp`]) inside chunked Oblivious HTTP ([`ohttp`]) over HPKE ([`hpke`]). The coordinator relays
//! the sealed bytes and learns their sizes; [`Padding`] coarsens those. [`seal_request`] and [`open_request`] put
//! the layers together for a request, which is small and whole; [`ResponseWriter`] and [`ResponseReader`] for a
//! response, which is streamed, one event per chunk, and complete only with its trailers.

pub mod bhttp;
mod frame;
pub mod hpke;
pub mod ohttp;
mod stream;
mod varint;

use std::sync::Arc;

pub use ohttp::{KeyConfig, OpenError, RequestContext};
pub use stream::{Padding, ResponseReader, ResponseWriter, SealError, UnknownPadding, Unsealed};

use hpke::DiffieHellman;

/// The trailer field that carries the receipt of an answer, in base64.
pub const RECEIPT_TRAILER: &str = "glassbloom-receipt";

/// Seals a whole request to a key: the bytes to send, and what reads the answer. `ephemeral_seed` is 32 random
/// bytes, used for this one request; a retry takes new ones.
///
/// Whether the key deserves the request is decided before: take it from a verified provider.
///
/// # Errors
/// When a part of the request has no place in Binary HTTP.
pub fn seal_request(
    config: &KeyConfig,
    request: &bhttp::Request,
    padding: Padding,
    ephemeral_seed: &[u8; 32],
) -> Result<(Vec<u8>, ResponseReader), SealError> {
    let mut message = request.encode()?;
    padding.fill(&mut message);
    let (sealed, opener) = ohttp::RequestSealer::new(config, ephemeral_seed).finish(&message)?;
    Ok((sealed, ResponseReader::new(opener)))
}

/// Opens a whole request: the request, and what the answer is sealed with.
///
/// # Errors
/// When the bytes do not open with this key, or what is inside is no request.
pub fn open_request(
    config: &KeyConfig,
    key: Arc<dyn DiffieHellman>,
    sealed: &[u8],
) -> Result<(bhttp::Request, RequestContext), Unsealed> {
    let mut opener = ohttp::RequestOpener::new(config.clone(), key);
    let mut message = opener.push(sealed)?.concat();
    let (last, context) = opener.finish()?;
    message.extend_from_slice(&last);
    Ok((bhttp::Request::parse(&message)?, context))
}
