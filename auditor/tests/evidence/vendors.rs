//! Files that vendors' hardware wrote and others published.

use std::slice::from_ref;

use glassbloom_auditor::evidence::parse_time;
use glassbloom_spec::{
    evidence::mda::{Form, MdaChain},
    verify::State,
};

use crate::support::*;

const MAC: &str = "mda/mac_leaf_nanoca_2025.pem";
const MAC_ISSUER: &str = "mda/apple_enterprise_attestation_sub_ca_1.pem";

#[test]
fn a_macs_chain_and_no_serial_number() {
    let (Some(leaf), Some(issuer)) = (read(MAC), read(MAC_ISSUER)) else { return };
    let mut options = options(0);
    options.at = parse_time("2025-08-12");
    let explanation = look(&leaf, from_ref(&issuer), &options);
    assert!(explanation.holds());
    assert_eq!(field(&explanation, "secure-boot"), "Full Security");
    assert!(explanation.to_string().contains("valid at that time; expired since 2025-10-12"));
    // As owners hand it to endorsers.
    let certificates = [&leaf, &issuer].map(|text| pem(text)).to_vec();
    let handed = MdaChain { form: Form::DeviceInformation, certificates }.encode();
    let explanation_of_handed = look(&handed, &[], &options);
    assert!(explanation_of_handed.holds());
    assert!(field(&explanation_of_handed, "udid").starts_with("masked"));
    // Both certificates in one file, and in one file with the root.
    let chain = [leaf.clone(), issuer.clone()].concat();
    assert!(look(&chain, &[], &options).holds());
    // Masked wherever it could stand, and shown on demand.
    let masked = [
        explanation.to_string(),
        explanation.to_json().to_string(),
        look(&issuer, from_ref(&leaf), &options).to_string(),
    ];
    let freshness = hex::decode(field(&explanation, "freshness")).unwrap();
    options.reveal = true;
    let revealed = look(&leaf, from_ref(&issuer), &options);
    for name in ["serial", "udid"] {
        let secret = field(&revealed, name);
        assert!(secret.len() > 8 && !secret.contains("masked"));
        assert!(!masked.iter().any(|text| text.contains(secret) || text.contains(&hex::encode(secret))));
        assert!(field(&explanation, name).starts_with("masked"));
    }
    // Its nonce, in the one form and not in the other.
    options.nonce = Some(freshness);
    assert_eq!(step(&look(&leaf, from_ref(&issuer), &options), "nonce"), State::Verified);
    options.nonce = Some(vec![0; 32]);
    assert!(!look(&leaf, from_ref(&issuer), &options).holds());
    // Now it has expired, and the leaf alone leads nowhere.
    let explanation = look(&leaf, &[issuer], &crate::support::options(0));
    assert!(failure(&explanation).contains("certificate-expired"));
    assert!(explanation.to_string().contains("--at"));
    options.nonce = None;
    assert!(failure(&look(&leaf, &[], &options)).contains("certificate-root"));
}

#[test]
fn the_command_masks_too() {
    let (Some(leaf), Some(issuer)) = (shared(MAC), shared(MAC_ISSUER)) else { return };
    let paths = [leaf.to_str().unwrap(), "--with", issuer.to_str().unwrap(), "--at", "2025-08-12"];
    let (code, text, _) = run(&paths);
    assert!(code == 0 && text.matches("masked").count() == 2);
    let (code, text, _) = run(&[&paths[..], &["--reveal"]].concat());
    assert!(code == 0 && !text.contains("masked"));
    assert_eq!(run(&paths[..3]).0, 10);
}

