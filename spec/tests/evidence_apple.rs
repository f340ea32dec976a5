//! App Attest: real evidence of others, and evidence of ours under a root that is not Apple's.

#![expect(clippy::unwrap_used, reason = "what tests share is a test too")]

mod evidence_shared;

use base64::{Engine, prelude::BASE64_STANDARD};
use evidence_shared::{
    apple::{APP, AT, AppAttestKey, CODE, Vendor, assertion},
    flips, vector,
};
use glassbloom_spec::{
    cbor::Value,
    curve::{PublicKey, SigningKey},
    evidence::{
        self, Bound, Code, Enrolled, Proven, Refused, Trust, Voucher, anchor,
        app_attest::{self, Assertion, Environment, Object, Platform},
        x509::Root,
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::Tier,
};
use rcgen::KeyPair;

struct Real {
    object: Vec<u8>,
    client_data_hash: Vec<u8>,
    assertion: Option<Vec<u8>>,
    at: UnixSeconds,
    platform: Platform,
    app: &'static str,
}

const MAC: &str = "appattest/macos27-hellas-real-app-attest.json";
const APPLE: &str = "appattest/apple-doc-2026-validation-guide.b64";
const IOS: [&str; 2] = ["appattest/veehaitch-ios-14.2.yaml", "appattest/veehaitch-ios-14.3.yaml"];

fn real(name: &str) -> Option<Real> {
    let text = String::from_utf8(vector(name)?).unwrap();
    let decode = |text: &str| BASE64_STANDARD.decode(text.trim()).unwrap();
    Some(match name {
        MAC => {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let field = |name: &str| json[name].as_str().unwrap();
            assert_eq!(field("attestationClientDataHashHex"), field("assertionClientDataHashHex"));
            Real {
                object: decode(field("attestationObjectBase64")),
                client_data_hash: hex::decode(field("attestationClientDataHashHex")).unwrap(),
                assertion: Some(decode(field("assertionObjectBase64"))),
                at: UnixSeconds::new(1_791_000_000),
                platform: Platform::Mac,
                app: "2F53L9ZR3N.ai.hellas.app-attest-spike",
            }
        }
        APPLE => Real {
            object: decode(&text),
            // Apple's sample has the challenge where its hash belongs.
            client_data_hash: b"example_server_challenge".to_vec(),
            assertion: None,
            at: UnixSeconds::new(1_776_800_000),
            platform: Platform::Any,
            app: "1234567890.com.example.myapp",
        },
        _ => {
            let field = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap().to_owned()
            };
            Real {
                object: decode(&field("attestationBase64")),
                client_data_hash: decode(&field("clientDataHashSha256Base64")),
                assertion: Some(decode(&field("assertionBase64"))),
                at: UnixSeconds::new(if name == IOS[0] { 1_605_996_800 } else { 1_608_379_900 }),
                platform: Platform::Any,
                app: "6MURL8TA57.de.vincent-haupert.apple-appattest-poc",
            }
        }
    })
}

impl Real {
    fn verify_object(&self, object: &[u8]) -> Result<app_attest::AttestedKey, Refused> {
        Object::parse(object)?.verify(
            &anchor::APPLE_APP_ATTESTATION,
            &self.client_data_hash,
            self.at,
            self.platform,
        )
    }
}

#[test]
fn real_evidence_verifies_at_its_time() {
    for name in [MAC, APPLE, IOS[0], IOS[1]] {
        let Some(real) = real(name) else { return };
        let key = real.verify_object(&real.object).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(key.app.as_deref(), Some(real.app), "{name}");
        assert_eq!(key.app_id_hash, Hash::of(real.app.as_bytes()));
        let development = name == IOS[0] || name == IOS[1];
        assert_eq!(key.environment == Environment::Development, development);
        assert_eq!(
            real.verify_object(&Object::parse(&real.object).unwrap().without_receipt()),
            Ok(key.clone())
        );
        let Some(bytes) = &real.assertion else { continue };
        let says = Assertion::parse(bytes)
            .unwrap()
            .verify(&key, &real.client_data_hash, real.platform)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(says.counter, 1);
        if name == MAC {
            let code = "363140c091e0fa85feeeb4ce515eddcae8cf6db45b93b2ca722391a3a64c1006";
            assert_eq!(says.code.unwrap().to_string(), code);
            assert_eq!(says.category, Some(6));
            assert_eq!(key.os_version.as_deref(), Some("27.0"));
            assert_eq!(key.os_build.as_deref(), Some("26A5425a"));
            assert_eq!(key.platform.as_deref(), Some("macosx"));
            assert_eq!(key.access_control.as_deref(), Some(app_attest::MAC_ACCESS_CONTROL));
        } else {
            assert_eq!((says.code, says.category), (None, None));
        }
    }
}

