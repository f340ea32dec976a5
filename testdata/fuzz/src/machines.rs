//! Evidence of machines: TPMs and confidential virtual machines. Makers of our own stand in for theirs.

use std::sync::LazyLock;

use glassbloom_spec::{
    curve::{PublicKey, SigningKey},
    evidence::{
        Anchor, Bound, Trust,
        endorsement::Endorsement,
        snp,
        tdx::{self, Collateral, Document},
        tpm::{
            self, Certified, Evidence, Lasting, Signed,
            credential::{Seeds, Transcript, subject},
            wire::{Attest, Public, parse_signature},
        },
        x509::{Certificate, Root},
    },
    hash::Hash,
    leaf::{Payload, Tier},
};

use crate::evidence::{AT, certificate, extension, signature, tlv, usage};

/// Structures of a TPM, and evidence: it has one spelling, and none verifies but the one that was made.
pub fn evidence_tpm(data: &[u8]) -> bool {
    let mut accepted = parse_signature(data).is_ok() | Attest::parse(data).is_ok();
    if let Ok(public) = Public::parse(data) {
        accepted = true;
        let name = public.name();
        assert_eq!(name.as_bytes()[..2], [0, 0x0b]);
        assert_eq!(name.as_bytes()[2..], *Hash::of(data).as_bytes());
    }
    let Ok(evidence) = Evidence::decode(data) else {
        assert_eq!(tpm::lasting(data), None);
        return accepted;
    };
    assert_eq!(evidence.encode(), data);
    assert_eq!(tpm::lasting(data), Some(evidence.lasting.digest()));
    let machines = &*MACHINES;
    let (anchors, endorsers) = ([machines.anchor.clone()], [key(Key::Endorser).public_key()]);
    let trust = Trust { anchors: &anchors, endorsers: &endorsers, apps: &[] };
    if tpm::verify(data, &machines.bound(), &trust).is_ok() {
        assert_eq!(data, machines.tpm, "forged evidence");
    }
    assert!(tpm::verify(data, &machines.bound(), &Trust { anchors: &[], ..trust }).is_err());
    true
}

/// Evidence has one spelling, and none leads to AMD.
pub fn evidence_snp(data: &[u8]) -> bool {
    let Ok(evidence) = snp::Evidence::decode(data) else { return false };
    assert_eq!(evidence.encode(), data);
    assert!(snp::verify(data, &MACHINES.bound()).is_err(), "evidence of AMD's");
    true
}

/// Evidence has one spelling, and none verifies but the one that was made.
pub fn evidence_tdx(data: &[u8]) -> bool {
    let Ok(evidence) = tdx::Evidence::decode(data) else { return false };
    assert_eq!(evidence.encode(), data);
    let machines = &*MACHINES;
    let root = Certificate::parse(&machines.intel).unwrap();
    let root = Root::Named { name: "fuzz", subject: root.subject_name(), spki: root.spki() };
    if tdx::verify_under(&root, data, &machines.report_data(), AT).is_ok() {
        assert_eq!(data, machines.tdx, "forged evidence");
    }
    assert!(tdx::verify(data, &machines.bound()).is_err(), "evidence of Intel's");
    true
}

/// What the fuzzer starts from: target, name and content.
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let machines = &*MACHINES;
    let evidence = Evidence::decode(&machines.tpm).unwrap();
    vec![
        ("evidence_tpm", "evidence", machines.tpm.clone()),
        ("evidence_tpm", "public", evidence.lasting.attestation_key),
        ("evidence_tpm", "public-rsa", rsa_public()),
        ("evidence_tpm", "quote", evidence.quote.attest),
        ("evidence_tpm", "certify", evidence.signing.by.attest),
        ("evidence_tpm", "signature", evidence.signing.by.signature),
        ("evidence_snp", "evidence", machines.snp.clone()),
        ("evidence_tdx", "evidence", machines.tdx.clone()),
    ]
}