#[test]
fn app_attest_captures() {
    for (name, at, would_do) in [
        ("appattest/macos27-hellas-real-app-attest.json", "2026-10-03", "yes"),
        ("appattest/veehaitch-ios-14.2.yaml", "2020-11-22", "no"),
        ("appattest/veehaitch-ios-14.3.yaml", "2020-12-20", "no"),
    ] {
        let Some(file) = read(name) else { return };
        let mut options = options(0);
        options.at = parse_time(at);
        let explanation = look(&file, &[], &options);
        assert!(explanation.holds(), "{name}: {explanation}");
        assert_eq!(step(&explanation, "assertion"), State::Verified);
        assert!(field(&explanation, "would do for a provider").starts_with(would_do));
        // A phone is no provider's Mac, and a capture is for nobody's keys.
        assert_eq!(explanation.proves(), None);
        assert!(!explanation.to_string().contains("proves: a genuine Mac"));
        options.nonce = Some(vec![0; 32]);
        assert!(failure(&look(&file, &[], &options)).contains("app-attest-nonce"));
        assert!(!look(&file, &[], &crate::support::options(0)).holds());
    }
    let Some(file) = read("appattest/apple-doc-2026-validation-guide.b64") else { return };
    let mut options = options(0);
    options.at = parse_time("2026-04-22");
    assert!(!look(&file, &[], &options).holds());
    options.nonce = Some(b"example_server_challenge".to_vec());
    assert!(look(&file, &[], &options).holds());
}

#[test]
fn an_assertion_needs_its_object() {
    let Some(capture) = read("appattest/macos27-hellas-real-app-attest.json") else { return };
    let capture: serde_json::Value = serde_json::from_slice(&capture).unwrap();
    let part = |name: &str| capture[name].as_str().unwrap().as_bytes().to_vec();
    let (object, assertion) = (part("attestationObjectBase64"), part("assertionObjectBase64"));
    let mut options = options(0);
    options.at = parse_time("2026-10-03");
    options.nonce = Some(hex::decode(part("assertionClientDataHashHex")).unwrap());
    assert!(!look(&assertion, &[], &options).holds());
    let explanation = look(&assertion, from_ref(&object), &options);
    assert!(explanation.holds(), "{explanation}");
    assert_eq!(explanation.kind, "App Attest assertion");
    assert_eq!(field(&explanation, "counter"), "1");
    // Another device's object does not help.
    let other = read("appattest/apple-doc-2026-validation-guide.b64").unwrap();
    assert!(!look(&assertion, &[other], &options).holds());
}

#[test]
fn structures_of_a_tpm() {
    let file = |name: &str| read(&format!("tpm-swtpm/{name}"));
    let Some(nonce) = file("nonce.hex") else { return };
    let all = ["quote.msg", "quote.sig", "ak.pub", "sk.pub", "certify.attest", "certify.sig"];
    let [quote, signature, ak, sk, certify, certify_signature] = all.map(|name| file(name).unwrap());
    let mut options = options(0);
    options.nonce = Some(hex::decode(nonce.trim_ascii()).unwrap());
    let explanation = look(&quote, &[signature.clone(), ak.clone()], &options);
    assert!(explanation.holds(), "{explanation}");
    assert_eq!(field(&explanation, "registers (SHA-256 bank)"), "0, 1, 2, 3, 4, 5, 6, 7, 16");
    // The nonce alone is not enough.
    assert!(!look(&quote, &[], &options).holds());
    assert!(!look(&quote, from_ref(&signature), &options).holds());
    assert!(failure(&look(&quote, &[signature.clone(), sk.clone()], &options)).contains("tpm-signature"));
    options.nonce = Some(vec![1, 2, 3]);
    assert!(failure(&look(&quote, &[signature, ak.clone()], &options)).contains("tpm-nonce"));
    options.nonce = None;
    let explanation = look(&certify, &[certify_signature.clone(), ak.clone(), sk], &options);
    assert!(explanation.holds(), "{explanation}");
    assert_eq!(step(&explanation, "certified object"), State::Verified);
    assert!(field(&explanation, "certified attributes").ends_with("sign"));
    for (file, kind) in [(ak, "TPMT_PUBLIC"), (certify_signature, "TPMT_SIGNATURE")] {
        assert!(look(&file, &[], &options).kind.contains(kind));
    }
}

