//! Sealed requests from a client's side.

use std::time::Duration;

use futures_util::StreamExt;
use glassbloom_service::SystemClock;
use glassbloom_spec::{
    api::{
        FromProvider, ToProvider,
        frame::{Decoder, Frame, RelayError},
    },
    envelope::{ClientExchange, ClientRequest, Ended, Opened, seal},
    hash::Hash,
    leaf::{Payload, Revocation},
    receipt::SealedBy,
    verify::VerifiedProvider,
};
use tokio::time::timeout;

use super::{
    net::{MODEL, Net},
    provider::{Claims, Provider, bundle},
};
use crate::{session::Order, settle::settle};

const BODY: &[u8] = br#"{"model":"bloom-test","messages":[{"role":"user","content":"hi"}]}"#;

fn sealed(provider: &VerifiedProvider) -> (Vec<u8>, ClientExchange) {
    let request = ClientRequest {
        body: BODY.to_vec(),
        sampling: Some(b"sampling".to_vec()),
        sealed_by: SealedBy::User,
        attempt: 1,
    };
    seal(provider, &request, &glassbloom_service::random()).unwrap()
}

/// Reads frames as they come.
struct Frames {
    response: reqwest::Response,
    decoder: Decoder,
}

impl Frames {
    fn new(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        Self { response, decoder: Decoder::default() }
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let bytes = timeout(Duration::from_secs(20), self.response.chunk()).await.unwrap().unwrap()?;
            self.decoder.push(&bytes);
        }
    }

    async fn error(&mut self) -> RelayError {
        loop {
            match self.next().await {
                Some(Frame::Error(error)) => return error,
                Some(Frame::Sealed(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_and_ends_with_a_proof_that_verifies_offline() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    assert_eq!(net.get("/v1/models/bloom-test").await.0, 200);
    let verified = net.verified().await;
    let (bytes, mut exchange) = sealed(&verified);
    let posted = tokio::spawn(net.sealed_request(verified.attestation_hash(), bytes).send());
    let (id, request, opened) = provider.request().await;
    assert_eq!(request.body, BODY);
    let mut answer = provider.begin(id, opened, "text/plain").await;
    // The head reaches the client before there is anything more: nothing is held back.
    let mut frames = Frames::new(posted.await.unwrap().unwrap());
    let Some(Frame::Sealed(head)) = frames.next().await else { panic!("expected sealed bytes") };
    assert!(matches!(&exchange.push(&head).unwrap()[..], [Opened::Head { status: 200, .. }]));
    for word in ["one", "two"] {
        provider.chunk(id, &mut answer, word).await;
        let Some(Frame::Sealed(bytes)) = frames.next().await else { panic!("expected sealed bytes") };
        assert_eq!(exchange.push(&bytes).unwrap(), [Opened::Chunk(word.into())]);
    }
    provider.finish(id, answer, &verified, b"sampling").await;
    let proof = loop {
        match frames.next().await.unwrap() {
            Frame::Sealed(bytes) => drop(exchange.push(&bytes).unwrap()),
            Frame::Proof(proof) => break proof,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(frames.next().await, None, "the proof is the last frame");
    let (_, Ended::Answered(receipt)) = exchange.finish(&verified).unwrap() else {
        panic!("expected a receipt")
    };
    let logged = receipt.logged(&net.policy(), &proof).unwrap();
    assert_eq!(logged.head().origin, "test.local/receipts");
    let outcome =
        bundle(&verified, &logged).verify(&net.policy(), glassbloom_service::Clock::now(&SystemClock));
    assert!(outcome.sentence.is_some(), "{:?}", outcome.report);
    // 10 tokens at 3 and 20 at 5.
    let booked = net.app.store.api_keys().await.unwrap();
    assert_eq!((booked[0].requests, booked[0].charge), (1, 130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_is_a_cancel_and_its_receipt_is_logged_all_the_same() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let verified = net.verified().await;
    let (bytes, _) = sealed(&verified);
    let posted = tokio::spawn(net.sealed_request(verified.attestation_hash(), bytes).send());
    let (id, _, opened) = provider.request().await;
    let mut answer = provider.begin(id, opened, "text/plain").await;
    provider.chunk(id, &mut answer, "one").await;
    let mut frames = Frames::new(posted.await.unwrap().unwrap());
    frames.next().await.unwrap();
    drop(frames);
    assert_eq!(provider.hear().await, Some(ToProvider::Cancel { id }));
    let before = net.checkpoint("receipts").await.size();
    let (receipt, usage) = provider.receipt(&answer, &verified, b"sampling");
    provider.tell(&FromProvider::Completed { id, receipt: receipt.bytes().to_vec(), usage }).await;
    while net.app.store.api_keys().await.unwrap()[0].requests == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(net.checkpoint("receipts").await.size().get(), before.get() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_before_the_first_byte_is_a_cancel_too() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let verified = net.verified().await;
    let posted = tokio::spawn(net.sealed_request(verified.attestation_hash(), sealed(&verified).0).send());
    let (id, ..) = provider.request().await;
    posted.abort();
    assert_eq!(provider.hear().await, Some(ToProvider::Cancel { id }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_dies_is_an_error_before_and_after_the_first_byte() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let verified = net.verified().await;
    let attestation = verified.attestation_hash();
    let early = tokio::spawn(net.sealed_request(attestation, sealed(&verified).0).send());
    provider.request().await;
    let late = tokio::spawn(net.sealed_request(attestation, sealed(&verified).0).send());
    let (id, _, opened) = provider.request().await;
    provider.begin(id, opened, "text/plain").await;
    let mut frames = Frames::new(late.await.unwrap().unwrap());
    frames.next().await.unwrap();
    drop(provider.socket);
    assert_eq!(Net::code(early.await.unwrap().unwrap(), 502).await, "provider_gone");
    assert_eq!(frames.error().await.code, "provider_gone");
    assert_eq!(frames.next().await, None);
    // Nobody serves the model any more.
    let response = net.post_sealed(attestation, sealed(&verified).0).await;
    assert_eq!(Net::code(response, 404).await, "model_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_relayed_say_why() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let verified = net.verified().await;
    let attestation = verified.attestation_hash();
    let post = || net.sealed_request(attestation, sealed(&verified).0);
    let other = net.post_sealed(Hash::of(b"other"), sealed(&verified).0).await;
    assert_eq!(Net::code(other, 409).await, "attestation_not_live");
    let with = |name: &'static str, value: &'static str| {
        let mut request = post().build().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        net.http.execute(request)
    };
    let model = with("glassbloom-model", "other").await.unwrap();
    assert_eq!(Net::code(model, 404).await, "model_not_found");
    let media = with("content-type", "text/plain").await.unwrap();
    assert_eq!(Net::code(media, 415).await, "unsupported_media_type");
    let hash = with("glassbloom-attestation", "none").await.unwrap();
    assert_eq!(Net::code(hash, 400).await, "invalid_request");
    let large = net.post_sealed(attestation, vec![0; (1 << 20) + 1]).await;
    assert_eq!(Net::code(large, 413).await, "request_too_large");
    // The capacity is 2.
    let held = [tokio::spawn(post().send()), tokio::spawn(post().send())];
    let (first, ..) = provider.request().await;
    provider.request().await;
    let full = post().send().await.unwrap();
    assert_eq!(full.headers()["retry-after"], "2");
    assert_eq!(Net::code(full, 503).await, "overloaded");
    let failed =
        FromProvider::Failed { id: first, code: "engine-failed".to_owned(), message: "it broke".to_owned() };
    provider.tell(&failed).await;
    let mut held = futures_util::stream::iter(held).buffer_unordered(2);
    let ended = held.next().await.unwrap().unwrap().unwrap();
    assert_eq!(Net::code(ended, 502).await, "engine-failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_receipt_of_the_provider_does_not_enter_the_log() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let other = Provider::connect_as(&net, &Claims { seed: 2, ..Claims::default() }).await.unwrap();
    let before = net.checkpoint("receipts").await.size();
    assert_eq!(net.bundle().await.providers.len(), 2, "both providers are offered");
    let verified = net.verified_as(provider.attestation.leaf_hash()).await;
    for forged in [b"not a statement".to_vec(), other.attestation.bytes().to_vec()] {
        let posted =
            tokio::spawn(net.sealed_request(verified.attestation_hash(), sealed(&verified).0).send());
        let (id, _, opened) = provider.request().await;
        let answer = provider.begin(id, opened, "text/plain").await;
        let (_, usage) = provider.receipt(&answer, &verified, b"sampling");
        provider.tell(&FromProvider::Completed { id, receipt: forged, usage }).await;
        let mut frames = Frames::new(posted.await.unwrap().unwrap());
        assert_eq!(frames.error().await.code, "bad_receipt");
    }
    assert_eq!(net.checkpoint("receipts").await.size(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn b8_a_revoked_key_stays_dead() {
    let net = Net::start().await;
    let mut provider = Provider::connect(&net).await;
    let verified = net.verified().await;
    let (bytes, _) = sealed(&verified);
    let posted = tokio::spawn(net.sealed_request(verified.attestation_hash(), bytes).send());
    let (id, _, opened) = provider.request().await;
    let mut answer = provider.begin(id, opened, "text/plain").await;
    provider.chunk(id, &mut answer, "half an ").await;
    let mut frames = Frames::new(posted.await.unwrap().unwrap());
    assert!(matches!(frames.next().await, Some(Frame::Sealed(_))));

    let live = net.app.sessions.all().pop().unwrap();
    let size = net.app.receipts.size().await.unwrap();
    let key = provider.attestation.key_id();
    let revocation = Revocation { key, from: size, reason: "stolen".to_owned() };
    net.app.registry.append(&revocation.sign(&net.app.signer).unwrap()).await.unwrap();
    net.app.end_dead_sessions();
    // The request under way ends, and so does the session; a new one is not even handed over.
    assert_eq!(frames.error().await.code, "provider_gone");
    let (bytes, _) = sealed(&verified);
    let refused = net.post_sealed(verified.attestation_hash(), bytes).await;
    assert_eq!(Net::code(refused, 404).await, "model_not_found");
    // A receipt that was on its way does not enter the log.
    let (receipt, opening) = provider.receipt(&answer, &verified, b"{}");
    let order = Order {
        account: 1,
        model: MODEL.to_owned(),
        request_id: "r".to_owned(),
        sealed_by: SealedBy::User,
        started: net.app.clock.now(),
    };
    let settled = settle(&net.app, &live.admitted, &order, receipt.bytes(), &opening).await;
    let error = settled.unwrap_err();
    assert!(error.code() == "bad_receipt" && error.to_string().contains("revoked"), "{error}");
    assert_eq!(net.app.receipts.size().await.unwrap(), size);
    assert_eq!(provider.hear().await, None);
    // Neither a reconnect nor an idle heartbeat brings the key back, as it did elsewhere.
    let (code, _) = Provider::connect_as(&net, &Claims::default()).await.map(|_| ()).unwrap_err();
    assert_eq!(code, "key_revoked");
}
