//! A network that cannot serve: proper errors, and nobody computes for nothing.

use futures_util::StreamExt;
use glassbloom_service::http_client;
use glassbloom_spec::api::path;
use serde_json::json;

use crate::support::{
    MODEL, Options, TestNet,
    client::{Said, chat, read, request, send},
    engine::Hold,
    until, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_nobody_serves_is_not_found() {
    within(async {
        let net = TestNet::start().await;
        let client = net.client(&net.url).await;
        for base in [&net.url, &client.url] {
            for stream in [true, false] {
                let mut body = request(stream);
                body["model"] = json!("another-model");
                let builder = http_client().post(format!("{base}{}", path::CHAT)).bearer_auth(&net.key);
                let said = send(builder, &body).await;
                said.is_refused_at_once(404, "model_not_found", "another-model");
                assert_eq!(said.error.unwrap()["param"], "model");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_said_to_be_full() {
    within(async {
        let net = TestNet::start_with(Options { capacity: 1, ..Options::default() }).await;
        let client = net.client(&net.url).await;
        let engine = net.providers[0].engine.clone();
        engine.hold.send_replace(Hold::InTheMiddle);
        let held = http_client()
            .post(format!("{}{}", client.url, path::CHAT))
            .bearer_auth(&client.key)
            .body(request(true).to_string())
            .send()
            .await
            .unwrap();
        let mut events = held.bytes_stream();
        events.next().await.unwrap().unwrap();
        client.ask().await.is_refused_at_once(503, "overloaded", "full");
        chat(&net.url, &net.key, true).await.is_refused_at_once(503, "overloaded", "full");
        engine.hold.send_replace(Hold::Nowhere);
        let rest: Vec<_> = events.collect().await;
        let text = rest.into_iter().map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap());
        assert!(text.collect::<String>().ends_with("data: [DONE]\n\n"), "the first answer is not disturbed");
        until(async || chat(&net.url, &net.key, true).await.done.then_some(())).await;
        client.ask().await.is_answered();
    })
    .await;
}

/// Kills the only provider while it answers, and gives what the application got.
async fn asked_of_a_dying_provider(hold: Hold, by_the_user: bool, stream: bool) -> Said {
    let mut net = TestNet::start().await;
    let client = net.client(&net.url).await;
    let engine = net.providers[0].engine.clone();
    engine.hold.send_replace(hold);
    let url = if by_the_user { &client.url } else { &net.url };
    let builder = http_client().post(format!("{url}{}", path::CHAT)).bearer_auth(&net.key);
    let asked = tokio::spawn(builder.body(request(stream).to_string()).send());
    engine.started.subscribe().wait_for(|count| *count > 0).await.unwrap();
    let provider = net.providers[0].running.take().unwrap();
    let said = if hold == Hold::InTheMiddle && stream {
        // Its head is there once the answer has begun.
        let response = asked.await.unwrap().unwrap();
        provider.kill();
        read(response).await
    } else {
        provider.kill();
        read(asked.await.unwrap().unwrap()).await
    };
    // It is not offered any more.
    until(async || net.offered().await.is_none().then_some(())).await;
    client.let_cache_expire();
    client.ask().await.is_refused_at_once(404, "model_not_found", MODEL);
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_dies_is_an_error_and_never_an_answer() {
    within(async {
        for by_the_user in [true, false] {
            for (hold, stream) in
                [(Hold::AtTheStart, true), (Hold::InTheMiddle, true), (Hold::InTheMiddle, false)]
            {
                let said = asked_of_a_dying_provider(hold, by_the_user, stream).await;
                let code = said.error.as_ref().unwrap()["code"].as_str().unwrap().to_owned();
                assert!(matches!(code.as_str(), "coordinator_error" | "provider_gone"), "{said:#?}");
                said.is_refused(&code, "the provider went away");
                let began = hold == Hold::InTheMiddle && stream;
                assert_eq!(said.status, if began { 200 } else { 502 }, "{said:#?}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_the_engine() {
    within(async {
        let net = TestNet::start().await;
        let client = net.client(&net.url).await;
        let engine = net.providers[0].engine.clone();
        engine.hold.send_replace(Hold::InTheMiddle);
        for (done, base) in (0_u32..).zip([&client.url, &net.url]) {
            let response = http_client()
                .post(format!("{base}{}", path::CHAT))
                .bearer_auth(&net.key)
                .body(request(true).to_string())
                .send()
                .await
                .unwrap();
            let mut events = response.bytes_stream();
            events.next().await.unwrap().unwrap();
            assert_eq!(*engine.cancelled.borrow(), done);
            drop(events);
            engine.cancelled.subscribe().wait_for(|count| *count == done + 1).await.unwrap();
        }
        engine.hold.send_replace(Hold::Nowhere);
        client.ask().await.is_answered();
    })
    .await;
}
