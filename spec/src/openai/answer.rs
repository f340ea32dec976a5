//! Whole answers and the list of models.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ToolCall;
use crate::id::UnixSeconds;

/// The `object` key of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    /// A whole answer.
    #[serde(rename = "chat.completion")]
    ChatCompletion,
    /// A piece of a streamed answer.
    #[serde(rename = "chat.completion.chunk")]
    ChatCompletionChunk,
    /// A list.
    #[serde(rename = "list")]
    List,
    /// A model.
    #[serde(rename = "model")]
    Model,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// Something left out words of the answer.
    ContentFilter,
    /// It is as long as was allowed.
    Length,
    /// The model was done, or wrote a stop text.
    Stop,
    /// The model calls functions.
    ToolCalls,
}

impl FinishReason {
    /// The word in an answer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ContentFilter => "content_filter",
            Self::Length => "length",
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// How many tokens went in and came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireUsage", into = "WireUsage")]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of these, how many were served from a cache.
    pub cached_tokens: u64,
    /// Of the answer, with reasoning.
    pub completion_tokens: u64,
    /// Of these, how many were reasoning.
    pub reasoning_tokens: u64,
}

#[derive(Serialize, Deserialize)]
struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: PromptDetails,
    #[serde(default)]
    completion_tokens_details: CompletionDetails,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        Self {
            prompt_tokens: wire.prompt_tokens,
            cached_tokens: wire.prompt_tokens_details.cached_tokens,
            completion_tokens: wire.completion_tokens,
            reasoning_tokens: wire.completion_tokens_details.reasoning_tokens,
        }
    }
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens, ..Default::default() },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning_tokens,
                ..Default::default()
            },
        }
    }
}

/// What an answer and all its pieces have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `chatcmpl-` and something unique.
    pub id: String,
    /// When the answer was begun.
    pub created: UnixSeconds,
    /// The model that answers.
    pub model: String,
    /// Names the build and settings that answer; the same seed gives the same answer only with the same one.
    pub system_fingerprint: String,
}

/// What a model answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The text; `None` where it only called functions.
    pub content: Option<String>,
    /// What it wrote before answering, for models that do.
    pub reasoning: Option<String>,
    /// Functions that it called.
    pub tool_calls: Vec<ToolCall>,
}

/// A whole answer. Every key that the OpenAI specification requires is written, null or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// Unique.
    pub id: String,
    /// [`Object::ChatCompletion`].
    pub object: Object,
    /// When the answer was begun.
    pub created: UnixSeconds,
    /// The model that answered.
    pub model: String,
    /// One.
    pub choices: Vec<Choice>,
    /// How many tokens it took.
    pub usage: Usage,
    /// Names the build and settings that answered.
    #[serde(default)]
    pub system_fingerprint: Option<String>,
    /// The receipt and its proof, where the proxy adds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glassbloom: Option<Value>,
}

/// The one choice of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// 0.
    pub index: u32,
    /// What was said.
    pub message: ReplyMessage,
    /// Always null; the key is required.
    #[serde(default)]
    pub logprobs: Option<Value>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// A message in an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyMessage {
    /// `assistant`.
    pub role: String,
    /// The text; null where the model only called functions.
    pub content: Option<String>,
    /// Always null; the key is required.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Always empty.
    #[serde(default)]
    pub annotations: Vec<Value>,
    /// What the model wrote before answering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Functions that it called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

impl ChatCompletion {
    /// Builds an answer.
    pub fn new(identity: Identity, reply: Reply, finish_reason: FinishReason, usage: Usage) -> Self {
        let Identity { id, created, model, system_fingerprint } = identity;
        let message = ReplyMessage {
            role: "assistant".into(),
            content: reply.content,
            refusal: None,
            annotations: Vec::new(),
            reasoning_content: reply.reasoning,
            tool_calls: reply.tool_calls,
        };
        Self {
            id,
            object: Object::ChatCompletion,
            created,
            model,
            choices: vec![Choice { index: 0, message, logprobs: None, finish_reason }],
            usage,
            system_fingerprint: Some(system_fingerprint),
            glassbloom: None,
        }
    }

    /// The response body.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists of them have a JSON form")
    }
}

/// A model in the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// What requests name it by.
    pub id: String,
    /// [`Object::Model`].
    pub object: Object,
    /// When it was entered in the registry.
    pub created: UnixSeconds,
    /// Who published it.
    pub owned_by: String,
    /// What the registry says of it, where there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glassbloom: Option<Value>,
}

impl Model {
    /// A model.
    pub fn new(id: impl Into<String>, created: UnixSeconds, owned_by: impl Into<String>) -> Self {
        Self { id: id.into(), object: Object::Model, created, owned_by: owned_by.into(), glassbloom: None }
    }
}

/// The answer of `GET /v1/models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelList {
    /// [`Object::List`].
    pub object: Object,
    /// The models.
    pub data: Vec<Model>,
}

impl ModelList {
    /// A list.
    pub const fn new(data: Vec<Model>) -> Self {
        Self { object: Object::List, data }
    }

    /// The model with this id.
    pub fn get(&self, id: &str) -> Option<&Model> {
        self.data.iter().find(|model| model.id == id)
    }
}
