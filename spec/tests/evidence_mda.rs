//! Managed Device Attestation: a real chain of others, and records of ours under a root that is not Apple's.

#![expect(clippy::unwrap_used, reason = "what tests share is a test too")]

mod evidence_shared;

use evidence_shared::{
    apple::{AT, Vendor},
    certificate, flips,
};
use glassbloom_spec::{
    curve::{PublicKey, SigningKey},
    evidence::{
        Bound, Enrolled, Known, Proven, Refused, Trust, Voucher, anchor,
        endorsement::Endorsement,
        mda::{self, FIELDS, Form, MdaChain, Opening, Record, Salts},
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::{Payload, Tier},
    statement::{Kind, Statement},
};
use rcgen::KeyPair;

const POSTURE: [&str; 3] = ["sip", "secure-boot", "third-party-kexts"];

fn salts() -> Salts {
    core::array::from_fn(|place| [place as u8 + 1; 32])
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// The one published certificate: expired, of somebody's Mac. What it says of that Mac is never printed.
fn real() -> Option<MdaChain> {
    Some(MdaChain {
        form: Form::DeviceInformation,
        certificates: vec![
            certificate("mda/mac_leaf_nanoca_2025.pem")?,
            certificate("mda/apple_enterprise_attestation_sub_ca_1.pem")?,
        ],
    })
}

const REAL_AT: UnixSeconds = UnixSeconds::new(1_752_600_000);

#[test]
fn a_real_chain_verifies_at_its_time() {
    let Some(chain) = real() else { return };
    let seen = chain.read(REAL_AT).unwrap();
    assert!(chain.verify(seen.freshness(), REAL_AT).is_ok());
    assert_eq!(chain.verify(Hash::of(b"another"), REAL_AT).unwrap_err().reason, "mda-freshness");
    let acme = MdaChain { form: Form::Acme, ..chain.clone() };
    assert_eq!(acme.verify(seen.freshness(), REAL_AT).unwrap_err().reason, "mda-freshness");
    for (at, reason) in [(1_795_000_000, "certificate-expired"), (1_700_000_000, "certificate-not-yet-valid")]
    {
        assert_eq!(chain.read(UnixSeconds::new(at)).unwrap_err().reason, reason);
    }
    for root in [anchor::APPLE_APP_ATTESTATION, anchor::INTEL_SGX] {
        let refused = chain.verify_under(&root, seen.freshness(), REAL_AT).unwrap_err();
        assert_eq!(refused.reason, "certificate-root");
    }
    assert_eq!(MdaChain::decode(&chain.encode()), Ok(chain.clone()));
    assert!(MdaChain::decode(&[chain.encode(), vec![0]].concat()).is_err());

    // Bare ASCII and DER integers, as most verifiers get wrong.
    for (name, value) in [("sip", &b"\x02\x01\x00"[..]), ("secure-boot", b"Full Security")] {
        assert!(seen.value(name) == Some(value), "{name}");
    }
    for property in FIELDS {
        assert!(
            seen.value(property.name).is_some_and(|value| property.text(value).is_ok()),
            "{}",
            property.name
        );
    }
    assert_eq!(format!("{chain:?}"), "MdaChain(device-information, 2 certificates)");
    assert_eq!(format!("{seen:?}"), format!("Seen(device-information, {})", seen.freshness()));
}

#[test]
fn no_flip_of_a_real_chain_is_accepted() {
    let Some(chain) = real() else { return };
    for place in 0..2 {
        for (bit, flipped) in flips(&chain.certificates[place]) {
            let mut chain = chain.clone();
            chain.certificates[place] = flipped;
            assert!(chain.read(REAL_AT).is_err(), "certificate {place}, bit {bit}");
        }
        for end in 0..chain.certificates[place].len() {
            let mut chain = chain.clone();
            chain.certificates[place].truncate(end);
            assert!(chain.read(REAL_AT).is_err(), "certificate {place}, cut at {end}");
        }
        let mut chain = chain.clone();
        chain.certificates[place].push(0);
        assert!(chain.read(REAL_AT).is_err());
    }
    for certificates in [
        vec![],
        chain.certificates[..1].to_vec(),
        chain.certificates[1..].to_vec(),
        chain.certificates.iter().rev().cloned().collect(),
        [&chain.certificates[..], &chain.certificates[1..]].concat(),
        // The Mac's certificate as an issuer of another.
        [&chain.certificates[..1], &chain.certificates[..]].concat(),
    ] {
        assert!(MdaChain { form: chain.form, certificates }.read(REAL_AT).is_err());
    }
}

#[test]
fn a_record_of_a_real_chain_does_not_tell_which_mac_it_is() {
    let Some(chain) = real() else { return };
    let seen = chain.read(REAL_AT).unwrap();
    let open: Vec<&str> =
        FIELDS.iter().filter(|property| !property.identifies).map(|property| property.name).collect();
    let record = seen.redact(&salts(), &open).unwrap();
    let bytes = record.encode();
    for property in FIELDS.iter().filter(|property| property.identifies) {
        assert!(!contains(&bytes, seen.value(property.name).unwrap()), "{}", property.name);
    }
    for certificate in &chain.certificates {
        // Longer than the nonce, which both have.
        for part in certificate.chunks_exact(40) {
            assert!(!contains(&bytes, part));
        }
    }
    assert!(seen.is_in(&record, &salts()));
    let mut others = salts();
    others[8][31] ^= 1;
    assert!(!seen.is_in(&record, &others));
    // The device's name hangs on the endorser's key, and on nothing that is in the record.
    assert!(seen.device(&[1; 32]).is_some() && seen.device(&[1; 32]) != seen.device(&[2; 32]));
    assert!(!contains(&bytes, seen.device(&[1; 32]).unwrap().as_ref()));
}

/// A Mac of ours: what Apple says of it, changed as a test likes.
struct Case {
    vendor: Vendor,
    properties: Vec<([u64; 2], Vec<u8>)>,
    form: Form,
    nonce: Hash,
    freshness: Option<Vec<u8>>,
    endorser: SigningKey,
    key: PublicKey,
}

impl Case {
    fn new() -> Self {
        let nonce = Hash::of(b"nonce");
        Self {
            vendor: Vendor::new(),
            properties: vec![
                ([9, 1], b"C02TESTTESTX".to_vec()),
                ([9, 2], b"00008112-000000000000001E".to_vec()),
                ([9, 4], b"J514sAP".to_vec()),
                ([10, 1], b"26.4.1".to_vec()),
                ([13, 1], vec![2, 1, 0]),
                ([13, 2], b"Full Security".to_vec()),
                ([13, 3], vec![2, 1, 0]),
            ],
            form: Form::DeviceInformation,
            nonce,
            freshness: Some(nonce.as_ref().to_vec()),
            endorser: SigningKey::from_seed(&[3; 32]),
            key: SigningKey::from_seed(&[1; 32]).public_key(),
        }
    }

    fn with(oid: [u64; 2], value: Option<&[u8]>) -> Self {
        let mut case = Self::new();
        case.properties.retain(|(other, _)| *other != oid);
        case.properties.extend(value.map(|value| (oid, value.to_vec())));
        case
    }

    fn chain(&self) -> MdaChain {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let mut extensions: Vec<(&[u64], Vec<u8>)> =
            self.properties.iter().map(|(arcs, value)| (arcs.as_slice(), value.clone())).collect();
        extensions.extend(self.freshness.clone().map(|freshness| (&[11, 1][..], freshness)));
        let leaf = self.vendor.leaf(&key, &extensions);
        MdaChain { form: self.form, certificates: vec![leaf, self.vendor.authority.clone()] }
    }

    fn seen(&self) -> Result<mda::Seen, Refused> {
        self.chain().verify_under(&self.vendor.root(), self.nonce, UnixSeconds::new(AT))
    }

    fn endorsed(&self, open: &[&str]) -> Record {
        let seen = self.seen().unwrap();
        let mut record = seen.redact(&salts(), open).unwrap();
        let says = mda::endorse_seen(&record, &seen, &salts(), self.nonce, &[9; 32]).unwrap();
        record.endorsements.push(sign(&says, &self.endorser));
        record
    }

    fn bound(&self) -> Bound<'_> {
        let at = UnixSeconds::new(AT);
        Bound { nonce: self.nonce, signing_key: &self.key, sealing_key: &self.key, at, enrolled: None }
    }

    fn verify(&self, record: &Record) -> Result<Proven, Refused> {
        self.verify_bytes(&record.encode(), &self.bound())
    }

    fn verify_bytes(&self, bytes: &[u8], bound: &Bound) -> Result<Proven, Refused> {
        let others = SigningKey::from_seed(&[4; 32]).public_key();
        let endorsers = [others, self.endorser.public_key()];
        mda::verify(bytes, bound, &Trust { endorsers: &endorsers, ..Trust::default() })
    }

    fn reason(&self, record: &Record) -> &'static str {
        self.verify(record).unwrap_err().reason
    }
}

