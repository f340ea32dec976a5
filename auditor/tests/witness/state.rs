//! What the witness remembers, through races, forgeries, restarts and changes from outside.

use std::sync::Arc;

use glassbloom_auditor::witness::{self, KeyError, Rate, Refusal, Store, Witness};
use glassbloom_service::MockClock;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{UnixMillis, UnixSeconds},
    note::{Algorithm, NoteSigner, SignatureLine, SignedNote},
};

use crate::support::*;

fn database(data: &tempfile::TempDir) -> std::path::PathBuf {
    data.path().join("witness.sqlite")
}

/// A witness without HTTP.
async fn below_http(data: &tempfile::TempDir) -> (Witness, MockClock) {
    witness::add_logs(data.path(), &[log_key().vkey().clone()]).await.unwrap();
    let signers = ["witness.key", "witness-mldsa.key"]
        .map(|file| std::fs::read_to_string(data.path().join(file)).unwrap().parse().unwrap());
    let clock = MockClock::new(UnixMillis::new(NOW * 1000));
    let store = Store::open(&database(data)).await.unwrap();
    let (witness, _) =
        Witness::start(signers.into(), store, Rate::default(), Arc::new(clock.clone())).await.unwrap();
    (witness, clock)
}

#[tokio::test]
async fn race() {
    let (data, vkeys) = init();
    let (witness, _) = below_http(&data).await;
    witness.add_checkpoint(&growth(0, 1)).await.unwrap();

    // A is checked against size 1 and stalls; B goes from 1 to 5 meanwhile.
    let stalled = witness.check(&growth(1, 3)).await.unwrap();
    let lines = witness.add_checkpoint(&growth(1, 5)).await.unwrap();
    time_of(&vkeys, &head(5), core::str::from_utf8(&lines).unwrap());
    let overtaken = witness.commit(stalled).await;
    assert!(matches!(overtaken, Err(Refusal::Conflict(size)) if size.get() == 5), "{overtaken:?}");
    let latest = witness.store().latest(ORIGIN).await.unwrap().unwrap();
    assert_eq!((latest.size.get(), latest.root), (5, root(5)));
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_cannot_fork() {
    let (data, vkeys) = init();
    let (one, _) = below_http(&data).await;
    let (two, _) = below_http(&data).await;
    one.add_checkpoint(&growth(0, 3)).await.unwrap();
    // What the second has in memory is out of date: it finds out when it swaps, and then knows better.
    let fork = TreeHead { root: root(4), ..head(3) };
    let swapped = two.add_checkpoint(&request(0, &[], &note(&fork))).await;
    assert!(matches!(swapped, Err(Refusal::Conflict(size)) if size.get() == 3), "{swapped:?}");
    let lines = two.add_checkpoint(&growth(3, 5)).await.unwrap();
    time_of(&vkeys, &head(5), core::str::from_utf8(&lines).unwrap());
    let swapped = one.add_checkpoint(&growth(3, 4)).await;
    assert!(matches!(swapped, Err(Refusal::Conflict(size)) if size.get() == 5), "{swapped:?}");
}

#[tokio::test]
async fn time_never_goes_back() {
    let (data, vkeys) = init();
    let (witness, clock) = below_http(&data).await;
    let mut last = UnixSeconds::new(0);
    for (seconds, expected) in [(NOW, NOW), (NOW + 7, NOW + 7), (NOW - 60, NOW + 7), (NOW + 8, NOW + 8)] {
        clock.set(UnixMillis::new(seconds * 1000));
        let old = if last.get() == 0 { 0 } else { 3 };
        let lines = witness.add_checkpoint(&growth(old, 3)).await.unwrap();
        let time = time_of(&vkeys, &head(3), core::str::from_utf8(&lines).unwrap());
        assert_eq!(time.get(), expected);
        assert!(time >= last);
        last = time;
    }
    clock.set(UnixMillis::new((NOW - 3600) * 1000));
    let refused = witness.add_checkpoint(&growth(3, 5)).await;
    assert!(matches!(refused, Err(Refusal::Clock(3608))), "{refused:?}");
    assert_eq!(witness.store().latest(ORIGIN).await.unwrap().unwrap().size.get(), 3);
}

#[tokio::test]
async fn concurrent_growth_cosigns_one_history() {
    let (data, _) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.status(growth(0, 1)).await, 200);
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
async fn forged_witness_signature_line_does_not_poison_state() {
    let (data, vkeys) = init();
    let running = Running::start(data.path()).await;
    let forged = vkeys.iter().map(|vkey| SignatureLine {
        name: vkey.name().to_owned(),
        key_id: vkey.key_id(),
        signature: vec![7; if vkey.algorithm() == Algorithm::MlDsa44 { 2428 } else { 72 }],
    });
    let forged: Vec<_> = forged.collect();
    let stranger = NoteSigner::ed25519_witness("other.example/w", [8; 32]).unwrap();
    let mut lines = vec![log_key().sign_checkpoint(&head(3)).unwrap()];
    lines.extend(forged.iter().cloned());
    lines.push(stranger.cosign(&head(3), UnixSeconds::new(1)).unwrap());
    // The log's own line once more: valid, and worth keeping once.
    lines.push(lines[0].clone());
    assert_eq!(running.status(request(0, &[], &signed(&head(3), lines))).await, 200);
    let published = SignedNote::parse(running.published(ORIGIN).await.unwrap().as_bytes()).unwrap();
    assert_eq!(published.signatures.len(), 3);
    assert!(published.signatures.iter().all(|line| !forged.contains(line) && line.name != "other.example/w"));
    log_key().vkey().verify(&head(3), &published.signatures[0]).unwrap();
    for (vkey, line) in vkeys.iter().zip(&published.signatures[1..]) {
        vkey.verify(&head(3), line).unwrap();
    }
    // The next request starts from a clean state.
    assert_eq!(running.status(growth(3, 5)).await, 200);
    running.stop().await;
}

#[tokio::test]
async fn state_and_keys_survive_a_restart() {
    let (data, vkeys) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.published(ORIGIN).await, None);
    assert_eq!(running.status(growth(0, 5)).await, 200);
    let published = running.published(ORIGIN).await;
    running.stop().await;

    assert_eq!(witness::init(data.path(), WITNESS).unwrap(), vkeys, "init is idempotent");
    assert!(witness::init(data.path(), "witness.example/other").is_err());
    let running = Running::start(data.path()).await;
    assert_eq!(running.published(ORIGIN).await, published);
    let (status, _, body) = running.post(request(0, &[], &note(&head(7)))).await;
    assert_eq!((status.as_u16(), body.as_str()), (409, "5\n"));
    let (_, _, lines) = running.post(growth(5, 7)).await;
    time_of(&vkeys, &head(7), &lines);
    running.stop().await;
}

