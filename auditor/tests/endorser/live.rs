//! A software TPM that runs here: from its maker's certificates to evidence that verifies.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use glassbloom_auditor::evidence::{Options, explain};
use glassbloom_hardware::{Device, test_support::SoftTpm, tpm::TpmDevice};
use glassbloom_spec::{
    curve::PublicKey,
    evidence::{
        self, Bound, Trust,
        endorsement::Endorsement,
        exchange::{Activated, Activation, Answer, Bytes, Challenge, path},
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::Tier,
};
use glassbloom_testdata::skipped;

use crate::support::*;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn challenge(endorser: &Running, request: &Activation) -> Challenge {
    let (status, body) = endorser.post(path::TPM_CHALLENGE, request).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_value(body).unwrap()
}

/// The provider's own way: what it ends up with is evidence for the nonce, and for no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_with_a_tpm_is_vouched_for() {
    let Some(tpm) = SoftTpm::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let device = TpmDevice::open(&tpm.config(folder.path().join("tpm"))).unwrap();
    let enrolment = device.endorsed().unwrap();
    let asked = enrolment.request().unwrap();
    let anchor = anchor(asked.certificates.last().unwrap());
    let endorser = Running::start(vec![anchor.clone()], now(), 100).await;
    let nonce = Hash::of(b"an attestation's nonce");
    let ek_chain = asked.certificates.into_iter().map(Bytes).collect();
    let request = Activation { ek_chain, ak: Bytes(asked.attestation_key), nonce };

    let sent = challenge(&endorser, &request).await;
    let secret = enrolment.activate(&sent.credential_blob.0, &sent.encrypted_secret.0).unwrap();
    let answer = Answer { id: sent.id, secret: Bytes(secret.to_vec()) };
    let (status, body) = endorser.post(path::TPM_ANSWER, &answer).await;
    assert_eq!(status, 200, "{body}");
    // The right answer counts once, too.
    assert_eq!(endorser.refusal(path::TPM_ANSWER, &answer).await.0, 404);
    let activated: Activated = serde_json::from_value(body).unwrap();
    enrolment.set_enrolment(nonce, &activated.transcript.0, &[activated.endorsement.0]).unwrap();

    let bytes = device.evidence(nonce).unwrap();
    let signing_key = device.signing().public_key();
    let sealing_key = PublicKey::from_sec1(&device.sealing().public_key()).unwrap();
    let verify = |endorsers: &[PublicKey], nonce| {
        let at = UnixSeconds::new(now());
        let bound = Bound { nonce, signing_key: &signing_key, sealing_key: &sealing_key, at, enrolled: None };
        let trust = Trust { anchors: std::slice::from_ref(&anchor), apps: &[], endorsers };
        evidence::verify("tpm", &bytes, &bound, &trust)
    };
    assert_eq!(verify(&[endorser.key], nonce).unwrap().tier, Tier::TpmSoft);
    assert_eq!(verify(&[], nonce).unwrap_err().reason, "endorser-unknown");
    assert_eq!(verify(&[endorser.key], Hash::of(b"other")).unwrap_err().reason, "endorsement-mismatch");
    // The same, as `glassbloom-auditor evidence` tells it.
    let policy = format!(
        "quorum none\nanchor {} {} {}\nendorser {}\n",
        anchor.tier, anchor.key, anchor.name, endorser.key
    );
    let time = UnixSeconds::new(now());
    let options = Options {
        policy: Some(policy.parse().unwrap()),
        at: None,
        now: time,
        nonce: Some(nonce.as_bytes().to_vec()),
        reveal: false,
    };
    let explanation = explain(&bytes, &[], &options).unwrap();
    assert!(explanation.holds(), "{explanation}");
    assert!(explanation.to_string().contains("endorser  activation"), "{explanation}");
    let explanation = explain(&bytes, &[], &Options { policy: None, ..options }).unwrap();
    assert!(!explanation.holds() && explanation.to_string().contains("--policy"), "{explanation}");
    endorser.stop().await;
}

/// With tools that nobody here wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tools_open_the_challenge() {
    let Some(tpm) = SoftTpm::start() else { return };
    if Command::new("tpm2_activatecredential").arg("--version").output().is_err() {
        return skipped("tpm2_activatecredential is not installed: apt-get install tpm2-tools");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let tcti = tpm.tcti().to_string();
    let run = |line: &str| tool(folder.path(), &tcti, line);
    run("tpm2_createek -Q -c ek.ctx -G rsa -u ek.pub");
    run("tpm2_createak -Q -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name");
    run("tpm2_nvread -Q -C o 0x1c00002 -o ek.der");
    let issuers = [tpm.issuer(), tpm.root()].map(|path| pem(&fs::read_to_string(path).unwrap()));
    let anchor = anchor(&issuers[1]);
    let ek_chain = [vec![fs::read(file("ek.der")).unwrap()], issuers.to_vec()].concat();
    let ek_chain = ek_chain.into_iter().map(Bytes).collect();
    let ak = Bytes(fs::read(file("ak.pub")).unwrap()[2..].to_vec());
    let request = Activation { ek_chain, ak, nonce: Hash::of(b"nonce") };

    let endorser = Running::start(vec![anchor], now(), 100).await;
    let sent = challenge(&endorser, &request).await;
    let parts =
        [&[0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1], &sent.credential_blob.0[..], &sent.encrypted_secret.0];
    fs::write(file("challenge"), parts.concat()).unwrap();
    run("tpm2_startauthsession -Q --policy-session -S session");
    run("tpm2_policysecret -Q -S session -c e");
    run("tpm2_activatecredential -Q -c ak.ctx -C ek.ctx -i challenge -o secret -P session:session");
    let answer = Answer { id: sent.id, secret: Bytes(fs::read(file("secret")).unwrap()) };
    let (status, body) = endorser.post(path::TPM_ANSWER, &answer).await;
    assert_eq!(status, 200, "{body}");
    let activated: Activated = serde_json::from_value(body).unwrap();
    let statement = glassbloom_spec::statement::Statement::parse(&activated.endorsement.0).unwrap();
    statement.verify(&endorser.key).unwrap();
    let says: Endorsement = glassbloom_spec::leaf::Payload::of(&statement).unwrap();
    assert_eq!((says.format.as_str(), says.nonce, says.device), ("tpm", request.nonce, None));
    endorser.stop().await;
}

/// Runs a tool in the folder, and flushes what it left in the TPM, which has room for three objects.
fn tool(folder: &Path, tcti: &str, line: &str) {
    for line in [line, "tpm2_flushcontext -Q -t"] {
        let mut words = line.split(' ');
        let output = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(folder)
            .env("TPM2TOOLS_TCTI", tcti)
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
