//! Errors of the API, in OpenAI's envelope. The one place where they become answers.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use glassbloom_spec::{api::frame::RelayError, openai};

/// Why a request is not answered; variants are named after who has to act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(
        "this provider is not connected any more; fetch {} again and seal to another",
        glassbloom_spec::api::path::PROVIDERS
    )]
    AttestationNotLive,
    #[error("{0}")]
    BadRequest(String),
    #[error("the request has more than {} bytes", glassbloom_spec::api::MAX_SEALED_REQUEST)]
    BodyTooLarge,
    #[error("{0}")]
    Internal(String),
    #[error("{0}")]
    InvalidApiKey(&'static str),
    #[error("the log did not take the receipt in time: {0}")]
    LogLate(String),
    #[error("{method} is not allowed here")]
    MethodNotAllowed { method: String },
    #[error("no connected provider serves the model {0:?}; GET /v1/models lists those that are served")]
    ModelNotFound(String),
    #[error("there is no {0}")]
    NotFound(String),
    #[error("{}", .0.message())]
    Openai(openai::Error),
    #[error("every provider of this model has its queue full; try again in a few seconds")]
    Overloaded,
    #[error(
        "this coordinator takes no plain text (api.plaintext = false): it could read it. Use the local proxy: `glassbloom serve`"
    )]
    PlaintextOff,
    #[error("{message}")]
    Provider { code: String, message: String },
    #[error("the provider went away before it answered; try again")]
    ProviderGone,
    #[error("there is no {0} here")]
    UnknownRoute(String),
    #[error("send sealed requests as {}", glassbloom_spec::api::MEDIA_SEALED_REQUEST)]
    UnsupportedMediaType,
}

impl ApiError {
    /// Stable, for programs and metrics.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::AttestationNotLive => "attestation_not_live",
            Self::BadRequest(_) => "invalid_request",
            Self::BodyTooLarge => "request_too_large",
            Self::Internal(_) => "internal_error",
            Self::InvalidApiKey(_) => "invalid_api_key",
            Self::LogLate(_) => "log_late",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::ModelNotFound(_) => "model_not_found",
            Self::NotFound(_) => "not_found",
            Self::Openai(error) => error.code().unwrap_or("invalid_request"),
            Self::Overloaded => "overloaded",
            Self::PlaintextOff => "plaintext_off",
            Self::Provider { code, .. } => code,
            Self::ProviderGone => "provider_gone",
            Self::UnknownRoute(_) => "unknown_url",
            Self::UnsupportedMediaType => "unsupported_media_type",
        }
    }

    /// Whether another provider may do better.
    pub(crate) const fn is_worth_another(&self) -> bool {
        matches!(
            self,
            Self::AttestationNotLive
                | Self::ModelNotFound(_)
                | Self::Overloaded
                | Self::Provider { .. }
                | Self::ProviderGone
        )
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Openai(error) => StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST),
            Self::AttestationNotLive => StatusCode::CONFLICT,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::InvalidApiKey(_) => StatusCode::UNAUTHORIZED,
            Self::LogLate(_) | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::ModelNotFound(_) | Self::NotFound(_) | Self::UnknownRoute(_) => StatusCode::NOT_FOUND,
            Self::PlaintextOff => StatusCode::FORBIDDEN,
            Self::Provider { .. } | Self::ProviderGone => StatusCode::BAD_GATEWAY,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    fn kind(&self) -> &'static str {
        if self.status().is_server_error() { "server_error" } else { "invalid_request_error" }
    }

    const fn param(&self) -> Option<&'static str> {
        match self {
            Self::ModelNotFound(_) => Some("model"),
            _ => None,
        }
    }

    /// The envelope's JSON, with its four keys.
    pub(crate) fn body(&self) -> serde_json::Value {
        if let Self::Openai(error) = self {
            return error.to_value();
        }
        serde_json::json!({"error": {
            "message": self.to_string(), "type": self.kind(), "param": self.param(), "code": self.code(),
        }})
    }

    /// As it ends an answer whose head has gone out.
    pub(crate) fn to_frame(&self) -> RelayError {
        RelayError { code: self.code().to_owned(), message: self.to_string() }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Self::Internal(format!("the database failed: {error}"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), code = self.code(), message = %self, "request failed");
        }
        let mut response = (status, self.body().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_four_keys_that_clients_read() {
        let body = ApiError::ModelNotFound("m".to_owned()).body();
        let keys: Vec<&String> = body["error"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        assert_eq!(body["error"]["code"], "model_not_found");
        assert_eq!(body["error"]["param"], "model");
        assert!(ApiError::Overloaded.body()["error"]["param"].is_null());
    }
}
