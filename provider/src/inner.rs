//! The server inside the seal: a chat request becomes a job for the engine, and the job's events become the chunks of
//! an answer. No sockets, no keys.

use glassbloom_spec::{
    id::{TreeSize, UnixSeconds},
    openai::{
        self, ChatCompletion, ChatRequest, ChunkWriter, DONE, Error, FinishReason, Identity, Message, Reply,
        Tool, ToolCall, ToolCallDelta, ToolChoice, sse,
    },
    receipt::{Finish, Usage},
    seal::Padding,
};
use serde_json::Value;

use crate::engine::{self, ChatJob, EngineError, Event, Sampling};

/// What an answer says of itself beside its text.
#[derive(Clone, Debug)]
pub struct Meta {
    /// Unique, without the `chatcmpl-` before it.
    pub id: String,
    /// When the answer was begun.
    pub created: UnixSeconds,
    /// Names the build that answers.
    pub fingerprint: String,
}

/// A request that can be answered.
pub struct Prepared {
    /// The model it asks for.
    pub model: String,
    /// What the engine is to do; its `cancel` is the caller's to set.
    pub job: ChatJob,
    /// Canonical sampling parameters, which the receipt commits to.
    pub sampling: Vec<u8>,
    /// Turns the job's events into chunks.
    pub writer: Writer,
}

impl Prepared {
    /// Reads the body of a `POST /v1/chat/completions`.
    ///
    /// # Errors
    /// When it asks for anything that is not done here; the refusal names the field.
    pub fn parse(body: &[u8], meta: Meta) -> Result<Self, Refusal> {
        let request = ChatRequest::parse(body)?;
        let offered = if request.tool_choice == ToolChoice::None { &[][..] } else { &request.tools };
        let job = ChatJob {
            model: request.model.clone(),
            messages: request.messages.iter().map(Message::to_value).collect(),
            tools: if offered.is_empty() {
                Value::Null
            } else {
                offered.iter().map(Tool::to_value).collect()
            },
            max_tokens: request.sampling.max_tokens,
            sampling: Sampling {
                temperature: request.sampling.temperature(),
                top_p: request.sampling.top_p(),
                top_k: 0,
                seed: request.sampling.seed.map(i64::cast_unsigned),
            },
            stop: request.sampling.stop.clone(),
            ..ChatJob::default()
        };
        let identity = Identity {
            id: format!("chatcmpl-{}", meta.id),
            created: meta.created,
            model: request.model.clone(),
            system_fingerprint: meta.fingerprint,
        };
        Ok(Self {
            model: request.model,
            job,
            sampling: request.sampling.encode(),
            writer: Writer::new(identity, request.stream, request.include_usage),
        })
    }
}

/// A request that is not answered, in words for its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 4xx: a refusal has no receipt, and clients accept that of no other status.
    pub status: u16,
    /// The error envelope, padded.
    pub body: Vec<u8>,
}

impl Refusal {
    /// The model is not served here.
    pub fn unknown_model(model: &str) -> Self {
        Error::model_not_found(model).into()
    }

    /// The client relies on a registry that is not the one seen here.
    pub fn other_registry(size: TreeSize) -> Self {
        let message = format!(
            "The registry you rely on has another root at size {size} than the one this provider sees: one of you is \
             shown a forked log. Keep your checkpoint and show it to the witnesses."
        );
        Self { status: 409, body: padded(&Error::invalid_request("", "registry_fork", message)) }
    }

    /// The client relies on a registry from before this provider's attestation.
    pub fn registry_too_small(size: TreeSize) -> Self {
        let message = format!(
            "A registry of size {size} does not hold this provider's attestation; fetch its record again."
        );
        Error::invalid_request("", "registry_too_small", message).into()
    }

    /// What the engine says of the request, if the request is at fault.
    pub fn of_engine(error: &EngineError) -> Option<Self> {
        Some(match error {
            EngineError::Busy | EngineError::Internal(_) => return None,
            EngineError::PromptTooLong { .. } => {
                Error::invalid_request("messages", "context_length_exceeded", error.to_string()).into()
            }
            EngineError::Request(_) => {
                Error::invalid_request("messages", "invalid_value", error.to_string()).into()
            }
            EngineError::UnknownModel(model) => Self::unknown_model(model),
        })
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { status: error.status(), body: padded(&error) }
    }
}

fn padded(error: &Error) -> Vec<u8> {
    sse::pad_json(error.to_json(), Padding::default())
}

