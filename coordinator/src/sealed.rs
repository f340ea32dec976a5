//! The sealed relay: bytes in, frames out. Nothing here can open, and nothing logs, what passes through.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use glassbloom_spec::{
    api::{
        MEDIA_RELAY, MEDIA_SEALED_REQUEST,
        frame::{Frame, MAX_PAYLOAD},
        header as names,
    },
    hash::Hash,
    receipt::SealedBy,
};

use crate::{
    app::App,
    error::ApiError,
    logs::Appended,
    routes::RequestId,
    session::{Event, Exchange, Live, Order},
    store::Account,
};

/// Relays a sealed request to the provider it is sealed to, and the answer back.
///
/// Errors before the first byte are OpenAI errors with a status; later ones are the last frame.
pub(crate) async fn relay(
    State(app): State<Arc<App>>,
    Extension(account): Extension<Account>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|error| body_error(&error))?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|value| value != MEDIA_SEALED_REQUEST) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let attestation: Hash = text(&headers, names::ATTESTATION)?
        .parse()
        .map_err(|_| ApiError::BadRequest(format!("{} must be 64 hexadecimal digits", names::ATTESTATION)))?;
    let model = text(&headers, names::MODEL)?;
    let order = Order {
        account: account.id,
        model: model.to_owned(),
        request_id,
        sealed_by: SealedBy::User,
        started: app.clock.now(),
    };
    let begun = begin(&app, attestation, order, body).await;
    let (first, exchange) = begun.inspect_err(|error| app.metrics.request(error.code()))?;
    let frames = async_stream::stream! {
        let mut exchange = exchange;
        let mut event = first;
        loop {
            match event {
                Event::Ended(end) => {
                    app.metrics.request(end.as_ref().map_or_else(ApiError::code, |_| "ok"));
                    let last = match end {
                        Ok(Appended::Proof(proof)) => Frame::Proof(proof),
                        Ok(Appended::Promise(promise)) => Frame::Promise(promise),
                        Err(error) => Frame::Error(error.to_frame()),
                    };
                    yield Ok::<_, Infallible>(Bytes::from(last.encode()));
                    break;
                }
                Event::Sealed(bytes) => {
                    for piece in bytes.chunks(MAX_PAYLOAD) {
                        yield Ok(Bytes::from(Frame::Sealed(piece.to_vec()).encode()));
                    }
                }
            }
            event = exchange.next().await;
        }
    };
    Ok(([(header::CONTENT_TYPE, MEDIA_RELAY)], Body::from_stream(frames)).into_response())
}

/// Hands a sealed request to its provider and waits for the first bytes of the answer.
pub(crate) async fn begin(
    app: &App,
    attestation: Hash,
    order: Order,
    sealed: Bytes,
) -> Result<(Event, Exchange), ApiError> {
    let now = app.clock.now().seconds();
    let may_serve =
        |live: &Arc<Live>| live.admitted.not_after > now && !live.is_suspended() && !live.is_closed();
    let Some(live) = app.sessions.find(&attestation).filter(may_serve) else {
        let served = !app.sessions.serving(&order.model, now).is_empty();
        return Err(if served { ApiError::AttestationNotLive } else { ApiError::ModelNotFound(order.model) });
    };
    if !live.admitted.models.contains(&order.model) {
        return Err(ApiError::ModelNotFound(order.model));
    }
    let mut exchange = live.start(order, sealed)?;
    match exchange.next().await {
        Event::Ended(Err(error)) => Err(error),
        Event::Ended(Ok(_)) => Err(ApiError::Provider {
            code: "empty_answer".to_owned(),
            message: "the provider ended before it answered".to_owned(),
        }),
        first => Ok((first, exchange)),
    }
}

/// A body that did not arrive whole.
pub(crate) fn body_error(error: &BytesRejection) -> ApiError {
    match error.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge,
        _ => ApiError::BadRequest(error.body_text()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, ApiError> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| ApiError::BadRequest(format!("the header {name} is missing or not text")))
}
