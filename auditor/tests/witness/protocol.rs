//! The witness over HTTP: every row of the status table, and what must survive races, forgeries and restarts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{net::SocketAddr, path::Path, sync::Arc};

use ed25519_dalek::Signer;
use glassbloom_auditor::witness::{self, Config, Refusal, Store, Witness};
use glassbloom_service::{MockClock, Shutdown, http_client};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixMillis, UnixSeconds},
    merkle::{NodeId, prove_consistency, root_of},
    note::{NoteSigner, SignatureLine, SignedNote, VerifierKey},
};
use reqwest::StatusCode;
use tokio::{net::TcpListener, task::JoinHandle};

const ORIGIN: &str = "log.example/registry";
const NOW: u64 = 1_790_000_000;

fn log_key() -> NoteSigner {
    NoteSigner::ed25519_log(ORIGIN, [1; 32]).unwrap()
}

fn leaf(index: u64) -> Hash {
    Hash::leaf(format!("entry {index}").as_bytes())
}

fn root(size: u64) -> Hash {
    root_of((0..size).map(leaf))
}

fn head(size: u64) -> TreeHead {
    TreeHead { origin: ORIGIN.to_owned(), size: size.into(), root: root(size) }
}

/// The head, signed by the log unless a test signs otherwise.
fn note(head: &TreeHead) -> Vec<u8> {
    signed(head, vec![log_key().sign_checkpoint(head).unwrap()])
}

fn signed(head: &TreeHead, signatures: Vec<SignatureLine>) -> Vec<u8> {
    SignedNote { text: head.to_string(), signatures }.encode()
}

fn proof(old: u64, new: u64) -> Vec<Hash> {
    let nodes: std::collections::BTreeMap<NodeId, Hash> = (0..7u8)
        .flat_map(|level| (0..64 >> level).map(move |index| NodeId { level, index }))
        .map(|id| (id, root_of((id.index << id.level..(id.index + 1) << id.level).map(leaf))))
        .collect();
    prove_consistency(TreeSize::new(old), TreeSize::new(new), &nodes).unwrap()
}

fn request(old: u64, proof: &[Hash], note: &[u8]) -> Vec<u8> {
    let mut body = format!("old {old}\n");
    for hash in proof {
        body += &format!("{}\n", hash.to_base64());
    }
    [body.as_bytes(), b"\n", note].concat()
}

struct Running {
    url: String,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(data: &Path) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = Config { data: data.to_owned(), logs: vec![log_key().vkey().clone()] };
        let clock = Arc::new(MockClock::new(UnixMillis::new(NOW * 1000)));
        let shutdown = Shutdown::new();
        let serving = witness::serve(config, listener, clock, shutdown.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { url, shutdown, task }
    }

    async fn post(&self, body: Vec<u8>) -> (StatusCode, Option<String>, String) {
        let response =
            http_client().post(format!("{}/add-checkpoint", self.url)).body(body).send().await.unwrap();
        let content_type =
            response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        (response.status(), content_type, response.text().await.unwrap())
    }

    async fn status(&self, body: Vec<u8>) -> u16 {
        let (status, _, text) = self.post(body).await;
        assert!(
            status.is_success() || !text.contains("\u{2014} "),
            "a cosignature came with an error: {text}"
        );
        status.as_u16()
    }

    async fn published(&self, origin: &str) -> Option<String> {
        let url = format!("{}/{}/checkpoint", self.url, Hash::of(origin.as_bytes()));
        let response = http_client().get(url).send().await.unwrap();
        response.status().is_success().then_some(response.text().await.unwrap())
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap();
    }
}

fn init() -> (tempfile::TempDir, VerifierKey) {
    let data = tempfile::tempdir().unwrap();
    let vkey = witness::init(data.path(), "witness.example/w1").unwrap();
    (data, vkey)
}