struct Machines {
    anchor: Anchor,
    tpm: Vec<u8>,
    snp: Vec<u8>,
    /// The root that stands in for Intel's.
    intel: Vec<u8>,
    tdx: Vec<u8>,
    signing: PublicKey,
    sealing: PublicKey,
    nonce: Hash,
}

static MACHINES: LazyLock<Machines> = LazyLock::new(Machines::new);

#[derive(Clone, Copy)]
enum Key {
    Root,
    Issuer,
    Device,
    Attestation,
    Signing,
    Sealing,
    Endorser,
    Publisher,
}

fn key(key: Key) -> SigningKey {
    SigningKey::from_seed(&[0x40 + key as u8; 32])
}

impl Machines {
    fn new() -> Self {
        let nonce = Hash::of(b"fuzz");
        let root = certificate("root", "root", &key(Key::Root), &key(Key::Root), &authority());
        let issuer = certificate("issuer", "root", &key(Key::Issuer), &key(Key::Root), &authority());
        let spki = Hash::of(Certificate::parse(&root).unwrap().spki());
        let mut report = vec![0; snp::REPORT_LEN];
        (report[0], report[0x34]) = (3, 1);
        let chain = [issuer.clone(), issuer.clone(), root.clone()];
        Self {
            anchor: Anchor { tier: Tier::TpmHw, key: spki, name: "fuzz".to_owned() },
            tpm: tpm_evidence(nonce, &issuer, &root),
            snp: snp::Evidence { report, chain }.encode(),
            tdx: tdx_evidence(nonce, &issuer, &root, &Platform::default()),
            intel: root,
            signing: key(Key::Signing).public_key(),
            sealing: key(Key::Sealing).public_key(),
            nonce,
        }
    }

    fn bound(&self) -> Bound<'_> {
        Bound {
            nonce: self.nonce,
            signing_key: &self.signing,
            sealing_key: &self.sealing,
            at: AT,
            enrolled: None,
        }
    }

    fn report_data(&self) -> [u8; 64] {
        report_data(self.nonce)
    }
}

fn report_data(nonce: Hash) -> [u8; 64] {
    [*nonce.as_bytes(), [0; 32]].concat().try_into().unwrap()
}

fn authority() -> Vec<u8> {
    [extension(&[0x55, 0x1d, 0x13], true, &[0x30, 3, 1, 1, 0xff]), usage(4)].concat()
}

/// A TPM of our own making.
fn tpm_evidence(nonce: Hash, issuer: &[u8], root: &[u8]) -> Vec<u8> {
    let attribute = |last: u8, text: &str| {
        let oid = tlv(6, &[0x67, 0x81, 0x05, 0x02, last]);
        tlv(0x31, &tlv(0x30, &[oid, tlv(12, text.as_bytes())].concat()))
    };
    let names = [attribute(1, "id:474C4153"), attribute(2, "Glass 1"), attribute(3, "id:1")].concat();
    let facts = [
        extension(&[0x55, 0x1d, 0x11], true, &tlv(0x30, &tlv(0xa4, &tlv(0x30, &names)))),
        extension(&[0x55, 0x1d, 0x25], false, &tlv(0x30, &tlv(6, &[0x67, 0x81, 0x05, 0x08, 1]))),
        usage(8),
    ];
    let leaf = certificate("tpm", "issuer", &key(Key::Device), &key(Key::Issuer), &facts.concat());
    let attestation_key = public(Key::Attestation, 0x0005_0072, 0x18);
    let name = Public::parse(&attestation_key).unwrap().name();
    let ek = Certificate::parse(&leaf).unwrap();
    let seeds = Seeds { secret: [1; 32], seed: [2; 32], padding: None };
    let activation = Transcript::make(ek.key(), name, seeds).unwrap();
    let says = Endorsement {
        format: tpm::FORMAT.to_owned(),
        subject: subject(ek.spki(), name, &activation),
        nonce,
        device: None,
    };
    let endorsements = vec![says.sign(&key(Key::Endorser)).unwrap().bytes().to_vec()];
    let registers: Vec<(u8, Hash)> = (0..8).map(|index| (index, Hash::of(&[index]))).collect();
    let values: Vec<&[u8]> = registers.iter().map(|(_, value)| value.as_ref()).collect();
    let quoted =
        [&[0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0, 0, 0, 32][..], Hash::of_parts(&values).as_ref()].concat();
    let certified = |public: Vec<u8>| {
        let name = [&[0, 34][..], Public::parse(&public).unwrap().name().as_bytes()].concat();
        Certified { by: attest(0x8017, nonce, &[name.as_slice(), &name].concat()), public }
    };
    let chain = vec![leaf.clone(), issuer.to_vec(), root.to_vec()];
    Evidence {
        lasting: Lasting { chain, attestation_key, activation, endorsements },
        quote: attest(0x8018, nonce, &quoted),
        registers,
        signing: certified(public(Key::Signing, 0x0004_0072, 0x18)),
        sealing: certified(public(Key::Sealing, 0x0002_0072, 0x19)),
    }
    .encode()
}

