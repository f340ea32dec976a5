//! An endorser on a port of its own, and the published certificates of a software TPM.

use std::{fs, net::SocketAddr, num::NonZeroU32, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use glassbloom_auditor::{
    endorser::{self, Config},
    witness::Rate,
};
use glassbloom_service::{MockClock, Shutdown, http_client};
use glassbloom_spec::{
    curve::PublicKey,
    evidence::{
        Anchor,
        exchange::{Activation, Bytes},
        x509::Certificate,
    },
    hash::Hash,
    id::UnixMillis,
    leaf::Tier,
};
use glassbloom_testdata::{shared_vectors, skipped};
use serde::Serialize;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

/// A day after the published TPM was made.
pub(crate) const NOW: u64 = 1_795_348_800;

pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) key: PublicKey,
    pub(crate) clock: MockClock,
    _data: tempfile::TempDir,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(anchors: Vec<Anchor>, now: u64, qps: u32) -> Self {
        let data = tempfile::tempdir().unwrap();
        let key = endorser::init(data.path()).unwrap();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let rate = Rate::per_second(NonZeroU32::new(qps).unwrap());
        let config = Config { data: data.path().to_owned(), anchors, rate };
        let clock = MockClock::new(UnixMillis::new(now * 1000));
        let shutdown = Shutdown::new();
        let serving = endorser::serve(config, listener, Arc::new(clock.clone()), shutdown.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { url, key, clock, _data: data, shutdown, task }
    }

    /// Status and body of an answer.
    pub(crate) async fn post(&self, path: &str, request: &impl Serialize) -> (u16, Value) {
        self.post_bytes(path, serde_json::to_vec(request).unwrap()).await
    }

    pub(crate) async fn post_bytes(&self, path: &str, body: Vec<u8>) -> (u16, Value) {
        let response = http_client().post(format!("{}{path}", self.url)).body(body).send().await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers().contains_key("retry-after"), matches!(status, 429 | 503));
        (status, response.json().await.unwrap())
    }

    /// Status and code of a refusal.
    pub(crate) async fn refusal(&self, path: &str, request: &impl Serialize) -> (u16, String) {
        let (status, body) = self.post(path, request).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap();
    }
}

/// The certificates and the attestation key of a software TPM that ran elsewhere, and what names its root.
pub(crate) fn published() -> Option<(Activation, Anchor)> {
    let Some(folder) = shared_vectors().map(|folder| folder.join("attestation/tpm-swtpm")) else {
        skipped("the shared vectors do not lie beside the checkout");
        return None;
    };
    let chain = ["ek.pem", "issuer.pem", "root.pem"];
    let chain: Vec<_> =
        chain.map(|name| pem(&fs::read_to_string(folder.join(name)).unwrap())).into_iter().collect();
    let anchor = anchor(chain.last().unwrap());
    // What the tools write is a TPM2B.
    let ak = fs::read(folder.join("ak.pub")).unwrap()[2..].to_vec();
    let ek_chain = chain.into_iter().map(Bytes).collect();
    Some((Activation { ek_chain, ak: Bytes(ak), nonce: Hash::of(b"nonce") }, anchor))
}

pub(crate) fn anchor(root: &[u8]) -> Anchor {
    let key = Hash::of(Certificate::parse(root).unwrap().spki());
    Anchor { tier: Tier::TpmSoft, key, name: "software".to_owned() }
}

pub(crate) fn pem(text: &str) -> Vec<u8> {
    let inside = text.split("-----").nth(2).unwrap();
    BASE64_STANDARD.decode(inside.split_whitespace().collect::<String>()).unwrap()
}
