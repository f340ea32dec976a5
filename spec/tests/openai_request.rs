//! What a chat request may say, one rule after the other.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use glassbloom_spec::openai::{
    ChatRequest, Content, Error, MAX_BODY, MAX_MESSAGES, MAX_TOKENS, Message, ReasoningEffort, Sampling,
    ToolChoice,
};
use serde_json::{Value, json};

fn parse(body: &Value) -> Result<ChatRequest, Error> {
    ChatRequest::parse(body.to_string().as_bytes())
}

/// A minimal request with more fields.
fn with(fields: Value) -> Result<ChatRequest, Error> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let Value::Object(fields) = fields else { panic!("not an object") };
    body.as_object_mut().unwrap().extend(fields);
    parse(&body)
}

/// A request with these messages.
fn messages(messages: Value) -> Result<ChatRequest, Error> {
    with(Value::Object([("messages".to_owned(), messages)].into_iter().collect()))
}

#[track_caller]
fn refused(result: Result<ChatRequest, Error>, code: &str, param: &str) {
    let error = result.expect_err(param);
    assert_eq!(error.status(), 400, "{error}");
    assert_eq!((error.code(), error.param()), (Some(code), Some(param)), "{error}");
    assert!(error.message().contains(param), "names the field: {error}");
}

#[test]
fn a_minimal_request_has_the_defaults() {
    let request = with(json!({})).unwrap();
    assert_eq!(request.model, "m");
    assert_eq!(request.messages.len(), 1);
    assert!(!request.stream && !request.include_usage);
    assert_eq!(request.sampling, Sampling::default());
    assert_eq!(request.tool_choice, ToolChoice::Auto);
    assert!(request.tools.is_empty() && request.reasoning_effort.is_none());
}

#[test]
fn null_counts_as_absent() {
    let all_null = json!({
        "audio": null, "frequency_penalty": null, "function_call": null, "functions": null, "logit_bias": null,
        "logprobs": null, "max_completion_tokens": null, "max_tokens": null, "metadata": null, "modalities": null,
        "moderation": null, "n": null, "parallel_tool_calls": null, "prediction": null, "presence_penalty": null,
        "prompt_cache_key": null, "reasoning_effort": null, "response_format": null, "safety_identifier": null,
        "seed": null, "service_tier": null, "stop": null, "store": null, "stream": null, "stream_options": null,
        "temperature": null, "tool_choice": null, "tools": null, "top_logprobs": null, "top_p": null, "user": null,
        "verbosity": null, "web_search_options": null,
    });
    assert_eq!(with(all_null).unwrap(), with(json!({})).unwrap());
}

#[test]
fn bodies_that_are_no_json_object_are_refused() {
    for body in ["", "{", "[]", "null", "\"text\"", "{\"model\": 1e999}", "{} {}"] {
        let error = ChatRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!((error.status(), error.code()), (400, Some("invalid_json")), "{body}: {error}");
    }
    assert_eq!(ChatRequest::parse(&[0xff]).unwrap_err().code(), Some("invalid_json"));
    let deep = "[".repeat(10_000);
    assert_eq!(ChatRequest::parse(deep.as_bytes()).unwrap_err().code(), Some("invalid_json"));
    assert_eq!(ChatRequest::parse(&vec![b' '; MAX_BODY + 1]).unwrap_err().status(), 413);
}

#[test]
fn a_key_given_twice_is_refused() {
    for body in [
        r#"{"model": "a", "model": "b", "messages": [{"role": "user", "content": "hi"}]}"#,
        r#"{"model": "a", "messages": [{"role": "user", "role": "system", "content": "hi"}]}"#,
    ] {
        let error = ChatRequest::parse(body.as_bytes()).unwrap_err();
        assert!(error.message().contains("twice"), "{error}");
    }
}

#[test]
fn model_and_messages_are_required() {
    refused(parse(&json!({"messages": []})), "missing_required_parameter", "model");
    refused(parse(&json!({"model": "m"})), "missing_required_parameter", "messages");
    refused(with(json!({"model": ""})), "invalid_value", "model");
    refused(with(json!({"model": 4})), "invalid_type", "model");
    refused(messages(json!([])), "invalid_value", "messages");
    refused(messages(json!("hi")), "invalid_type", "messages");
    refused(messages(json!(["hi"])), "invalid_type", "messages[0]");
    let message = json!({"role": "user", "content": ""});
    refused(messages(vec![message; MAX_MESSAGES + 1].into()), "invalid_value", "messages");
}

