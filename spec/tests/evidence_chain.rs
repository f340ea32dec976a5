//! Chains made to be refused, and what the second opinion says of each.

#![expect(clippy::unwrap_used, reason = "what tests share is a test too")]

mod evidence_shared;

use evidence_shared::{
    apple::{AT, authority},
    second,
};
use glassbloom_spec::{
    evidence::{
        key::Algorithm,
        x509::{
            BadCertificate, Certificate, DIGITAL_SIGNATURE, KEY_AGREEMENT, Profile, Purpose, Root,
            verify_chain,
        },
    },
    hash::Hash,
    id::UnixSeconds,
};
use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PublicKeyData as _, SigningKey as _, date_time_ymd,
};

/// 1.2.3
const PURPOSE: &[u8] = b"\x2a\x03";
const PROFILE: Profile = Profile {
    algorithms: &[Algorithm::EcdsaSha256, Algorithm::EcdsaSha384],
    critical: &[],
    purpose: Purpose::IfPresent(PURPOSE),
    max_chain: 4,
    leaf_usage: DIGITAL_SIGNATURE,
};

/// A certificate with the key and the parameters that sign the next one.
struct Link {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
}

impl Link {
    fn root(name: &str) -> Self {
        let (params, key) = (authority(name, None), KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    fn sign(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        Self { params, key, der }
    }

    /// A certificate over these bytes, whatever they are.
    fn sign_bytes(&self, tbs: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(tbs).unwrap();
        let certificate = Certificate::parse(&self.der).unwrap();
        let algorithm: &[u8] = if certificate.spki().len() > 100 { SHA384 } else { SHA256 };
        sequence(&[tbs, algorithm, &tlv(3, &[&[0], signature.as_slice()].concat())])
    }
}

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "device");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(2026, 10, 1);
    params.not_after = date_time_ymd(2026, 10, 4);
    params
}

fn changed(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    change(&mut params);
    params
}

fn ours(chain: &[Vec<u8>], root: &Link, profile: &Profile) -> Result<(), BadCertificate> {
    let certificate = Certificate::parse(&root.der).unwrap();
    let root = Root::Named { name: "root", subject: certificate.subject_name(), spki: certificate.spki() };
    let chain: Vec<Certificate> =
        chain.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?;
    verify_chain(&chain, &root, UnixSeconds::new(AT), profile)
}

fn theirs(chain: &[Vec<u8>], root: &Link) -> Result<(), webpki::Error> {
    let certificate = Certificate::parse(&root.der).unwrap();
    second::verify(chain, (certificate.subject_name(), certificate.spki()), AT, Some(PURPOSE))
}

/// Whether the second opinion has the rule too.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Second {
    HasIt,
    LacksIt,
}
use Second::{HasIt, LacksIt};

fn check(name: &str, chain: &[Vec<u8>], root: &Link, reason: Option<&str>, second: Second) {
    let (ours, theirs) = (ours(chain, root, &PROFILE), theirs(chain, root));
    assert_eq!(ours.as_ref().err().map(BadCertificate::reason), reason, "{name}: {ours:?}");
    match second {
        HasIt => assert_eq!(ours.is_ok(), theirs.is_ok(), "{name}: {ours:?}, webpki {theirs:?}"),
        // Kept so that the day it gains the rule is seen.
        LacksIt => assert_eq!(theirs, Ok(()), "{name}"),
    }
}

