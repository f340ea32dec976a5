//! A user's verifying proxy and what an application sees of it.

use std::sync::Arc;

use futures_util::FutureExt;
use glassbloom_proxy::store::{PromisedReceipt, Store};
use glassbloom_service::{MockClock, http_client};
use glassbloom_spec::{openai::SseParser, policy::Policy};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{MODEL, Running};

/// What every application asks.
pub const PROMPT: &str = "Where is prompt-marker-90c3ab-question the capital?";
/// The part of [`PROMPT`] that must appear nowhere outside the seal.
pub const PROMPT_MARKER: &str = "prompt-marker-90c3ab-question";

/// A user's proxy.
pub struct Client {
    /// Its address.
    pub url: String,
    /// What applications present.
    pub key: String,
    /// Its clock.
    pub clock: MockClock,
    folder: Arc<TempDir>,
    running: Running,
}

impl Client {
    /// Starts a proxy in a folder.
    pub async fn start(
        folder: Arc<TempDir>,
        coordinator: &str,
        key: &str,
        policy: &str,
        clock: MockClock,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let config = glassbloom_proxy::config::Config {
            listen,
            coordinator: coordinator.to_owned(),
            api_key: key.to_owned(),
            policy: Policy::parse(policy).unwrap(),
            keep_text: false,
            database: folder.path().join("receipts.db"),
        };
        let own = clock.clone();
        let running =
            Running::spawn(|stop| glassbloom_proxy::serve(config, listener, Arc::new(own), stop).boxed());
        Self { url: format!("http://{listen}"), key: key.to_owned(), clock, folder, running }
    }

    /// Stops the proxy and starts it again over the same folder.
    pub async fn restart(self, coordinator: &str, policy: &str) -> Self {
        self.running.stop().await;
        Self::start(self.folder, coordinator, &self.key, policy, self.clock).await
    }

    /// What the user keeps instead of proofs.
    pub async fn promises(&self) -> Vec<PromisedReceipt> {
        Store::open(&self.folder.path().join("receipts.db")).await.unwrap().promises().await.unwrap()
    }

    /// Lets so much time pass that it asks for providers again.
    pub fn let_cache_expire(&self) {
        self.clock.advance_millis(61_000);
    }

    /// Asks and reads the answer as a stream.
    pub async fn ask(&self) -> Said {
        chat(&self.url, &self.key, true).await
    }

    /// Asks and reads the answer in one piece.
    pub async fn ask_whole(&self) -> Said {
        chat(&self.url, &self.key, false).await
    }
}

/// What an application got.
#[derive(Debug)]
pub struct Said {
    /// Status of the response.
    pub status: u16,
    /// Its headers.
    pub headers: reqwest::header::HeaderMap,
    /// The answer's text.
    pub text: String,
    /// The error, whether it is the response or ends the stream.
    pub error: Option<Value>,
    /// The receipt with its proof.
    pub receipt: Option<Value>,
    /// Whether the stream ended with `[DONE]`; of an answer in one piece, whether there is one.
    pub done: bool,
}

impl Said {
    /// Asserts that everything went well.
    #[track_caller]
    pub fn is_answered(&self) {
        assert!(self.error.is_none(), "{self:#?}");
        assert_eq!(
            (self.status, self.text.as_str()),
            (200, super::engine::ANSWER.concat().as_str()),
            "{self:#?}"
        );
        assert!(self.done && self.receipt.is_some(), "{self:#?}");
    }

    /// Asserts a refusal with this code and these words, and that nothing passes for a whole answer.
    #[track_caller]
    pub fn is_refused(&self, code: &str, words: &str) {
        assert!(!self.done && self.receipt.is_none(), "{self:#?}");
        let error = self.error.as_ref().unwrap_or_else(|| panic!("no error: {self:#?}"));
        let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["message", "type", "param", "code"], "{self:#?}");
        assert_eq!(error["code"], code, "{self:#?}");
        assert!(error["message"].as_str().unwrap().contains(words), "{words:?} is not in {self:#?}");
    }

    /// The same, before anything of an answer went out.
    #[track_caller]
    pub fn is_refused_at_once(&self, status: u16, code: &str, words: &str) {
        self.is_refused(code, words);
        assert_eq!((self.status, self.text.as_str()), (status, ""), "{self:#?}");
    }
}

/// The request that every application sends.
pub fn request(stream: bool) -> Value {
    json!({ "model": MODEL, "stream": stream, "messages": [{ "role": "user", "content": PROMPT }] })
}

/// Asks a server that speaks OpenAI's API.
pub async fn chat(url: &str, key: &str, stream: bool) -> Said {
    send(http_client().post(format!("{url}/v1/chat/completions")).bearer_auth(key), &request(stream)).await
}

/// Sends a chat request and reads the answer to its end, whatever that is.
pub async fn send(builder: reqwest::RequestBuilder, request: &Value) -> Said {
    let builder = builder.header("content-type", "application/json").body(request.to_string());
    read(builder.send().await.unwrap()).await
}

/// Reads an answer to its end, whatever that is.
pub async fn read(response: reqwest::Response) -> Said {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.unwrap();
    let mut said = Said { status, headers, text: String::new(), error: None, receipt: None, done: false };
    let is_stream = said.headers["content-type"].to_str().unwrap().starts_with("text/event-stream");
    if !is_stream {
        let value: Value = serde_json::from_slice(&body).unwrap();
        said.take(&value, "message");
        said.done = said.error.is_none();
        return said;
    }
    for event in SseParser::default().push(&body).unwrap() {
        assert!(!said.done && said.error.is_none(), "something follows the end");
        match event.is_done() {
            true => said.done = true,
            false => said.take(&serde_json::from_str(&event.data).unwrap(), "delta"),
        }
    }
    said
}

impl Said {
    fn take(&mut self, value: &Value, field: &str) {
        self.text.push_str(value["choices"][0][field]["content"].as_str().unwrap_or_default());
        self.error = value.get("error").cloned();
        if let Some(receipt) = value.get("glassbloom") {
            self.receipt = Some(receipt.clone());
        }
    }
}
