//! Certificate chains: real ones of every vendor, synthetic ones that must be refused, and a second opinion on each.

#![expect(clippy::unwrap_used, reason = "what tests share is a test too")]

mod evidence_shared;

use std::ops::Range;

use base64::{Engine, prelude::BASE64_STANDARD};
use evidence_shared::{certificate, flips, pem, second, vector};
use glassbloom_spec::{
    evidence::{
        anchor,
        app_attest::Object,
        key::Algorithm,
        x509::{
            BadCertificate, Certificate, DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, Profile, Purpose, Root,
            SUBJECT_ALT_NAME, verify_chain,
        },
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
/// 1.2.840.113635.100.4.24
const ATTESTED: &[u8] = b"\x2a\x86\x48\x86\xf7\x63\x64\x04\x18";
/// 2.23.133.8.1
const ENDORSED: &[u8] = b"\x67\x81\x05\x08\x01";

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

/// A real chain: without its root where that is pinned by name.
struct Real {
    name: &'static str,
    chain: Vec<Vec<u8>>,
    root: Root<'static>,
    at: Range<u64>,
    profile: Profile<'static>,
}

fn real() -> Option<Vec<Real>> {
    let attested = Profile { purpose: Purpose::IfPresent(ATTESTED), leaf_usage: DIGITAL_SIGNATURE, ..ANY };
    let mut all_real = vec![
        Real {
            name: "mda",
            chain: all(["mda/mac_leaf_nanoca_2025.pem", "mda/apple_enterprise_attestation_sub_ca_1.pem"])?,
            root: anchor::APPLE_ENTERPRISE_ATTESTATION,
            at: 1_752_399_487..1_760_261_887,
            profile: attested,
        },
        Real {
            name: "swtpm",
            chain: all(["tpm-swtpm/ek.pem", "tpm-swtpm/issuer.pem", "tpm-swtpm/root.pem"])?,
            root: Root::Pinned {
                name: "swtpm",
                key: Hash::of(Certificate::parse(&certificate("tpm-swtpm/root.pem")?).unwrap().spki()),
            },
            at: 1_795_174_500..253_402_300_799,
            profile: Profile {
                critical: &[SUBJECT_ALT_NAME],
                purpose: Purpose::Required(ENDORSED),
                leaf_usage: KEY_ENCIPHERMENT,
                ..ANY
            },
        },
    ];
    let quote = vector("tdx/tdx_quote")?;
    let text = String::from_utf8_lossy(&quote);
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1).take(3);
    let mut chain: Vec<Vec<u8>> = blocks.map(|block| pem(&format!("-----BEGIN-----{block}"))).collect();
    // Intel's chain brings the root, which is pinned by name and key.
    assert_eq!(
        Certificate::parse(&chain.pop()?).unwrap().spki(),
        Certificate::parse(&certificate("tdx/TrustedRootCA.der")?).unwrap().spki()
    );
    let leaf = Certificate::parse(&chain[0]).unwrap();
    let at = leaf.not_before().get()..leaf.not_after().get();
    all_real.push(Real { name: "tdx", chain, root: anchor::INTEL_SGX, at, profile: ANY });
    let app_attest = [
        vector("appattest/macos27-hellas-real-app-attest.json")?,
        vector("appattest/apple-doc-2026-validation-guide.b64")?,
        vector("appattest/veehaitch-ios-14.2.yaml")?,
        vector("appattest/veehaitch-ios-14.3.yaml")?,
    ];
    for (name, bytes) in ["mac", "apple", "ios 14.2", "ios 14.3"].into_iter().zip(app_attest) {
        let text = String::from_utf8(bytes).unwrap();
        let object = text
            .split(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c))
            .find(|word| word.starts_with("o2Nm"));
        let object = Object::parse(&BASE64_STANDARD.decode(object.unwrap()).unwrap()).unwrap();
        let chain = object.chain().to_vec();
        let leaf = Certificate::parse(&chain[0]).unwrap();
        let at = leaf.not_before().get()..leaf.not_after().get();
        assert_eq!(at.end - at.start, 3 * 86_400, "{name}");
        all_real.push(Real {
            name,
            chain: chain.clone(),
            root: anchor::APPLE_APP_ATTESTATION,
            at,
            profile: attested,
        });
    }
    Some(all_real)
}