#[test]
fn chains_that_are_as_they_should_be() {
    let root = Link::root("root");
    let middle = root.sign(authority("middle", Some(1)));
    let lower = middle.sign(authority("lower", Some(0)));
    for (name, chain) in [
        ("straight from the root", vec![root.sign(leaf()).der]),
        ("one between", vec![middle.sign(leaf()).der, middle.der.clone()]),
        ("two between", vec![lower.sign(leaf()).der, lower.der.clone(), middle.der.clone()]),
        ("without basic constraints", vec![root.sign(changed(leaf(), |leaf| leaf.is_ca = IsCa::NoCa)).der]),
        ("without key usage", vec![root.sign(changed(leaf(), |leaf| leaf.key_usages.clear())).der]),
        (
            "with the purpose",
            vec![
                root.sign(changed(leaf(), |leaf| leaf.insert_extended_key_usage(other_purpose(&[1, 2, 3]))))
                    .der,
            ],
        ),
        (
            "with an extension that nobody knows",
            vec![root.sign(changed(leaf(), |leaf| unknown(leaf, false, 1))).der],
        ),
    ] {
        check(name, &chain, &root, None, HasIt);
    }
    let chain = vec![lower.sign(leaf()).der, lower.der, middle.der];
    assert_eq!(ours(&chain, &root, &Profile { max_chain: 2, ..PROFILE }), Err(BadCertificate::Length(3)));
    let agreeing = Profile { leaf_usage: KEY_AGREEMENT, ..PROFILE };
    assert_eq!(ours(&chain, &root, &agreeing), Err(BadCertificate::Usage));
    let only = Profile { algorithms: &[Algorithm::EcdsaSha384], ..PROFILE };
    assert_eq!(ours(&chain, &root, &only), Err(BadCertificate::Algorithm));
    let required = Profile { purpose: Purpose::Required(PURPOSE), ..PROFILE };
    assert_eq!(ours(&chain, &root, &required), Err(BadCertificate::Purpose));
}

fn other_purpose(arcs: &[u64]) -> ExtendedKeyUsagePurpose {
    ExtendedKeyUsagePurpose::Other(arcs.to_vec())
}

fn unknown(params: &mut CertificateParams, critical: bool, times: usize) {
    for _ in 0..times {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(critical);
        params.custom_extensions.push(extension);
    }
}