fn sign(says: &Endorsement, by: &SigningKey) -> Vec<u8> {
    Statement::sign(Kind::Endorsement, &says.to_value(), by).unwrap().bytes().to_vec()
}

fn claim(proven: &Proven, name: &str) -> (Known, Voucher) {
    let claim = proven.claims.iter().find(|claim| claim.name == name).unwrap();
    (claim.value.clone(), claim.by)
}

#[test]
fn an_endorsed_record_proves_that_a_genuine_mac_vouched() {
    for form in [Form::DeviceInformation, Form::Acme] {
        let mut case = Case::new();
        case.form = form;
        case.freshness = Some(form.freshness(case.nonce).as_ref().to_vec());
        let record = case.endorsed(&[POSTURE.as_slice(), &["os-version"]].concat());
        assert_eq!(Record::decode(&record.encode()), Ok(record.clone()));
        let proven = case.verify(&record).unwrap();
        assert_eq!((proven.tier, proven.holds_sealing_key), (Tier::Mda, false));
        assert_eq!((proven.code.clone(), proven.counter), (None, None));
        assert_eq!(proven.expires, Some(UnixSeconds::new(1_791_072_000)));
        let present = |text: &str| Known::Present(text.to_owned());
        assert_eq!(claim(&proven, "sip"), (present("enabled"), Voucher::Apple));
        assert_eq!(claim(&proven, "secure-boot"), (present("Full Security"), Voucher::Apple));
        assert_eq!(claim(&proven, "third-party-kexts"), (present("none"), Voucher::Apple));
        assert_eq!(claim(&proven, "os-version"), (present("26.4.1"), Voucher::Apple));
        assert_eq!(claim(&proven, "sepos-version"), (Known::Absent, Voucher::Apple));
        assert!(matches!(claim(&proven, "serial"), (Known::Redacted(_), Voucher::Apple)));
        assert!(matches!(claim(&proven, "board"), (Known::Redacted(_), Voucher::Apple)));
        assert_eq!(claim(&proven, "minted"), (present("2026-10-02 00:00"), Voucher::Apple));
        let endorser = case.endorser.public_key().to_string();
        assert_eq!(claim(&proven, "endorser"), (present(&endorser), Voucher::Endorser));
        assert_eq!(proven.device, case.seen().unwrap().device(&[9; 32]));
        assert_eq!(mda::lasting(&record.encode()), Some(Hash::of(&record.encode())));
    }
    // The token is base64url of the nonce and nothing is hashed with it.
    assert_eq!(
        Form::Acme.freshness(Hash::from_bytes([0xff; 32])),
        Hash::of(b"__________________________________________8")
    );
}