/// What the receipt says of a finished answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens.
    pub usage: Usage,
}

/// Turns a job's events into the chunks of an answer: one server-sent event each, or one JSON body at the end.
#[derive(Clone, Debug)]
pub struct Writer {
    form: Form,
    calls: u32,
    facts: Option<Facts>,
}

#[derive(Clone, Debug)]
enum Form {
    Stream { chunks: ChunkWriter, include_usage: bool },
    Whole { identity: Identity, text: String, calls: Vec<ToolCall> },
}

impl Writer {
    fn new(identity: Identity, stream: bool, include_usage: bool) -> Self {
        let form = if stream {
            Form::Stream { chunks: ChunkWriter::new(identity, include_usage), include_usage }
        } else {
            Form::Whole { identity, text: String::new(), calls: Vec::new() }
        };
        Self { form, calls: 0, facts: None }
    }

    /// The media type of the answer.
    pub const fn content_type(&self) -> &'static str {
        match self.form {
            Form::Stream { .. } => sse::MEDIA_TYPE,
            Form::Whole { .. } => "application/json",
        }
    }

    /// The chunks that an event completes, padded, in order. After [`Event::Done`] there are none.
    pub fn push(&mut self, event: Event) -> Vec<Vec<u8>> {
        if self.facts.is_some() {
            return Vec::new();
        }
        match event {
            Event::Started { .. } => match &self.form {
                Form::Stream { chunks, .. } => events([chunks.role()]),
                Form::Whole { .. } => Vec::new(),
            },
            Event::Text(more) => match &mut self.form {
                Form::Stream { chunks, .. } => events([chunks.content(more)]),
                Form::Whole { text, .. } => {
                    text.push_str(&more);
                    Vec::new()
                }
            },
            Event::ToolCall { id, name, arguments } => self.tool_call(ToolCall { id, name, arguments }),
            Event::Done { finish, prompt_tokens, completion_tokens } => {
                let usage = Usage { prompt: prompt_tokens.into(), completion: completion_tokens.into() };
                self.done(finish, usage)
            }
            // The caller ends the exchange; a half answer gets no end of its own.
            Event::Failed(_) => Vec::new(),
        }
    }

    /// What the receipt says, once the answer is complete.
    pub const fn facts(&self) -> Option<Facts> {
        self.facts
    }

    fn tool_call(&mut self, call: ToolCall) -> Vec<Vec<u8>> {
        let index = self.calls;
        self.calls += 1;
        match &mut self.form {
            Form::Stream { chunks, .. } => events([
                chunks.tool_call(ToolCallDelta::start(index, call.id, call.name)),
                chunks.tool_call(ToolCallDelta::arguments(index, call.arguments)),
            ]),
            Form::Whole { calls, .. } => {
                calls.push(call);
                Vec::new()
            }
        }
    }

    fn done(&mut self, finish: engine::Finish, usage: Usage) -> Vec<Vec<u8>> {
        let (finish, reason) = match finish {
            engine::Finish::Cancelled => (Finish::Cancelled, FinishReason::Stop),
            engine::Finish::Length => (Finish::Length, FinishReason::Length),
            engine::Finish::Stop => (Finish::Stop, FinishReason::Stop),
            engine::Finish::ToolCalls => (Finish::ToolCalls, FinishReason::ToolCalls),
        };
        self.facts = Some(Facts { finish, usage });
        let usage = openai::Usage {
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            ..openai::Usage::default()
        };
        match &mut self.form {
            Form::Stream { chunks, include_usage } => {
                let told = include_usage.then(|| chunks.usage(usage));
                events([chunks.finish(reason)].into_iter().chain(told).chain([DONE.to_vec()]))
            }
            Form::Whole { identity, text, calls } => {
                // A model that only called functions said nothing, which is not the same as an empty text.
                let content = (!text.is_empty() || calls.is_empty()).then(|| std::mem::take(text));
                let reply = Reply { content, reasoning: None, tool_calls: std::mem::take(calls) };
                let body = ChatCompletion::new(identity.clone(), reply, reason, usage).to_json();
                sse::pad_json(body, Padding::default()).chunks(LARGEST_CHUNK).map(<[u8]>::to_vec).collect()
            }
        }
    }
}

fn events(events: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    events.into_iter().map(|event| sse::pad(event, Padding::default())).collect()
}