#[test]
fn fields_nobody_has_are_unknown() {
    refused(with(json!({"temprature": 1})), "unknown_parameter", "temprature");
    refused(with(json!({"top_k": 1})), "unknown_parameter", "top_k");
    refused(
        with(json!({"stream": true, "stream_options": {"x": 1}})),
        "unknown_parameter",
        "stream_options.x",
    );
    refused(messages(json!([{"role": "user", "content": "", "x": 1}])), "unknown_parameter", "messages[0].x");
    let part = json!([{"role": "user", "content": [{"type": "text", "text": "", "x": 1}]}]);
    refused(messages(part), "unknown_parameter", "messages[0].content[0].x");
}

#[test]
fn fields_with_meaning_that_is_not_done_here_are_unsupported() {
    for (param, value) in [
        ("audio", json!({"voice": "alloy", "format": "wav"})),
        ("frequency_penalty", json!(0.5)),
        ("function_call", json!("auto")),
        ("functions", json!([])),
        ("logit_bias", json!({"50256": -100})),
        ("logprobs", json!(true)),
        ("modalities", json!(["text", "audio"])),
        ("moderation", json!({})),
        ("n", json!(2)),
        ("n", json!(0)),
        ("prediction", json!({"type": "content", "content": ""})),
        ("presence_penalty", json!(-2)),
        ("response_format", json!({"type": "json_object"})),
        ("response_format", json!({"type": "json_schema", "json_schema": {"name": "x"}})),
        ("service_tier", json!("flex")),
        ("store", json!(true)),
        ("tool_choice", json!("required")),
        ("tool_choice", json!({"type": "function", "function": {"name": "f"}})),
        ("top_logprobs", json!(3)),
        ("verbosity", json!("low")),
        ("web_search_options", json!({})),
    ] {
        refused(with(json!({ param: value })), "unsupported_parameter", param);
    }
}

#[test]
fn values_that_change_nothing_are_accepted() {
    let harmless = json!({
        "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": false, "top_logprobs": 0,
        "modalities": ["text"], "n": 1, "response_format": {"type": "text"}, "service_tier": "auto", "store": false,
        "tool_choice": "auto", "verbosity": "medium", "user": "u", "metadata": {"k": "v"}, "safety_identifier": "s",
        "prompt_cache_key": "p", "parallel_tool_calls": false,
    });
    assert_eq!(with(harmless).unwrap(), with(json!({})).unwrap());
}

#[test]
fn labels_are_checked_although_ignored() {
    refused(with(json!({"user": 1})), "invalid_type", "user");
    refused(with(json!({"user": "x".repeat(513)})), "invalid_value", "user");
    refused(with(json!({"metadata": {"k": 1}})), "invalid_value", "metadata");
    refused(with(json!({"metadata": "k"})), "invalid_type", "metadata");
    refused(
        with(json!({"response_format": {"type": "text", "x": 1}})),
        "unknown_parameter",
        "response_format.x",
    );
    refused(with(json!({"response_format": {}})), "missing_required_parameter", "response_format.type");
}

#[test]
fn stream_options_belong_to_streams() {
    let request = with(json!({"stream": true, "stream_options": {"include_usage": true}})).unwrap();
    assert!(request.stream && request.include_usage);
    let off =
        json!({"stream": true, "stream_options": {"include_usage": false, "include_obfuscation": false}});
    assert!(!with(off).unwrap().include_usage);
    refused(with(json!({"stream_options": {"include_usage": true}})), "invalid_value", "stream_options");
    let obfuscation = json!({"stream": true, "stream_options": {"include_obfuscation": true}});
    refused(with(obfuscation), "unsupported_parameter", "stream_options.include_obfuscation");
    refused(with(json!({"stream": "yes"})), "invalid_type", "stream");
}

#[test]
fn sampling_is_rounded_to_thousandths_and_bounded() {
    let sampling = |fields| with(fields).unwrap().sampling;
    assert_eq!(sampling(json!({"temperature": 0.7})).temperature_milli, 700);
    assert_eq!(sampling(json!({"temperature": 0})).temperature_milli, 0);
    assert_eq!(sampling(json!({"temperature": 2})).temperature_milli, 2000);
    assert_eq!(sampling(json!({"temperature": 0.33333})).temperature_milli, 333);
    assert_eq!(sampling(json!({"top_p": 0.9})).top_p_milli, 900);
    assert_eq!(sampling(json!({"seed": -7})).seed, Some(-7));
    for value in [json!(-0.1), json!(2.1)] {
        refused(with(json!({"temperature": value})), "invalid_value", "temperature");
    }
    refused(with(json!({"temperature": "hot"})), "invalid_type", "temperature");
    refused(with(json!({"top_p": 1.5})), "invalid_value", "top_p");
    refused(with(json!({"seed": 1.5})), "invalid_type", "seed");
    refused(with(json!({"seed": 18_446_744_073_709_551_615_u64})), "invalid_type", "seed");
}