#[test]
fn every_rule_of_the_certificate_has_its_reason() {
    let reason = |case: &Case| case.seen().unwrap_err().reason;
    for freshness in [None, Some(vec![]), Some(vec![4, 32]), Some(vec![7; 32]), Some(vec![7; 33])] {
        let mut case = Case::new();
        case.freshness = freshness;
        assert_eq!(reason(&case), "mda-freshness");
    }
    // DER around the nonce, which other verifiers take off.
    let mut case = Case::new();
    case.freshness = Some([&[4, 32], case.nonce.as_ref()].concat());
    assert_eq!(reason(&case), "mda-freshness");
    // In the other form.
    let mut case = Case::new();
    case.form = Form::Acme;
    assert_eq!(reason(&case), "mda-freshness");
    for (oid, value) in [
        ([13, 1], &[1, 1, 0][..]),
        ([13, 1], &[2, 1, 2]),
        ([13, 1], &[2, 2, 0, 0]),
        ([13, 1], &[2, 1, 0, 0]),
        ([13, 1], b"0"),
        ([13, 2], b"\x0c\x0dFull Security"),
        ([13, 2], "Full\u{a0}Security".as_bytes()),
        ([9, 1], &[b'A'; 65]),
        ([10, 1], b"26.4\n"),
    ] {
        assert_eq!(reason(&Case::with(oid, Some(value))), "mda-property", "{oid:?} {value:02x?}");
    }
}

