//! A Mac that nobody has and a vendor who is not Apple: evidence of format `app-attest` from fixed seeds.

use glassbloom_spec::{
    cbor::{Value, map},
    curve::SigningKey,
    evidence::{
        app_attest::MAC_ACCESS_CONTROL,
        x509::{self, Root},
    },
    hash::Hash,
};

use crate::der::{self, Certificate, authority, extension, sequence, tlv, usage};

/// The app that rules must name.
pub const APP: &str = "GLASS12345.test.glassbloom.provider";

/// The vendor's root: nobody else's evidence leads to it.
///
/// # Panics
/// Never: the root parses.
pub fn root() -> Root<'static> {
    // Leaked: those who test keep it as long as they run.
    let whole: &'static [u8] = Vec::leak(certificate(ROOT, ROOT, &key(ROOT)).sign(&key(ROOT)));
    let root = x509::Certificate::parse(whole).expect("a certificate of ours");
    let [subject, spki] = [root.subject_name(), root.spki()].map(<[u8]>::to_vec).map(Vec::leak);
    Root::Named { name: ROOT, subject, spki }
}

/// A key in a Mac, and what its vendor and the Mac say of it.
#[derive(Clone)]
pub struct Device {
    /// The app that the key says it is for.
    pub app: &'static str,
    /// The app in the certificate.
    pub certified_app: &'static str,
    /// The environment: production or development.
    pub aaguid: [u8; 16],
    /// Of all authenticator data.
    pub flags: u8,
    /// In the object, and in the assertion.
    pub counters: [u32; 2],
    /// In the certificate.
    pub platform: &'static str,
    /// In the certificate.
    pub access_control: Vec<u8>,
    /// SHA-256 of the CodeDirectory that asks, and which kind of hash it is.
    pub code: Option<(Vec<u8>, u8)>,
    /// How the program was signed.
    pub category: Option<Vec<u8>>,
    /// The key that the vendor certifies: the device's own, in good order.
    pub certified: SigningKey,
    /// Whether the object keeps what is for the app's team alone.
    pub receipt: bool,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            app: APP,
            certified_app: APP,
            aaguid: *b"appattest\0\0\0\0\0\0\0",
            flags: 0xc0,
            counters: [0, 1],
            platform: "macosx",
            access_control: MAC_ACCESS_CONTROL.to_vec(),
            code: Some((Hash::of(b"code directory").as_bytes().to_vec(), 2)),
            category: Some(vec![6, 0, 0, 0]),
            certified: key("a Mac"),
            receipt: false,
        }
    }
}

impl Device {
    /// Evidence for an enrolment's nonce and an attestation's.
    pub fn evidence(&self, [enrolment, nonce]: [Hash; 2]) -> Vec<u8> {
        joined(&self.object(enrolment), &self.assertion(nonce))
    }

    /// The attestation object for a nonce.
    pub fn object(&self, nonce: Hash) -> Vec<u8> {
        let point = key("a Mac").public_key().to_uncompressed();
        let data = [
            self.head(0).as_slice(),
            &self.aaguid,
            &[0, 32],
            Hash::of(&point).as_ref(),
            b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20",
            &point[1..33],
            b"\x22\x58\x20",
            &point[33..],
            &self.extensions(),
        ]
        .concat();
        let chain = self.chain(
            &[b"\x30\x24\xa1\x22\x04\x20", Hash::of_parts(&[&data, nonce.as_ref()]).as_ref()].concat(),
        );
        let mut statement =
            vec![("x5c".into(), Value::Array(chain.iter().map(|der| der.as_slice().into()).collect()))];
        if self.receipt {
            statement.push(("receipt".into(), (&b"for the team alone"[..]).into()));
        }
        Value::Map(vec![
            ("fmt".into(), "apple-appattest".into()),
            ("attStmt".into(), Value::Map(statement)),
            ("authData".into(), data.as_slice().into()),
        ])
        .encode()
    }

    /// The assertion for a nonce.
    pub fn assertion(&self, nonce: Hash) -> Vec<u8> {
        let data = [self.head(1), self.extensions()].concat();
        let signed = Hash::of_parts(&[&data, nonce.as_ref()]);
        let signature = der::signature(&key("a Mac"), signed.as_ref());
        Value::Map(vec![
            ("signature".into(), signature.as_slice().into()),
            ("authenticatorData".into(), data.as_slice().into()),
        ])
        .encode()
    }

    fn head(&self, which: usize) -> Vec<u8> {
        let app = Hash::of(self.app.as_bytes());
        [app.as_ref(), &[self.flags], self.counters[which].to_be_bytes().as_slice()].concat()
    }

    fn extensions(&self) -> Vec<u8> {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        if let Some((hash, kind)) = &self.code {
            entries.push(("apple_cd_hash_hash_01".into(), hash.as_slice().into()));
            entries.push(("apple_cd_hash_type_01".into(), (&[*kind][..]).into()));
        }
        entries.extend(
            self.category.iter().map(|it| ("apple_validation_category_01".into(), it.as_slice().into())),
        );
        Value::Map(entries).encode()
    }

    /// The device's certificate and the issuer's.
    fn chain(&self, nonce: &[u8]) -> [Vec<u8>; 2] {
        let apple = |last: u8, value: &[u8]| {
            extension(&[b"\x2a\x86\x48\x86\xf7\x63\x64\x08", &[last][..]].concat(), false, value)
        };
        let mut leaf = certificate("a Mac", ISSUER, &self.certified);
        leaf.valid = ["261119170000Z", "261123170000Z"];
        leaf.extensions = vec![
            authority(false),
            usage(0),
            apple(2, nonce),
            apple(5, &sequence(&[&text(b"\xbf\x89\x34", self.certified_app)])),
            apple(6, &self.access_control),
            apple(7, &sequence(&[&text(b"\xbf\x8a\x78", "27.1"), &text(b"\xbf\x88\x02", self.platform)])),
        ];
        let issuer = certificate(ISSUER, ROOT, &key(ISSUER)).sign(&key(ROOT));
        [leaf.sign(&key(ISSUER)), issuer]
    }
}

/// An object and an assertion as evidence has them.
pub fn joined(object: &[u8], assertion: &[u8]) -> Vec<u8> {
    map([(1, object.into()), (2, assertion.into())]).encode()
}

/// Of an authority, unless changed.
fn certificate(subject: &str, issuer: &str, key: &SigningKey) -> Certificate {
    Certificate {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        key: key.public_key(),
        valid: ["200101000000Z", "451231235959Z"],
        algorithm: der::ECDSA_SHA256,
        extensions: vec![authority(true), usage(der::KEY_CERT_SIGN)],
    }
}

fn key(of: &str) -> SigningKey {
    SigningKey::from_seed(format!("{of}, App Attest").as_bytes())
}

/// Apple's way of writing a text under a high tag.
fn text(tag: &[u8], text: &str) -> Vec<u8> {
    let inside = tlv(4, text.as_bytes());
    [tag, &[inside.len() as u8], &inside].concat()
}

const ROOT: &str = "Glass App Attest Root";
const ISSUER: &str = "Glass App Attest Root 1";
