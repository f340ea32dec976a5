//! The coordinator, as seen by someone who does not trust it: one fixed address, one fixed set of clear headers.

use glassbloom_service::{http_client, log_client::root_cause, read_bounded};
use glassbloom_spec::{
    api::{MEDIA_SEALED_REQUEST, Providers, header, path},
    hash::Hash,
};

/// Why the coordinator did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The answer is not what it should be.
    #[error("the coordinator's answer is malformed")]
    Malformed,
    /// It answered with an error; what it says is asserted, nothing more.
    #[error("the coordinator answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The error's code.
        code: String,
        /// The error's message.
        message: String,
    },
    /// It cannot be reached.
    #[error(
        "the coordinator at {address} cannot be reached ({detail}); is it running? `cargo up` starts one"
    )]
    Unreachable {
        /// Its address.
        address: String,
        /// The transport's words.
        detail: String,
    },
}

impl UpstreamError {
    /// No provider was offered.
    pub fn nobody(model: &str) -> Self {
        let message = format!("no provider serves {model}");
        Self::Refused { status: 404, code: "model_not_found".to_owned(), message }
    }
}

/// The coordinator.
#[derive(Clone, Debug)]
pub struct Upstream {
    http: reqwest::Client,
    address: String,
    api_key: String,
}

const MAX_BODY: usize = 8 << 20;

impl Upstream {
    /// The coordinator at this address, used with this key.
    pub fn new(address: &str, api_key: &str) -> Self {
        Self { http: http_client(), address: address.to_owned(), api_key: api_key.to_owned() }
    }

    /// Who can serve the model, with all that it takes to verify them.
    pub async fn providers(&self, model: &str) -> Result<Providers, UpstreamError> {
        let request = self
            .http
            .get(format!("{}{}", self.address, path::PROVIDERS))
            .query(&[("model", model), ("n", "3")]);
        self.json(request).await
    }

    /// Aliases of the models that the coordinator says are served.
    pub async fn models(&self) -> Result<serde_json::Value, UpstreamError> {
        self.json(self.http.get(format!("{}{}", self.address, path::MODELS))).await
    }

    /// Sends a sealed request. The caller reads frames from the answer.
    pub async fn sealed(
        &self,
        attestation: Hash,
        model: &str,
        sealed: Vec<u8>,
    ) -> Result<reqwest::Response, UpstreamError> {
        let request = self
            .http
            .post(format!("{}{}", self.address, path::SEALED))
            .header("content-type", MEDIA_SEALED_REQUEST)
            .header(header::ATTESTATION, attestation.to_string())
            .header(header::MODEL, model)
            .body(sealed);
        self.send(request).await
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, UpstreamError> {
        let response = self.send(request).await?;
        let body = read_bounded(response, MAX_BODY).await.map_err(|_| UpstreamError::Malformed)?;
        serde_json::from_slice(&body).map_err(|_| UpstreamError::Malformed)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, UpstreamError> {
        let response = request.bearer_auth(&self.api_key).send().await.map_err(|error| {
            UpstreamError::Unreachable { address: self.address.clone(), detail: root_cause(&error) }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = read_bounded(response, 64 << 10).await.unwrap_or_default();
        let parsed: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |field: &str| parsed["error"][field].as_str().map(str::to_owned);
        Err(UpstreamError::Refused {
            status,
            code: text("code").unwrap_or_else(|| "unknown".to_owned()),
            message: text("message")
                .unwrap_or_else(|| String::from_utf8_lossy(&body).chars().take(200).collect()),
        })
    }
}
