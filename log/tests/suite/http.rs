//! The service as its users meet it: over HTTP, from a folder that `init` made.

use std::{net::SocketAddr, path::Path, sync::Arc};

use crate::support::{LIMIT, witness::FakeWitness};
use glassbloom_log::{
    config::Config,
    fsck::{Finding, Source, check},
    init::{Init, init},
    serve,
};
use glassbloom_service::{ExitCode, Shutdown, SystemClock, http_client};
use glassbloom_spec::{
    api::{Appended, PromisedEntry},
    policy::Policy,
    proof::TlogProof,
};
use reqwest::{Method, Response, StatusCode};

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    token: String,
    policy: Policy,
}

fn arguments(data: &Path, witnesses: &[&FakeWitness]) -> Init {
    let witnesses = witnesses.iter().map(|w| format!("{} {}", w.endpoint.keys[0], w.endpoint.url)).collect();
    Init { witnesses, ..crate::support::arguments(data) }
}

impl Server {
    async fn start(data: &Path) -> Self {
        let config = Config::load(data, None).unwrap();
        let policy = Policy::clone(&config.policy);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let task = tokio::spawn(serve(config, listener, Arc::new(SystemClock), shutdown.clone()));
        let token = std::fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
        Self { address, shutdown, task, token, policy }
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
    }

    async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Response {
        let mut request = http_client().request(method, format!("http://{}{path}", self.address));
        if let Some(body) = body {
            request = request.bearer_auth(&self.token).body(body);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, entry: &[u8]) -> Response {
        self.send(Method::POST, path, Some(entry.to_vec())).await
    }

    async fn append(&self, log: &str, entry: &[u8]) -> Appended {
        let response = self.post(&format!("/{log}/append"), entry).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
}

async fn problem(response: Response) -> String {
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    assert_eq!(header(&response, "cache-control"), "no-store");
    response.json::<serde_json::Value>().await.unwrap()["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn reading_and_writing() {
    let folder = tempfile::tempdir().unwrap();
    let witnesses = [FakeWitness::start(0).await, FakeWitness::start(1).await];
    init(&arguments(folder.path(), &[&witnesses[0], &witnesses[1]])).await.unwrap();
    let server = Server::start(folder.path()).await;

    for n in 0..260_u64 {
        assert_eq!(
            server.post("/receipts/add", format!("r{n}").as_bytes()).await.text().await.unwrap(),
            n.to_string()
        );
    }
    let appended = server.append("receipts", b"the last").await;
    assert_eq!(appended.index.get(), 260);
    let proof = TlogProof::parse(appended.proof.as_bytes()).unwrap();
    proof.open_from(&server.policy, "test.example/receipts", b"the last").unwrap();
    // The other log is another log.
    let appended = server.append("registry", b"the last").await;
    assert_eq!(appended.index.get(), 0);

    let checkpoint = server.get("/receipts/checkpoint").await;
    assert_eq!(header(&checkpoint, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(header(&checkpoint, "cache-control"), "no-store");
    assert_eq!(header(&checkpoint, "access-control-allow-origin"), "*");
    let note = checkpoint.bytes().await.unwrap();
    assert_eq!(server.policy.open(None, &note).unwrap().size().get(), 261);

    for (path, length) in [
        ("/receipts/tile/0/000", 8192),
        ("/receipts/tile/0/001.p/5", 160),
        ("/receipts/tile/1/000.p/1", 32),
        // Served although the full tile has replaced it.
        ("/receipts/tile/0/000.p/7", 7 * 32),
        ("/receipts/tile/entries/000.p/2", 2 * 4),
    ] {
        let tile = server.get(path).await;
        assert_eq!(tile.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&tile, "content-type"), "application/octet-stream");
        assert_eq!(header(&tile, "cache-control"), "public, max-age=604800, immutable");
        assert_eq!(tile.bytes().await.unwrap().len(), length, "{path}");
        let head = server.send(Method::HEAD, path, None).await;
        assert_eq!((head.status(), head.bytes().await.unwrap().len()), (StatusCode::OK, 0));
    }
    for path in [
        "/receipts/tile/0/002.p/1",
        "/receipts/tile/0/1",
        "/receipts/tile/entries/000.p/0",
        "/receipts/tile/0/../../../token",
        "/other/checkpoint",
        "/",
    ] {
        let missing = server.get(path).await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(&missing, "access-control-allow-origin"), "*");
        problem(missing).await;
    }
    let preflight = server.send(Method::OPTIONS, "/receipts/checkpoint", None).await;
    assert_eq!(preflight.status(), StatusCode::OK);
    assert_eq!(header(&preflight, "access-control-allow-methods"), "GET,HEAD");
    for path in ["/receipts/add", "/receipts/append"] {
        // A page of another origin may not write, not even with the token.
        let preflight = server.send(Method::OPTIONS, path, None).await;
        assert!(!header(&preflight, "access-control-allow-methods").contains("POST"), "{path}");
    }
    let head = server.send(Method::HEAD, "/receipts/checkpoint", None).await;
    assert_eq!((head.status(), header(&head, "content-length")), (StatusCode::OK, note.len().to_string()));
    assert_eq!(header(&head, "cache-control"), "no-store");
    assert!(head.bytes().await.unwrap().is_empty());
    let missing = server.send(Method::HEAD, "/receipts/tile/0/002.p/1", None).await;
    assert_eq!(
        (missing.status(), header(&missing, "cache-control")),
        (StatusCode::NOT_FOUND, "no-store".into())
    );
    let wrong = server.send(Method::DELETE, "/receipts/checkpoint", None).await;
    assert_eq!(
        (wrong.status(), header(&wrong, "cache-control")),
        (StatusCode::METHOD_NOT_ALLOWED, "no-store".into())
    );

    let gzip = http_client()
        .get(format!("http://{}/receipts/tile/entries/000", server.address))
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&gzip, "content-encoding"), "gzip");

    let health = server.get("/healthz").await;
    assert_eq!(health.status(), StatusCode::OK);
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("glassbloom_log_size{log=\"test.example/receipts\"} 261\n"), "{metrics}");
    let policy = server.get("/policy").await.text().await.unwrap();
    assert_eq!(Policy::parse(&policy).unwrap(), server.policy);

