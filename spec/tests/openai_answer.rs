//! Answers, errors and event streams in the form that OpenAI's clients expect.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use glassbloom_spec::{
    openai::{
        ChatChunk, ChatCompletion, ChunkWriter, DONE, Error, FinishReason, Identity, Model, ModelList, Reply,
        SseParser, ToolCall, ToolCallDelta, Usage,
        sse::{BadStream, KEEP_ALIVE, MAX_EVENT, SseEvent, pad, pad_json, sse_error},
    },
    seal::Padding,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn identity() -> Identity {
    Identity {
        id: "chatcmpl-1".into(),
        created: 1_700_000_000.into(),
        model: "m".into(),
        system_fingerprint: "b1".into(),
    }
}

const USAGE: Usage = Usage { prompt_tokens: 3, cached_tokens: 1, completion_tokens: 4, reasoning_tokens: 2 };

fn usage_json() -> Value {
    json!({
        "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0},
    })
}

fn events(bytes: &[u8]) -> Vec<SseEvent> {
    let mut parser = SseParser::default();
    let events = parser.push(bytes).unwrap();
    parser.finish().unwrap();
    events
}

fn json_of(event: &[u8]) -> Value {
    serde_json::from_str(&events(event)[0].data).unwrap()
}

#[test]
fn a_whole_answer_has_every_required_key() {
    let reply = Reply { content: Some("hello".into()), ..Reply::default() };
    let answer = ChatCompletion::new(identity(), reply, FinishReason::Stop, USAGE);
    let expected = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "m",
        "choices": [{"index": 0, "message":
            {"role": "assistant", "content": "hello", "refusal": null, "annotations": []},
            "logprobs": null, "finish_reason": "stop"}],
        "usage": usage_json(), "system_fingerprint": "b1",
    });
    assert_eq!(serde_json::from_slice::<Value>(&answer.to_json()).unwrap(), expected);
    assert_eq!(serde_json::from_slice::<ChatCompletion>(&answer.to_json()).unwrap(), answer);
}

#[test]
fn an_answer_with_calls_has_null_content() {
    let call = ToolCall { id: "call_1".into(), name: "f".into(), arguments: "{}".into() };
    let reply = Reply { tool_calls: vec![call], reasoning: Some("hm".into()), content: None };
    let mut answer = ChatCompletion::new(identity(), reply, FinishReason::ToolCalls, USAGE);
    answer.glassbloom = Some(json!({"receipt": "r"}));
    let value = serde_json::to_value(&answer).unwrap();
    assert_eq!(
        value["choices"][0],
        json!({"index": 0, "message": {"role": "assistant", "content": null, "refusal": null, "annotations": [],
            "reasoning_content": "hm", "tool_calls":
            [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            "logprobs": null, "finish_reason": "tool_calls"})
    );
    assert_eq!(value["glassbloom"]["receipt"], "r");
    assert_eq!(serde_json::from_value::<ChatCompletion>(value).unwrap(), answer);
}

#[test]
fn pieces_have_every_required_key() {
    let writer = ChunkWriter::new(identity(), false);
    let piece = |delta: Value, finish_reason: Value| {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m",
            "system_fingerprint": "b1",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}],
        })
    };
    assert_eq!(json_of(&writer.role()), piece(json!({"role": "assistant", "content": ""}), Value::Null));
    assert_eq!(json_of(&writer.content("hi")), piece(json!({"content": "hi"}), Value::Null));
    assert_eq!(json_of(&writer.reasoning("hm")), piece(json!({"reasoning_content": "hm"}), Value::Null));
    assert_eq!(json_of(&writer.finish(FinishReason::Length)), piece(json!({}), json!("length")));
    assert_eq!(
        json_of(&writer.tool_call(ToolCallDelta::start(0, "call_1", "f"))),
        piece(
            json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                "function": {"name": "f", "arguments": ""}}]}),
            Value::Null
        )
    );
    assert_eq!(
        json_of(&writer.tool_call(ToolCallDelta::arguments(0, "{\"x\""))),
        piece(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\""}}]}), Value::Null)
    );
}

