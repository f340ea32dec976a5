//! PyPI's `proofbundle` and `cryptography`.

use std::process::Command;

use glassbloom_spec::note::Algorithm;

use crate::bed::{Bed, python, run, script};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_verifies_our_proofs_offline_and_refuses_altered_ones() {
    let Some(python) = python() else { return };
    let bed = Bed::start("").await;
    let appended = bed.fill("receipts", 300).await;
    let (proof, entry) = (bed.at("receipt.tlog-proof"), bed.at("receipt"));
    std::fs::write(&proof, &appended.proof).unwrap();
    std::fs::write(&entry, b"the last").unwrap();
    let mut verify = Command::new(python);
    verify.arg(script("offline.py")).arg(proof).arg(entry);
    verify.arg(bed.vkey("receipts", Algorithm::Ed25519)).arg(bed.vkey("receipts", Algorithm::MlDsa44));
    for algorithm in [Algorithm::CosignatureEd25519, Algorithm::MlDsa44] {
        let mut witnesses = bed.policy.witnesses().iter();
        verify.arg(witnesses.find(|witness| witness.key.algorithm() == algorithm).unwrap().key.to_string());
    }
    let said = String::from_utf8(run(verify).await).unwrap();
    assert!(said.contains("entry 300 of 301 in interop.test/receipts"), "{said}");
    assert_eq!(said.lines().count(), 3, "{said}");
}