    let source = Source::Http(http_client(), format!("http://{}/receipts", server.address));
    let report = check(&source, &server.policy, "test.example/receipts", |_, _| ()).await.unwrap();
    assert_eq!((report.findings, report.checkpoint.size().get()), (vec![], 261));
    server.stop().await;
}

#[tokio::test]
async fn refusals() {
    let folder = tempfile::tempdir().unwrap();
    init(&arguments(folder.path(), &[])).await.unwrap();
    let server = Server::start(folder.path()).await;
    for token in [None, Some("wrong"), Some("")] {
        let mut request = http_client().post(format!("http://{}/registry/add", server.address)).body("entry");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let refused = request.send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(problem(refused).await, "wrong-token");
    }
    for path in ["/registry/add", "/registry/append"] {
        let refused = server.post(path, &vec![7; 65_536]).await;
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(problem(refused).await, "entry-too-long");
        let stream = futures_util::stream::iter((0..70).map(|_| Ok::<_, std::io::Error>(vec![7_u8; 1000])));
        let chunked =
            http_client().post(format!("http://{}{path}", server.address)).bearer_auth(&server.token);
        let refused = chunked.body(reqwest::Body::wrap_stream(stream)).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(problem(refused).await, "entry-too-long");
        let refused = server.post(path, b"").await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert_eq!(problem(refused).await, "entry-empty");
    }
    assert_eq!(server.post("/registry/add", &vec![7; 65_535]).await.text().await.unwrap(), "0");
    server.stop().await;
}

