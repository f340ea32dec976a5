//! What the endorser answers to those whom it does not vouch for.

use std::{fs, process::Command};

use glassbloom_auditor::endorser::{self, KeyError, MAX_BODY, MAX_PENDING_EACH};
use glassbloom_spec::{
    evidence::exchange::{Answer, Bytes, Challenge, path},
    hash::Hash,
    policy::Policy,
};

use crate::support::*;

fn wrong(challenge: &Challenge) -> Answer {
    Answer { id: challenge.id.clone(), secret: Bytes(vec![0; 32]) }
}

async fn challenge(endorser: &Running, request: &impl serde::Serialize) -> Challenge {
    let (status, body) = endorser.post(path::TPM_CHALLENGE, request).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_value(body).unwrap()
}

#[tokio::test]
async fn a_wrong_secret_ends_the_exchange() {
    let Some((request, anchor)) = published() else { return };
    let endorser = Running::start(vec![anchor], NOW, 100).await;
    let first = challenge(&endorser, &request).await;
    let second = challenge(&endorser, &request).await;
    assert_ne!((&first.id, &first.credential_blob), (&second.id, &second.credential_blob));
    assert_eq!(endorser.refusal(path::TPM_ANSWER, &wrong(&first)).await, (403, "wrong-secret".to_owned()));
    assert_eq!(
        endorser.refusal(path::TPM_ANSWER, &wrong(&first)).await,
        (404, "unknown-exchange".to_owned())
    );
    let unknown = Answer { id: "0".repeat(32), secret: Bytes(vec![0; 32]) };
    assert_eq!(endorser.refusal(path::TPM_ANSWER, &unknown).await, (404, "unknown-exchange".to_owned()));
    // The other one is not touched by it.
    assert_eq!(endorser.refusal(path::TPM_ANSWER, &wrong(&second)).await, (403, "wrong-secret".to_owned()));
    endorser.stop().await;
}

#[tokio::test]
async fn an_answer_comes_within_two_minutes() {
    let Some((request, anchor)) = published() else { return };
    let endorser = Running::start(vec![anchor], NOW, 100).await;
    let (late, in_time) = (challenge(&endorser, &request).await, challenge(&endorser, &request).await);
    endorser.clock.advance_millis(119_999);
    assert_eq!(endorser.refusal(path::TPM_ANSWER, &wrong(&in_time)).await, (403, "wrong-secret".to_owned()));
    endorser.clock.advance_millis(1);
    assert_eq!(endorser.refusal(path::TPM_ANSWER, &wrong(&late)).await, (410, "expired".to_owned()));
    let before = challenge(&endorser, &request).await;
    endorser.clock.set(1000.into());
    assert_eq!(endorser.refusal(path::TPM_ANSWER, &wrong(&before)).await, (410, "expired".to_owned()));
    endorser.stop().await;
}

#[tokio::test]
async fn few_exchanges_wait_for_one_tpm() {
    let Some((request, anchor)) = published() else { return };
    let endorser = Running::start(vec![anchor], NOW, 100).await;
    let first = challenge(&endorser, &request).await;
    endorser.clock.advance_millis(60_000);
    for _ in 1..MAX_PENDING_EACH {
        challenge(&endorser, &request).await;
    }
    assert_eq!(endorser.refusal(path::TPM_CHALLENGE, &request).await, (503, "busy".to_owned()));
    assert_eq!(endorser.refusal(path::TPM_ANSWER, &wrong(&first)).await.0, 403);
    challenge(&endorser, &request).await;
    assert_eq!(endorser.refusal(path::TPM_CHALLENGE, &request).await.0, 503);
    endorser.clock.advance_millis(120_000);
    challenge(&endorser, &request).await;
    endorser.stop().await;
}