#[test]
fn every_rule_of_the_record_has_its_reason() {
    let case = Case::new();
    let good = case.endorsed(&POSTURE);
    case.verify(&good).unwrap();
    let changed = |change: &dyn Fn(&mut Record)| {
        let mut record = good.clone();
        change(&mut record);
        case.reason(&record)
    };
    assert_eq!(changed(&|record| record.freshness = Hash::of(b"another")), "mda-freshness");
    assert_eq!(changed(&|record| record.form = Form::Acme), "mda-freshness");
    assert_eq!(changed(&|record| record.endorsements.clear()), "mda-not-endorsed");
    // What is endorsed is fields 1 to 4.
    assert_eq!(changed(&|record| record.minted = UnixSeconds::new(AT)), "endorsement-mismatch");
    assert_eq!(changed(&|record| record.ends = UnixSeconds::new(AT)), "endorsement-mismatch");
    assert_eq!(changed(&|record| record.commitments[8] = None), "endorsement-mismatch");
    assert_eq!(changed(&|record| record.commitments[3] = Some(Hash::of(b""))), "endorsement-mismatch");
    assert_eq!(changed(&|record| record.openings[0].salt[0] ^= 1), "mda-opening");
    assert_eq!(changed(&|record| record.openings[0].value[2] ^= 1), "mda-opening");
    assert_eq!(changed(&|record| record.openings[1].value = b"Full Securitx".to_vec()), "mda-opening");
    let absent = Opening { name: "sepos-version", salt: [5; 32], value: b"1".to_vec() };
    assert_eq!(changed(&|record| record.openings.push(absent.clone())), "mda-opening");
    assert_eq!(changed(&|record| record.openings.swap(0, 1)), "evidence-malformed");
    assert_eq!(changed(&|record| record.openings.push(record.openings[2].clone())), "evidence-malformed");
    for place in 0..3 {
        assert_eq!(changed(&|record| drop(record.openings.remove(place))), "mda-posture-unknown");
    }

    let at = |at: u64| {
        let bound = Bound { at: UnixSeconds::new(at), ..case.bound() };
        case.verify_bytes(&good.encode(), &bound).map_err(|refused| refused.reason).map(drop)
    };
    assert_eq!(at(good.ends.get()), Ok(()));
    assert_eq!(at(good.ends.get() + 1), Err("mda-expired"));
    assert_eq!(at(good.minted.get() - 86_400), Ok(()));
    assert_eq!(at(good.minted.get() - 86_401), Err("mda-not-yet-valid"));
}

