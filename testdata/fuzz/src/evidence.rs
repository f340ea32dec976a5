//! Evidence of hardware: certificates, App Attest, Managed Device Attestation. A vendor of our own stands in for Apple.
//!
//! Every check asks the same of what verifies: that it is what this vendor made. (Whoever knows the order of the curve
//! can turn a signature into its other half; neither a fuzzer nor damage does.)

use std::sync::LazyLock;

use glassbloom_spec::{
    cbor::{Value, map},
    curve::SigningKey,
    evidence::{
        Bound, Trust, anchor,
        app_attest::{self, Assertion, MAC_ACCESS_CONTROL, Object},
        der::{Der, Tag},
        endorsement::Endorsement,
        key::{Algorithm, VendorKey},
        mda::{self, FIELDS, Form, MdaChain, Opening, Record, Shown},
        x509::{Certificate, MAX_CERTIFICATE, MAX_EXTENSIONS, Profile, Purpose, Root, verify_chain},
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::Payload,
    statement::{Kind, Statement},
};

/// A chain, the device's certificate first and the root last, one after another: parts are where the input has them,
/// and none leads to the root but the one that its key signed.
pub fn evidence_x509(data: &[u8]) -> bool {
    let mut reader = Der::new(data);
    let mut chain = Vec::new();
    while let Ok(tlv) = reader.any() {
        let Ok(certificate) = Certificate::parse(tlv.whole) else { break };
        assert_eq!(certificate.bytes(), tlv.whole);
        assert!(tlv.whole.len() <= MAX_CERTIFICATE && certificate.extensions().len() <= MAX_EXTENSIONS);
        for extension in certificate.extensions() {
            assert_eq!(certificate.extension(extension.oid), Some(*extension), "an extension stands once");
        }
        assert_eq!(VendorKey::from_spki(certificate.spki()).as_ref(), Ok(certificate.key()));
        if let Some(point) = certificate.key().to_sec1() {
            assert_eq!(VendorKey::from_sec1(&point).as_ref(), Ok(certificate.key()));
        }
        chain.push(certificate);
    }
    let root = Root::Pinned { name: "fuzz", key: VENDOR.root };
    if verify_chain(&chain, &root, AT, &PROFILE).is_ok() {
        let whole: Vec<u8> = chain.iter().flat_map(|certificate| certificate.bytes()).copied().collect();
        assert_eq!(whole, VENDOR.chain, "a forged chain");
    }
    for root in [anchor::APPLE_APP_ATTESTATION, anchor::APPLE_ENTERPRISE_ATTESTATION, anchor::INTEL_SGX] {
        assert!(verify_chain(&chain, &root, AT, &PROFILE).is_err(), "a chain of a vendor");
    }
    !chain.is_empty()
}

/// Evidence has one spelling, and none verifies but the one that was made.
pub fn evidence_app_attest(data: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok((object, assertion)) = app_attest::decode(data) {
        accepted = true;
        if let (Ok(parsed), Ok(_)) = (Object::parse(&object), Assertion::parse(&assertion)) {
            if !parsed.has_receipt() {
                assert_eq!(parsed.without_receipt(), object);
                assert_eq!(app_attest::encode(&object, &assertion).as_deref(), Ok(data));
            }
            assert!(!Object::parse(&parsed.without_receipt()).unwrap().has_receipt());
        }
        assert_eq!(app_attest::lasting(data), Some(Hash::of(&object)));
    }
    let vendor = &*VENDOR;
    let trust = Trust { apps: &vendor.apps, ..Trust::default() };
    let root = Certificate::parse(&vendor.chain[vendor.chain.len() - vendor.root_length..]).unwrap();
    let root = Root::Named { name: "fuzz", subject: root.subject_name(), spki: root.spki() };
    if app_attest::verify_under(&root, data, &vendor.bound(), &trust).is_ok() {
        assert_eq!(data, vendor.app_attest, "forged evidence");
    }
    assert!(app_attest::verify(data, &vendor.bound(), &trust).is_err(), "evidence of Apple's");
    accepted
}

/// A record has one spelling, tells nothing that names a device, and verifies only as its endorser saw it.
pub fn evidence_mda(data: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(chain) = MdaChain::decode(data) {
        accepted = true;
        assert_eq!(MdaChain::decode(&chain.encode()), Ok(chain.clone()));
        assert!(chain.read(AT).is_err(), "a chain of Apple's");
    }
    let Ok(record) = Record::decode(data) else { return accepted };
    assert_eq!(record.encode(), data);
    assert_eq!(mda::lasting(data), Some(Hash::of(data)));
    if let Ok(values) = record.open() {
        for (property, value) in FIELDS.iter().zip(values) {
            let Shown::Opened(raw) = value else { continue };
            assert!(!property.identifies && property.text(raw).is_ok() && raw.len() <= 64);
        }
    }
    let vendor = &*VENDOR;
    let endorsers = [vendor.endorser.public_key()];
    if mda::verify(data, &vendor.bound(), &Trust { endorsers: &endorsers, ..Trust::default() }).is_ok() {
        let made = Record::decode(&vendor.mda).unwrap();
        assert_eq!(record.subject(), made.subject(), "a forged record");
        assert_eq!(record.openings, made.openings);
    }
    true
}

/// What the fuzzer starts from: name and content.
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let vendor = &*VENDOR;
    let record = Record::decode(&vendor.mda).unwrap();
    let (object, assertion) = app_attest::decode(&vendor.app_attest).unwrap();
    let Value::Map(mut entries) = Value::decode(&object).unwrap() else { unreachable!("an object is a map") };
    if let Value::Map(statement) = &mut entries[1].1 {
        statement.push(("receipt".into(), (&b"receipt"[..]).into()));
    }
    let received = Value::Map(entries).encode();
    let certificates = vec![vendor.chain.clone()];
    vec![
        ("evidence_x509", "chain", vendor.chain.clone()),
        ("evidence_x509", "root", vendor.chain[vendor.chain.len() - vendor.root_length..].to_vec()),
        ("evidence_app_attest", "evidence", vendor.app_attest.clone()),
        (
            "evidence_app_attest",
            "receipt",
            map([(1, received.as_slice().into()), (2, assertion.as_slice().into())]).encode(),
        ),
        ("evidence_mda", "record", vendor.mda.clone()),
        ("evidence_mda", "not-endorsed", Record { endorsements: Vec::new(), ..record }.encode()),
        ("evidence_mda", "chain", MdaChain { form: Form::Acme, certificates }.encode()),
    ]
}