const fn purpose(profile: &Profile<'static>) -> Option<&'static [u8]> {
    match profile.purpose {
        Purpose::Any => None,
        Purpose::IfPresent(purpose) | Purpose::Required(purpose) => Some(purpose),
    }
}

#[test]
fn two_verifiers_agree_on_every_real_chain() {
    let Some(real) = real() else { return };
    assert_eq!(real.len(), 7);
    for Real { name, chain, root, at, profile } in &real {
        let opinions = |chain: &[Vec<u8>], root: &Root, at: u64| {
            let bare = chain.len() - usize::from(matches!(root, Root::Pinned { .. }));
            let ours = verify(chain, root, at, profile);
            let theirs = second::verify(&chain[..bare], second::anchor(root, chain), at, purpose(profile));
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{name}: we say {ours:?}, webpki says {theirs:?}");
            ours
        };
        for inside in [at.start, at.end, (at.start + at.end) / 2] {
            opinions(chain, root, inside).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(matches!(opinions(chain, root, at.start - 1), Err(BadCertificate::NotYetValid { .. })));
        // The root of the software TPM has no end before its leaf.
        assert!(matches!(opinions(chain, root, at.end + 1), Err(BadCertificate::Expired { .. })));
        let at = (at.start + at.end) / 2;
        for other in [anchor::APPLE_APP_ATTESTATION, anchor::APPLE_ENTERPRISE_ATTESTATION, anchor::INTEL_SGX]
        {
            if other != *root {
                assert!(matches!(verify(chain, &other, at, profile), Err(BadCertificate::Root(_))), "{name}");
            }
        }
        // A root of the right name with another key.
        if let Root::Named { name, subject, .. } = root {
            let Root::Named { spki, .. } = anchor::INTEL_SGX else { panic!("not named") };
            let spki =
                if *root == anchor::INTEL_SGX { Certificate::parse(&chain[0]).unwrap().spki() } else { spki };
            let other = Root::Named { name, subject, spki };
            assert_eq!(opinions(chain, &other, at), Err(BadCertificate::Signature));
        }
        assert!(verify(&chain[1..], root, at, profile).is_err(), "{name}: without the end");
        assert!(verify(&chain[..1], root, at, profile).is_err(), "{name}: the end alone");
        assert!(verify(&[], root, at, profile).is_err());
        let reversed: Vec<Vec<u8>> = chain.iter().rev().cloned().collect();
        assert!(verify(&reversed, root, at, profile).is_err(), "{name}: reversed");
    }
}

/// AMD writes out a default in its algorithm identifiers, which webpki does not read: its signatures are asked alone.
#[test]
fn two_verifiers_agree_on_the_signatures_of_amd() {
    use webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY as ALGORITHM;
    for (files, root) in [
        (["sev-snp/vcek_milan.der", "sev-snp/ask-milan.pem", "sev-snp/ark-milan.pem"], anchor::AMD_ARK_MILAN),
        (["sev-snp/vcek_turin.der", "sev-snp/ask-turin.pem", "sev-snp/ark-turin.pem"], anchor::AMD_ARK_TURIN),
        (["sev-snp/ask-genoa.pem", "sev-snp/ark-genoa.pem", "sev-snp/ark-genoa.pem"], anchor::AMD_ARK_GENOA),
    ] {
        let Some(chain) = all(files) else { return };
        let certificates: Vec<Certificate> =
            chain.iter().map(|der| Certificate::parse(der).unwrap()).collect();
        for pair in certificates.windows(2) {
            let key = glassbloom_spec::evidence::der::Der::new(pair[1].spki())
                .sequence()
                .and_then(|mut spki| {
                    spki.any()?;
                    spki.bit_bytes()
                })
                .unwrap();
            ALGORITHM.verify_signature(key, pair[0].tbs(), pair[0].signature()).unwrap();
            pair[0].verify_signature(pair[1].key()).unwrap();
            let mut signature = pair[0].signature().to_vec();
            signature[100] ^= 1;
            assert!(ALGORITHM.verify_signature(key, pair[0].tbs(), &signature).is_err());
        }
        let at = 1_790_000_000;
        if files[0].contains("vcek") {
            verify(&chain, &root, at, &ANY).unwrap();
            let pss = Profile { algorithms: &[Algorithm::RsaPssSha384], max_chain: 3, ..ANY };
            verify(&chain, &root, at, &pss).unwrap();
            let other = Profile { algorithms: &[Algorithm::EcdsaSha384], ..pss };
            assert_eq!(verify(&chain, &root, at, &other), Err(BadCertificate::Algorithm));
            assert_eq!(
                verify(&chain, &root, at, &Profile { max_chain: 2, ..pss }),
                Err(BadCertificate::Length(3))
            );
            assert!(verify(&chain[..2], &root, at, &ANY).is_err());
        }
        assert_eq!(verify(&chain[1..], &root, at, &ANY), Err(BadCertificate::Authority));
        assert!(matches!(
            verify(&chain, &anchor::INTEL_SGX, at, &ANY),
            Err(BadCertificate::Root(_) | BadCertificate::Authority)
        ));
    }
}

/// No bit of a real chain may change, and the second opinion is the same for each.
fn no_flip_is_accepted(chosen: &str) {
    let Some(real) = real() else { return };
    let Real { chain, root, at, profile, .. } = real.iter().find(|real| real.name == chosen).unwrap();
    let anchor = second::anchor(root, chain);
    let at = at.start + 1000;
    let bare = chain.len() - usize::from(matches!(root, Root::Pinned { .. }));
    verify(chain, root, at, profile).unwrap();
    for place in 0..chain.len() {
        for (bit, flipped) in flips(&chain[place]) {
            let mut chain = chain.clone();
            chain[place] = flipped;
            assert!(verify(&chain, root, at, profile).is_err(), "{chosen}: certificate {place}, bit {bit}");
            if place < bare {
                assert!(second::verify(&chain[..bare], anchor, at, purpose(profile)).is_err());
            }
        }
    }
}

#[test]
fn no_flip_of_the_chain_of_a_mac_is_accepted() {
    no_flip_is_accepted("mda");
}

#[test]
fn no_flip_of_the_chain_of_a_software_tpm_is_accepted() {
    no_flip_is_accepted("swtpm");
}

#[test]
fn no_flip_of_the_chain_of_a_quoting_enclave_is_accepted() {
    no_flip_is_accepted("tdx");
}
