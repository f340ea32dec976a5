//! Running models: what a provider can be asked for, and what does it.
//!
//! An [`Engine`] takes a [`ChatJob`] and answers with a stream of [`Event`]s. `MlxEngine` (feature `mlx`)
//! runs models with MLX.
//!
//! *In scope:* chat templates, tokens, sampling, stop strings, tool calls, the files a model consists of.
//! *Out of scope:* HTTP, the OpenAI wire form, encryption, receipts.

mod manifest;
#[cfg(feature = "mlx")]
mod mlx;
#[cfg(any(feature = "mlx", test))]
mod output;
#[cfg(feature = "mlx")]
mod qwen3;
#[cfg(any(feature = "mlx", test))]
mod sample;
#[cfg(any(feature = "mlx", test))]
mod template;
#[cfg(any(feature = "mlx", test))]
mod tokenizer;
#[cfg(any(feature = "mlx", test))]
mod tools;
#[cfg(feature = "mlx")]
mod weights;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use manifest::{ManifestFile, manifest};
#[cfg(feature = "mlx")]
pub use mlx::{MlxEngine, Options};
#[cfg(feature = "mlx")]
pub use weights::Precision;

/// Runs models.
///
/// Cheap to call from asynchronous code: no call waits for a model.
pub trait Engine: Send + Sync {
    /// The models that can be asked, in the order they were configured.
    fn models(&self) -> Vec<ModelInfo>;

    /// Asks a model to go on with a conversation.
    ///
    /// Never waits; what goes wrong arrives as [`Event::Failed`]. Dropping the stream cancels the job.
    fn chat(&self, job: ChatJob) -> ChatStream;
}

/// The events of one job in order. The last one is [`Event::Done`] or [`Event::Failed`].
pub type ChatStream = mpsc::Receiver<Event>;

/// A model that an [`Engine`] has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name that requests ask for.
    pub id: String,
    /// The architecture, as `config.json` names it, for example `qwen3`.
    pub family: String,
    /// The most tokens a prompt and its answer can have together.
    pub context_tokens: u32,
    /// How many weights there are.
    pub parameters: u64,
    /// Bits of a quantised weight; nothing when the weights are floating point numbers.
    pub bits: Option<u8>,
}

/// A conversation to go on with.
#[derive(Clone, Debug, Default)]
pub struct ChatJob {
    /// [`ModelInfo::id`] of the model; empty for the engine's first.
    pub model: String,
    /// The `messages` of an OpenAI chat completion request.
    pub messages: Value,
    /// The `tools` of such a request; null when there are none.
    pub tools: Value,
    /// The most tokens to answer with; as many as the context allows when nothing is given.
    pub max_tokens: Option<u32>,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Ends the job before its next token.
    pub cancel: CancellationToken,
}

/// A conversation of one message by the user.
impl From<&str> for ChatJob {
    fn from(text: &str) -> Self {
        Self {
            messages: serde_json::json!([{ "role": "user", "content": text }]),
            tools: Value::Null,
            ..Self::default()
        }
    }
}

/// How a token is chosen. The default is greedy: always the most likely one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Divides the log-probabilities before choosing; greedy when it is zero.
    pub temperature: f32,
    /// Chooses among the most likely tokens that have this probability together; all when it is not between
    /// 0 and 1. Applied before the temperature, as `mlx-lm` does.
    pub top_p: f32,
    /// Chooses among this many of the most likely tokens; all when it is zero.
    pub top_k: u32,
    /// The same seed gives the same answer on the same machine; a random one is taken when nothing is given.
    pub seed: Option<u64>,
}

/// What happens while a job runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt was read; comes first, unless the job fails before.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: u32,
    },
    /// More of the answer.
    Text(String),
    /// The model calls a tool.
    ToolCall {
        /// Unique among all calls.
        id: String,
        /// The tool's name. Whether such a tool was offered is not checked.
        name: String,
        /// A JSON object as text.
        arguments: String,
    },
    /// The answer is complete.
    Done {
        /// Why it ended.
        finish: Finish,
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens of the answer, without the one that ends it.
        completion_tokens: u32,
    },
    /// The job failed; whatever text came before is not an answer.
    Failed(EngineError),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The job was cancelled, or nobody listened any more.
    Cancelled,
    /// The token limit was reached.
    Length,
    /// The model ended it, or a stop text came.
    Stop,
    /// The model ended it and wants tools to be called.
    ToolCalls,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Too many jobs wait already; a later attempt may succeed.
    #[error("the model is busy: too many requests are waiting for it")]
    Busy,
    /// The engine is at fault, or it is shutting down.
    #[error("the model could not answer: {0}")]
    Internal(String),
    /// The conversation does not fit.
    #[error("the prompt has {tokens} tokens, but the model reads at most {limit}")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// The most that leave room for an answer.
        limit: usize,
    },
    /// The model's chat template refuses the messages or tools.
    #[error("the messages do not fit the model's chat template: {0}")]
    Request(String),
    /// There is no such model here.
    #[error("there is no model {0:?} here")]
    UnknownModel(String),
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file of the model is not what it should be.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model needs something this engine has not.
    #[error("{0} is not supported: a dense Qwen3 model in Hugging Face layout is")]
    Unsupported(String),
}

#[cfg(any(feature = "mlx", test))]
impl LoadError {
    pub(crate) fn file(file: &std::path::Path, reason: impl std::fmt::Display) -> Self {
        Self::File { file: file.display().to_string(), reason: reason.to_string() }
    }
}

/// A stream that holds one event, for jobs that fail at once.
#[cfg(feature = "mlx")]
pub(crate) fn failed(error: EngineError) -> ChatStream {
    let (events, stream) = mpsc::channel(1);
    events.try_send(Event::Failed(error)).expect("the channel is new and has room for one");
    stream
}