#[test]
fn chains_that_are_not() {
    let root = Link::root("root");
    let middle = root.sign(authority("middle", Some(0)));
    let device = middle.sign(leaf());
    let below = |authority: &Link, params: CertificateParams| {
        let leaf = authority.sign(params).der;
        vec![leaf, authority.der.clone()]
    };

    // A device's certificate that issues another, with and without the rights it would need.
    let mut chain = below(&device, leaf());
    chain.push(middle.der.clone());
    check("leaf as issuer", &chain, &root, Some("certificate-chain"), HasIt);
    let posing = middle.sign(changed(leaf(), |leaf| {
        leaf.key_usages.push(KeyUsagePurpose::KeyCertSign);
    }));
    let mut chain = below(&posing, leaf());
    chain.push(middle.der.clone());
    check("leaf with keyCertSign as issuer", &chain, &root, Some("certificate-chain"), HasIt);
    check(
        "leaf with keyCertSign",
        &[posing.der, middle.der.clone()],
        &root,
        Some("certificate-chain"),
        LacksIt,
    );
    check("authority at the end", std::slice::from_ref(&middle.der), &root, Some("certificate-chain"), HasIt);

    check("missing intermediate", std::slice::from_ref(&device.der), &root, Some("certificate-root"), HasIt);
    let good = [device.der.clone(), middle.der.clone()];
    check("other root", &good, &Link::root("other"), Some("certificate-root"), HasIt);
    check("other root of the same name", &good, &Link::root("root"), Some("certificate-signature"), HasIt);
    let twin = root.sign(authority("middle", Some(0)));
    check(
        "intermediate's twin",
        &[device.der.clone(), twin.der],
        &root,
        Some("certificate-signature"),
        HasIt,
    );
    // webpki finds its own path and does not mind what is not on it.
    let unused = root.sign(authority("unused", None));
    let chain = [device.der.clone(), middle.der.clone(), unused.der.clone()];
    check("one too many", &chain, &root, Some("certificate-chain"), LacksIt);
    let chain = [device.der.clone(), unused.der, middle.der.clone()];
    check("in another order", &chain, &root, Some("certificate-chain"), LacksIt);

    let lower = middle.sign(authority("lower", None));
    let chain = [lower.sign(leaf()).der, lower.der, middle.der.clone()];
    check("path too long", &chain, &root, Some("certificate-chain"), HasIt);
    let mute = root.sign(changed(authority("mute", None), |params| {
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
    }));
    check("authority without keyCertSign", &below(&mute, leaf()), &root, Some("certificate-chain"), LacksIt);
    let mute = root.sign(changed(authority("mute", None), |params| params.key_usages.clear()));
    check("authority without key usage", &below(&mute, leaf()), &root, Some("certificate-chain"), LacksIt);
    let plain = root.sign(changed(authority("plain", None), |params| params.is_ca = IsCa::ExplicitNoCa));
    check("authority that is none", &below(&plain, leaf()), &root, Some("certificate-chain"), HasIt);
    let plain = root.sign(changed(authority("plain", None), |params| params.is_ca = IsCa::NoCa));
    check("authority without constraints", &below(&plain, leaf()), &root, Some("certificate-chain"), HasIt);
    let chain = below(&middle, changed(leaf(), |leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement]));
    check("key that does not sign", &chain, &root, Some("certificate-chain"), LacksIt);

    let critical = changed(leaf(), |leaf| unknown(leaf, true, 1));
    check(
        "unknown critical extension",
        &below(&middle, critical),
        &root,
        Some("certificate-critical"),
        HasIt,
    );
    let strange = root.sign(changed(authority("strange", None), |params| unknown(params, true, 1)));
    check("the same in an authority", &below(&strange, leaf()), &root, Some("certificate-critical"), HasIt);
    // Of extensions that it does not know, webpki keeps none to compare.
    let twice = changed(leaf(), |leaf| unknown(leaf, false, 2));
    check("extension twice", &below(&middle, twice), &root, Some("certificate-malformed"), LacksIt);
    let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0]);
    usage.set_criticality(true);
    let twice = changed(leaf(), |leaf| leaf.custom_extensions.push(usage));
    check("basic constraints twice", &below(&middle, twice), &root, Some("certificate-malformed"), HasIt);

    let other = changed(leaf(), |leaf| leaf.insert_extended_key_usage(other_purpose(&[1, 2, 4])));
    check("another purpose", &below(&middle, other), &root, Some("certificate-purpose"), HasIt);
    let narrow = root.sign(changed(authority("narrow", None), |params| {
        params.insert_extended_key_usage(other_purpose(&[1, 2, 4]));
    }));
    check("authority of another purpose", &below(&narrow, leaf()), &root, Some("certificate-purpose"), HasIt);

    let times = |from, to| changed(leaf(), |leaf| (leaf.not_before, leaf.not_after) = (from, to));
    let (past, future) = (date_time_ymd(2026, 9, 1), date_time_ymd(2026, 11, 1));
    check(
        "ended",
        &below(&middle, times(past, date_time_ymd(2026, 10, 1))),
        &root,
        Some("certificate-expired"),
        HasIt,
    );
    check(
        "not begun",
        &below(&middle, times(date_time_ymd(2026, 10, 9), future)),
        &root,
        Some("certificate-not-yet-valid"),
        HasIt,
    );
    let old = root.sign(changed(authority("old", None), |params| params.not_after = past));
    check("authority ended", &below(&old, leaf()), &root, Some("certificate-expired"), HasIt);

    check("nothing", &[], &root, Some("certificate-chain"), HasIt);
    for end in [0, 1, 10, device.der.len() / 2, device.der.len() - 1] {
        let chain = [device.der[..end].to_vec(), middle.der.clone()];
        check("cut", &chain, &root, Some("certificate-malformed"), HasIt);
    }
    for extra in [&[0][..], &device.der] {
        let chain = [[device.der.as_slice(), extra].concat(), middle.der.clone()];
        check("bytes after it", &chain, &root, Some("certificate-malformed"), HasIt);
    }
    // The signature stands, and its algorithm is named twice: once where it is signed, and once beside it.
    let mut other = device.der;
    let place = other.windows(SHA256.len()).rposition(|window| window == SHA256).unwrap();
    other[place + SHA256.len() - 1] = 3;
    check("two algorithms", &[other, middle.der], &root, Some("certificate-algorithm"), HasIt);
}