#[test]
fn the_newer_name_of_max_tokens_wins() {
    let max = |fields| with(fields).unwrap().sampling.max_tokens;
    assert_eq!(max(json!({"max_tokens": 5})), Some(5));
    assert_eq!(max(json!({"max_completion_tokens": 6})), Some(6));
    assert_eq!(max(json!({"max_tokens": 5, "max_completion_tokens": 6})), Some(6));
    for key in ["max_tokens", "max_completion_tokens"] {
        for value in [json!(0), json!(-1), json!(MAX_TOKENS + 1)] {
            refused(with(json!({ key: value })), "invalid_value", key);
        }
        refused(with(json!({ key: 1.5 })), "invalid_type", key);
    }
}

#[test]
fn stop_is_one_to_four_texts() {
    let stop = |value| with(json!({ "stop": value })).map(|request| request.sampling.stop);
    assert_eq!(stop(json!("a")).unwrap(), ["a"]);
    assert_eq!(stop(json!(["a", "b"])).unwrap(), ["a", "b"]);
    assert!(stop(json!([])).unwrap().is_empty());
    refused(with(json!({"stop": ["a", "b", "c", "d", "e"]})), "invalid_value", "stop");
    refused(with(json!({"stop": ""})), "invalid_value", "stop");
    refused(with(json!({"stop": "x".repeat(257)})), "invalid_value", "stop");
    refused(with(json!({"stop": [1]})), "invalid_type", "stop");
    refused(with(json!({"stop": 1})), "invalid_type", "stop");
}

#[test]
fn every_role_is_read() {
    let request = messages(json!([
        {"role": "system", "content": "s"},
        {"role": "developer", "content": [{"type": "text", "text": "d"}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        {"role": "assistant", "content": null, "tool_calls":
            [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "done", "reasoning_content": "hm",
            "refusal": null, "annotations": [], "audio": null, "function_call": null, "tool_calls": null},
    ]))
    .unwrap();
    let roles: Vec<_> = request.messages.iter().map(Message::role).collect();
    assert_eq!(roles, ["system", "system", "user", "assistant", "tool", "assistant"]);
    assert_eq!(request.messages[2].content(), Some(&Content::Parts(vec!["a".into(), "b".into()])));
    assert_eq!(request.messages[2].content().unwrap().text(), "ab");
    assert_eq!(
        request.messages[3].to_template_value(),
        json!({"role": "assistant", "content": null, "tool_calls":
            [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}),
        "templates take arguments as an object"
    );
    assert_eq!(
        request.messages[2].to_template_value(),
        json!({"role": "user", "content": "ab", "name": "ann"})
    );
    let broken = json!([{"role": "assistant", "tool_calls":
        [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}]}]);
    let value = messages(broken).unwrap().messages[0].to_template_value();
    assert_eq!(value["tool_calls"][0]["function"]["arguments"], "{");
}

#[test]
fn messages_that_make_no_sense_are_refused() {
    let one = |message: Value| messages(json!([message]));
    refused(one(json!({"content": "x"})), "missing_required_parameter", "messages[0].role");
    refused(one(json!({"role": "robot", "content": "x"})), "invalid_value", "messages[0].role");
    refused(
        one(json!({"role": "function", "content": "x", "name": "f"})),
        "unsupported_parameter",
        "messages[0].role",
    );
    for role in ["user", "system", "developer", "assistant"] {
        refused(one(json!({ "role": role })), "missing_required_parameter", "messages[0].content");
        refused(one(json!({"role": role, "content": 1})), "invalid_type", "messages[0].content");
        refused(one(json!({"role": role, "content": []})), "invalid_value", "messages[0].content");
    }
    let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]});
    refused(one(image), "unsupported_parameter", "messages[0].content[0].type");
    refused(
        one(json!({"role": "user", "content": "", "tool_calls": []})),
        "unknown_parameter",
        "messages[0].tool_calls",
    );
    refused(one(json!({"role": "user", "content": "", "name": ""})), "invalid_value", "messages[0].name");
    refused(
        one(json!({"role": "assistant", "content": "", "refusal": "no"})),
        "unsupported_parameter",
        "messages[0].refusal",
    );
    refused(
        one(json!({"role": "tool", "content": ""})),
        "missing_required_parameter",
        "messages[0].tool_call_id",
    );
    let stray = json!({"role": "tool", "content": "", "tool_call_id": "c9"});
    refused(one(stray), "invalid_value", "messages[0].tool_call_id");
    let call = |call: Value| one(json!({"role": "assistant", "tool_calls": [call]}));
    let path = "messages[0].tool_calls[0]";
    refused(call(json!({"type": "function"})), "missing_required_parameter", &format!("{path}.id"));
    refused(call(json!({"id": "c", "type": "custom"})), "unsupported_parameter", &format!("{path}.type"));
    let object = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}});
    refused(call(object), "invalid_type", &format!("{path}.function.arguments"));
}

