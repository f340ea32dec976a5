//! Files that are damaged, cut short, or nothing at all.

use std::{fs, path::Path};

use glassbloom_auditor::evidence::{Options, explain};
use glassbloom_testdata::world::{World, index};

use crate::support::*;

/// Every file of the shared vectors, with its name.
fn files(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

fn all() -> Option<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    files(&shared("")?, &mut found);
    let world = World::new();
    found.push(("attestation".to_owned(), world.statement(index::ATTESTATION).bytes().to_vec()));
    Some(found)
}

/// Whatever comes of it, it can be told.
fn tell(file: &[u8], with: &[Vec<u8>], options: &Options) {
    if let Ok(explanation) = explain(file, with, options) {
        assert!(!explanation.to_string().is_empty() && explanation.to_json().is_object());
    }
}

#[test]
fn what_is_cut_short_never_panics() {
    let Some(files) = all() else { return };
    for (_, bytes) in &files {
        let step = (bytes.len() / 120).max(1);
        for length in (0..bytes.len()).step_by(step) {
            tell(&bytes[..length], &[], &options(NOW));
        }
        tell(&[bytes.as_slice(), b"\0"].concat(), &[], &options(NOW));
    }
}

#[test]
fn what_is_damaged_never_panics() {
    let Some(files) = all() else { return };
    for (_, bytes) in &files {
        let step = (bytes.len() / 120).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            tell(&damaged, std::slice::from_ref(bytes), &options(NOW));
        }
    }
}

#[test]
fn a_flipped_bit_of_what_is_signed_is_rejected() {
    let Some(report) = read("sev-snp/report_milan.hex") else { return };
    let report = hex::decode(String::from_utf8(report).unwrap().trim()).unwrap();
    let certificates: Vec<_> = ["vcek_milan.der", "ask-milan.pem", "ark-milan.pem"]
        .map(|name| read(&format!("sev-snp/{name}")).unwrap())
        .to_vec();
    assert!(look(&report, &certificates, &options(NOW)).holds());
    for at in (0..0x2a0).step_by(31) {
        let mut damaged = report.clone();
        damaged[at] ^= 0x10;
        let holds =
            explain(&damaged, &certificates, &options(NOW)).is_ok_and(|explanation| explanation.holds());
        assert!(!holds, "byte {at}");
    }
}

#[test]
fn what_is_no_evidence_is_told_what_is() {
    for bytes in [
        &b""[..],
        b"\n",
        b"wibble",
        b"{\"a\": 1}",
        b"{",
        b"---\nname: x\n",
        b"deadbeef",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
        &[0xd2],
        &[0xa0],
        &[0xa1, 1, 2],
        &[0x30, 0x82, 0, 1],
        &[0; 1184],
        &[0xff; 64],
        &[4, 0, 2, 0, 0x81, 0, 0],
    ] {
        let error = explain(bytes, &[], &options(NOW)).unwrap_err().to_string();
        assert!(!error.is_empty());
    }
    assert!(explain(b"wibble!", &[], &options(NOW)).unwrap_err().to_string().contains("Supported are"));
    assert!(explain(&vec![b'a'; 2 << 20], &[], &options(NOW)).is_err());
    // A quote's header and nothing else is a quote that does not hold.
    let header = [&[4, 0, 2, 0, 0x81, 0, 0, 0][..], &[0; 600]].concat();
    assert!(!look(&header, &[], &options(NOW)).holds());
}