/// A root in the chain counts by the digest of its key, and needs a device below it.
#[test]
fn pinned_roots_are_the_last_of_the_chain() {
    let root = Link::root("root");
    let middle = root.sign(authority("middle", Some(0)));
    let device = middle.sign(leaf());
    let digest = Hash::of(Certificate::parse(&root.der).unwrap().spki());
    let verify = |chain: &[&Vec<u8>], key: Hash| {
        let chain: Vec<Certificate> = chain.iter().map(|der| Certificate::parse(der).unwrap()).collect();
        verify_chain(&chain, &Root::Pinned { name: "root", key }, UnixSeconds::new(AT), &PROFILE)
    };
    verify(&[&device.der, &middle.der, &root.der], digest).unwrap();
    verify(&[&root.sign(leaf()).der, &root.der], digest).unwrap();
    let refused = Err(BadCertificate::Root("root".to_owned()));
    assert_eq!(verify(&[&device.der, &middle.der, &root.der], Hash::of(b"")), refused);
    assert_eq!(verify(&[&device.der, &middle.der], digest), refused);
    assert_eq!(verify(&[&root.der], digest), Err(BadCertificate::Authority));
    // A device that signed itself is no root, even where its key is pinned.
    let key = KeyPair::generate().unwrap();
    let alone = leaf().self_signed(&key).unwrap().der().to_vec();
    let digest = Hash::of(Certificate::parse(&alone).unwrap().spki());
    assert_eq!(verify(&[&alone], digest), refused);
    // The pinned key under another name, signed by someone else: not the root itself.
    let cross = middle.sign(leaf());
    assert_eq!(
        verify(&[&device.der, &middle.der], Hash::of(Certificate::parse(&middle.der).unwrap().spki())),
        refused
    );
    assert_eq!(
        verify(
            &[&cross.der, &middle.der, &root.der],
            Hash::of(Certificate::parse(&middle.der).unwrap().spki())
        ),
        refused
    );
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = match contents.len() {
        n @ 0..=0x7f => vec![n as u8],
        n @ 0x80..=0xff => vec![0x81, n as u8],
        n => vec![0x82, (n >> 8) as u8, n as u8],
    };
    [&[tag], length.as_slice(), contents].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

const SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const SHA384: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03";

/// The fields of a certificate below a root, each of which a test may write as it likes.
struct Forged {
    version: Vec<u8>,
    serial: Vec<u8>,
    times: Vec<u8>,
    spki: Vec<u8>,
    before_extensions: Vec<u8>,
    extensions: Vec<u8>,
}

impl Forged {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            version: vec![0xa0, 3, 2, 1, 2],
            serial: vec![2, 1, 5],
            times: [tlv(23, b"261001000000Z"), tlv(23, b"261004000000Z")].concat(),
            spki: key.subject_public_key_info(),
            before_extensions: Vec::new(),
            extensions: tlv(0xa3, &sequence(&[&extension(&[0xff], &[0x30, 0])])),
        }
    }

    fn signed_by(&self, root: &Link) -> Vec<u8> {
        let name = Certificate::parse(&root.der).unwrap().subject_name().to_vec();
        root.sign_bytes(&sequence(&[
            &self.version,
            &self.serial,
            SHA384,
            &name,
            &tlv(0x30, &self.times),
            &sequence(&[]),
            &self.spki,
            &self.before_extensions,
            &self.extensions,
        ]))
    }
}

/// Basic constraints with these bytes as the flag for critical.
fn extension(critical: &[u8], value: &[u8]) -> Vec<u8> {
    let critical = if critical.is_empty() { Vec::new() } else { tlv(1, critical) };
    sequence(&[&[6, 3, 0x55, 0x1d, 0x13], &critical, &tlv(4, value)])
}

