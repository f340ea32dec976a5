//! A log of numbered entries, and a witness on a port of its own.

use std::{net::SocketAddr, num::NonZeroU32, path::Path, sync::Arc};

use glassbloom_auditor::witness::{self, Config, Rate};
use glassbloom_service::{MockClock, Shutdown, http_client};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixMillis, UnixSeconds},
    merkle::{NodeId, prove_consistency, root_of},
    note::{NoteSigner, SignatureLine, SignedNote, VerifierKey, parse_signature_lines},
};
use reqwest::{Response, StatusCode};
use tokio::{net::TcpListener, task::JoinHandle};

pub(crate) const ORIGIN: &str = "log.example/registry";
pub(crate) const WITNESS: &str = "witness.example/w1";
pub(crate) const NOW: u64 = 1_790_000_000;

pub(crate) fn log_key() -> NoteSigner {
    NoteSigner::ed25519_log(ORIGIN, [1; 32]).unwrap()
}

pub(crate) fn leaf(index: u64) -> Hash {
    Hash::leaf(format!("entry {index}").as_bytes())
}

pub(crate) fn root(size: u64) -> Hash {
    root_of((0..size).map(leaf))
}

pub(crate) fn head(size: u64) -> TreeHead {
    TreeHead { origin: ORIGIN.to_owned(), size: size.into(), root: root(size) }
}

/// The head, signed by the log.
pub(crate) fn note(head: &TreeHead) -> Vec<u8> {
    signed(head, vec![log_key().sign_checkpoint(head).unwrap()])
}

pub(crate) fn signed(head: &TreeHead, signatures: Vec<SignatureLine>) -> Vec<u8> {
    SignedNote { text: head.to_string(), signatures }.encode()
}

pub(crate) fn nodes() -> std::collections::BTreeMap<NodeId, Hash> {
    (0..7u8)
        .flat_map(|level| (0..64 >> level).map(move |index| NodeId { level, index }))
        .map(|id| (id, root_of((id.index << id.level..(id.index + 1) << id.level).map(leaf))))
        .collect()
}

pub(crate) fn proof(old: u64, new: u64) -> Vec<Hash> {
    prove_consistency(TreeSize::new(old), TreeSize::new(new), &nodes()).unwrap()
}

pub(crate) fn request(old: u64, proof: &[Hash], note: &[u8]) -> Vec<u8> {
    let mut body = format!("old {old}\n");
    for hash in proof {
        body += &format!("{}\n", hash.to_base64());
    }
    [body.as_bytes(), b"\n", note].concat()
}

/// The honest request from one size to the next.
pub(crate) fn growth(old: u64, new: u64) -> Vec<u8> {
    request(old, &proof(old, new), &note(&head(new)))
}

pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) clock: MockClock,
    http: reqwest::Client,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_at(data, vec![log_key().vkey().clone()], Rate::default()).await
    }

    pub(crate) async fn limited(data: &Path, qps: u32) -> Self {
        let rate = Rate::per_second(NonZeroU32::new(qps).unwrap());
        Self::start_at(data, vec![log_key().vkey().clone()], rate).await
    }

    pub(crate) async fn start_at(data: &Path, logs: Vec<VerifierKey>, rate: Rate) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = Config { data: data.to_owned(), logs, rate };
        let clock = MockClock::new(UnixMillis::new(NOW * 1000));
        let shutdown = Shutdown::new();
        let serving = witness::serve(config, listener, Arc::new(clock.clone()), shutdown.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { url, clock, http: http_client(), shutdown, task }
    }

    pub(crate) async fn send(&self, endpoint: &str, body: Vec<u8>) -> Response {
        self.http.post(format!("{}/{endpoint}", self.url)).body(body).send().await.unwrap()
    }

    /// Status, media type and body of an answer to `add-checkpoint`.
    pub(crate) async fn post(&self, body: Vec<u8>) -> (StatusCode, Option<String>, String) {
        let response = self.send("add-checkpoint", body).await;
        let content_type =
            response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        (response.status(), content_type, response.text().await.unwrap())
    }

    pub(crate) async fn status(&self, body: Vec<u8>) -> u16 {
        let (status, _, text) = self.post(body).await;
        assert!(
            status.is_success() || !text.contains("\u{2014} "),
            "a cosignature came with an error: {text}"
        );
        status.as_u16()
    }

    pub(crate) async fn published(&self, origin: &str) -> Option<String> {
        let url = format!("{}/{}/checkpoint", self.url, Hash::of(origin.as_bytes()));
        let response = self.http.get(url).send().await.unwrap();
        response.status().is_success().then_some(response.text().await.unwrap())
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap();
    }
}

/// A folder with the keys of a new witness: Ed25519 and ML-DSA-44.
pub(crate) fn init() -> (tempfile::TempDir, Vec<VerifierKey>) {
    let data = tempfile::tempdir().unwrap();
    let vkeys = witness::init(data.path(), WITNESS).unwrap();
    (data, vkeys)
}

/// Verifies that the answer has one line by each key, all with one time, and returns that.
pub(crate) fn time_of(vkeys: &[VerifierKey], head: &TreeHead, answer: &str) -> UnixSeconds {
    let lines = parse_signature_lines(answer).unwrap();
    assert_eq!(lines.len(), vkeys.len());
    let times: Vec<_> =
        vkeys.iter().zip(&lines).map(|(vkey, line)| vkey.verify(head, line).unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] == pair[1]));
    times[0]
}