struct Vendor {
    /// SHA-256 over the root's SubjectPublicKeyInfo.
    root: Hash,
    root_length: usize,
    chain: Vec<u8>,
    apps: Vec<String>,
    app_attest: Vec<u8>,
    mda: Vec<u8>,
    endorser: SigningKey,
    provider: glassbloom_spec::curve::PublicKey,
    nonce: Hash,
}

static VENDOR: LazyLock<Vendor> = LazyLock::new(Vendor::new);

/// 2026-10-02 12:00
pub(crate) const AT: UnixSeconds = UnixSeconds::new(1_790_942_400);
const PROFILE: Profile = Profile {
    algorithms: &[Algorithm::EcdsaSha256],
    critical: &[],
    purpose: Purpose::Any,
    max_chain: 3,
    leaf_usage: 0,
};
const APP: &str = "TEAM.example.provider";

impl Vendor {
    fn new() -> Self {
        let key = |seed: u8| SigningKey::from_seed(&[seed; 32]);
        let (root_key, middle_key, device_key, endorser) = (key(0x21), key(0x22), key(0x23), key(0x24));
        let nonce = Hash::of(b"fuzz");
        let authority = [extension(&[0x55, 0x1d, 0x13], true, &[0x30, 3, 1, 1, 0xff]), usage(4)].concat();
        let root = certificate("root", "root", &root_key, &root_key, &authority);
        let middle = certificate("middle", "root", &middle_key, &root_key, &authority);

        let point = device_key.public_key().to_uncompressed();
        let head = |counter: u32| {
            [Hash::of(APP.as_bytes()).as_ref(), &[0xc0], counter.to_be_bytes().as_slice()].concat()
        };
        let code = Value::Map(vec![
            ("apple_cd_hash_hash_01".into(), Hash::of(b"code").into()),
            ("apple_cd_hash_type_01".into(), (&[2_u8][..]).into()),
            ("apple_validation_category_01".into(), (&[6_u8, 0, 0, 0][..]).into()),
        ])
        .encode();
        let attested = [
            head(0).as_slice(),
            b"appattest\0\0\0\0\0\0\0\0\x20",
            Hash::of(&point).as_ref(),
            b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20",
            &point[1..33],
            b"\x22\x58\x20",
            &point[33..],
            &code,
        ]
        .concat();
        let certified = Hash::of_parts(&[&attested, nonce.as_ref()]);
        let apple = |last: u8| [b"\x2a\x86\x48\x86\xf7\x63\x64\x08".as_slice(), &[last]].concat();
        let facts = [
            extension(&[0x55, 0x1d, 0x13], true, &[0x30, 0]),
            usage(0x80),
            extension(&apple(2), false, &[b"\x30\x24\xa1\x22\x04\x20", certified.as_ref()].concat()),
            extension(&apple(5), false, &tlv(0x30, &text(b"\xbf\x89\x34", APP))),
            extension(&apple(6), false, MAC_ACCESS_CONTROL),
            extension(&apple(7), false, &tlv(0x30, &text(b"\xbf\x88\x02", "macosx"))),
        ];
        let leaf = certificate("device", "middle", &device_key, &middle_key, &facts.concat());
        let object = Value::Map(vec![
            ("fmt".into(), "apple-appattest".into()),
            (
                "attStmt".into(),
                Value::Map(vec![(
                    "x5c".into(),
                    Value::Array(vec![leaf.as_slice().into(), middle.as_slice().into()]),
                )]),
            ),
            ("authData".into(), attested.as_slice().into()),
        ])
        .encode();
        let data = [head(1), code].concat();
        let signed = Hash::of_parts(&[&data, nonce.as_ref()]);
        let assertion = Value::Map(vec![
            ("signature".into(), signature(&device_key, signed.as_ref()).as_slice().into()),
            ("authenticatorData".into(), data.as_slice().into()),
        ])
        .encode();
        Self {
            root: Hash::of(Certificate::parse(&root).unwrap().spki()),
            root_length: root.len(),
            chain: [leaf, middle, root].concat(),
            apps: vec![APP.to_owned()],
            app_attest: app_attest::encode(&object, &assertion).unwrap(),
            mda: record(nonce, &endorser),
            endorser,
            provider: key(0x25).public_key(),
            nonce,
        }
    }