#[tokio::test]
async fn what_does_not_hold_is_not_asked() {
    let Some((request, anchor)) = published() else { return };
    let endorser = Running::start(vec![anchor.clone()], NOW, 100).await;
    let mut bad = request.clone();
    bad.ek_chain.pop();
    assert_eq!(endorser.refusal(path::TPM_CHALLENGE, &bad).await, (422, "certificate-root".to_owned()));
    bad.ek_chain.clear();
    assert_eq!(endorser.refusal(path::TPM_CHALLENGE, &bad).await, (422, "certificate-chain".to_owned()));
    let mut bad = request.clone();
    bad.ek_chain[0].0[600] ^= 1;
    assert_eq!(endorser.refusal(path::TPM_CHALLENGE, &bad).await.0, 422);
    let mut bad = request.clone();
    bad.ak.0.pop();
    assert_eq!(endorser.refusal(path::TPM_CHALLENGE, &bad).await, (422, "evidence-malformed".to_owned()));
    // An attestation key that would sign whatever it is given: the attribute `restricted` is taken away.
    let mut bad = request.clone();
    bad.ak.0[5] &= !1;
    assert_eq!(endorser.refusal(path::TPM_CHALLENGE, &bad).await, (422, "tpm-ak-attributes".to_owned()));
    endorser.clock.set(1_000_000_000.into());
    let code = endorser.refusal(path::TPM_CHALLENGE, &request).await;
    assert_eq!(code, (422, "certificate-not-yet-valid".to_owned()));
    endorser.stop().await;

    let other = glassbloom_spec::evidence::Anchor { key: Hash::of(b"another maker"), ..anchor };
    let endorser = Running::start(vec![other], NOW, 100).await;
    let (status, body) = endorser.post(path::TPM_CHALLENGE, &request).await;
    assert_eq!((status, body["code"].as_str().unwrap()), (422, "certificate-root"));
    assert!(body["detail"].as_str().unwrap().contains("anchor"), "{body}");
    endorser.stop().await;
}

#[tokio::test]
async fn a_swarm_is_slowed_down() {
    let Some((request, _)) = published() else { return };
    let endorser = Running::start(Vec::new(), NOW, 2).await;
    for expected in [422, 422, 429] {
        assert_eq!(endorser.refusal(path::TPM_CHALLENGE, &request).await.0, expected);
    }
    endorser.clock.advance_millis(1000);
    assert_eq!(endorser.refusal(path::TPM_CHALLENGE, &request).await.0, 422);
    endorser.stop().await;
}

#[tokio::test]
async fn requests_are_of_one_form() {
    let endorser = Running::start(Vec::new(), NOW, 100).await;
    for body in [&b""[..], b"{}", b"[]", b"{\"id\": \"x\", \"secret\": \"?\"}", b"\xff"] {
        for path in [path::TPM_CHALLENGE, path::TPM_ANSWER, path::MDA] {
            let (status, body) = endorser.post_bytes(path, body.to_vec()).await;
            assert_eq!((status, body["code"].as_str().unwrap()), (400, "malformed"));
        }
    }
    let (status, body) = endorser.post_bytes(path::TPM_CHALLENGE, vec![b' '; MAX_BODY + 1]).await;
    assert_eq!((status, body["code"].as_str().unwrap()), (413, "body"));
    endorser.stop().await;
}

#[test]
fn keys_are_made_once_and_for_their_owner_alone() {
    let data = tempfile::tempdir().unwrap();
    let run = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_glassbloom-auditor"))
            .args(["endorser", command, "--data"])
            .arg(data.path())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, _, error) = run("keys");
    assert!(code == 1 && error.contains("endorser init"), "{error}");
    let (code, line, _) = run("init");
    assert_eq!(code, 0);
    assert_eq!(run("init").1, line);
    assert_eq!(run("keys").1, line);
    let policy = Policy::parse(&format!("quorum none\n{line}")).unwrap();
    let keys = endorser::load(data.path()).unwrap();
    assert_eq!(policy.trust().endorsers, [keys.public_key()]);
    for name in ["endorser.key", "device.key"] {
        use std::os::unix::fs::PermissionsExt;
        let path = data.path().join(name);
        let mode = |bits| fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        mode(0o640);
        let error = run("keys").2;
        assert!(error.contains("chmod 600"), "{error}");
        mode(0o600);
        let before = fs::read(&path).unwrap();
        fs::write(&path, "wibble").unwrap();
        assert!(matches!(endorser::load(data.path()), Err(KeyError::Malformed(_))));
        // A key that cannot be read is never replaced.
        assert!(endorser::init(data.path()).is_err());
        fs::write(&path, before).unwrap();
    }
    assert_eq!(run("keys").1, line);
}
