//! Pieces of a streamed answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FinishReason, Identity, Object, Usage, answer::ChatCompletion, sse_data, tool::FunctionType};
use crate::id::UnixSeconds;

/// A piece of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChunk {
    /// The same in all pieces.
    pub id: String,
    /// [`Object::ChatCompletionChunk`].
    pub object: Object,
    /// The same in all pieces.
    pub created: UnixSeconds,
    /// The same in all pieces.
    pub model: String,
    /// Names the build and settings that answer.
    #[serde(default)]
    pub system_fingerprint: Option<String>,
    /// One, or none in the pieces that tell the usage or carry the receipt.
    pub choices: Vec<ChunkChoice>,
    /// Where usage was asked for: null until the last piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
    /// The receipt and its proof, in a piece that the proxy adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glassbloom: Option<Value>,
}

/// The one choice of a piece.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkChoice {
    /// 0.
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// Always null; the key is required.
    #[serde(default)]
    pub logprobs: Option<Value>,
    /// Null until the last piece.
    #[serde(default)]
    pub finish_reason: Option<FinishReason>,
}

/// What a piece adds to the message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// `assistant`, in the first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// More text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of what the model writes before answering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// New calls, or more of their arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallDelta>,
}

/// A new call, or more of its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCallDelta {
    /// Which call of the message it is.
    pub index: u32,
    /// In the first piece of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In the first piece of a call.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    kind: Option<FunctionType>,
    /// What is new of the function.
    #[serde(default)]
    function: FunctionDelta,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FunctionDelta {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default)]
    arguments: String,
}

impl ToolCallDelta {
    /// The first piece of call `index`.
    pub fn start(index: u32, id: impl Into<String>, name: impl Into<String>) -> Self {
        let function = FunctionDelta { name: Some(name.into()), arguments: String::new() };
        Self { index, id: Some(id.into()), kind: Some(FunctionType::Function), function }
    }

    /// More arguments of call `index`.
    pub fn arguments(index: u32, arguments: impl Into<String>) -> Self {
        Self {
            index,
            id: None,
            kind: None,
            function: FunctionDelta { name: None, arguments: arguments.into() },
        }
    }

    /// The name of the function, in the first piece.
    pub fn name(&self) -> Option<&str> {
        self.function.name.as_deref()
    }

    /// What is added to the arguments.
    pub fn added_arguments(&self) -> &str {
        &self.function.arguments
    }
}

impl ChatChunk {
    /// Why the answer ended, in the piece that says so.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.choices.first()?.finish_reason
    }

    /// The text that this piece adds.
    pub fn content(&self) -> Option<&str> {
        self.choices.first()?.delta.content.as_deref()
    }

    /// The usage, in the piece that tells it.
    pub fn usage(&self) -> Option<Usage> {
        self.usage.flatten()
    }
}

/// Makes the pieces of one answer, as events ready to send.
#[derive(Clone, Debug)]
pub struct ChunkWriter {
    identity: Identity,
    include_usage: bool,
}

impl ChunkWriter {
    /// For an answer with this identity. With `include_usage`, every piece has a `usage` key, null until the one
    /// from [`ChunkWriter::usage`].
    pub const fn new(identity: Identity, include_usage: bool) -> Self {
        Self { identity, include_usage }
    }

    /// The first piece: the role.
    pub fn role(&self) -> Vec<u8> {
        self.delta(Delta { role: Some("assistant".into()), content: Some(String::new()), ..Delta::default() })
    }

    /// More text.
    pub fn content(&self, text: impl Into<String>) -> Vec<u8> {
        self.delta(Delta { content: Some(text.into()), ..Delta::default() })
    }

    /// More of what the model writes before answering.
    pub fn reasoning(&self, text: impl Into<String>) -> Vec<u8> {
        self.delta(Delta { reasoning_content: Some(text.into()), ..Delta::default() })
    }

    /// A new call, or more of its arguments.
    pub fn tool_call(&self, call: ToolCallDelta) -> Vec<u8> {
        self.delta(Delta { tool_calls: vec![call], ..Delta::default() })
    }

    /// The last piece with a choice.
    pub fn finish(&self, reason: FinishReason) -> Vec<u8> {
        self.event(vec![choice(Delta::default(), Some(reason))], None, None)
    }

    /// The piece that tells the usage; only where it was asked for.
    pub fn usage(&self, usage: Usage) -> Vec<u8> {
        self.event(Vec::new(), Some(usage), None)
    }

    /// A piece that carries `extension` under the key `glassbloom`. It looks like the usage piece otherwise, so a
    /// client that takes that one takes this one.
    pub fn extension(&self, extension: Value) -> Vec<u8> {
        self.event(Vec::new(), None, Some(extension))
    }

    fn delta(&self, delta: Delta) -> Vec<u8> {
        self.event(vec![choice(delta, None)], None, None)
    }

    fn event(&self, choices: Vec<ChunkChoice>, usage: Option<Usage>, glassbloom: Option<Value>) -> Vec<u8> {
        let Identity { id, created, model, system_fingerprint } = self.identity.clone();
        sse_data(&ChatChunk {
            id,
            object: Object::ChatCompletionChunk,
            created,
            model,
            system_fingerprint: Some(system_fingerprint),
            choices,
            usage: self.include_usage.then_some(usage),
            glassbloom,
        })
    }
}

fn choice(delta: Delta, finish_reason: Option<FinishReason>) -> ChunkChoice {
    ChunkChoice { index: 0, delta, logprobs: None, finish_reason }
}

impl From<&ChatCompletion> for Identity {
    fn from(answer: &ChatCompletion) -> Self {
        Self {
            id: answer.id.clone(),
            created: answer.created,
            model: answer.model.clone(),
            system_fingerprint: answer.system_fingerprint.clone().unwrap_or_default(),
        }
    }
}