/// Pieces of a long JSON body, well below what a frame of the relay takes.
const LARGEST_CHUNK: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use glassbloom_spec::openai::{ChatChunk, SseParser};

    use super::*;

    fn prepared(body: &str) -> Prepared {
        let meta = Meta { id: "1".into(), created: UnixSeconds::new(7), fingerprint: "fp_1".into() };
        Prepared::parse(body.as_bytes(), meta)
            .unwrap_or_else(|refusal| panic!("{}", String::from_utf8_lossy(&refusal.body)))
    }

    fn refusal(body: &str) -> (u16, Value) {
        let meta = Meta { id: "1".into(), created: UnixSeconds::new(7), fingerprint: "fp_1".into() };
        let refusal = Prepared::parse(body.as_bytes(), meta).err().unwrap();
        (refusal.status, serde_json::from_slice(&refusal.body).unwrap())
    }

    fn chat(more: &str) -> String {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"to be"}}]{more}}}"#)
    }

    fn done(finish: engine::Finish) -> Event {
        Event::Done { finish, prompt_tokens: 2, completion_tokens: 3 }
    }

    fn call(n: u32) -> Event {
        Event::ToolCall { id: format!("call_{n}"), name: "f".into(), arguments: r#"{"a":1}"#.into() }
    }

    fn run(writer: &mut Writer, events: impl IntoIterator<Item = Event>) -> Vec<Vec<u8>> {
        events.into_iter().flat_map(|event| writer.push(event)).collect()
    }

    /// Every chunk is one event, as an independent reader of event streams sees it.
    fn parse(chunks: &[Vec<u8>]) -> Vec<Option<ChatChunk>> {
        let one = |chunk: &Vec<u8>| {
            assert_eq!(chunk.len() % 64, 0, "padded");
            let mut parser = SseParser::default();
            let events = parser.push(chunk).unwrap();
            assert_eq!(events.len(), 1);
            (!events[0].is_done()).then(|| serde_json::from_str(&events[0].data).unwrap())
        };
        chunks.iter().map(one).collect()
    }

    #[test]
    fn a_stream_is_role_text_finish_usage_done() {
        let mut prepared = prepared(&chat(r#","stream":true,"stream_options":{"include_usage":true}"#));
        assert_eq!(prepared.writer.content_type(), sse::MEDIA_TYPE);
        let chunks = run(
            &mut prepared.writer,
            [
                Event::Started { prompt_tokens: 2 },
                Event::Text("to ".into()),
                Event::Text("be".into()),
                done(engine::Finish::Length),
            ],
        );
        let parsed = parse(&chunks);
        let [Some(role), Some(to), Some(be), Some(finish), Some(usage), None] = &parsed[..] else {
            panic!("{parsed:?}")
        };
        assert_eq!(role.choices[0].delta.role.as_deref(), Some("assistant"));
        assert_eq!((role.id.as_str(), role.system_fingerprint.as_deref()), ("chatcmpl-1", Some("fp_1")));
        assert_eq!((to.content(), be.content()), (Some("to "), Some("be")));
        assert_eq!(finish.finish_reason(), Some(FinishReason::Length));
        assert_eq!(usage.usage().unwrap().completion_tokens, 3);
        let facts = prepared.writer.facts().unwrap();
        assert_eq!(facts, Facts { finish: Finish::Length, usage: Usage { prompt: 2, completion: 3 } });
        assert!(prepared.writer.push(Event::Text("late".into())).is_empty());
    }

    #[test]
    fn without_include_usage_there_is_no_usage_chunk() {
        let mut prepared = prepared(&chat(r#","stream":true"#));
        let chunks =
            run(&mut prepared.writer, [Event::Started { prompt_tokens: 2 }, done(engine::Finish::Stop)]);
        let parsed = parse(&chunks);
        assert!(
            matches!(&parsed[..], [Some(_), Some(finish), None] if finish.finish_reason() == Some(FinishReason::Stop))
        );
    }

    #[test]
    fn tool_calls_are_streamed_with_their_index() {
        let mut prepared = prepared(&chat(r#","stream":true"#));
        let chunks = run(
            &mut prepared.writer,
            [Event::Started { prompt_tokens: 2 }, call(0), call(1), done(engine::Finish::ToolCalls)],
        );
        let parsed = parse(&chunks);
        let calls: Vec<_> =
            parsed.iter().flatten().flat_map(|chunk| chunk.choices[0].delta.tool_calls.clone()).collect();
        assert_eq!(calls.iter().map(|call| call.index).collect::<Vec<_>>(), [0, 0, 1, 1]);
        assert_eq!((calls[2].name(), calls[3].added_arguments()), (Some("f"), r#"{"a":1}"#));
        assert_eq!(prepared.writer.facts().unwrap().finish, Finish::ToolCalls);
    }

    #[test]
    fn without_stream_the_answer_is_one_body() {
        let mut prepared = prepared(&chat(""));
        assert_eq!(prepared.writer.content_type(), "application/json");
        let events =
            [Event::Started { prompt_tokens: 2 }, Event::Text("to ".into()), Event::Text("be".into())];
        assert!(run(&mut prepared.writer, events).is_empty());
        let chunks = run(&mut prepared.writer, [done(engine::Finish::Stop)]);
        assert_eq!((chunks.len(), chunks[0].len() % 64), (1, 0));
        let answer: ChatCompletion = serde_json::from_slice(&chunks[0]).unwrap();
        assert_eq!(answer.choices[0].message.content.as_deref(), Some("to be"));
        assert_eq!((answer.usage.prompt_tokens, answer.usage.completion_tokens), (2, 3));
    }

    #[test]
    fn a_body_of_calls_has_no_content() {
        let mut prepared = prepared(&chat(""));
        let chunks = run(
            &mut prepared.writer,
            [Event::Started { prompt_tokens: 2 }, call(0), done(engine::Finish::ToolCalls)],
        );
        let answer: ChatCompletion = serde_json::from_slice(&chunks.concat()).unwrap();
        assert_eq!(answer.choices[0].message.content, None);
        assert_eq!(answer.choices[0].message.tool_calls[0].id, "call_0");
        assert_eq!(answer.choices[0].finish_reason, FinishReason::ToolCalls);
    }

    #[test]
    fn an_empty_answer_is_an_empty_text() {
        let mut prepared = prepared(&chat(""));
        let chunks =
            run(&mut prepared.writer, [Event::Started { prompt_tokens: 2 }, done(engine::Finish::Stop)]);
        let answer: ChatCompletion = serde_json::from_slice(&chunks.concat()).unwrap();
        assert_eq!(answer.choices[0].message.content.as_deref(), Some(""));
    }

    #[test]
    fn a_long_body_is_cut_into_chunks_that_join_to_it() {
        let mut prepared = prepared(&chat(""));
        let text = "x".repeat(LARGEST_CHUNK);
        let chunks = run(&mut prepared.writer, [Event::Text(text.clone()), done(engine::Finish::Stop)]);
        assert_eq!(chunks.len(), 2);
        let answer: ChatCompletion = serde_json::from_slice(&chunks.concat()).unwrap();
        assert_eq!(answer.choices[0].message.content.as_deref(), Some(text.as_str()));
    }

    #[test]
    fn parameters_reach_the_engine_as_they_are_committed_to() {
        let tools = r#","tools":[{"type":"function","function":{"name":"f"}}],"seed":-1,"temperature":0.25,"top_p":0.5,"stop":"!","max_tokens":9"#;
        let prepared = prepared(&chat(tools));
        assert_eq!(prepared.job.max_tokens, Some(9));
        assert_eq!(prepared.job.stop, ["!"]);
        assert_eq!(
            prepared.job.sampling,
            Sampling { temperature: 0.25, top_p: 0.5, top_k: 0, seed: Some(u64::MAX) }
        );
        assert_eq!(prepared.job.tools[0]["function"]["name"], "f");
        let sampling = ChatRequest::parse(chat(tools).as_bytes()).unwrap().sampling.encode();
        assert_eq!(prepared.sampling, sampling);
        let none = self::prepared(&chat(&format!(r#"{tools},"tool_choice":"none""#)));
        assert_eq!(none.job.tools, Value::Null);
    }

    #[test]
    fn what_is_not_done_here_is_refused_by_name() {
        let (status, error) = refusal(&chat(r#","wibble":1"#));
        assert_eq!((status, error["error"]["param"].as_str()), (400, Some("wibble")));
        assert_eq!(refusal("{").0, 400);
        let too_long = EngineError::PromptTooLong { tokens: 9, limit: 8 };
        let refusal = Refusal::of_engine(&too_long).unwrap();
        assert!(String::from_utf8(refusal.body).unwrap().contains("context_length_exceeded"));
        assert!(Refusal::of_engine(&EngineError::Busy).is_none());
        assert!(Refusal::of_engine(&EngineError::Internal("x".into())).is_none());
        assert_eq!(Refusal::unknown_model("m").status, 404);
        assert_eq!(Refusal::other_registry(TreeSize::new(3)).status, 409);
    }
}
