//! A Mac's certificate, seen whole by the endorser and nobody else. The one certificate that its owner published is
//! for a nonce of somebody's own, which here stands for an attestation's.

use std::{collections::BTreeMap, fs};

use glassbloom_spec::{
    curve::SigningKey,
    evidence::{
        self, Bound, Trust,
        exchange::{Bytes, Endorsed, Mda, path},
        mda::{FIELDS, Form, MdaChain, Record, Salts, Seen},
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::Tier,
};
use glassbloom_testdata::{shared_vectors, skipped};

use crate::support::*;

/// In August 2025, when the certificate was valid.
const THEN: u64 = 1_755_000_000;

fn salts() -> Salts {
    let mut salts = [[0; 32]; FIELDS.len()];
    salts.iter_mut().enumerate().for_each(|(place, salt)| *salt = [place as u8 + 1; 32]);
    salts
}

fn request() -> Option<(Mda, Seen, Record)> {
    let Some(folder) = shared_vectors().map(|folder| folder.join("attestation/mda")) else {
        skipped("the shared vectors do not lie beside the checkout");
        return None;
    };
    let names = ["mac_leaf_nanoca_2025.pem", "apple_enterprise_attestation_sub_ca_1.pem"];
    let chain = names.map(|name| pem(&fs::read_to_string(folder.join(name)).unwrap()));
    let seen = MdaChain { form: Form::DeviceInformation, certificates: chain.to_vec() }
        .read(UnixSeconds::new(THEN))
        .unwrap();
    let record = seen.redact(&salts(), &["sip", "secure-boot", "third-party-kexts"]).unwrap();
    let named =
        FIELDS.iter().zip(salts()).map(|(field, salt)| (field.name.to_owned(), Hash::from_bytes(salt)));
    let request = Mda {
        form: "device-information".to_owned(),
        chain: chain.into_iter().map(Bytes).collect(),
        nonce: seen.freshness(),
        public: Bytes(record.encode()),
        salts: named.collect::<BTreeMap<_, _>>(),
    };
    Some((request, seen, record))
}

#[tokio::test]
async fn a_mac_is_vouched_for() {
    let Some((request, seen, mut record)) = request() else { return };
    let endorser = Running::start(Vec::new(), THEN, 100).await;
    let (status, body) = endorser.post(path::MDA, &request).await;
    assert_eq!(status, 200, "{body}");
    let endorsed: Endorsed = serde_json::from_value(body).unwrap();
    // Nothing that tells which Mac it is leaves the endorser.
    for name in ["serial", "udid"] {
        let value = seen.value(name).unwrap();
        assert!(!endorsed.endorsement.0.windows(value.len()).any(|window| window == value));
    }
    record.endorsements.push(endorsed.endorsement.0);
    let key = SigningKey::from_seed(&[1; 32]).public_key();
    let bound = Bound {
        nonce: request.nonce,
        signing_key: &key,
        sealing_key: &key,
        at: UnixSeconds::new(THEN),
        enrolled: None,
    };
    let trust = Trust { anchors: &[], apps: &[], endorsers: &[endorser.key] };
    let proven = evidence::verify("mda", &record.encode(), &bound, &trust).unwrap();
    assert_eq!(proven.tier, Tier::Mda);
    // The same Mac has the same name from this endorser, and another from another one.
    let (_, again) = endorser.post(path::MDA, &request).await;
    assert_eq!(serde_json::from_value::<Endorsed>(again).unwrap().endorsement.0, record.endorsements[0]);
    endorser.stop().await;
    let other = Running::start(Vec::new(), THEN, 100).await;
    let (_, body) = other.post(path::MDA, &request).await;
    record.endorsements = vec![serde_json::from_value::<Endorsed>(body).unwrap().endorsement.0];
    let trust = Trust { endorsers: &[other.key], ..trust };
    assert_ne!(evidence::verify("mda", &record.encode(), &bound, &trust).unwrap().device, proven.device);
    other.stop().await;
}

#[tokio::test]
async fn a_record_that_says_something_else_is_refused() {
    let Some((request, _, record)) = request() else { return };
    let endorser = Running::start(Vec::new(), THEN, 100).await;
    let refusal = async |request: &Mda| {
        let (status, code) = endorser.refusal(path::MDA, request).await;
        assert_eq!(status, 422);
        code
    };
    let altered = |alter: &dyn Fn(&mut Mda)| {
        let mut request = request.clone();
        alter(&mut request);
        request
    };
    let with = |change: &dyn Fn(&mut Record)| {
        let mut record = record.clone();
        change(&mut record);
        let public = Bytes(record.encode());
        altered(&|request| request.public = public.clone())
    };
    for (request, code) in [
        (altered(&|request| request.nonce = Hash::of(b"another")), "mda-freshness"),
        (altered(&|request| request.form = "acme".to_owned()), "mda-freshness"),
        (altered(&|request| request.form = "letter".to_owned()), "evidence-malformed"),
        (altered(&|request| request.chain.truncate(1)), "certificate-root"),
        (altered(&|request| request.chain.clear()), "certificate-chain"),
        (altered(&|request| request.public.0.push(0)), "evidence-malformed"),
        (altered(&|request| request.salts.retain(|name, _| name != "udid")), "evidence-malformed"),
        (
            altered(&|request| request.salts.extend([("colour".to_owned(), Hash::of(b""))])),
            "evidence-malformed",
        ),
        (altered(&|request| request.salts.extend([("udid".to_owned(), Hash::of(b""))])), "mda-record"),
        (with(&|record| record.minted = UnixSeconds::new(record.minted.get() + 1)), "mda-record"),
        (with(&|record| record.commitments[8] = None), "mda-record"),
        (with(&|record| record.openings[0].value = b"\x02\x01\x01".to_vec()), "mda-opening"),
    ] {
        assert_eq!(refusal(&request).await, code);
    }
    endorser.clock.set((1000 * (THEN + 91 * 86_400)).into());
    assert_eq!(refusal(&request).await, "certificate-expired");
    endorser.stop().await;
}

/// Neither what it answers nor what it writes tells a serial number, whatever goes wrong.
#[tokio::test]
async fn refusals_tell_no_serial_number() {
    let Some((mut request, seen, _)) = request() else { return };
    let endorser = Running::start(Vec::new(), THEN, 10_000).await;
    let secrets =
        ["serial", "udid"].map(|name| String::from_utf8(seen.value(name).unwrap().to_vec()).unwrap());
    let leaf = request.chain[0].0.clone();
    for at in (0..leaf.len()).step_by(7) {
        request.chain[0].0 = leaf.clone();
        request.chain[0].0[at] ^= 1;
        let (status, body) = endorser.post(path::MDA, &request).await;
        assert_eq!(status, 422);
        assert!(!secrets.iter().any(|secret| body.to_string().contains(secret)), "byte {at}");
    }
    endorser.stop().await;
}