#[test]
fn an_amd_report_with_its_folder() {
    let Some(report) = read("sev-snp/report_milan.hex") else { return };
    let folder = shared("sev-snp").unwrap();
    let path = folder.join("report_milan.hex");
    let arguments = [path.to_str().unwrap(), "--with", folder.to_str().unwrap(), "--at", "2026-11-20"];
    let (code, text, _) = run(&arguments);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Milan") && !text.contains("\nproves:"), "{text}");
    assert_eq!(run(&arguments[..1]).0, 10);
    // The nonce of somebody.
    let data = hex::decode(String::from_utf8(report).unwrap().trim()).unwrap()[0x50..0x90].to_vec();
    let (code, text, _) = run(&[&arguments[..], &["--nonce", &hex::encode(data)]].concat());
    assert_eq!(code, 0, "{text}");
    assert_eq!(run(&[&arguments[..], &["--nonce", "00"]].concat()).0, 10);
}

#[test]
fn an_intel_quote_with_its_collateral() {
    let (Some(quote), Some(collateral)) = (read("tdx/tdx_quote"), read("tdx/tdx_quote_collateral.json"))
    else {
        return;
    };
    let explanation = look(&quote, from_ref(&collateral), &options(1_751_000_000));
    assert!(explanation.holds(), "{explanation}");
    assert!(field(&explanation, "firmware").starts_with("up to date"));
    assert!(explanation.to_string().contains("expired since 2025-07-19"));
    assert!(failure(&look(&quote, from_ref(&collateral), &options(0))).contains("tdx-collateral-expired"));
    assert!(!look(&quote, &[], &options(1_751_000_000)).holds());
    let collateral = String::from_utf8(collateral).unwrap().replace("pck_crl\"", "pck_crl_of_old\"");
    let explanation = look(&quote, &[collateral.into_bytes()], &options(1_751_000_000));
    assert!(failure(&explanation).contains("pck_crl is missing"));
}

#[test]
fn certificates_unfold() {
    let Some(ek) = read("tpm-swtpm/ek.pem") else { return };
    let [issuer, root] = ["issuer.pem", "root.pem"].map(|name| read(&format!("tpm-swtpm/{name}")).unwrap());
    let explanation = look(&ek, &[], &options(NOW));
    assert_eq!(field(&explanation, "extended key usage"), "TPM endorsement key");
    assert!(field(&explanation, "subject alternative name").contains("swtpm"));
    assert_eq!(step(&explanation, "issuer"), State::NotVerifiable);
    let chain = [ek.clone(), issuer.clone(), root.clone()].concat();
    let explanation = look(&chain, &[], &options(NOW));
    assert!(explanation.holds(), "{explanation}");
    assert_eq!(step(&explanation, "issuer 2"), State::Verified);
    assert_eq!(step(&explanation, "root"), State::NotVerifiable);
    let key = field(&explanation, "3 key").rsplit(' ').next().unwrap().to_owned();
    let mut trusting = options(NOW);
    trusting.policy = believing(&format!("anchor tpm-soft {key} software"));
    assert_eq!(step(&look(&chain, &[], &trusting), "root"), State::Verified);
    // The wrong order does not matter to looking, a wrong issuer does; validity is as of the time asked for.
    assert!(look(&ek, &[root, issuer], &options(NOW)).holds());
    assert!(failure(&look(&ek, &[], &options(1_000_000_000))).contains("not-yet-valid"));
    for (file, pinned) in [
        ("mda/apple_enterprise_attestation_root_ca.pem", "Apple Enterprise Attestation Root CA"),
        ("appattest/apple_app_attestation_root_ca.pem", "Apple App Attestation Root CA"),
        ("sev-snp/ark-genoa.pem", "ARK-Genoa"),
        ("tdx/TrustedRootCA.der", "Intel SGX Root CA"),
    ] {
        let explanation = look(&read(file).unwrap(), &[], &options(NOW));
        assert_eq!(step(&explanation, "root"), State::Verified, "{explanation}");
        assert!(explanation.to_string().contains(pinned));
    }
}
