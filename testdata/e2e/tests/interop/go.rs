//! Go's own checksum-database packages, `golang.org/x/mod/sumdb/{note,tlog}`.

use std::{path::PathBuf, process::Command};

use glassbloom_service::ExitCode;
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle,
    note::Algorithm,
    policy::Policy,
};
use serde_json::Value;

use crate::bed::{Bed, NAME, is_there, log_command, run, script, try_run};
use glassbloom_testdata::{repository, skipped};

/// Builds the program in `interop/sumdb.go`, or says why it cannot be.
async fn sumdb() -> Option<PathBuf> {
    if !is_there("go", "golang-go") {
        return None;
    }
    let packages = PathBuf::from("/usr/share/gocode");
    if !packages.join("src/golang.org/x/mod/sumdb/tlog").is_dir() {
        skipped("needs Go's checksum-database packages (Debian package golang-golang-x-mod-dev)");
        return None;
    }
    let built = repository().join("target/interop");
    std::fs::create_dir_all(&built).unwrap();
    // Each test builds its own, so that none runs a half-written one.
    let program = built.join(format!("sumdb-{:?}", std::thread::current().id()));
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(script("sumdb.go"));
    // From Debian's packages alone: nothing is downloaded.
    build
        .env("GO111MODULE", "off")
        .env("GOPATH", packages)
        .env("GOCACHE", built.join("go-cache"))
        .env("GOFLAGS", "");
    run(build).await;
    Some(program)
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(|hash| Hash::from_base64(hash.as_str().unwrap()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_verifies_our_log_and_we_verify_what_it_proves() {
    let Some(sumdb) = sumdb().await else { return };
    let bed = Bed::start("").await;
    bed.fill("registry", 520).await;
    let mut check = Command::new(&sumdb);
    let vkey = bed.vkey("registry", Algorithm::Ed25519);
    check.arg("check").arg(format!("{}/registry", bed.url)).arg(&vkey);
    check.args(["0,1,255,256,300,511,512,520", "1,2,255,256,257,511,512,513,520,521"]);
    let report: Value = serde_json::from_slice(&run(check).await).unwrap();

    let head = &report["head"];
    assert_eq!(head["origin"], format!("{NAME}/registry"));
    assert_eq!(head["size"], 521);
    assert_eq!(report["signer"], head["origin"]);
    let (size, root) = (TreeSize::new(521), Hash::from_base64(head["root"].as_str().unwrap()).unwrap());
    let log = bed.log("registry");
    let checkpoint = bed.policy.open(None, &log.checkpoint_bytes().await.unwrap()).unwrap();
    assert_eq!((checkpoint.size(), checkpoint.root()), (size, root));
    let records = report["records"].as_array().unwrap();
    assert_eq!(records.len(), 8);
    for record in records {
        let index = LeafIndex::new(record["index"].as_u64().unwrap());
        let entry = log.entries(index.get()..index.get() + 1, size).await.unwrap().remove(0);
        assert_eq!(base64_bytes(&record["entry"]), entry);
        let proof = hashes(&record["proof"]);
        merkle::verify_inclusion(Hash::leaf(&entry), index, size, root, &proof).unwrap();
        assert_eq!(log.inclusion_proof(index, size).await.unwrap(), proof);
    }
    let trees = report["trees"].as_array().unwrap();
    assert_eq!(trees.len(), 10);
    for tree in trees {
        let old = TreeSize::new(tree["size"].as_u64().unwrap());
        let old_root = Hash::from_base64(tree["root"].as_str().unwrap()).unwrap();
        let proof = hashes(&tree["proof"]);
        merkle::verify_consistency(old, size, old_root, root, &proof).unwrap();
        assert_eq!(log.consistency_proof(old, size).await.unwrap(), proof);
    }

    // And it would have said no: to the key of the other log, and to an entry outside the tree.
    for (vkey, index, words) in
        [(bed.vkey("receipts", Algorithm::Ed25519), "0", "no verifiable signatures"), (vkey, "521", "521")]
    {
        let mut check = Command::new(&sumdb);
        check.arg("check").arg(format!("{}/registry", bed.url)).args([vkey.as_str(), index, "1"]);
        let refused = try_run(check).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(words), "{said}");
    }
}

fn base64_bytes(value: &Value) -> Vec<u8> {
    base64::Engine::decode(&base64::prelude::BASE64_STANDARD, value.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn we_verify_a_log_that_go_made() {
    let Some(sumdb) = sumdb().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut make = Command::new(&sumdb);
    make.arg("make").arg(&log).args(["go.example/log", "700"]);
    let vkey = String::from_utf8(run(make).await).unwrap();
    let policy = folder.path().join("policy");
    std::fs::write(&policy, format!("log {}\nquorum none\n", vkey.trim())).unwrap();
    let fsck = [log.as_os_str(), "--policy".as_ref(), policy.as_os_str()];
    let fsck = async || log_command(&[&["fsck".as_ref()], &fsck[..]].concat()).await;
    assert_eq!(fsck().await, ExitCode::Ok);

    let text = std::fs::read_to_string(&policy).unwrap();
    let note = std::fs::read(log.join("checkpoint")).unwrap();
    let checkpoint = Policy::parse(&text).unwrap().open(Some("go.example/log"), &note).unwrap();
    assert_eq!(checkpoint.size(), TreeSize::new(700));

    let bundle = log.join("tile/entries/001");
    let honest = std::fs::read(&bundle).unwrap();
    let mut altered = honest.clone();
    altered[100] ^= 1;
    std::fs::write(&bundle, altered).unwrap();
    assert_eq!(fsck().await, ExitCode::Rejected);
    std::fs::write(&bundle, honest).unwrap();
    assert_eq!(fsck().await, ExitCode::Ok);
    let stranger = glassbloom_spec::note::NoteSigner::ed25519_log("go.example/log", [7; 32]).unwrap();
    std::fs::write(&policy, format!("log {}\nquorum none\n", stranger.vkey())).unwrap();
    assert_eq!(fsck().await, ExitCode::Rejected);
}
