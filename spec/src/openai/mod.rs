//! The OpenAI-compatible surface: requests, answers, errors and event streams of `/v1`.
//!
//! The proxy, the coordinator's plaintext endpoint and the provider's inner server all speak it from here, so that a
//! request one of them takes is a request that all of them take, with the same words when it is refused.
//!
//! # In scope
//! `/v1/chat/completions` and `/v1/models`. The rule for a request is that no field is dropped in silence: it is used,
//! or ignoring it changes nothing about the answer, or the request is refused and the field is named.
//!
//! # Out of scope
//! Headers, authentication and transport.

mod answer;
mod check;
mod chunk;
mod error;
mod json;
mod message;
mod request;
mod sampling;
pub mod sse;
mod tool;

pub use answer::{
    ChatCompletion, Choice, FinishReason, Identity, Model, ModelList, Object, Reply, ReplyMessage, Usage,
};
pub use chunk::{ChatChunk, ChunkChoice, ChunkWriter, Delta, ToolCallDelta};
pub use error::Error;
pub use message::{Content, Message};
pub use request::{
    ChatRequest, MAX_BODY, MAX_MESSAGES, MAX_STOP_LEN, MAX_STOPS, MAX_TOKENS, MAX_TOOLS, ReasoningEffort,
};
pub use sampling::Sampling;
pub use sse::{DONE, SseParser, sse_data};
pub use tool::{Tool, ToolCall, ToolChoice};