#[tokio::test]
async fn late_without_witnesses_and_continued_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let witness = FakeWitness::start(0).await;
    let arguments = arguments(folder.path(), &[&witness]);
    init(&arguments).await.unwrap();
    let config = folder.path().join("log.toml");
    let text = std::fs::read_to_string(&config)
        .unwrap()
        .replace("append_timeout_seconds = 10", "append_timeout_seconds = 1");
    std::fs::write(&config, text).unwrap();
    witness.mood(crate::support::witness::Mood::Broken);
    let server = Server::start(folder.path()).await;
    let late = server.post("/registry/append", b"one").await;
    assert_eq!(late.status(), StatusCode::ACCEPTED);
    assert_eq!(late.headers()["cache-control"], "no-store");
    let late: PromisedEntry = serde_json::from_str(&late.text().await.unwrap()).unwrap();
    let policy = Policy::parse(&server.get("/policy").await.text().await.unwrap()).unwrap();
    let promised = policy.open_promise(Some("test.example/registry"), late.promise.as_bytes()).unwrap();
    assert!(promised.is_about(b"one") && promised.promise().index == late.index);
    assert_eq!(server.get("/registry/checkpoint").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.get("/healthz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    server.stop().await;

    // Another witness takes its place; keys, token and entries stay.
    let before = std::fs::read(folder.path().join("keys/registry.ed25519")).unwrap();
    let (other, policy) = (FakeWitness::start(1).await, folder.path().join("policy"));
    let text = std::fs::read_to_string(&policy).unwrap() + "accept self-signed\n";
    std::fs::write(&policy, text).unwrap();
    let key = &other.endpoint.keys[0];
    let changed = Init { witnesses: vec![format!("{key} {}", other.endpoint.url)], ..arguments };
    assert_eq!(init(&changed).await.unwrap().accepted_tiers(), ["self-signed"]);
    assert_eq!(std::fs::read(folder.path().join("keys/registry.ed25519")).unwrap(), before);
    let server = Server::start(folder.path()).await;
    assert_eq!(server.append("registry", b"one").await.index.get(), 0);
    assert_eq!(server.append("registry", b"two").await.index.get(), 1);
    tokio::time::timeout(LIMIT, server.stop()).await.unwrap();
}

#[tokio::test]
async fn fsck_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    init(&arguments(folder.path(), &[])).await.unwrap();
    let server = Server::start(folder.path()).await;
    for n in 0..300_u64 {
        server.post("/registry/add", format!("entry {n:04}").as_bytes()).await;
    }
    server.append("registry", b"done").await;
    let policy = server.policy.clone();
    server.stop().await;

    let public = folder.path().join("public/registry");
    let source = Source::Folder(public.clone());
    let fsck = || async { check(&source, &policy, "test.example/registry", |_, _| ()).await };
    assert_eq!(fsck().await.unwrap().findings, []);
    let flip = |path: &str, byte: usize| {
        let path = public.join(path);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[byte] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    // Entry 20 begins at 20 * 12, after its length of two bytes.
    flip("tile/entries/000", 20 * 12 + 5);
    // The signed tree follows from the tile beside it, so that it is the bundle that is wrong, and nothing else.
    assert_eq!(fsck().await.unwrap().findings, [Finding::Entry { index: 20 }]);
    flip("tile/entries/000", 20 * 12 + 5);

    flip("tile/0/000", 32 * 9);
    assert_eq!(fsck().await.unwrap().findings, [Finding::Tile { path: "tile/0/000".parse().unwrap() }]);
    flip("tile/0/000", 32 * 9);

    flip("tile/1/000.p/1", 3);
    assert_eq!(fsck().await.unwrap().findings, [Finding::Tile { path: "tile/1/000.p/1".parse().unwrap() }]);
    flip("tile/1/000.p/1", 3);

    flip("tile/entries/000", 1);
    assert!(matches!(fsck().await.unwrap().findings[..], [Finding::Bundle { first: 0, last: 255, .. }]));
    flip("tile/entries/000", 1);

    flip("checkpoint", 20);
    let code = fsck().await.unwrap_err().exit_code();
    assert!(matches!(code, ExitCode::Rejected | ExitCode::Malformed), "{code:?}");
    flip("checkpoint", 20);

    std::fs::remove_file(public.join("tile/0/000")).unwrap();
    assert_eq!(fsck().await.unwrap().findings, [Finding::Missing { path: "tile/0/000".parse().unwrap() }]);
}