#[tokio::test]
async fn a_folder_with_the_older_key_alone_works_and_init_adds_the_other() {
    let (data, vkeys) = init();
    std::fs::remove_file(data.path().join("witness-mldsa.key")).unwrap();
    let running = Running::start(data.path()).await;
    let (_, _, lines) = running.post(growth(0, 3)).await;
    time_of(&vkeys[..1], &head(3), &lines);
    assert_eq!(running.send("sign-subtree", Vec::new()).await.status(), 404);
    running.stop().await;

    let again = witness::init(data.path(), WITNESS).unwrap();
    assert_eq!(again[0], vkeys[0]);
    assert_ne!(again[1], vkeys[1]);
    let running = Running::start(data.path()).await;
    let (_, _, lines) = running.post(growth(3, 5)).await;
    time_of(&again, &head(5), &lines);
    running.stop().await;
}

#[tokio::test]
async fn a_running_witness_sees_logs_and_keys_that_are_added() {
    let (data, _) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.status(growth(0, 3)).await, 200);

    let origin = "later.example/log";
    let key = NoteSigner::ed25519_log(origin, [5; 32]).unwrap();
    let later = TreeHead { origin: origin.to_owned(), ..head(3) };
    let body = request(0, &[], &signed(&later, vec![key.sign_checkpoint(&later).unwrap()]));
    assert_eq!(running.status(body.clone()).await, 404);
    witness::add_logs(data.path(), &[key.vkey().clone()]).await.unwrap();
    assert_eq!(running.status(body).await, 200);

    // The log changes its key: the witness follows once it is told, and goes on from the same tree.
    let next = NoteSigner::mldsa44(ORIGIN, [6; 32]).unwrap();
    let body = request(3, &proof(3, 5), &signed(&head(5), vec![next.sign_checkpoint(&head(5)).unwrap()]));
    assert_eq!(running.status(body.clone()).await, 403);
    witness::add_logs(data.path(), &[next.vkey().clone()]).await.unwrap();
    assert_eq!(running.status(body).await, 200);
    running.stop().await;
}

