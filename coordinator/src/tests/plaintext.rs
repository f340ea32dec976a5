//! Plain requests, which the coordinator seals.

use glassbloom_spec::{
    api::{FromProvider, path},
    openai::ChatRequest,
    proof::TlogProof,
    receipt::SealedBy,
};
use serde_json::{Value, json};

use super::{
    net::{MODEL, Net},
    provider::Provider,
};

fn post(net: &Net, body: &Value) -> reqwest::RequestBuilder {
    let request = net.http.post(format!("{}{}", net.url, path::CHAT)).bearer_auth(&net.key);
    request.header("content-type", "application/json").body(body.to_string())
}

fn ask(stream: bool) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": stream})
}

fn sampling(body: &Value) -> Vec<u8> {
    ChatRequest::parse(body.to_string().as_bytes()).unwrap().sampling.encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_receipt_and_proof_before_done() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let verified = net.verified().await;
    let posted = tokio::spawn(post(&net, &ask(true)).send());
    let (id, request, opened) = provider.request().await;
    assert_eq!(request.sealed_by, SealedBy::Coordinator);
    let mut answer = provider.begin(id, opened, "text/event-stream").await;
    for word in ["one", "two"] {
        let event = json!({"id": "c", "created": 5, "model": MODEL, "choices": [{"index": 0, "delta": {"content": word}}]});
        provider.chunk(id, &mut answer, &format!("data: {event}\n\n")).await;
    }
    provider.chunk(id, &mut answer, "data: [DONE]\n\n").await;
    provider.finish(id, answer, &verified, &sampling(&ask(true))).await;
    let response = posted.await.unwrap().unwrap();
    assert_eq!(response.headers()["glassbloom-sealed-by"], "coordinator");
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = response.text().await.unwrap();
    let events: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(events.len(), 4, "{text}");
    assert_eq!(events[3], "[DONE]");
    let last: Value = serde_json::from_str(events[2]).unwrap();
    assert_eq!((last["choices"].as_array().unwrap().len(), last["id"].as_str()), (0, Some("c")));
    let glassbloom = &last["glassbloom"];
    assert_eq!(glassbloom["sealed_by"], "coordinator");
    let proof = TlogProof::parse(glassbloom["proof"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(glassbloom["index"], proof.index.get());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_carries_the_same() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let verified = net.verified().await;
    let posted = tokio::spawn(post(&net, &ask(false)).send());
    let (id, _, opened) = provider.request().await;
    let mut answer = provider.begin(id, opened, "application/json").await;
    provider.chunk(id, &mut answer, r#"{"choices":[{"message":{"content":"hello"}}]}   "#).await;
    provider.finish(id, answer, &verified, &sampling(&ask(false))).await;
    let response = posted.await.unwrap().unwrap();
    assert_eq!(response.headers()["glassbloom-sealed-by"], "coordinator");
    let value: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(value["choices"][0]["message"]["content"], "hello");
    assert_eq!(value["glassbloom"]["log"], "test.local/receipts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_inside_is_the_answer_outside() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let posted = tokio::spawn(post(&net, &ask(true)).send());
    let (id, _, opened) = provider.request().await;
    let (head, mut answer) = opened.start(400, "application/json", glassbloom_service::random()).unwrap();
    provider.send(id, &head).await;
    let error = json!({"error": {"message": "no", "type": "invalid_request_error", "param": null, "code": "context_length_exceeded"}});
    provider.chunk(id, &mut answer, &error.to_string()).await;
    provider.send(id, &answer.finish_refused().unwrap()).await;
    provider
        .tell(&FromProvider::Failed { id, code: "refused".to_owned(), message: "sealed".to_owned() })
        .await;
    assert_eq!(Net::code(posted.await.unwrap().unwrap(), 400).await, "context_length_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_is_an_error_and_never_done() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let posted = tokio::spawn(post(&net, &ask(true)).send());
    let (id, _, opened) = provider.request().await;
    let mut answer = provider.begin(id, opened, "text/event-stream").await;
    provider.chunk(id, &mut answer, "data: {\"choices\":[]}\n\n").await;
    let response = posted.await.unwrap().unwrap();
    drop(provider.socket);
    let text = response.text().await.unwrap();
    assert!(text.contains("provider_gone") && !text.contains("[DONE]"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_says_why() {
    let net = Net::start().await;
    assert_eq!(Net::code(post(&net, &ask(true)).send().await.unwrap(), 404).await, "model_not_found");
    assert!(post(&net, &json!({"model": 5})).send().await.unwrap().status().is_client_error());
    let closed = Net::start_with(|config| config.api.plaintext = false).await;
    let response = post(&closed, &ask(true)).send().await.unwrap();
    assert!(!response.headers().contains_key("glassbloom-sealed-by"));
    assert_eq!(Net::code(response, 403).await, "plaintext_off");
}