fn attest(kind: u16, nonce: Hash, what: &[u8]) -> Signed {
    let signer = [&[0, 34, 0, 0x0b][..], Hash::of(b"qualified").as_ref()].concat();
    let state = [0; 25];
    let attest =
        [b"\xffTCG", &kind.to_be_bytes()[..], &signer, &[0, 32], nonce.as_ref(), &state, what].concat();
    let raw = key(Key::Attestation).sign(&attest);
    let signature = [&[0, 0x18, 0, 0x0b, 0, 32][..], &raw[..32], &[0, 32], &raw[32..]].concat();
    Signed { attest, signature }
}

fn public(of: Key, attributes: u32, scheme: u8) -> Vec<u8> {
    let point = key(of).public_key().to_uncompressed();
    let head = [&[0, 0x23, 0, 0x0b][..], &attributes.to_be_bytes(), &[0, 0, 0, 0x10]].concat();
    [&head, &[0, scheme, 0, 0x0b, 0, 3, 0, 0x10, 0, 32][..], &point[1..33], &[0, 32], &point[33..]].concat()
}

/// An endorsement key by the template that most TPMs have.
fn rsa_public() -> Vec<u8> {
    let head = [0, 1, 0, 0x0b, 0, 3, 0, 0xb2, 0, 32];
    let parameters = [0, 6, 0, 0x80, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 1, 0];
    [&head[..], &[7; 32], &parameters, &[0xc5; 256]].concat()
}

/// What a platform and its maker say.
struct Platform {
    /// Of the domain.
    attributes: u64,
    enclave_attributes: u8,
    platform_status: &'static str,
    module_status: &'static str,
    enclave_status: &'static str,
    /// The platform that collateral is for.
    fmspc: &'static str,
    /// The one number on each list of revoked certificates: by the root, and by the issuer. Every certificate here has 1.
    revoked: [u8; 2],
    /// Common name of the certificate for collateral.
    publisher: &'static str,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            // SEPT_VE_DISABLE
            attributes: 1 << 28,
            enclave_attributes: 0,
            platform_status: "UpToDate",
            module_status: "UpToDate",
            enclave_status: "UpToDate",
            fmspc: "000000000000",
            revoked: [7, 7],
            publisher: "Intel SGX TCB Signing",
        }
    }
}

