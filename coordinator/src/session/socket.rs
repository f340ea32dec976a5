//! A provider's WebSocket: its life from the first message to the last.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use glassbloom_spec::api::{FromProvider, ToProvider, data, frame::MAX_PAYLOAD};
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};

use super::{
    Admitted, Event, Live, Notice, Outgoing,
    admit::{Hello, Refusal, admit},
};
use crate::{app::App, liveness, settle};

/// Largest message of a session: an identifier and as much as a frame of a relayed answer carries.
pub(crate) const MAX_MESSAGE: usize = MAX_PAYLOAD + 8;

/// Serves one provider until either side ends the session.
pub(crate) async fn run(app: Arc<App>, socket: WebSocket, name: String) {
    let (mut sink, mut stream) = socket.split();
    let admitted = async {
        let hello = first_message(&mut stream).await?;
        let (admitted, records) = admit(&app, &hello, &name).await?;
        challenge(&app, &admitted, &mut sink, &mut stream).await?;
        Ok((admitted, records))
    };
    let admitted = admitted.await;
    let (admitted, records) = match admitted {
        Ok(admitted) => admitted,
        Err(Refusal { code, message }) => {
            tracing::warn!(provider = name, code, message, "a provider is refused");
            let refused = ToProvider::Refused { code: code.to_owned(), message };
            let _ = sink.send(text(&refused)).await;
            let _ = sink.send(close("refused")).await;
            return;
        }
    };
    let (live, outbox) = Live::new(admitted);
    // Clients may seal to the provider from here on; what they send waits in the outbox behind the welcome.
    app.sessions.add(&live);
    // Revoked between the judgement and here: nobody else would look before the next refresh.
    app.end_dead_sessions();
    tracing::info!(provider = name, attestation = %live.admitted.attestation, models = ?live.admitted.models, "a provider serves");
    let mut why = "the connection is broken";
    if sink.send(text(&ToProvider::Welcome { records })).await.is_ok() {
        why = tokio::select! {
            why = read(&app, &live, &mut stream) => why,
            why = write(&mut sink, outbox) => why,
            why = live.closed() => why,
            why = drained(&app, &live) => why,
        };
    }
    live.end();
    app.sessions.remove(&live);
    let _ = timeout(CLOSE_WITHIN, sink.send(close(why))).await;
    tracing::info!(provider = name, why, "a provider left");
}

async fn first_message(stream: &mut SplitStream<WebSocket>) -> Result<Hello, Refusal> {
    let expected = || Refusal::new("bad_message", "the first message of a session must be a hello");
    let message = timeout(HELLO_WITHIN, stream.next())
        .await
        .map_err(|_| Refusal::new("too_slow", "no hello came in time"))?;
    let Some(Ok(Message::Text(message))) = message else { return Err(expected()) };
    match serde_json::from_str(&message) {
        Ok(FromProvider::Hello { attestation, capacity, models }) => {
            Ok(Hello { attestation, capacity, models })
        }
        _ => Err(expected()),
    }
}

/// Asks for a sign of life and waits for it: nobody counts as live that has not shown it.
async fn challenge(
    app: &App,
    admitted: &Admitted,
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        Refusal::new(
            "challenge_failed",
            format!(
                "{why}: look for challenges in the provider's log, at its clock, and that its program is up to date"
            ),
        )
    };
    let question = liveness::question(app, admitted).ok_or_else(|| {
        Refusal::new("log_unavailable", "the registry is not read yet; the provider tries again by itself")
    })?;
    let asked = ToProvider::Challenge { epoch: question.epoch, beacon: question.beacon.checkpoint.clone() };
    sink.send(text(&asked))
        .await
        .map_err(|_| refuse("the connection broke before the challenge was answered"))?;
    let answer = async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Text(message))) => match serde_json::from_str(&message) {
                    Ok(FromProvider::ChallengeAnswer { epoch, signature }) if epoch == question.epoch => {
                        return Some(signature);
                    }
                    Ok(FromProvider::Heartbeat { .. }) => {}
                    _ => return None,
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    };
    match timeout(ANSWER_WITHIN, answer).await {
        Err(_) => Err(refuse("no answer came to the challenge")),
        Ok(None) => Err(refuse("the provider did something else than answer the challenge")),
        Ok(Some(signature)) if liveness::joins(app, admitted, &question, &signature).await => Ok(()),
        Ok(Some(_)) => Err(refuse("the answer to the challenge has a signature that does not verify")),
    }
}