fn time_of(vkey: &VerifierKey, head: &TreeHead, line: &str) -> UnixSeconds {
    vkey.verify(head, &line.trim_end().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn every_row_of_the_status_table() {
    let (data, vkey) = init();
    let running = Running::start(data.path()).await;

    // 200: first, growing, refreshed; the reply is one cosignature line with a time.
    let (status, _, line) = running.post(request(0, &[], &note(&head(3)))).await;
    assert_eq!(status, 200);
    assert_eq!(time_of(&vkey, &head(3), &line), UnixSeconds::new(NOW));
    assert_eq!(running.status(request(3, &proof(3, 5), &note(&head(5)))).await, 200);
    assert_eq!(running.status(request(5, &[], &note(&head(5)))).await, 200);

    // 400: not a request, not canonical, or sizes that cannot be.
    let good = String::from_utf8(request(5, &proof(5, 7), &note(&head(7)))).unwrap();
    for broken in [
        String::new(),
        "old 5\n".to_owned(),
        good.replacen("old 5", "old 05", 1),
        good.replacen("old 5", "old +5", 1),
        good.replacen("old 5", "old", 1),
        good.replacen("old 5", "size 5", 1),
        good.replacen("old 5\n", "old 5\nnot base64\n", 1),
        good.replacen("old 5\n", "old 5\nAAAA\n", 1),
        good.replacen("\n7\n", "\n07\n", 1),
        good.replacen("\n7\n", "\n7\nextension\n", 1),
        good.split_inclusive("\n\n").take(2).collect(),
        format!("{good}junk"),
        String::from_utf8(request(8, &[], &note(&head(7)))).unwrap(),
    ] {
        assert_eq!(running.status(broken.clone().into_bytes()).await, 400, "{broken}");
    }
    let many = vec![root(1); 64];
    assert_eq!(running.status(request(5, &many, &note(&head(7)))).await, 400, "64 proof lines");
    assert_eq!(
        running.status(request(5, &many[1..], &note(&head(7)))).await,
        422,
        "63 are as many as may be"
    );

    // 404 comes before 403: nobody's key is looked at for a log that is not followed.
    let stranger = TreeHead { origin: "other.example/log".to_owned(), ..head(7) };
    let line =
        NoteSigner::ed25519_log("other.example/log", [9; 32]).unwrap().sign_checkpoint(&stranger).unwrap();
    assert_eq!(running.status(request(5, &[], &signed(&stranger, vec![line]))).await, 404);

    // 403: no trusted signature; an invalid one under the trusted name and id, alone or beside a valid one.
    let impostor = NoteSigner::ed25519_log(ORIGIN, [2; 32]).unwrap().sign_checkpoint(&head(7)).unwrap();
    assert_eq!(running.status(request(5, &proof(5, 7), &signed(&head(7), vec![impostor]))).await, 403);
    let other_head = log_key().sign_checkpoint(&head(6)).unwrap();
    assert_eq!(
        running.status(request(5, &proof(5, 7), &signed(&head(7), vec![other_head.clone()]))).await,
        403
    );
    let valid = log_key().sign_checkpoint(&head(7)).unwrap();
    assert_eq!(
        running.status(request(5, &proof(5, 7), &signed(&head(7), vec![valid, other_head]))).await,
        403
    );
    // ... and before sizes and proof.
    assert_eq!(
        running
            .status(request(3, &[], &signed(&head(7), vec![log_key().sign_checkpoint(&head(6)).unwrap()])))
            .await,
        403
    );

    // 409 names the size in its own media type, and comes before the proof.
    let (status, content_type, body) = running.post(request(3, &[], &note(&head(7)))).await;
    assert_eq!(
        (status.as_u16(), content_type.as_deref(), body.as_str()),
        (409, Some("text/x.tlog.size"), "5\n")
    );
    assert_eq!(running.status(request(0, &[], &note(&head(3)))).await, 409);

    // 422: proof wrong, too long, or another root at the same size.
    assert_eq!(running.status(request(5, &proof(3, 7), &note(&head(7)))).await, 422);
    assert_eq!(running.status(request(5, &[], &note(&head(7)))).await, 422);
    let longer = [proof(5, 7), vec![root(1)]].concat();
    assert_eq!(running.status(request(5, &longer, &note(&head(7)))).await, 422);
    let fork = TreeHead { root: root(4), ..head(5) };
    assert_eq!(running.status(request(5, &[], &note(&fork))).await, 422);

    // Nothing of this moved the state.
    assert!(running.published(ORIGIN).await.unwrap().starts_with(&head(5).to_string()));
    assert_eq!(running.status(request(5, &proof(5, 7), &note(&head(7)))).await, 200);
    running.stop().await;
}

#[tokio::test]
async fn empty_trees() {
    let wrong = |root| TreeHead { root, ..head(0) };
    // Known size, old size, checkpoint, proof, status.
    let cases: [(u64, u64, TreeHead, Vec<Hash>, u16); 8] = [
        (0, 0, head(0), vec![], 200),
        (0, 0, wrong(leaf(0)), vec![], 422),
        (0, 0, wrong(Hash::from_bytes([0; 32])), vec![], 422),
        (0, 0, head(0), vec![leaf(0)], 422),
        (0, 0, head(1), vec![], 200),
        (0, 0, head(1), vec![leaf(0)], 422),
        (1, 0, head(1), vec![leaf(0)], 409),
        (1, 1, head(0), vec![], 400),
    ];
    for (known, old, head, proof, expected) in cases {
        let (data, _) = init();
        let running = Running::start(data.path()).await;
        if known > 0 {
            assert_eq!(running.status(request(0, &[], &note(&self::head(known)))).await, 200);
        }
        // A signer refuses an empty tree with another root, so such a head is signed beneath it.
        let signature = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).sign(head.to_string().as_bytes());
        let key_id = log_key().vkey().key_id();
        let line = SignatureLine { name: ORIGIN.to_owned(), key_id, signature: signature.to_vec() };
        let body = request(old, &proof, &signed(&head, vec![line]));
        assert_eq!(running.status(body.clone()).await, expected, "{known} {old} {head}");
        // Again, now perhaps against a cosigned empty tree.
        let again = if expected == 200 { request(head.size.get(), &[], &note(&head)) } else { body };
        assert_eq!(running.status(again).await, expected, "{known} {old} {head}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_request_that_was_overtaken_gets_a_conflict() {
    let (data, vkey) = init();
    witness::add_logs(data.path(), &[log_key().vkey().clone()]).await.unwrap();
    let store = Store::open(&data.path().join("witness.sqlite")).await.unwrap();
    let signer = std::fs::read_to_string(data.path().join("witness.key")).unwrap().parse().unwrap();
    let clock = Arc::new(MockClock::new(UnixMillis::new(NOW * 1000)));
    let witness = Witness::new(signer, store, clock);
    witness.add_checkpoint(&request(0, &[], &note(&head(1)))).await.unwrap();

    // A is checked against size 1 and stalls; B goes from 1 to 5 meanwhile.
    let stalled = witness.check(&request(1, &proof(1, 3), &note(&head(3)))).await.unwrap();
    let line = witness.add_checkpoint(&request(1, &proof(1, 5), &note(&head(5)))).await.unwrap();
    time_of(&vkey, &head(5), core::str::from_utf8(&line).unwrap());
    let overtaken = witness.commit(stalled).await;
    assert!(matches!(overtaken, Err(Refusal::Conflict(size)) if size.get() == 5), "{overtaken:?}");
    let latest = witness.store().latest(ORIGIN).await.unwrap().unwrap();
    assert_eq!((latest.size.get(), latest.root), (5, root(5)));
}

#[tokio::test]
async fn concurrent_growth_cosigns_one_history() {
    let (data, _) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.status(request(0, &[], &note(&head(1)))).await, 200);
    // Twenty forks of size 2 at once: exactly one may be cosigned.
    let forks = (0..20u64).map(|n| {
        let right = Hash::leaf(&n.to_be_bytes());
        let fork = TreeHead { root: Hash::node(&leaf(0), &right), ..head(2) };
        request(1, &[right], &note(&fork))
    });
    let answers = futures_util::future::join_all(forks.map(|body| running.status(body))).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 409).count(), 19, "{answers:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_forged_line_in_the_witness_name_is_neither_kept_nor_served() {
    let (data, vkey) = init();
    let running = Running::start(data.path()).await;
    let forged =
        SignatureLine { name: vkey.name().to_owned(), key_id: vkey.key_id(), signature: vec![7; 72] };
    let stranger = NoteSigner::ed25519_witness("other.example/w", [8; 32]).unwrap();
    let lines = vec![
        log_key().sign_checkpoint(&head(3)).unwrap(),
        forged.clone(),
        stranger.cosign(&head(3), UnixSeconds::new(1)).unwrap(),
    ];
    assert_eq!(running.status(request(0, &[], &signed(&head(3), lines))).await, 200);
    let published = SignedNote::parse(running.published(ORIGIN).await.unwrap().as_bytes()).unwrap();
    assert_eq!(published.signatures.len(), 2);
    assert!(published.signatures.iter().all(|line| *line != forged && line.name != "other.example/w"));
    log_key().vkey().verify(&head(3), &published.signatures[0]).unwrap();
    vkey.verify(&head(3), &published.signatures[1]).unwrap();
    // The next request starts from a clean state.
    assert_eq!(running.status(request(3, &proof(3, 5), &note(&head(5)))).await, 200);
    running.stop().await;
}

#[tokio::test]
async fn state_and_key_survive_a_restart() {
    let (data, vkey) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.published(ORIGIN).await, None);
    assert_eq!(running.status(request(0, &[], &note(&head(5)))).await, 200);
    let published = running.published(ORIGIN).await;
    running.stop().await;

    assert_eq!(witness::init(data.path(), "witness.example/w1").unwrap(), vkey, "init is idempotent");
    assert!(witness::init(data.path(), "witness.example/other").is_err());
    let running = Running::start(data.path()).await;
    assert_eq!(running.published(ORIGIN).await, published);
    let (status, _, body) = running.post(request(0, &[], &note(&head(7)))).await;
    assert_eq!((status.as_u16(), body.as_str()), (409, "5\n"));
    let (_, _, line) = running.post(request(5, &proof(5, 7), &note(&head(7)))).await;
    time_of(&vkey, &head(7), &line);
    running.stop().await;
}