#[test]
fn usage_comes_last_and_is_null_before() {
    let writer = ChunkWriter::new(identity(), true);
    assert_eq!(json_of(&writer.content("hi")).get("usage"), Some(&Value::Null));
    let last = json_of(&writer.usage(USAGE));
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &usage_json()));
    let extension = json_of(&writer.extension(json!({"receipt": "r"})));
    assert_eq!((&extension["choices"], &extension["glassbloom"]["receipt"]), (&json!([]), &json!("r")));
    assert_eq!(json_of(&ChunkWriter::new(identity(), false).content("hi")).get("usage"), None);
}

#[test]
fn pieces_are_read_back() {
    let writer = ChunkWriter::new(identity(), true);
    let read = |event: &[u8]| serde_json::from_str::<ChatChunk>(&events(event)[0].data).unwrap();
    assert_eq!(read(&writer.content("hi")).content(), Some("hi"));
    assert_eq!(read(&writer.content("hi")).usage(), None);
    assert_eq!(read(&writer.usage(USAGE)).usage(), Some(USAGE));
    assert_eq!(read(&writer.finish(FinishReason::Stop)).finish_reason(), Some(FinishReason::Stop));
    let call = read(&writer.tool_call(ToolCallDelta::start(1, "id", "f")))
        .choices
        .remove(0)
        .delta
        .tool_calls
        .remove(0);
    assert_eq!(
        (call.index, call.id.as_deref(), call.name(), call.added_arguments()),
        (1, Some("id"), Some("f"), "")
    );
    // From a server that leaves keys out and has others.
    let foreign = r#"{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","timings":{},
        "choices":[{"index":0,"delta":{"content":"hi","x":1}}]}"#;
    assert_eq!(serde_json::from_str::<ChatChunk>(foreign).unwrap().content(), Some("hi"));
}

#[test]
fn models_have_their_four_keys() {
    let list = ModelList::new(vec![Model::new("m", 5.into(), "glassbloom")]);
    assert_eq!(
        serde_json::to_value(&list).unwrap(),
        json!({"object": "list", "data": [{"id": "m", "object": "model", "created": 5, "owned_by": "glassbloom"}]})
    );
    assert!(list.get("m").is_some() && list.get("n").is_none());
}

#[test]
fn errors_have_their_four_keys() {
    let cases = [
        (
            Error::invalid_request("stop", "invalid_value", "x"),
            400,
            "invalid_request_error",
            Some("stop"),
            "invalid_value",
        ),
        (Error::unsupported("n", "x"), 400, "invalid_request_error", Some("n"), "unsupported_parameter"),
        (Error::unauthorized("x"), 401, "invalid_request_error", None, "invalid_api_key"),
        (Error::forbidden("x"), 403, "invalid_request_error", None, "forbidden"),
        (Error::model_not_found("m"), 404, "invalid_request_error", Some("model"), "model_not_found"),
        (Error::unknown_url("GET", "/v2"), 404, "invalid_request_error", None, "unknown_url"),
        (Error::method_not_allowed("GET", "/v1"), 405, "invalid_request_error", None, "method_not_allowed"),
        (Error::too_large(9), 413, "invalid_request_error", None, "request_too_large"),
        (Error::rate_limited("x"), 429, "requests", None, "rate_limit_exceeded"),
        (Error::insufficient_quota("x"), 429, "insufficient_quota", None, "insufficient_quota"),
        (Error::internal(), 500, "server_error", None, "internal_error"),
        (Error::upstream("no_receipt", "x"), 502, "server_error", None, "no_receipt"),
        (Error::overloaded("x"), 503, "server_error", None, "overloaded"),
    ];
    for (error, status, kind, param, code) in cases {
        assert_eq!(error.status(), status);
        let body: Value = serde_json::from_slice(&error.to_json()).unwrap();
        let message = error.message();
        assert_eq!(body, json!({"error": {"message": message, "type": kind, "param": param, "code": code}}));
        assert_eq!(Error::from_response(status, &error.to_json()), Some(error));
    }
}

