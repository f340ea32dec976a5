//! Certificate chains: real ones of every vendor, synthetic ones that must be refused, and a second opinion on each.

mod evidence_shared;

use evidence_shared::certificate;
use glassbloom_spec::{
    evidence::{
        anchor,
        key::Algorithm,
        x509::{BadCertificate, Certificate, Profile, Purpose, Root, verify_chain},
    },
    hash::Hash,
    id::UnixSeconds,
};

const ALL: &[Algorithm] = &[
    Algorithm::EcdsaSha256,
    Algorithm::EcdsaSha384,
    Algorithm::RsaPkcs1Sha256,
    Algorithm::RsaPkcs1Sha384,
    Algorithm::RsaPssSha256,
    Algorithm::RsaPssSha384,
];
const ANY: Profile =
    Profile { algorithms: ALL, critical: &[], purpose: Purpose::Any, max_chain: 4, leaf_usage: 0 };

fn verify(chain: &[Vec<u8>], root: &Root, at: u64, profile: &Profile) -> Result<(), BadCertificate> {
    let chain: Vec<Certificate> =
        chain.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?;
    verify_chain(&chain, root, UnixSeconds::new(at), profile)
}

fn all<const N: usize>(names: [&str; N]) -> Option<Vec<Vec<u8>>> {
    names.into_iter().map(certificate).collect()
}

#[test]
fn every_pinned_root_is_the_one_its_vendor_published() {
    for (file, root) in [
        ("appattest/apple_app_attestation_root_ca.pem", anchor::APPLE_APP_ATTESTATION),
        ("mda/apple_enterprise_attestation_root_ca.pem", anchor::APPLE_ENTERPRISE_ATTESTATION),
        ("tdx/TrustedRootCA.der", anchor::INTEL_SGX),
        ("sev-snp/ark-milan.pem", anchor::AMD_ARK_MILAN),
        ("sev-snp/ark-genoa.pem", anchor::AMD_ARK_GENOA),
        ("sev-snp/ark-turin.pem", anchor::AMD_ARK_TURIN),
    ] {
        let Some(der) = certificate(file) else { return };
        let certificate = Certificate::parse(&der).unwrap();
        certificate.verify_signature(certificate.key()).unwrap();
        match root {
            Root::Named { name, subject, spki } => {
                assert_eq!((certificate.subject_name(), certificate.spki()), (subject, spki));
                assert!(String::from_utf8_lossy(subject).contains(name));
            }
            Root::Pinned { name, key } => {
                assert_eq!(Hash::of(certificate.spki()), key);
                assert!(String::from_utf8_lossy(certificate.subject_name()).contains(name));
            }
        }
    }
}

#[test]
fn real_chains_lead_to_their_roots() {
    let at = 1_790_000_000;
    let sub = "mda/apple_enterprise_attestation_sub_ca_1.pem";
    let Some(chain) = all(["mda/mac_leaf_nanoca_2025.pem", sub]) else { return };
    verify(&chain, &anchor::APPLE_ENTERPRISE_ATTESTATION, 1_753_000_000, &ANY).unwrap();
    for (files, root) in [
        (["sev-snp/vcek_milan.der", "sev-snp/ask-milan.pem", "sev-snp/ark-milan.pem"], anchor::AMD_ARK_MILAN),
        (["sev-snp/vcek_turin.der", "sev-snp/ask-turin.pem", "sev-snp/ark-turin.pem"], anchor::AMD_ARK_TURIN),
    ] {
        let Some(chain) = all(files) else { return };
        verify(&chain, &root, at, &ANY).unwrap();
        assert!(matches!(
            verify(&chain[..2], &root, at, &ANY),
            Err(BadCertificate::Root(_) | BadCertificate::Signature)
        ));
        assert_eq!(verify(&chain[1..], &root, at, &ANY), Err(BadCertificate::Authority));
        assert!(matches!(verify(&chain, &anchor::AMD_ARK_GENOA, at, &ANY), Err(BadCertificate::Root(_))));
    }
    let tpm = ["tpm-swtpm/ek.pem", "tpm-swtpm/issuer.pem", "tpm-swtpm/root.pem"];
    let Some(chain) = all(tpm) else { return };
    let key = Hash::of(Certificate::parse(&chain[2]).unwrap().spki());
    let root = Root::Pinned { name: "swtpm", key };
    let profile = Profile {
        critical: &[glassbloom_spec::evidence::x509::SUBJECT_ALT_NAME],
        purpose: Purpose::Required(b"\x67\x81\x05\x08\x01"),
        leaf_usage: glassbloom_spec::evidence::x509::KEY_ENCIPHERMENT,
        ..ANY
    };
    verify(&chain, &root, 1_795_300_000, &profile).unwrap();
    assert!(matches!(verify(&chain, &root, 1_795_300_000, &ANY), Err(BadCertificate::Critical(_))));
}