#[test]
fn only_endorsers_of_the_rules_count() {
    let case = Case::new();
    let record = case.endorsed(&POSTURE);
    let seen = case.seen().unwrap();
    let says =
        Endorsement { subject: record.subject(), ..Endorsement::of_statement(&record.endorsements[0]) };
    let with = |endorsements: Vec<Vec<u8>>| Record { endorsements, ..record.clone() };
    let stranger = SigningKey::from_seed(&[5; 32]);
    assert_eq!(case.reason(&with(vec![sign(&says, &stranger)])), "endorser-unknown");
    // A stranger's word beside a known one does no harm and adds nothing.
    case.verify(&with(vec![sign(&says, &stranger), sign(&says, &case.endorser)])).unwrap();
    assert_eq!(
        case.reason(&with(vec![sign(&says, &case.endorser), sign(&says, &case.endorser)])),
        "endorsement-malformed"
    );
    for says in [
        Endorsement { nonce: Hash::of(b"another"), ..says.clone() },
        Endorsement { subject: Hash::of(b"another"), ..says.clone() },
    ] {
        assert_eq!(case.reason(&with(vec![sign(&says, &case.endorser)])), "endorsement-mismatch");
    }
    let (subject, nonce, device) = (says.subject, says.nonce, says.device);
    let other = Endorsement { format: "tpm".to_owned(), subject, nonce, device };
    assert_eq!(case.reason(&with(vec![sign(&other, &case.endorser)])), "endorsement-malformed");
    let unnamed = Endorsement { device: None, ..says.clone() };
    assert_eq!(case.reason(&with(vec![sign(&unnamed, &case.endorser)])), "mda-device-unnamed");
    let mut forged = sign(&says, &case.endorser);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(case.reason(&with(vec![forged])), "endorser-unknown");
    assert_eq!(case.reason(&with(vec![b"word".to_vec()])), "endorsement-malformed");
    // A payload with a field that readers skip, which could hold anything.
    let glassbloom_spec::cbor::Value::Map(mut fields) = says.to_value() else { panic!("not a map") };
    fields.push((200.into(), "C02TESTTESTX".into()));
    let map = glassbloom_spec::cbor::Value::Map(fields);
    for signer in [&case.endorser, &stranger] {
        let more = Statement::sign(Kind::Endorsement, &map, signer).unwrap();
        assert_eq!(
            case.reason(&with(vec![sign(&says, &case.endorser), more.bytes().to_vec()])),
            "endorsement-malformed"
        );
    }

    // The rules' order decides under which name a device is counted, not the evidence's.
    let first = SigningKey::from_seed(&[4; 32]);
    let other = mda::endorse_seen(&record, &seen, &salts(), case.nonce, &[8; 32]).unwrap();
    for endorsements in [
        vec![sign(&other, &first), sign(&says, &case.endorser)],
        vec![sign(&says, &case.endorser), sign(&other, &first)],
    ] {
        assert_eq!(case.verify(&with(endorsements)).unwrap().device, seen.device(&[8; 32]));
    }
}

trait OfStatement {
    fn of_statement(bytes: &[u8]) -> Self;
}

impl OfStatement for Endorsement {
    fn of_statement(bytes: &[u8]) -> Self {
        Self::of(&Statement::parse(bytes).unwrap()).unwrap()
    }
}