#[test]
fn errors_of_other_servers_are_read() {
    let read = |body: &str| Error::from_response(500, body.as_bytes());
    let error = read(r#"{"error": {"message": "broken", "code": 500}}"#).unwrap();
    assert_eq!((error.message(), error.code(), error.param()), ("broken", Some("500"), None));
    for body in ["", "<html>", "{}", r#"{"error": "text"}"#, r#"{"error": {}}"#] {
        assert_eq!(read(body), None, "{body}");
    }
}

#[test]
fn streams_are_read_whatever_their_line_endings() {
    let expected = [
        SseEvent { event: None, data: "1".into() },
        SseEvent { event: Some("x".into()), data: "a\nb".into() },
        SseEvent { event: None, data: "[DONE]".into() },
    ];
    for end in ["\n", "\r\n", "\r"] {
        let stream =
            "\u{feff}: comment\ndata: 1\nid: 7\n\nevent: x\ndata: a\ndata:b\nretry: 3\nnonsense\n\n\n\
                      event: unused\n\ndata: [DONE]\n\n"
                .replace('\n', end);
        assert_eq!(events(stream.as_bytes()), expected, "{end:?}");
        for step in 1..5 {
            let mut parser = SseParser::default();
            let events: Vec<_> =
                stream.as_bytes().chunks(step).flat_map(|piece| parser.push(piece).unwrap()).collect();
            assert_eq!(events, expected);
        }
    }
    assert!(events(DONE)[0].is_done());
    assert!(events(KEEP_ALIVE).is_empty());
}

#[test]
fn streams_that_are_cut_too_long_or_not_text_are_refused() {
    for cut in ["data: 1", "data: 1\n", "event: x\n"] {
        let mut parser = SseParser::default();
        assert_eq!(parser.push(cut.as_bytes()).unwrap(), []);
        assert_eq!(parser.finish(), Err(BadStream::Truncated), "{cut:?}");
    }
    assert_eq!(SseParser::default().push(b"data: \xff\n"), Err(BadStream::Utf8));
    assert_eq!(SseParser::default().push(&vec![b'x'; MAX_EVENT + 1]), Err(BadStream::TooLong));
    let mut many = SseParser::default();
    let line = [b"data: ".as_slice(), &[b'x'; 1000], b"\n"].concat();
    let result = (0..2000).try_for_each(|_| many.push(&line).map(drop));
    assert_eq!(result, Err(BadStream::TooLong));
}

#[test]
fn an_error_in_a_stream_is_an_event() {
    let value = json_of(&sse_error(&Error::overloaded("x")));
    assert_eq!(value["error"]["code"], "overloaded");
}

#[test]
fn padded_events_have_few_sizes_and_mean_the_same() {
    let writer = ChunkWriter::new(identity(), false);
    for len in 0..200 {
        let event = writer.content("x".repeat(len));
        for padding in [Padding::Off, Padding::To64, Padding::To512] {
            let padded = pad(event.clone(), padding);
            assert_eq!(padded.len(), padding.padded(padded.len()));
            assert!(padded.len() < event.len() + 2 + padding.padded(1));
            assert_eq!(events(&padded), events(&event));
        }
    }
    assert_eq!(pad(DONE.to_vec(), Padding::Off), DONE);
    assert_eq!(pad_json(b"{}".to_vec(), Padding::To64).len(), 64);
    assert_eq!(serde_json::from_slice::<Value>(&pad_json(b"{}".to_vec(), Padding::To64)).unwrap(), json!({}));
}

proptest! {
    #[test]
    fn text_survives_a_stream(text: String, step in 1..50usize) {
        let writer = ChunkWriter::new(identity(), false);
        let stream = [pad(writer.content(text.clone()), Padding::To64), DONE.to_vec()].concat();
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for piece in stream.chunks(step) {
            events.extend(parser.push(piece).unwrap());
        }
        prop_assert_eq!(events.len(), 2);
        let chunk: ChatChunk = serde_json::from_str(&events[0].data).unwrap();
        prop_assert_eq!(chunk.content(), Some(text.as_str()));
    }
}
