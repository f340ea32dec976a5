//! A coordinator that tampers with answers on their way.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderValue, StatusCode, header};
use glassbloom_spec::{
    api::{
        MEDIA_RELAY,
        frame::{Frame, RelayError},
        path,
    },
    hash::Hash,
    id::UnixSeconds,
    note::{NoteSigner, SignedNote},
    promise::Promise,
    proof::TlogProof,
};

use crate::support::{
    NAME, TestNet,
    client::{Client, Said},
    engine::ANSWER,
    evil::{Evil, encode, frames},
    within,
};

/// What the relay cannot help but say.
const BROKEN: &str = "Glassbloom refused: ";

struct Scene {
    evil: Evil,
    client: Client,
    net: TestNet,
}

impl Scene {
    async fn set() -> Self {
        let net = TestNet::start().await;
        let evil = Evil::before(&net.url).await;
        Self { client: net.client(&evil.url).await, evil, net }
    }

    /// The frames of an honest answer.
    async fn honest(&self) -> Vec<Frame> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        self.evil.on_frames(move |frames| keep.lock().unwrap().clone_from(frames));
        self.client.ask().await.is_answered();
        self.evil.behave();
        let frames = kept.lock().unwrap().clone();
        assert!(frames.len() > ANSWER.len() && matches!(frames.last(), Some(Frame::Proof(_))), "{frames:?}");
        frames
    }

    /// What an application gets when the frames are tampered with, as a stream and in one piece.
    async fn tampered(&self, change: impl Fn(&mut Vec<Frame>) + Send + Sync + 'static) -> [Said; 2] {
        self.evil.on_frames(change);
        let said = [self.client.ask().await, self.client.ask_whole().await];
        assert_eq!(said[1].text, "", "an answer in one piece is all or nothing");
        assert_eq!(said[1].status, 502);
        said
    }

    async fn tampered_is_refused(
        &self,
        code: &str,
        words: &str,
        change: impl Fn(&mut Vec<Frame>) + Send + Sync + 'static,
    ) {
        for said in self.tampered(change).await {
            said.is_refused(code, words);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a10_cut_stream_is_refused() {
    within(async {
        let scene = Scene::set().await;
        let whole = scene.honest().await.len();
        // Before every frame: one more is lost each time, first the proof, at last the head.
        for lost in 1..=whole {
            let cut = move |frames: &mut Vec<Frame>| frames.truncate(frames.len().saturating_sub(lost));
            let said = scene.tampered(cut).await;
            for said in &said {
                said.is_refused("answer_broken", BROKEN);
            }
            assert!(ANSWER.concat().starts_with(&said[0].text), "{:?}", said[0]);
        }
        // In the middle of a frame, with a connection that ends as it should or breaks.
        for (lost, breaks) in [(0, false), (1, false), (1, true), (3, true), (whole - 1, true)] {
            scene.evil.on_answer(move |asked, answer| {
                if asked.path == path::SEALED {
                    let frames = frames(&answer.body);
                    let kept = frames.len().saturating_sub(lost).max(1);
                    let bytes = encode(&frames[..kept]);
                    answer.body = bytes[..bytes.len() - 2].to_vec().into();
                    answer.breaks = breaks;
                }
            });
            let whole = scene.client.ask_whole().await;
            assert_eq!((whole.status, whole.text.as_str()), (502, ""), "{whole:?}");
            for said in [scene.client.ask().await, whole] {
                // A connection that breaks may do so before anything of the answer is out.
                let early = breaks && said.error.as_ref().unwrap()["code"] == "coordinator_error";
                said.is_refused(if early { "coordinator_error" } else { "answer_broken" }, BROKEN);
            }
        }
        scene.evil.behave();
        scene.client.ask().await.is_answered();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a10_a_proof_without_the_final_chunk_is_refused() {
    within(async {
        let scene = Scene::set().await;
        scene.honest().await;
        for lost in 1..=2 {
            let cut = move |frames: &mut Vec<Frame>| {
                let proof = frames.pop().unwrap();
                frames.truncate(frames.len() - lost);
                frames.push(proof);
            };
            scene.tampered_is_refused("answer_broken", "cut", cut).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_altered_response_byte_is_refused() {
    within(async {
        let scene = Scene::set().await;
        let sealed = scene.honest().await.len() - 1;
        for frame in 0..sealed {
            for from_end in [1, 20] {
                let flip = move |frames: &mut Vec<Frame>| {
                    // An answer in one piece has fewer.
                    let sealed = frames.len() - 1;
                    let Frame::Sealed(bytes) = &mut frames[frame % sealed] else { panic!("not sealed") };
                    let at = bytes.len() - from_end;
                    bytes[at] ^= 1;
                };
                scene.tampered_is_refused("answer_broken", BROKEN, flip).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reordered_repeated_and_dropped_frames_are_refused() {
    within(async {
        let scene = Scene::set().await;
        let earlier = scene.honest().await;
        scene.tampered_is_refused("answer_broken", "altered", |frames| frames.swap(2, 3)).await;
        scene
            .tampered_is_refused("answer_broken", "altered", |frames| frames.insert(2, frames[2].clone()))
            .await;
        let drop = |frames: &mut Vec<Frame>| drop(frames.remove(2));
        scene.tampered_is_refused("answer_broken", "altered", drop).await;
        let foreign = earlier[2].clone();
        scene
            .tampered_is_refused("answer_broken", "altered", move |frames| frames[2] = foreign.clone())
            .await;
        // The whole answer to an earlier request, with its receipt and its proof.
        scene
            .tampered_is_refused("answer_broken", "altered", move |frames| frames.clone_from(&earlier))
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a9_plaintext_answer_is_refused() {
    within(async {
        let scene = Scene::set().await;
        let event = r#"data: {"choices":[{"index":0,"delta":{"content":"I am the provider, honest."}}]}"#;
        let stream = format!("{event}\n\ndata: [DONE]\n\n");
        let json =
            r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Honest."}}]}"#.to_owned();
        let kinds = ["text/event-stream", "application/json", MEDIA_RELAY];
        for (body, kind) in [&stream, &json].into_iter().flat_map(|body| kinds.map(|kind| (body, kind))) {
            let body = body.clone();
            scene.evil.on_answer(move |asked, answer| {
                if asked.path == path::SEALED {
                    answer.status = StatusCode::OK;
                    answer.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
                    answer.body = body.clone().into();
                }
            });
            for said in [scene.client.ask().await, scene.client.ask_whole().await] {
                said.is_refused_at_once(502, "answer_broken", BROKEN);
            }
        }
        // In frames, as if it were sealed.
        scene.evil.behave();
        let plain = move |frames: &mut Vec<Frame>| {
            let proof = frames.pop().unwrap();
            *frames = vec![Frame::Sealed(stream.clone().into_bytes()), proof];
        };
        scene.tampered_is_refused("receipt_not_verified", "without a receipt", plain).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_receipt_is_refused() {
    within(async {
        let scene = Scene::set().await;
        scene.honest().await;
        // The receipt is in the last sealed frame, and its proof is all that is left.
        let cut = |frames: &mut Vec<Frame>| drop(frames.remove(frames.len() - 2));
        scene.tampered_is_refused("answer_broken", "cut", cut).await;
        // There is a receipt, and no proof that it is logged.
        let no_proof = |frames: &mut Vec<Frame>| drop(frames.pop());
        scene.tampered_is_refused("answer_broken", "without a proof", no_proof).await;
        let empty = |frames: &mut Vec<Frame>| *frames.last_mut().unwrap() = Frame::Proof(Vec::new());
        scene.tampered_is_refused("receipt_not_verified", "not proven to be in the log", empty).await;
        // Nothing but a proof.
        let only_proof = |frames: &mut Vec<Frame>| drop(frames.drain(..frames.len() - 1));
        scene.tampered_is_refused("receipt_not_verified", "without a receipt", only_proof).await;
        // The relay says that the provider refused, which it did not.
        let excuse = |frames: &mut Vec<Frame>| {
            let error = RelayError { code: "refused".to_owned(), message: "not today".to_owned() };
            *frames.last_mut().unwrap() = Frame::Error(error);
        };
        scene.tampered_is_refused("receipt_not_verified", "no proof", excuse).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_that_the_log_did_not_make_is_refused() {
    within(async {
        let scene = Scene::set().await;
        scene.honest().await;
        let origin = format!("{NAME}/receipts");
        let promise = |leaf| Promise {
            origin: origin.clone(),
            index: 0.into(),
            leaf,
            deadline: UnixSeconds::new(4_000_000_000),
        };
        let ends_with = |note: Vec<u8>| {
            move |frames: &mut Vec<Frame>| *frames.last_mut().unwrap() = Frame::Promise(note.clone())
        };
        let words = "the log's promise for the receipt does not hold";
        // By a key that only has the log's name.
        let stranger = NoteSigner::ed25519_log(&origin, [7; 32]).unwrap();
        let forged = promise(Hash::leaf(b"x")).sign(&stranger).unwrap().encode();
        scene.tampered_is_refused("receipt_not_verified", words, ends_with(forged)).await;
        // By the log, about an entry that is not this receipt.
        let key = scene.net.folder().join("log/keys/receipts.ed25519");
        let log: NoteSigner = std::fs::read_to_string(key).unwrap().trim().parse().unwrap();
        let another = promise(Hash::leaf(b"x")).sign(&log).unwrap().encode();
        scene.tampered_is_refused("receipt_not_verified", "about another entry", ends_with(another)).await;
        // In place of everything.
        let only = |frames: &mut Vec<Frame>| *frames = vec![Frame::Promise(b"soon".to_vec())];
        scene.tampered_is_refused("receipt_not_verified", "without a receipt", only).await;
        assert_eq!(scene.client.promises().await, [], "nothing of this is worth keeping");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_for_another_leaf_is_refused() {
    within(async {
        let scene = Scene::set().await;
        let Some(Frame::Proof(earlier)) = scene.honest().await.pop() else { panic!("no proof") };
        let swap = {
            let earlier = earlier.clone();
            move |frames: &mut Vec<Frame>| *frames.last_mut().unwrap() = Frame::Proof(earlier.clone())
        };
        scene.tampered_is_refused("receipt_not_verified", "not proven to be in the log", swap).await;

        let altered = |change: fn(&mut TlogProof)| {
            move |frames: &mut Vec<Frame>| {
                let Some(Frame::Proof(proof)) = frames.last_mut() else { return };
                let mut parsed = TlogProof::parse(proof).unwrap();
                change(&mut parsed);
                *proof = parsed.to_string().into_bytes();
            }
        };
        let elsewhere = altered(|proof| proof.index = (proof.index.get() + 1).into());
        scene.tampered_is_refused("receipt_not_verified", "not proven to be in the log", elsewhere).await;
        let unwitnessed = altered(|proof| {
            let mut note = SignedNote::parse(&proof.checkpoint).unwrap();
            note.signatures.pop();
            proof.checkpoint = note.encode();
        });
        scene.tampered_is_refused("receipt_not_verified", "not proven to be in the log", unwitnessed).await;
        let unsigned = altered(|proof| {
            let mut note = SignedNote::parse(&proof.checkpoint).unwrap();
            note.signatures.drain(..2);
            proof.checkpoint = note.encode();
        });
        scene.tampered_is_refused("receipt_not_verified", "not proven to be in the log", unsigned).await;
        let cut = altered(|proof| proof.hashes.truncate(proof.hashes.len() - 1));
        scene.tampered_is_refused("receipt_not_verified", "not proven to be in the log", cut).await;
        scene.evil.behave();
        scene.client.ask_whole().await.is_answered();
    })
    .await;
}