#[test]
fn an_endorser_signs_only_what_the_chain_says() {
    let case = Case::new();
    let seen = case.seen().unwrap();
    let record = seen.redact(&salts(), &POSTURE).unwrap();
    let endorse = |record: &Record, salts: &Salts, nonce: Hash| {
        mda::endorse_seen(record, &seen, salts, nonce, &[9; 32]).map_err(|refused| refused.reason)
    };
    assert!(endorse(&record, &salts(), case.nonce).is_ok());
    assert_eq!(endorse(&record, &salts(), Hash::of(b"another")), Err("mda-record"));
    assert_eq!(endorse(&record, &[[0; 32]; 9], case.nonce), Err("mda-record"));
    for change in [
        |record: &mut Record| record.commitments[0] = None,
        |record: &mut Record| record.commitments[5] = Some(Hash::of(b"")),
        |record: &mut Record| record.commitments.swap(0, 1),
        |record: &mut Record| record.minted = UnixSeconds::new(0),
        |record: &mut Record| record.ends = UnixSeconds::new(u64::MAX),
        |record: &mut Record| record.form = Form::Acme,
        |record: &mut Record| record.freshness = Hash::of(b""),
    ] {
        let mut record = record.clone();
        change(&mut record);
        assert_eq!(endorse(&record, &salts(), case.nonce), Err("mda-record"));
    }
    // The whole way is only open to chains under Apple's root.
    let at = UnixSeconds::new(AT);
    let refused = mda::endorse(&record, &case.chain(), &salts(), case.nonce, at, &[9; 32]).unwrap_err();
    assert_eq!(refused.reason, "certificate-root");
    let nameless = Case::with([9, 2], None);
    let seen = nameless.seen().unwrap();
    let record = seen.redact(&salts(), &POSTURE).unwrap();
    let refused = mda::endorse_seen(&record, &seen, &salts(), case.nonce, &[9; 32]).unwrap_err();
    assert_eq!(refused.reason, "mda-device-unnamed");
}

/// No part of a record holds more than it must: a certificate has no place in it.
#[test]
fn a_record_has_no_room_for_the_chain() {
    let case = Case::new();
    let record = case.endorsed(&POSTURE);
    let bytes = record.encode();
    let chain = case.chain();
    for key in [7, 127, 128, 4096] {
        let glassbloom_spec::cbor::Value::Map(mut fields) =
            glassbloom_spec::cbor::Value::decode(&bytes).unwrap()
        else {
            panic!("not a map")
        };
        fields.push((key.into(), chain.encode().as_slice().into()));
        let bytes = glassbloom_spec::cbor::Value::Map(fields).encode();
        assert_eq!(case.verify_bytes(&bytes, &case.bound()).unwrap_err().reason, "evidence-malformed");
    }
    // Not even as an opened value that somebody committed to.
    let mut odd = record;
    odd.openings[1].value = chain.certificates[0].clone();
    odd.commitments[1] = Some(FIELDS[1].commit(&odd.openings[1].salt, &odd.openings[1].value));
    let says = Endorsement { subject: odd.subject(), ..Endorsement::of_statement(&odd.endorsements[0]) };
    odd.endorsements = vec![sign(&says, &case.endorser)];
    assert_eq!(case.reason(&odd), "mda-property");
    for end in 0..bytes.len() {
        let refused = case.verify_bytes(&bytes[..end], &case.bound()).unwrap_err();
        assert_eq!(refused.reason, "evidence-malformed");
    }
}

/// Whatever bit of an endorsed record is turned over, it is refused.
#[test]
fn no_flip_of_a_record_is_accepted() {
    let case = Case::new();
    let bytes = case.endorsed(&POSTURE).encode();
    for (bit, flipped) in flips(&bytes) {
        assert!(case.verify_bytes(&flipped, &case.bound()).is_err(), "bit {bit}");
    }
}

/// facts/peers A2: a software key with a genuine Mac's chain copied beside it.
#[test]
fn a2_a_software_key_with_a_borrowed_mda_chain_is_refused() {
    let clean = Case::new();
    let evidence = clean.endorsed(&POSTURE).encode();
    clean.verify_bytes(&evidence, &clean.bound()).unwrap();
    // Another box: its own key, so its own nonce, which the clean Mac did not vouch for.
    let software = SigningKey::from_seed(&[66; 32]).public_key();
    let bound = Bound { nonce: Hash::of(b"other"), signing_key: &software, ..clean.bound() };
    assert_eq!(clean.verify_bytes(&evidence, &bound).unwrap_err().reason, "mda-freshness");
    // Nor by naming the clean Mac's enrolment as its own.
    let enrolled = Enrolled { nonce: clean.nonce, at: UnixSeconds::new(AT), signing_key: clean.key };
    let bound = Bound { enrolled: Some(enrolled), ..bound };
    assert_eq!(clean.verify_bytes(&evidence, &bound).unwrap_err().reason, "mda-other-key");
    // What the clean Mac may do later: the same key, enrolled before.
    let bound = Bound { nonce: Hash::of(b"later"), enrolled: Some(enrolled), ..clean.bound() };
    clean.verify_bytes(&evidence, &bound).unwrap();
    // And where the other box has the Mac vouch for it, that is all it gets: no hardware key is claimed.
    let proven = clean.verify_bytes(&evidence, &clean.bound()).unwrap();
    assert_eq!((proven.tier, proven.holds_sealing_key, proven.code), (Tier::Mda, false, None));
}