#[tokio::test]
async fn other_requests() {
    let (data, _) = init();
    let running = Running::start(data.path()).await;
    let get =
        async |path: &str| http_client().get(format!("{}{path}", running.url)).send().await.unwrap().status();
    assert_eq!(get("/healthz").await, 200);
    assert_eq!(get("/add-checkpoint").await, 405);
    assert_eq!(get("/checkpoint").await, 404);
    assert_eq!(get("/0123/checkpoint").await, 404);
    let upper = Hash::of(ORIGIN.as_bytes()).to_string().to_ascii_uppercase();
    assert_eq!(get(&format!("/{upper}/checkpoint")).await, 404);
    assert_eq!(running.post(vec![b'x'; witness::MAX_BODY + 1]).await.0, 413);
    // A note with a score of post-quantum signature lines still fits.
    let mut lines = vec![log_key().sign_checkpoint(&head(3)).unwrap()];
    lines.extend((0..25).map(|n| SignatureLine {
        name: format!("w{n}.example"),
        key_id: [n; 4],
        signature: vec![n; 2428],
    }));
    let body = request(0, &[], &signed(&head(3), lines));
    assert!(body.len() > 64 * 1024);
    assert_eq!(running.status(body).await, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_log_cannot_have_the_name_of_the_witness() {
    let (data, _) = init();
    let own = NoteSigner::ed25519_log("witness.example/w1", [3; 32]).unwrap();
    let error = witness::add_logs(data.path(), &[own.vkey().clone()]).await.unwrap_err();
    assert!(error.to_string().contains("own name"), "{error}");
}
