//! A witness for tests: correct, small, and able to misbehave.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use glassbloom_log::Endpoint;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    merkle::verify_consistency,
    note::{NoteSigner, SignedNote},
};

/// Answers `add-checkpoint` and the read API from memory.
pub(crate) struct FakeWitness {
    pub(crate) endpoint: Endpoint,
    state: Arc<Mutex<Behaviour>>,
    server: tokio::task::JoinHandle<()>,
}

struct Behaviour {
    signer: NoteSigner,
    seen: HashMap<String, (TreeHead, SignedNote)>,
    /// What the read API shows instead of what was cosigned.
    shows: Option<Vec<u8>>,
    mood: Mood,
    requests: usize,
    time: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Honest,
    /// Every request is answered 500.
    Broken,
    /// No request is ever answered.
    Silent,
    /// The signature is of another head.
    Forging,
    /// Claims to know a tree of this size.
    Ahead(u64),
    /// Claims that the tree is not the one it knows.
    Rejecting,
}

impl FakeWitness {
    pub(crate) async fn start(n: u8) -> Self {
        let signer = NoteSigner::ed25519_witness(&format!("witness{n}.example"), [100 + n; 32]).unwrap();
        let key = signer.vkey().clone();
        let behaviour = Behaviour {
            signer,
            seen: HashMap::new(),
            shows: None,
            mood: Mood::Honest,
            requests: 0,
            time: 1_900_000_000,
        };
        let state = Arc::new(Mutex::new(behaviour));
        let router = Router::new()
            .route("/add-checkpoint", post(add_checkpoint))
            .route("/{origin}/checkpoint", get(checkpoint))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint: Endpoint { url, keys: vec![key] }, state, server }
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    pub(crate) fn seen(&self, origin: &str) -> Option<TreeHead> {
        self.state.lock().unwrap().seen.get(origin).map(|(head, _)| head.clone())
    }

    /// From now on its read API shows this note.
    pub(crate) fn shows(&self, note: Vec<u8>) {
        self.state.lock().unwrap().shows = Some(note);
    }

    /// Makes it forget, as a witness that lost its state would.
    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().seen.clear();
    }
}

impl Drop for FakeWitness {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn add_checkpoint(State(state): State<Arc<Mutex<Behaviour>>>, body: String) -> Response {
    let mood = {
        let mut state = state.lock().unwrap();
        state.requests += 1;
        state.mood
    };
    match mood {
        Mood::Silent => std::future::pending().await,
        Mood::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Ahead(size) => conflict(size),
        Mood::Rejecting => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
        Mood::Honest | Mood::Forging => cosign(&mut state.lock().unwrap(), &body, mood == Mood::Forging),
    }
}

async fn checkpoint(State(state): State<Arc<Mutex<Behaviour>>>, Path(origin): Path<String>) -> Response {
    let state = state.lock().unwrap();
    if let Some(note) = &state.shows {
        return note.clone().into_response();
    }
    let seen = state.seen.iter().find(|(name, _)| Hash::of(name.as_bytes()).to_string() == origin);
    match seen {
        Some((_, (_, note))) => note.encode().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn conflict(size: u64) -> Response {
    (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
}

fn cosign(state: &mut Behaviour, body: &str, forge: bool) -> Response {
    let (request, note) = body.split_once("\n\n").unwrap();
    let mut lines = request.split('\n');
    let old: TreeSize = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
    let proof: Vec<Hash> = lines.map(|line| Hash::from_base64(line).unwrap()).collect();
    let mut note = SignedNote::parse(note.as_bytes()).unwrap();
    let mut head = TreeHead::parse(&note.text).unwrap();
    let known =
        state.seen.get(&head.origin).map_or((0.into(), Hash::EMPTY_TREE), |(seen, _)| (seen.size, seen.root));
    if old != known.0 {
        return conflict(known.0.get());
    }
    if verify_consistency(known.0, head.size, known.1, head.root, &proof).is_err() {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    state.time += 1;
    let known = head.clone();
    if forge {
        head.root = Hash::of(b"another tree");
    }
    let line = state.signer.cosign(&head, UnixSeconds::new(state.time)).unwrap();
    note.signatures.push(line.clone());
    state.seen.insert(head.origin, (known, note));
    format!("{line}\n").into_response()
}