#[tokio::test]
async fn many_logs() {
    let (data, vkeys) = init();
    let keys: Vec<_> =
        (0..2000).map(|n| NoteSigner::ed25519_log(&format!("log{n}.example"), [3; 32]).unwrap()).collect();
    let logs = keys.iter().map(|key| key.vkey().clone()).collect();
    let running = Running::start_at(data.path(), logs, Rate::default()).await;
    // At once, so that moves of different logs share a transaction.
    let submitted = keys.iter().step_by(50).map(|key| {
        let head = TreeHead { origin: key.vkey().name().to_owned(), ..head(3) };
        let body = request(0, &[], &signed(&head, vec![key.sign_checkpoint(&head).unwrap()]));
        let running = &running;
        async move { (running.post(body).await.2, head) }
    });
    for (lines, head) in futures_util::future::join_all(submitted).await {
        time_of(&vkeys, &head, &lines);
        assert!(running.published(&head.origin).await.unwrap().starts_with(&head.to_string()));
    }
    assert_eq!(running.published("log1.example").await, None);
    running.stop().await;
    let store = Store::open(&database(&data)).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 2000);
}

#[tokio::test]
async fn name_collision() {
    let (data, _) = init();
    let own = NoteSigner::ed25519_log(WITNESS, [3; 32]).unwrap();
    let good = log_key().vkey().clone();
    let error = witness::add_logs(data.path(), &[good, own.vkey().clone()]).await.unwrap_err();
    assert!(matches!(error, KeyError::SameName(_)), "{error}");
    let other = NoteSigner::ed25519_witness("witness.example/w2", [3; 32]).unwrap();
    let error = witness::add_logs(data.path(), &[other.vkey().clone()]).await.unwrap_err();
    assert!(matches!(error, KeyError::NotALog(_)), "{error}");
    // All or none.
    assert_eq!(Store::open(&database(&data)).await.unwrap().count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_failed_write_cosigns_nothing_and_stops_the_witness() {
    let (data, _) = init();
    let (witness, _) = below_http(&data).await;
    witness.add_checkpoint(&growth(0, 3)).await.unwrap();
    witness.store().close().await;
    for _ in 0..2 {
        let failed = witness.add_checkpoint(&growth(3, 5)).await;
        assert!(matches!(failed, Err(Refusal::Store(_))), "{failed:?}");
    }
    // Nothing was promised, so the next process may go either way.
    let (witness, _) = below_http(&data).await;
    witness.add_checkpoint(&growth(3, 4)).await.unwrap();
}

#[tokio::test]
async fn what_a_log_signs_against_itself_is_kept() {
    let (data, vkeys) = init();
    let running = Running::start(data.path()).await;
    assert_eq!(running.status(growth(0, 5)).await, 200);
    let files = || match std::fs::read_dir(data.path().join("evidence")) {
        Ok(files) => files.map(|file| file.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    // A proof that does not hold shows nothing against the log, nor does what it did not sign.
    assert_eq!(running.status(request(5, &[], &note(&head(7)))).await, 422);
    let fork = |n| TreeHead { root: root(n), ..head(5) };
    let stranger = NoteSigner::ed25519_log(ORIGIN, [2; 32]).unwrap().sign_checkpoint(&fork(4)).unwrap();
    assert_eq!(running.status(request(5, &[], &signed(&fork(4), vec![stranger]))).await, 403);
    assert_eq!(files(), Vec::<std::path::PathBuf>::new());

    for _ in 0..2 {
        assert_eq!(running.status(request(5, &[], &note(&fork(4)))).await, 422);
    }
    let [file] = &files()[..] else { panic!("one file") };
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for (side, head) in [("first_seen", head(5)), ("then_served", fork(4))] {
        let kept = SignedNote::parse(file[side].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(kept.text, head.to_string());
        log_key().vkey().verify(&head, &kept.signatures[0]).unwrap();
        assert_eq!(kept.signatures.iter().any(|line| vkeys[0].claims(line)), side == "first_seen");
    }
    // A log cannot fill the disk.
    for n in 6..40 {
        assert_eq!(running.status(request(5, &[], &note(&fork(n)))).await, 422);
    }
    assert_eq!(files().len(), 16);
    assert_eq!(running.status(growth(5, 7)).await, 200);
    running.stop().await;
}