#[test]
fn tools_are_functions() {
    let tool = json!({"type": "function", "function":
        {"name": "get_weather", "description": "d", "parameters": {"type": "object"}, "strict": false}});
    let request = with(json!({"tools": [tool], "tool_choice": "none", "parallel_tool_calls": true})).unwrap();
    assert_eq!(request.tools[0].name, "get_weather");
    assert_eq!(request.tool_choice, ToolChoice::None);
    assert_eq!(request.tools[0].to_value()["function"]["parameters"], json!({"type": "object"}));

    let refuse = |tool: Value, code, at: &str| {
        refused(with(json!({"tools": [tool]})), code, &format!("tools[0].{at}"));
    };
    refuse(json!({"type": "web_search"}), "unsupported_parameter", "type");
    refuse(json!({"type": "function"}), "missing_required_parameter", "function");
    refuse(json!({"type": "function", "function": {}}), "missing_required_parameter", "function.name");
    refuse(json!({"type": "function", "function": {"name": "a b"}}), "invalid_value", "function.name");
    refuse(json!({"type": "function", "function": {"name": "f", "x": 1}}), "unknown_parameter", "function.x");
    refuse(
        json!({"type": "function", "function": {"name": "f", "parameters": []}}),
        "invalid_type",
        "function.parameters",
    );
    refuse(
        json!({"type": "function", "function": {"name": "f", "strict": true}}),
        "unsupported_parameter",
        "function.strict",
    );
    refused(with(json!({"tools": [tool, tool]})), "invalid_value", "tools[1].function.name");
    refused(
        with(json!({"tools": [tool], "parallel_tool_calls": false})),
        "unsupported_parameter",
        "parallel_tool_calls",
    );
    refused(with(json!({"tools": vec![tool; 129]})), "invalid_value", "tools");
    refused(with(json!({"tool_choice": "sometimes"})), "invalid_value", "tool_choice");
    refused(with(json!({"tool_choice": 1})), "invalid_type", "tool_choice");
}

#[test]
fn reasoning_effort_is_carried_on() {
    let request = with(json!({"reasoning_effort": "high"})).unwrap();
    assert_eq!(request.reasoning_effort, Some(ReasoningEffort::High));
    refused(with(json!({"reasoning_effort": "extreme"})), "invalid_value", "reasoning_effort");
}

#[test]
fn a_request_is_written_as_it_was_read() {
    let request = with(json!({
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}]},
            {"role": "user", "content": "b", "name": "ann"},
            {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls":
                [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "d", "tool_call_id": "c"},
        ],
        "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.7, "top_p": 0.123, "seed": 5,
        "max_tokens": 9, "stop": "x", "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "none", "reasoning_effort": "low", "user": "the user's name",
    }))
    .unwrap();
    let written = request.to_json();
    assert_eq!(ChatRequest::parse(&written).unwrap(), request);
    assert!(!String::from_utf8(written).unwrap().contains("user's name"), "labels do not reach the provider");
    let minimal = with(json!({})).unwrap();
    assert_eq!(ChatRequest::parse(&minimal.to_json()).unwrap(), minimal);
    for milli in 0..=2000 {
        let mut request = minimal.clone();
        request.sampling.temperature_milli = milli;
        request.sampling.top_p_milli = milli / 2;
        assert_eq!(ChatRequest::parse(&request.to_json()).unwrap(), request);
    }
}

#[test]
fn numbers_do_not_drift_on_their_way() {
    // Found while fuzzing: read inexactly, each of these changed its last digit every time it was passed on.
    for number in ["7.932183404259827e46", "-1.3246240897224762e265", "31.245270191439438"] {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"maximum":{number}}}}}}}]}}"#
        );
        let request = ChatRequest::parse(body.as_bytes()).unwrap();
        assert_eq!(ChatRequest::parse(&request.to_json()).unwrap(), request);
        let exact: f64 = number.parse().unwrap();
        let maximum = &request.tools[0].to_value()["function"]["parameters"]["maximum"];
        assert_eq!(maximum.as_f64(), Some(exact));
    }
}