/// Evidence of a platform of our own making.
fn tdx_evidence(nonce: Hash, issuer: &[u8], root: &[u8], says: &Platform) -> Vec<u8> {
    let oid = |arcs: &[u8]| tlv(6, &[SGX, arcs].concat());
    let entry = |arcs: &[u8], value: &[u8]| tlv(0x30, &[&oid(arcs), value].concat());
    let levels: Vec<u8> = (1..=17).flat_map(|place| entry(&[2, place], &[2, 1, 9])).collect();
    let platform = [
        entry(&[1], &tlv(4, &[1; 16])),
        entry(&[2], &tlv(0x30, &levels)),
        entry(&[3], &tlv(4, &[0, 0])),
        entry(&[4], &tlv(4, &[0; 6])),
    ];
    let facts = [usage(0x80), extension(SGX, false, &tlv(0x30, &platform.concat()))].concat();
    let pck = certificate("pck", "issuer", &key(Key::Device), &key(Key::Issuer), &facts);
    let signer = certificate(says.publisher, "root", &key(Key::Publisher), &key(Key::Root), &usage(0x80));
    let document = |json: String| Document {
        signature: key(Key::Publisher).sign(json.as_bytes()),
        json: json.into_bytes(),
    };
    let window = r#""issueDate":"2026-10-01T00:00:00Z","nextUpdate":"2026-10-31T00:00:00Z""#;
    let levels = |tcb: &str, status: &str| {
        format!(r#""tcbLevels":[{{"tcb":{tcb},"tcbDate":"2026-01-01T00:00:00Z","tcbStatus":"{status}"}}]"#)
    };
    let components = format!("[{}]", [r#"{"svn":1}"#; 16].join(","));
    let tcb = format!(r#"{{"sgxtcbcomponents":{components},"pcesvn":9,"tdxtcbcomponents":{components}}}"#);
    let zeros = "0".repeat(16);
    let module =
        format!(r#""mrsigner":"{}","attributes":"{zeros}","attributesMask":"{zeros}""#, "0".repeat(96));
    let tcb_info = format!(
        r#"{{"id":"TDX","version":3,{window},"fmspc":"{}","pceId":"0000","tcbType":0,"tdxModule":{{{module}}},"tdxModuleIdentities":[{{"id":"TDX_01",{module},{}}}],{}}}"#,
        says.fmspc,
        levels(r#"{"isvsvn":1}"#, says.module_status),
        levels(&tcb, says.platform_status),
    );
    let enclave_identity = format!(
        r#"{{"id":"TD_QE","version":2,{window},"miscselect":"00000000","miscselectMask":"FFFFFFFF","attributes":"{zeros}","attributesMask":"FF{}","mrsigner":"{}","isvprodid":0,{}}}"#,
        "0".repeat(30),
        "0".repeat(64),
        levels(r#"{"isvsvn":0}"#, says.enclave_status),
        zeros = "0".repeat(32),
    );
    tdx::Evidence {
        quote: quote(nonce, &[&pck, issuer, root], says),
        collateral: Collateral {
            tcb_info: document(tcb_info),
            enclave_identity: document(enclave_identity),
            signer,
            root_crl: revoked("root", Key::Root, says.revoked[0]),
            pck_crl: revoked("issuer", Key::Issuer, says.revoked[1]),
        },
    }
    .encode()
}

fn quote(nonce: Hash, chain: &[&[u8]], says: &Platform) -> Vec<u8> {
    let mut body = [0; 584];
    body[..16].fill(1);
    body[120..128].copy_from_slice(&says.attributes.to_le_bytes());
    body[520..].copy_from_slice(&report_data(nonce));
    let vendor = b"\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07";
    let signed = [&[4, 0, 2, 0, 0x81, 0, 0, 0, 0, 0, 0, 0][..], vendor, &[0; 20], &body].concat();
    let point = key(Key::Attestation).public_key().to_uncompressed();
    let mut enclave = [0; 384];
    enclave[48] = says.enclave_attributes;
    enclave[320..352].copy_from_slice(Hash::of_parts(&[&point[1..], b"auth"]).as_ref());
    let pem: String = chain.iter().map(|certificate| pem(certificate)).collect();
    let sized = |kind: u16, content: &[u8]| {
        [&kind.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), content].concat()
    };
    let certified = [
        &enclave[..],
        &key(Key::Device).sign(&enclave),
        &4u16.to_le_bytes(),
        b"auth",
        &sized(5, pem.as_bytes()),
    ]
    .concat();
    let rest = [&key(Key::Attestation).sign(&signed)[..], &point[1..], &sized(6, &certified)].concat();
    [signed.as_slice(), &(rest.len() as u32).to_le_bytes(), &rest].concat()
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| core::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A list of one revoked certificate.
fn revoked(issuer: &str, by: Key, serial: u8) -> Vec<u8> {
    let algorithm = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    let name =
        tlv(0x30, &tlv(0x31, &tlv(0x30, &[&[6, 3, 0x55, 4, 3], &tlv(12, issuer.as_bytes())[..]].concat())));
    let times = [tlv(23, b"261001000000Z"), tlv(23, b"261101000000Z")];
    let entry = tlv(0x30, &[&[2, 1, serial], times[0].as_slice()].concat());
    let number = extension(&[0x55, 0x1d, 0x14], false, &[2, 1, 1]);
    let tbs = tlv(
        0x30,
        &[
            &[2, 1, 1],
            algorithm.as_slice(),
            &name,
            &times.concat(),
            &tlv(0x30, &entry),
            &tlv(0xa0, &tlv(0x30, &number)),
        ]
        .concat(),
    );
    let signature = [&[0], signature(&key(by), &tbs).as_slice()].concat();
    tlv(0x30, &[tbs.as_slice(), algorithm, &tlv(3, &signature)].concat())
}

/// 1.2.840.113741.1.13.1
const SGX: &[u8] = b"\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01";

#[cfg(test)]
mod tests {
    use glassbloom_spec::id::UnixSeconds;

    use super::*;

    #[test]
    fn what_was_made_verifies() {
        let machines = &*MACHINES;
        let (anchors, endorsers) = ([machines.anchor.clone()], [key(Key::Endorser).public_key()]);
        let trust = Trust { anchors: &anchors, endorsers: &endorsers, apps: &[] };
        tpm::verify(&machines.tpm, &machines.bound(), &trust).unwrap();
        let root = Certificate::parse(&machines.intel).unwrap();
        let root = Root::Named { name: "fuzz", subject: root.subject_name(), spki: root.spki() };
        tdx::verify_under(&root, &machines.tdx, &machines.report_data(), AT).unwrap();
        let after = UnixSeconds::new(AT.get() + 60 * 86_400);
        let refused = tdx::verify_under(&root, &machines.tdx, &machines.report_data(), after).unwrap_err();
        assert_eq!(refused.reason, "tdx-collateral-expired");
    }

    fn tdx(says: &Platform) -> Result<(), &'static str> {
        let machines = &*MACHINES;
        let issuer = certificate("issuer", "root", &key(Key::Issuer), &key(Key::Root), &authority());
        let root = Certificate::parse(&machines.intel).unwrap();
        let named = Root::Named { name: "fuzz", subject: root.subject_name(), spki: root.spki() };
        let evidence = tdx_evidence(machines.nonce, &issuer, &machines.intel, says);
        tdx::verify_under(&named, &evidence, &machines.report_data(), AT)
            .map(|_| ())
            .map_err(|refused| refused.reason)
    }

    #[test]
    fn what_intel_never_signed_is_refused() {
        let honest = Platform::default;
        assert_eq!(tdx(&honest()), Ok(()));
        for (says, reason) in [
            (Platform { attributes: 1 << 28 | 1, ..honest() }, "tdx-debug"),
            (Platform { attributes: 1 << 28 | 1 << 29, ..honest() }, "tdx-migration"),
            (Platform { attributes: 0, ..honest() }, "tdx-attributes"),
            (Platform { enclave_attributes: 2, ..honest() }, "tdx-quoting-enclave"),
            (Platform { platform_status: "OutOfDate", ..honest() }, "tdx-tcb-out-of-date"),
            (Platform { module_status: "Revoked", ..honest() }, "tdx-tcb-revoked"),
            (Platform { enclave_status: "SWHardeningNeeded", ..honest() }, "tdx-tcb-sw-hardening-needed"),
            (Platform { fmspc: "000000000001", ..honest() }, "tdx-collateral-mismatch"),
            (Platform { revoked: [1, 7], ..honest() }, "tdx-revoked"),
            (Platform { revoked: [7, 1], ..honest() }, "tdx-revoked"),
            (Platform { publisher: "Intel SGX PCK Certificate", ..honest() }, "certificate-purpose"),
        ] {
            assert_eq!(tdx(&says), Err(reason));
        }
    }
}