#[test]
fn real_evidence_is_refused_outside_of_its_time_and_under_another_root() {
    for name in [MAC, APPLE, IOS[0], IOS[1]] {
        let Some(real) = real(name) else { return };
        let object = Object::parse(&real.object).unwrap();
        let verify = |root: &Root, at: u64| {
            object
                .verify(root, &real.client_data_hash, UnixSeconds::new(at), real.platform)
                .unwrap_err()
                .reason
        };
        let at = real.at.get();
        assert_eq!(verify(&anchor::APPLE_APP_ATTESTATION, at + 4 * 86_400), "certificate-expired");
        assert_eq!(verify(&anchor::APPLE_APP_ATTESTATION, at - 4 * 86_400), "certificate-not-yet-valid");
        assert_eq!(verify(&anchor::APPLE_ENTERPRISE_ATTESTATION, at), "certificate-root");
        assert_eq!(verify(&anchor::INTEL_SGX, at), "certificate-root");
        let other = |hash: &[u8]| {
            object.verify(&anchor::APPLE_APP_ATTESTATION, hash, real.at, real.platform).unwrap_err().reason
        };
        assert_eq!(other(&[0; 32]), "app-attest-nonce");
        assert_eq!(other(&[]), "app-attest-nonce");
    }
}

/// A phone's key, and one for development, are not a provider's.
#[test]
fn real_evidence_of_phones_is_refused_for_a_provider() {
    for (name, reason) in [
        (APPLE, "app-attest-platform"),
        (IOS[0], "app-attest-environment"),
        (IOS[1], "app-attest-environment"),
    ] {
        let Some(mut real) = real(name) else { return };
        real.platform = Platform::Mac;
        assert_eq!(real.verify_object(&real.object).unwrap_err().reason, reason);
    }
}