    fn bound(&self) -> Bound<'_> {
        Bound {
            nonce: self.nonce,
            signing_key: &self.provider,
            sealing_key: &self.provider,
            at: AT,
            enrolled: None,
        }
    }
}

fn record(nonce: Hash, endorser: &SigningKey) -> Vec<u8> {
    let values: [&[u8]; 9] =
        [&[2, 1, 0], b"Full Security", &[2, 1, 0], b"27.0", b"27.0", b"1", b"J514sAP", b"SERIAL", b"UDID"];
    let mut record = Record {
        form: Form::DeviceInformation,
        freshness: Form::DeviceInformation.freshness(nonce),
        minted: AT,
        ends: UnixSeconds::new(AT.get() + 90 * 86_400),
        commitments: [None; 9],
        openings: Vec::new(),
        endorsements: Vec::new(),
    };
    for (place, property) in FIELDS.iter().enumerate() {
        let salt = [place as u8; 32];
        record.commitments[place] = Some(property.commit(&salt, values[place]));
        if property.safe.is_some() {
            record.openings.push(Opening { name: property.name, salt, value: values[place].to_vec() });
        }
    }
    let says = Endorsement {
        format: mda::FORMAT.to_owned(),
        subject: record.subject(),
        nonce,
        device: Some(Hash::of(b"device")),
    };
    let statement = Statement::sign(Kind::Endorsement, &says.to_value(), endorser).unwrap();
    record.endorsements.push(statement.bytes().to_vec());
    record.encode()
}

pub(crate) fn certificate(
    subject: &str,
    issuer: &str,
    key: &SigningKey,
    by: &SigningKey,
    extensions: &[u8],
) -> Vec<u8> {
    let name = |name: &str| {
        let pair = [&[6, 3, 0x55, 4, 3], tlv(12, name.as_bytes()).as_slice()].concat();
        tlv(0x30, &tlv(0x31, &tlv(0x30, &pair)))
    };
    let algorithm = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    let spki = [
        b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07".as_slice(),
        &tlv(3, &[&[0], key.public_key().to_uncompressed().as_slice()].concat()),
    ];
    let times = [tlv(23, b"261001000000Z"), tlv(23, b"271001000000Z")];
    let tbs = tlv(
        0x30,
        &[
            &[0xa0, 3, 2, 1, 2, 2, 1, 1],
            algorithm.as_slice(),
            &name(issuer),
            &tlv(0x30, &times.concat()),
            &name(subject),
            &tlv(0x30, &spki.concat()),
            &tlv(0xa3, &tlv(0x30, extensions)),
        ]
        .concat(),
    );
    let signature = [&[0], signature(by, &tbs).as_slice()].concat();
    tlv(0x30, &[tbs.as_slice(), algorithm, &tlv(3, &signature)].concat())
}

pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    tlv(0x30, &[&tlv(6, oid), flag, &tlv(4, value)].concat())
}

/// Key usage with these bits, none of which is the lowest two.
pub(crate) fn usage(bits: u8) -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x0f], true, &[3, 2, bits.trailing_zeros() as u8, bits])
}

/// Apple's way of writing a text under a high tag.
fn text(tag: &[u8], text: &str) -> Vec<u8> {
    let inside = tlv(4, text.as_bytes());
    [tag, &[inside.len() as u8], &inside].concat()
}

pub(crate) fn signature(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    let raw = key.sign(message);
    let number = |bytes: &[u8]| {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
        let sign: &[u8] = if bytes[start] >= 0x80 { &[0] } else { &[] };
        tlv(2, &[sign, &bytes[start..]].concat())
    };
    let signature = tlv(0x30, &[number(&raw[..32]), number(&raw[32..])].concat());
    assert!(Der::only(&signature, Tag::SEQUENCE).is_ok());
    signature
}

pub(crate) fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = match contents.len() {
        n @ 0..=0x7f => vec![n as u8],
        n @ 0x80..=0xff => vec![0x81, n as u8],
        n => vec![0x82, (n >> 8) as u8, n as u8],
    };
    [&[tag], length.as_slice(), contents].concat()
}