/// Takes what the provider sends, until it is silent for too long.
async fn read(app: &Arc<App>, live: &Arc<Live>, stream: &mut SplitStream<WebSocket>) -> &'static str {
    loop {
        let message = match timeout(SILENT_FOR, stream.next()).await {
            Err(_) => return "three heartbeats were missed",
            Ok(None | Some(Err(_)) | Some(Ok(Message::Close(_)))) => return "the connection ended",
            Ok(Some(Ok(message))) => message,
        };
        match message {
            Message::Binary(message) => match data::decode(&message) {
                Some((id, bytes)) => live.deliver(id, message.slice_ref(bytes)),
                None => return "a data message was too short",
            },
            Message::Text(message) => match serde_json::from_str(&message) {
                Ok(FromProvider::Completed { id, receipt, usage }) => {
                    completed(app, live, id, receipt, usage)
                }
                Ok(FromProvider::Failed { id, code, message }) => {
                    tracing::warn!(provider = live.admitted.name, code, message, "a provider failed");
                    live.fail(id, code, message);
                }
                Ok(FromProvider::ChallengeAnswer { epoch, signature }) => {
                    liveness::answered(app, live, epoch, &signature).await
                }
                Ok(FromProvider::Heartbeat { .. }) => {}
                Ok(FromProvider::Hello { .. }) => return "a second hello",
                Err(_) => return "a message could not be read",
            },
            Message::Close(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

/// Logs the receipt in a task of its own: a receipt is logged whether or not anybody still waits for it.
fn completed(
    app: &Arc<App>,
    live: &Arc<Live>,
    id: u64,
    receipt: Vec<u8>,
    usage: glassbloom_spec::api::UsageOpening,
) {
    let Some((order, events)) = live.finish(id) else { return };
    let (app, live) = (Arc::clone(app), Arc::clone(live));
    app.tasks.clone().spawn(async move {
        let settled = settle::settle(&app, &live.admitted, &order, &receipt, &usage).await;
        if let Some(events) = events {
            // Fails when nobody waits any more; the receipt is logged all the same.
            let _ = events.send(Event::Ended(settled)).await;
        }
    });
}

async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    mut outbox: mpsc::UnboundedReceiver<Outgoing>,
) -> &'static str {
    let mut ping = interval(PING_EVERY);
    loop {
        let message = tokio::select! {
            message = outbox.recv() => match message {
                None => return "the session was dropped",
                Some(Outgoing::Cancel(id)) => text(&ToProvider::Cancel { id }),
                Some(Outgoing::Challenge(epoch, beacon)) => text(&ToProvider::Challenge { epoch, beacon }),
                Some(Outgoing::Notice(Notice { code, message })) => {
                    text(&ToProvider::Notice { code: code.to_owned(), message })
                }
                Some(Outgoing::Request(id, sealed)) => Message::Binary(data::encode(id, &sealed).into()),
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return "the connection is broken";
        }
    }
}

/// On shutdown, waits for the answers under way, and not for ever.
async fn drained(app: &App, live: &Live) -> &'static str {
    app.shutdown.requested().await;
    let _ = timeout(DRAIN_WITHIN, live.idle()).await;
    "the coordinator stops"
}

fn text(message: &ToProvider) -> Message {
    Message::Text(serde_json::to_string(message).expect("plain data is JSON").into())
}

fn close(why: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::from_static(why) }))
}

/// As long as a provider waits for the log when it checks that the beacon continues what it has seen.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
const DRAIN_WITHIN: Duration = Duration::from_secs(8);
const HELLO_WITHIN: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(15);
/// Three heartbeats of 15 s.
const SILENT_FOR: Duration = Duration::from_secs(45);