fn no_flip_is_accepted(name: &str) {
    let Some(real) = real(name) else { return };
    // The receipt is covered by nothing and is not part of evidence.
    let object = Object::parse(&real.object).unwrap().without_receipt();
    let key = real.verify_object(&object).unwrap();
    for (bit, flipped) in flips(&object) {
        assert!(real.verify_object(&flipped).is_err(), "{name}: object, bit {bit}");
    }
    for end in 0..object.len() {
        assert!(real.verify_object(&object[..end]).is_err(), "{name}: object cut at {end}");
    }
    assert!(real.verify_object(&[object.as_slice(), &[0]].concat()).is_err());
    let Some(bytes) = &real.assertion else { return };
    let verify = |bytes: &[u8]| Assertion::parse(bytes)?.verify(&key, &real.client_data_hash, real.platform);
    verify(bytes).unwrap();
    for (bit, flipped) in flips(bytes) {
        assert!(verify(&flipped).is_err(), "{name}: assertion, bit {bit}");
    }
    for end in 0..bytes.len() {
        assert!(verify(&bytes[..end]).is_err(), "{name}: assertion cut at {end}");
    }
    assert!(verify(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn no_flip_of_the_mac_is_accepted() {
    no_flip_is_accepted(MAC);
}

#[test]
fn no_flip_of_apples_sample_is_accepted() {
    no_flip_is_accepted(APPLE);
}

#[test]
fn no_flip_of_ios_14_2_is_accepted() {
    no_flip_is_accepted(IOS[0]);
}

#[test]
fn no_flip_of_ios_14_3_is_accepted() {
    no_flip_is_accepted(IOS[1]);
}

/// The published capture of a Mac is evidence as a log would hold it: through the front door, under Apple's own root.
#[test]
fn a_real_mac_is_a_provider() {
    let Some(real) = real(MAC) else { return };
    let bytes = app_attest::encode(&real.object, real.assertion.as_ref().unwrap()).unwrap();
    let nonce = Hash::try_from(real.client_data_hash.as_slice()).unwrap();
    let key = SigningKey::from_seed(&[1; 32]).public_key();
    let bound = Bound { nonce, signing_key: &key, sealing_key: &key, at: real.at, enrolled: None };
    let apps = [real.app.to_owned()];
    let verify = |bytes: &[u8], bound: &Bound, apps: &[String]| {
        let trust = Trust { apps, ..Trust::default() };
        evidence::verify(app_attest::FORMAT, bytes, bound, &trust).map_err(|refused| refused.reason)
    };
    let proven = verify(&bytes, &bound, &apps).unwrap();
    assert_eq!((proven.tier, proven.holds_sealing_key, proven.counter), (Tier::AppAttest, true, Some(1)));
    let Some(Code::CodeDirectory(code)) = proven.code else { panic!("no code") };
    assert_eq!(code.to_string(), "363140c091e0fa85feeeb4ce515eddcae8cf6db45b93b2ca722391a3a64c1006");
    assert_eq!(evidence::lasting(app_attest::FORMAT, &bytes).unwrap(), {
        Hash::of(&Object::parse(&real.object).unwrap().without_receipt())
    });

    assert_eq!(verify(&bytes, &bound, &[]), Err("app-attest-app"));
    assert_eq!(verify(&bytes, &bound, &["2F53L9ZR3N.ai.hellas".to_owned()]), Err("app-attest-app"));
    let later = Bound { at: UnixSeconds::new(real.at.get() + 3 * 86_400), ..bound };
    assert_eq!(verify(&bytes, &later, &apps), Err("certificate-expired"));
    let other = Bound { nonce: Hash::of(b"another"), ..bound };
    assert_eq!(verify(&bytes, &other, &apps), Err("app-attest-nonce"));
    let enrolled = Some(Enrolled { nonce, at: real.at, signing_key: key });
    assert_eq!(verify(&bytes, &Bound { enrolled, ..other }, &apps), Err("app-attest-signature"));
    // Every bit of the two parts is turned over below; here, some of the whole.
    for (bit, flipped) in flips(&bytes).step_by(61) {
        assert!(verify(&flipped, &bound, &apps).is_err(), "bit {bit}");
    }
}

/// Evidence as a whole, for a nonce of ours.
struct Case {
    vendor: Vendor,
    device: AppAttestKey,
    enrolled: Enrolled,
    nonce: Hash,
    key: PublicKey,
    apps: Vec<String>,
}

impl Case {
    fn new() -> Self {
        let key = SigningKey::from_seed(&[1; 32]).public_key();
        Self {
            vendor: Vendor::new(),
            device: AppAttestKey::new(),
            enrolled: Enrolled { nonce: Hash::of(b"enrolment"), at: UnixSeconds::new(AT), signing_key: key },
            nonce: Hash::of(b"nonce"),
            key,
            apps: vec!["OTHER.app".to_owned(), APP.to_owned()],
        }
    }

    fn evidence(&self) -> Vec<u8> {
        let object = self.device.object(&self.vendor, self.enrolled.nonce.as_ref());
        app_attest::encode(&object, &self.device.assertion(9, self.nonce.as_ref())).unwrap()
    }

    fn verify(&self, bytes: &[u8]) -> Result<Proven, Refused> {
        let bound = Bound {
            nonce: self.nonce,
            signing_key: &self.key,
            sealing_key: &self.key,
            // Long after the certificate's end: only the enrolment is judged by it.
            at: UnixSeconds::new(AT + 30 * 86_400),
            enrolled: Some(self.enrolled),
        };
        let trust = Trust { apps: &self.apps, ..Trust::default() };
        app_attest::verify_under(&self.vendor.root(), bytes, &bound, &trust)
    }

    fn reason(&self) -> &'static str {
        self.verify(&self.evidence()).unwrap_err().reason
    }
}

/// A case after a change to its device.
fn changed(change: impl FnOnce(&mut AppAttestKey)) -> Case {
    let mut case = Case::new();
    change(&mut case.device);
    case
}

#[test]
fn evidence_for_our_nonce_proves_the_code_and_the_posture() {
    let case = Case::new();
    let bytes = case.evidence();
    let proven = case.verify(&bytes).unwrap();
    assert_eq!(proven.tier, Tier::AppAttest);
    assert_eq!(proven.code, Some(Code::CodeDirectory(CODE)));
    assert_eq!((proven.counter, proven.device, proven.holds_sealing_key), (Some(9), None, true));
    assert_eq!(proven.expires, Some(UnixSeconds::new(1_791_072_000)));
    assert!(proven.claims.iter().all(|claim| claim.by == Voucher::Apple));
    let claim = |name: &str| proven.claims.iter().find(|c| c.name == name).unwrap().value.to_string();
    assert_eq!(claim("app"), APP);
    assert_eq!(claim("code-directory"), CODE.to_string());
    assert_eq!(claim("os-version"), "27.1");
    assert_eq!(claim("bundle-version"), "unknown");
    assert_eq!(claim("minted"), "2026-10-02 00:00");

    // The object is the lasting part: another assertion of the same key keeps it, another key does not.
    let object = case.device.object(&case.vendor, case.enrolled.nonce.as_ref());
    let assertion = |counter| case.device.assertion(counter, case.nonce.as_ref());
    let with = |counter| app_attest::encode(&object, &assertion(counter)).unwrap();
    assert_eq!(app_attest::lasting(&with(1)), Some(Hash::of(&object)));
    assert_eq!(app_attest::lasting(&with(1)), app_attest::lasting(&with(2)));
    assert_ne!(app_attest::lasting(&with(1)), app_attest::lasting(&bytes));
    assert_eq!(app_attest::lasting(b"other"), None);

    // With Apple's root it is nothing, and there is no way to name another.
    let bound = Bound {
        nonce: case.nonce,
        signing_key: &case.key,
        sealing_key: &case.key,
        at: UnixSeconds::new(AT),
        enrolled: Some(case.enrolled),
    };
    let trust = Trust { apps: &case.apps, ..Trust::default() };
    assert_eq!(app_attest::verify(&bytes, &bound, &trust).unwrap_err().reason, "certificate-root");
}

#[test]
fn every_rule_of_app_attest_has_its_reason() {
    let mut case = Case::new();
    case.apps.truncate(1);
    assert_eq!(case.reason(), "app-attest-app");

    let mut case = Case::new();
    let bytes = case.evidence();
    case.nonce = Hash::of(b"another");
    assert_eq!(case.verify(&bytes).unwrap_err().reason, "app-attest-signature");

    let mut case = Case::new();
    let bytes = case.evidence();
    case.enrolled.nonce = Hash::of(b"another");
    assert_eq!(case.verify(&bytes).unwrap_err().reason, "app-attest-nonce");

    let mut case = Case::new();
    case.enrolled.at = UnixSeconds::new(AT + 3 * 86_400);
    assert_eq!(case.reason(), "certificate-expired");

    for (case, reason) in [
        (changed(|device| device.aaguid = *b"appattestdevelop"), "app-attest-environment"),
        (changed(|device| device.aaguid = [0; 16]), "app-attest-environment"),
        (changed(|device| device.platform = "iphoneos"), "app-attest-platform"),
        (changed(|device| device.platform = ""), "app-attest-platform"),
        (changed(|device| device.access_control = None), "app-attest-access-control"),
        (changed(|device| device.access_control.as_mut().unwrap()[20] ^= 1), "app-attest-access-control"),
        (changed(|device| device.access_control.as_mut().unwrap().push(0)), "app-attest-access-control"),
        (changed(|device| device.counter = 1), "app-attest-counter"),
        (changed(|device| device.flags = 0x41), "app-attest-flags"),
        (changed(|device| device.flags = 0x80), "app-attest-flags"),
        (changed(|device| device.category = None), "app-attest-category"),
        (changed(|device| device.category = Some(vec![1, 0, 0, 0])), "app-attest-category"),
        (changed(|device| device.category = Some(vec![6])), "app-attest-category"),
        (changed(|device| device.code = None), "app-attest-code"),
        (changed(|device| device.code = Some(vec![7; 20])), "app-attest-code"),
        (changed(|device| device.code_type = vec![3]), "app-attest-code"),
        (changed(|device| device.app = "TEAM123456.example.other".to_owned()), "app-attest-app"),
    ] {
        assert_eq!(case.reason(), reason);
    }
    // Extensions without the flag for them, as Apple's own sample has them.
    let case = changed(|device| device.flags = 0x40);
    case.verify(&case.evidence()).unwrap();
}

#[test]
fn parts_of_other_evidence_do_not_fit() {
    let case = Case::new();
    let (enrolled, nonce) = (case.enrolled.nonce, case.nonce);
    let object = case.device.object(&case.vendor, enrolled.as_ref());
    let reason = |object: &[u8], assertion: &[u8]| {
        case.verify(&app_attest::encode(object, assertion).unwrap()).unwrap_err().reason
    };
    // Another key's assertion, one for another app, one that counts nothing, and the right one hashed once.
    let other = AppAttestKey::new();
    assert_eq!(reason(&object, &other.assertion(1, nonce.as_ref())), "app-attest-signature");
    let mut elsewhere =
        AppAttestKey { key: KeyPair::from_pem(&case.device.key.serialize_pem()).unwrap(), ..other };
    elsewhere.app = "TEAM123456.example.other".to_owned();
    assert_eq!(reason(&object, &elsewhere.assertion(1, nonce.as_ref())), "app-attest-app");
    assert_eq!(reason(&object, &case.device.assertion(0, nonce.as_ref())), "app-attest-counter");
    let data = [Hash::of(APP.as_bytes()).as_ref(), &[0x40], &1u32.to_be_bytes()].concat();
    let once =
        rcgen::SigningKey::sign(&case.device.key, &[data.as_slice(), nonce.as_ref()].concat()).unwrap();
    assert_eq!(reason(&object, &assertion(&once, &data)), "app-attest-signature");

    // A certificate for another key than the one in the authenticator data.
    let assertion = case.device.assertion(1, nonce.as_ref());
    let data = case.device.attested();
    let swapped =
        case.device.object_over(&case.vendor, &data, enrolled.as_ref(), &KeyPair::generate().unwrap());
    assert_eq!(reason(&swapped, &assertion), "app-attest-key");
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let swapped = case.device.object_over(&case.vendor, &data, enrolled.as_ref(), &p384);
    assert_eq!(reason(&swapped, &assertion), "app-attest-key");

    // Authenticator data that is certified as it stands and says something else at one place.
    let key = &case.device.key;
    for (place, reason_there) in
        [(0, "app-attest-app"), (54, "evidence-malformed"), (60, "app-attest-key"), (100, "app-attest-key")]
    {
        let mut data = data.clone();
        data[place] ^= 1;
        let object = case.device.object_over(&case.vendor, &data, enrolled.as_ref(), key);
        assert_eq!(reason(&object, &assertion), reason_there, "{place}");
    }
    for data in [[data.as_slice(), &[0xa0]].concat(), data[..data.len() - 1].to_vec(), data[..100].to_vec()] {
        let object = case.device.object_over(&case.vendor, &data, enrolled.as_ref(), key);
        assert_eq!(reason(&object, &assertion), "evidence-malformed");
    }
}

#[test]
fn extensions_are_exactly_one_map_without_repeats() {
    let case = Case::new();
    let attested = AppAttestKey { code: None, category: None, ..changed(|_| ()).device };
    let plain = {
        let mut device = attested;
        device.key = KeyPair::from_pem(&case.device.key.serialize_pem()).unwrap();
        device.attested()
    };
    let object = |extensions: &[u8]| {
        let data = [plain.as_slice(), extensions].concat();
        let bytes = case.device.object_over(&case.vendor, &data, b"hash", &case.device.key);
        Object::parse(&bytes).unwrap().verify(
            &case.vendor.root(),
            b"hash",
            UnixSeconds::new(AT),
            Platform::Mac,
        )
    };
    let map = |entries: &[(&str, Value)]| {
        let mut bytes = vec![0xa0 | entries.len() as u8];
        for (key, value) in entries {
            bytes.extend(Value::from(*key).encode());
            bytes.extend(value.encode());
        }
        bytes
    };
    let category = ("apple_validation_category_01", Value::from(&[6u8, 0, 0, 0][..]));
    let nested = Value::Map(vec![(1.into(), Value::Array(vec![Value::Null, Value::Bool(true), "x".into()]))]);
    // In another order than ours, and with one that nobody knows.
    object(&map(&[category.clone(), ("a", nested.clone()), ("z", 5.into())])).unwrap();
    object(&[0xa0]).unwrap();
    object(&[]).unwrap();
    let deep = (0..8).fold(nested, |inner, _| Value::Array(vec![inner]));
    for bad in [
        map(&[category.clone(), category.clone()]),
        [map(std::slice::from_ref(&category)), vec![0xa0]].concat(),
        map(&[("apple_validation_category_01", "6".into())]),
        map(&[("a", deep)]),
        vec![0xa2, 0x61, b'a', 0x01],
        vec![0x80],
        vec![0xbf, 0xff],
        vec![0xb8, 0x01, 0x61, b'a', 0x01],
        vec![0xa1, 0x01, 0x01],
        vec![0xa1, 0x61, 0xff, 0x01],
        vec![0xa1, 0x61, b'a', 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0xa1, 0x61, b'a', 0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(object(&bad).unwrap_err().reason, "evidence-malformed", "{bad:02x?}");
    }
}

#[test]
fn the_outer_map_has_two_parts_and_no_receipt() {
    let case = Case::new();
    let good = case.evidence();
    case.verify(&good).unwrap();
    for end in 0..good.len() {
        assert_eq!(case.verify(&good[..end]).unwrap_err().reason, "evidence-malformed");
    }
    let (object, assertion) = app_attest::decode(&good).unwrap();
    let map = |entries: Vec<(u64, &[u8])>| {
        Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect()).encode()
    };
    for bad in [
        [good.as_slice(), &[0]].concat(),
        map(vec![(1, &object)]),
        map(vec![(1, &object), (2, &assertion), (3, &[])]),
        map(vec![(1, &object), (2, &assertion), (200, &[])]),
        map(vec![(1, &assertion), (2, &object)]),
    ] {
        assert_eq!(case.verify(&bad).unwrap_err().reason, "evidence-malformed");
    }
    let Value::Map(mut entries) = Value::decode(&object).unwrap() else { panic!("not a map") };
    let Value::Map(statement) = &mut entries[1].1 else { panic!("not a map") };
    statement.push(("receipt".into(), (&b"receipt"[..]).into()));
    let received = Value::Map(entries).encode();
    assert_eq!(
        case.verify(&map(vec![(1, &received), (2, &assertion)])).unwrap_err().reason,
        "app-attest-receipt"
    );
    assert_eq!(app_attest::encode(&received, &assertion).unwrap(), good);
}

/// Peers took a genuine chain for the key beside it (facts/peers A2): an App Attest key vouches for our nonce itself.
#[test]
fn a2_evidence_of_a_clean_mac_does_not_carry_another_ones_keys() {
    let clean = Case::new();
    let evidence = clean.evidence();
    clean.verify(&evidence).unwrap();
    // The other box has other keys, so another nonce: the clean Mac's evidence covers neither part of it.
    let mut borrowed = clean;
    borrowed.key = SigningKey::from_seed(&[2; 32]).public_key();
    borrowed.nonce = Hash::of(b"nonce of the other box");
    assert_eq!(borrowed.verify(&evidence).unwrap_err().reason, "app-attest-signature");
    borrowed.enrolled.nonce = borrowed.nonce;
    assert_eq!(borrowed.verify(&evidence).unwrap_err().reason, "app-attest-nonce");
}

/// facts/darkbloom B3: what was signed for one nonce is nothing for the next, however it is put together.
#[test]
fn b3_replayed_assertions_are_refused() {
    let mut case = Case::new();
    let object = case.device.object(&case.vendor, case.enrolled.nonce.as_ref());
    let first = case.device.assertion(1, case.nonce.as_ref());
    case.verify(&app_attest::encode(&object, &first).unwrap()).unwrap();
    case.nonce = Hash::of(b"the next epoch");
    assert_eq!(
        case.verify(&app_attest::encode(&object, &first).unwrap()).unwrap_err().reason,
        "app-attest-signature"
    );
    let second = case.device.assertion(2, case.nonce.as_ref());
    let proven = case.verify(&app_attest::encode(&object, &second).unwrap()).unwrap();
    assert_eq!(proven.counter, Some(2), "so that whoever keeps the last one sees a key that was copied");
    // A fresh assertion does not make an old object new: that is judged at its own time, for its own nonce.
    case.enrolled.at = UnixSeconds::new(AT + 30 * 86_400);
    assert_eq!(
        case.verify(&app_attest::encode(&object, &second).unwrap()).unwrap_err().reason,
        "certificate-expired"
    );
}

/// facts/darkbloom B5: what is left out never passes for what is there.
#[test]
fn b5_leaving_anything_out_is_refused() {
    for (case, reason) in [
        (changed(|device| device.code = None), "app-attest-code"),
        (changed(|device| device.category = None), "app-attest-category"),
        (changed(|device| (device.code, device.category) = (None, None)), "app-attest-code"),
        (changed(|device| device.access_control = None), "app-attest-access-control"),
        (changed(|device| device.platform = ""), "app-attest-platform"),
        (changed(|device| device.app = String::new()), "app-attest-app"),
    ] {
        assert_eq!(case.reason(), reason);
    }
    // An app that the rules do not name is none, even where they name none at all.
    let mut case = Case::new();
    case.apps.clear();
    assert_eq!(case.reason(), "app-attest-app");
}