#[test]
fn certificates_are_der_of_version_3_to_the_byte() {
    let root = Link::root("root");
    let with = |change: &dyn Fn(&mut Forged)| {
        let mut forged = Forged::new();
        change(&mut forged);
        vec![forged.signed_by(&root)]
    };
    let time = |tag: u8, text: &[u8]| [tlv(23, b"261001000000Z"), tlv(tag, text)].concat();
    let list = |extensions: &[&[u8]]| tlv(0xa3, &sequence(extensions));
    check("as it should be", &with(&|_| ()), &root, None, HasIt);
    check("serial number 0, as AMD's", &with(&|f| f.serial = vec![2, 1, 0]), &root, None, HasIt);
    check("no end", &with(&|f| f.times = time(24, b"99991231235959Z")), &root, None, HasIt);
    check(
        "false written out",
        &with(&|f| f.extensions = list(&[&extension(&[0], &[0x30, 0])])),
        &root,
        None,
        HasIt,
    );

    type Change<'a> = &'a dyn Fn(&mut Forged);
    let cases: [(&str, Change, &str, Second); 22] = [
        ("version 1", &|f| f.version.clear(), "certificate-malformed", HasIt),
        ("version 2", &|f| f.version[4] = 1, "certificate-malformed", HasIt),
        ("version 4", &|f| f.version[4] = 3, "certificate-malformed", HasIt),
        ("serial number that is long", &|f| f.serial = tlv(2, &[1; 21]), "certificate-malformed", LacksIt),
        ("serial number below 0", &|f| f.serial = vec![2, 1, 0x80], "certificate-malformed", LacksIt),
        ("serial number with a zero", &|f| f.serial = vec![2, 2, 0, 1], "certificate-malformed", LacksIt),
        ("unique identifier", &|f| f.before_extensions = vec![0x82, 2, 0, 1], "certificate-malformed", HasIt),
        ("empty list", &|f| f.extensions = list(&[]), "certificate-malformed", LacksIt),
        ("nothing after the list", &|f| f.extensions.extend([5, 0]), "certificate-malformed", HasIt),
        (
            "critical as 1",
            &|f| f.extensions = list(&[&extension(&[1], &[0x30, 0])]),
            "certificate-malformed",
            HasIt,
        ),
        (
            "authority as 1",
            &|f| f.extensions = list(&[&extension(&[], &[0x30, 3, 1, 1, 1])]),
            "certificate-malformed",
            HasIt,
        ),
        (
            "constraints with more",
            &|f| f.extensions = list(&[&extension(&[], &[0x30, 0, 0])]),
            "certificate-malformed",
            HasIt,
        ),
        (
            "a path below no authority",
            &|f| f.extensions = list(&[&extension(&[], &[0x30, 3, 2, 1, 0])]),
            "certificate-malformed",
            LacksIt,
        ),
        ("a day that is none", &|f| f.times = time(23, b"261131000000Z"), "certificate-malformed", HasIt),
        ("a time without its zone", &|f| f.times = time(23, b"261004000000"), "certificate-malformed", HasIt),
        (
            "a time with an offset",
            &|f| f.times = time(23, b"261004000000+0000"),
            "certificate-malformed",
            HasIt,
        ),
        (
            "a time with a fraction",
            &|f| f.times = time(24, b"20261004000000.5Z"),
            "certificate-malformed",
            HasIt,
        ),
        ("three times", &|f| f.times.extend(tlv(23, b"261004000000Z")), "certificate-malformed", HasIt),
        (
            "length of three bytes",
            &|f| f.spki.splice(1..2, [0x82, 0, 0x59]).for_each(drop),
            "certificate-malformed",
            HasIt,
        ),
        ("compressed point", &|f| f.spki = compressed(), "certificate-algorithm", LacksIt),
        ("key of another curve", &|f| f.spki[22] = 8, "certificate-algorithm", LacksIt),
        ("point off its curve", &|f| f.spki[40] ^= 1, "certificate-algorithm", LacksIt),
    ];
    for (name, change, reason, second) in cases {
        check(name, &with(change), &root, Some(reason), second);
    }
    let mut deep = vec![5, 0];
    for _ in 0..20 {
        deep = tlv(0x30, &deep);
    }
    check("deep", &with(&|f| f.extensions = deep.clone()), &root, Some("certificate-malformed"), HasIt);
    let large = with(&|f| {
        f.extensions =
            list(&[&extension(&[], &[0x30, 0]), &sequence(&[&[6, 2, 0x2a, 3], &tlv(4, &[0; 17_000])])])
    });
    check("large", &large, &root, Some("certificate-malformed"), LacksIt);
}

fn compressed() -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let point = [&[2 + (key.der_bytes()[64] & 1)], &key.der_bytes()[1..33]].concat();
    sequence(&[
        b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
        &tlv(3, &[&[0], point.as_slice()].concat()),
    ])
}