/// facts/darkbloom A4, facts/peers A5: a serial number is Apple's word or nothing, and the public never learns it.
#[test]
fn a5_a_serial_is_never_self_asserted() {
    let case = Case::new();
    let record = case.endorsed(&POSTURE);
    for name in ["serial", "udid"] {
        let refused = case.seen().unwrap().redact(&salts(), &[name]).unwrap_err();
        assert_eq!(refused.reason, "mda-identifies-device");
        let place = FIELDS.iter().position(|property| property.name == name).unwrap();
        // Opened truly, opened with another's, and opened with nothing behind it.
        let own = case.seen().unwrap().value(name).unwrap().to_vec();
        for value in [own, b"C02SOMEBODYS".to_vec()] {
            let mut record = record.clone();
            record.openings.push(Opening { name: FIELDS[place].name, salt: salts()[place], value });
            assert_eq!(case.reason(&record), "mda-identifies-device");
        }
    }
    // The name of a device is a function of the certificate and of a key that only the endorser has.
    let proven = case.verify(&record).unwrap();
    assert_eq!(claim(&proven, "device").1, Voucher::Endorser);
    let other = Case::with([9, 2], Some(b"00008112-000000000000002E"));
    let elsewhere = other.verify(&other.endorsed(&POSTURE)).unwrap();
    assert_ne!(proven.device, elsewhere.device);
}

/// facts/darkbloom B5: what is left out never passes for what is there.
#[test]
fn b5_an_absent_field_does_not_pass() {
    for oid in [[13, 1], [13, 2], [13, 3]] {
        for value in [None, Some(&b""[..]), Some(b"  ")] {
            let case = Case::with(oid, value);
            let open: Vec<&str> =
                POSTURE.into_iter().filter(|name| case.seen().unwrap().value(name).is_some()).collect();
            assert_eq!(open.len(), 2);
            assert_eq!(case.reason(&case.endorsed(&open)), "mda-posture-unknown", "{oid:?}");
            assert_eq!(case.seen().unwrap().redact(&salts(), &POSTURE).unwrap_err().reason, "mda-opening");
        }
    }
    // Redacted is no better than absent.
    let case = Case::new();
    assert_eq!(case.reason(&case.endorsed(&[])), "mda-posture-unknown");
    assert_eq!(case.reason(&case.endorsed(&POSTURE[..2])), "mda-posture-unknown");
}

/// facts/darkbloom B7: settings are read for what they say, and each unsafe one is refused by its name.
#[test]
fn b7_a_mac_with_weaker_settings_is_refused() {
    for (oid, value, reason) in [
        ([13, 1], &[2, 1, 1][..], "mda-sip-disabled"),
        ([13, 2], b"Reduced Security", "mda-secure-boot"),
        ([13, 2], b"Permissive Security", "mda-secure-boot"),
        ([13, 2], b"full security", "mda-secure-boot"),
        ([13, 2], b"Full Security ", "mda-secure-boot"),
        ([13, 3], &[2, 1, 1], "mda-kexts-allowed"),
    ] {
        let case = Case::with(oid, Some(value));
        assert_eq!(case.reason(&case.endorsed(&POSTURE)), reason, "{value:02x?}");
    }
}
