//! What each request is answered with. `[c2sp.org/tlog-witness]`

use ed25519_dalek::Signer;
use glassbloom_auditor::witness::{self, Rate};
use glassbloom_service::http_client;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::UnixSeconds,
    note::{NoteSigner, SignatureLine, VerifierKey},
    witness::AddCheckpoint,
};

use crate::support::*;

#[tokio::test]
async fn every_row_of_the_status_table() {
    let (data, vkeys) = init();
    let running = Running::start(data.path()).await;

    // 200: first, growing, refreshed; the reply is one cosignature line with a time.
    let (status, _, line) = running.post(request(0, &[], &note(&head(3)))).await;
    assert_eq!(status, 200);
    assert_eq!(time_of(&vkeys, &head(3), &line), UnixSeconds::new(NOW));
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
async fn too_many_proofs() {
    let (data, _) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.status(growth(0, 5)).await, 200);
    let many = vec![root(1); 64];
    assert_eq!(running.status(request(5, &many, &note(&head(7)))).await, 400, "64 proof lines");
    assert_eq!(
        running.status(request(5, &many[1..], &note(&head(7)))).await,
        422,
        "63 are as many as may be"
    );
    running.stop().await;
}

#[tokio::test]
async fn rejects_extensions() {
    let (data, _) = init();
    let running = Running::start(data.path()).await;
    let text = format!("{}extension\n", head(3));
    let signature = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).sign(text.as_bytes());
    let line = SignatureLine {
        name: ORIGIN.to_owned(),
        key_id: log_key().vkey().key_id(),
        signature: signature.to_vec(),
    };
    let note = glassbloom_spec::note::SignedNote { text, signatures: vec![line] }.encode();
    assert_eq!(running.status(request(0, &[], &note)).await, 400);
    assert_eq!(running.published(ORIGIN).await, None);
    running.stop().await;
}

/// What another implementation's log with an ML-DSA key sends.
#[tokio::test]
async fn a_request_made_by_others() {
    let Some(folder) = glassbloom_testdata::shared_vectors().map(|shared| shared.join("tlog/mldsa")) else {
        return glassbloom_testdata::skipped("no vectors by others beside the checkout");
    };
    let body = std::fs::read(folder.join("add-checkpoint.body")).unwrap();
    let log: VerifierKey = std::fs::read_to_string(folder.join("log.vkey")).unwrap().trim().parse().unwrap();
    let (data, vkeys) = init();
    let running = Running::start_at(data.path(), vec![log], Rate::default()).await;
    let (status, _, lines) = running.post(body.clone()).await;
    assert_eq!(status, 200, "{lines}");
    let request = AddCheckpoint::parse(&body).unwrap();
    time_of(&vkeys, &request.head, &lines);
    assert_eq!(running.post(body).await.2, format!("{}\n", request.head.size));
    running.stop().await;
}

/// The sequence that the tests of sigsum-go run against any witness.
#[tokio::test]
async fn the_sequence_of_sigsum() {
    let (data, vkeys) = init();
    let running = Running::start(data.path()).await;
    for (old, new) in [(0, 2), (2, 4), (4, 4), (4, 5)] {
        let (status, _, lines) = running.post(growth(old, new)).await;
        assert_eq!(status, 200, "{old} to {new}");
        time_of(&vkeys, &head(new), &lines);
        if (old, new) == (0, 2) {
            let (status, _, size) = running.post(growth(1, 2)).await;
            assert_eq!((status.as_u16(), size.as_str()), (409, "2\n"));
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn one_flipped_bit_cosigns_nothing_else() {
    let (data, _) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.status(growth(0, 5)).await, 200);
    let before = running.published(ORIGIN).await;
    let good = growth(5, 7);
    for bit in 0..8 * good.len() {
        let mut body = good.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        let status = running.status(body).await;
        assert!([400, 403, 404, 409, 422].contains(&status), "bit {bit}: {status}");
    }
    assert_eq!(running.published(ORIGIN).await, before);
    assert_eq!(running.status(good).await, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_asks_too_often_waits_and_others_do_not() {
    let (data, _) = init();
    let other = NoteSigner::ed25519_log("other.example/log", [9; 32]).unwrap();
    witness::add_logs(data.path(), &[other.vkey().clone()]).await.unwrap();
    let running = Running::limited(data.path(), 2).await;
    assert_eq!(running.status(growth(0, 1)).await, 200);
    assert_eq!(running.status(growth(1, 2)).await, 200);
    // What is refused costs nothing, and neither does what would be refused anyway.
    assert_eq!(running.status(growth(1, 2)).await, 409);
    let refused = running.send("add-checkpoint", growth(2, 3)).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    let stranger = TreeHead { origin: "other.example/log".to_owned(), ..head(3) };
    let line = other.sign_checkpoint(&stranger).unwrap();
    assert_eq!(running.status(request(0, &[], &signed(&stranger, vec![line]))).await, 200);
    running.clock.advance_millis(500);
    assert_eq!(running.status(growth(2, 3)).await, 200);
    assert_eq!(running.status(growth(3, 4)).await, 429);
    running.stop().await;
}

#[tokio::test]
async fn zero_size() {
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
            assert_eq!(running.status(request(0, &[], &note(&crate::support::head(known)))).await, 200);
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
async fn other_requests() {
    let (data, _) = init();
    let running = Running::start(data.path()).await;
    let get =
        async |path: &str| http_client().get(format!("{}{path}", running.url)).send().await.unwrap().status();
    assert_eq!(get("/healthz").await, 200);
    assert_eq!(get("/add-checkpoint").await, 405);
    assert_eq!(get("/checkpoint").await, 404);
    assert_eq!(get("/0123/checkpoint").await, 404);
    let url = format!("{}/{}/checkpoint", running.url, Hash::of(ORIGIN.as_bytes()));
    let missing = http_client().get(&url).send().await.unwrap();
    assert_eq!(
        (missing.status().as_u16(), &missing.headers()["cache-control"]),
        (404, &"no-store".parse().unwrap())
    );
    let upper = Hash::of(ORIGIN.as_bytes()).to_string().to_ascii_uppercase();
    assert_eq!(get(&format!("/{upper}/checkpoint")).await, 404);
    let (status, content_type, _) = running.post(vec![b'x'; witness::MAX_BODY + 1]).await;
    assert_eq!((status.as_u16(), content_type.as_deref()), (413, Some("application/problem+json")));
    assert_eq!(running.status(vec![b'x'; witness::MAX_BODY]).await, 400, "the limit itself is no reason");
    // A browser asks first whether it may.
    let preflight = http_client()
        .request(reqwest::Method::OPTIONS, format!("{}/add-checkpoint", running.url))
        .header("origin", "https://explorer.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 200);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
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
    let there = http_client().get(&url).send().await.unwrap();
    assert_eq!(there.headers()["cache-control"], "no-cache");
    assert_eq!(there.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(http_client().head(&url).send().await.unwrap().status(), 200);
    running.stop().await;
}
