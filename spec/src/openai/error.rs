//! The error envelope.

use core::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

/// An error as OpenAI's clients expect it: an HTTP status and four keys, all present. The message is for a person:
/// it names the cause and, where there is one, the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: u16,
    kind: String,
    code: Option<String>,
    param: Option<String>,
    message: String,
}

impl Error {
    fn new(status: u16, kind: &str, code: &str, message: impl Into<String>) -> Self {
        Self { status, kind: kind.into(), code: Some(code.into()), param: None, message: message.into() }
    }

    /// 400: the request is wrong. `param` is the path of the field at fault, such as `messages[0].role`; empty
    /// when it is not one field.
    pub fn invalid_request(param: &str, code: &str, message: impl Into<String>) -> Self {
        let param = (!param.is_empty()).then(|| param.into());
        Self { param, ..Self::new(400, INVALID_REQUEST, code, message) }
    }

    /// 400 `unsupported_parameter`: the field, or this value of it, means something that is not done here.
    pub fn unsupported(param: &str, why: &str) -> Self {
        Self::invalid_request(
            param,
            "unsupported_parameter",
            format!("Unsupported parameter: '{param}'. {why}"),
        )
    }

    /// 401 `invalid_api_key`.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, INVALID_REQUEST, "invalid_api_key", message)
    }

    /// 403 `forbidden`.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, INVALID_REQUEST, "forbidden", message)
    }

    /// 404 `model_not_found`.
    pub fn model_not_found(model: &str) -> Self {
        let message = format!(
            "The model '{model}' does not exist or no provider serves it; GET /v1/models lists those that do."
        );
        Self { param: Some("model".into()), ..Self::new(404, INVALID_REQUEST, "model_not_found", message) }
    }

    /// 404 `unknown_url`.
    pub fn unknown_url(method: &str, path: &str) -> Self {
        Self::new(404, INVALID_REQUEST, "unknown_url", format!("Unknown request URL: {method} {path}."))
    }

    /// 405 `method_not_allowed`.
    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        Self::new(405, INVALID_REQUEST, "method_not_allowed", format!("{path} does not take {method}."))
    }

    /// 413 `request_too_large`. `limit` is in bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            INVALID_REQUEST,
            "request_too_large",
            format!("The request body is over {limit} bytes."),
        )
    }

    /// 429 `rate_limit_exceeded`.
    pub fn rate_limited(message: impl Into<String>) -> Self {
        Self::new(429, "requests", "rate_limit_exceeded", message)
    }

    /// 429 `insufficient_quota`: waiting does not help.
    pub fn insufficient_quota(message: impl Into<String>) -> Self {
        Self::new(429, "insufficient_quota", "insufficient_quota", message)
    }

    /// 500 `internal_error`. What went wrong is for the server's log, not for the message.
    pub fn internal() -> Self {
        Self::new(500, SERVER_ERROR, "internal_error", "The server failed; its log says why.")
    }

    /// 502 with a `code` of the caller's: who stands behind this server failed or could not be verified.
    pub fn upstream(code: &str, message: impl Into<String>) -> Self {
        Self::new(502, SERVER_ERROR, code, message)
    }

    /// 503 `overloaded`: try again later.
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::new(503, SERVER_ERROR, "overloaded", message)
    }

    /// Reads the envelope out of a response with an error status; `None` when the body has no such object. Lenient
    /// towards missing keys, since other servers leave them out.
    pub fn from_response(status: u16, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            error: Inner,
        }
        #[derive(Deserialize)]
        struct Inner {
            message: String,
            #[serde(rename = "type")]
            kind: Option<String>,
            param: Option<String>,
            code: Option<Value>,
        }
        let Envelope { error } = serde_json::from_slice(body).ok()?;
        Some(Self {
            status,
            kind: error
                .kind
                .unwrap_or_else(|| if status < 500 { INVALID_REQUEST } else { SERVER_ERROR }.into()),
            code: match error.code {
                Some(Value::String(code)) => Some(code),
                Some(Value::Number(code)) => Some(code.to_string()),
                _ => None,
            },
            param: error.param,
            message: error.message,
        })
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The machine-readable cause, such as `unknown_parameter`.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The field at fault.
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// The text for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `{"error": {message, type, param, code}}`.
    pub fn to_value(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }

    /// The response body.
    pub fn to_json(&self) -> Vec<u8> {
        self.to_value().to_string().into_bytes()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for Error {}

const INVALID_REQUEST: &str = "invalid_request_error";
const SERVER_ERROR: &str = "server_error";
