//! A root that is not Apple's, under which evidence of Apple's forms can be made for any nonce.

#![allow(dead_code, reason = "each test binary uses a part")]

use glassbloom_spec::{
    cbor::Value,
    curve::PublicKey,
    evidence::{
        app_attest,
        x509::{Certificate, Root},
    },
    hash::Hash,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PublicKeyData as _, SigningKey as _, date_time_ymd,
};

/// In the middle of the validity of what [`Vendor`] makes: 2026-10-02 12:00.
pub(crate) const AT: u64 = 1_790_942_400;

pub(crate) struct Vendor {
    root_params: CertificateParams,
    root_key: KeyPair,
    root: Vec<u8>,
    authority_params: CertificateParams,
    authority_key: KeyPair,
    pub(crate) authority: Vec<u8>,
}

pub(crate) fn authority(name: &str, below: Option<u8>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(below.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2045, 1, 1);
    params
}

impl Vendor {
    pub(crate) fn new() -> Self {
        let (root_params, authority_params) =
            (authority("Not Apple", None), authority("Not Apple 1", Some(0)));
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let root = root_params.self_signed(&root_key).unwrap().der().to_vec();
        let issuer = Issuer::from_params(&root_params, &root_key);
        let authority = authority_params.signed_by(&authority_key, &issuer).unwrap().der().to_vec();
        Self { root_params, root_key, root, authority_params, authority_key, authority }
    }

    pub(crate) fn root(&self) -> Root<'_> {
        let root = Certificate::parse(&self.root).unwrap();
        Root::Named { name: "not Apple", subject: root.subject_name(), spki: root.spki() }
    }

    /// A certificate of three days for a key, with extensions of Apple's arc 1.2.840.113635.100.8.
    pub(crate) fn leaf(&self, key: &KeyPair, extensions: &[(&[u64], Vec<u8>)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2026, 10, 1);
        params.not_after = date_time_ymd(2026, 10, 4);
        params.custom_extensions = extensions
            .iter()
            .map(|(arcs, value)| {
                let oid = [&[1, 2, 840, 113_635, 100, 8], *arcs].concat();
                CustomExtension::from_oid_content(&oid, value.clone())
            })
            .collect();
        let issuer = Issuer::from_params(&self.authority_params, &self.authority_key);
        params.signed_by(key, &issuer).unwrap().der().to_vec()
    }
}

/// A key of App Attest and what Apple says of it, changed as a test likes.
pub(crate) struct AppAttestKey {
    pub(crate) key: KeyPair,
    pub(crate) app: String,
    pub(crate) aaguid: [u8; 16],
    pub(crate) platform: &'static str,
    pub(crate) access_control: Option<Vec<u8>>,
    pub(crate) counter: u32,
    pub(crate) category: Option<Vec<u8>>,
    pub(crate) code: Option<Vec<u8>>,
    pub(crate) code_type: Vec<u8>,
    pub(crate) flags: u8,
}

pub(crate) const APP: &str = "TEAM123456.example.provider";
pub(crate) const CODE: Hash = Hash::from_bytes([7; 32]);

impl AppAttestKey {
    pub(crate) fn new() -> Self {
        Self {
            key: KeyPair::generate().unwrap(),
            app: APP.to_owned(),
            aaguid: *b"appattest\0\0\0\0\0\0\0",
            platform: "macosx",
            access_control: Some(app_attest::MAC_ACCESS_CONTROL.to_vec()),
            counter: 0,
            category: Some(vec![6, 0, 0, 0]),
            code: Some(CODE.as_ref().to_vec()),
            code_type: vec![2],
            flags: 0xc0,
        }
    }

    fn point(&self) -> [u8; 65] {
        PublicKey::from_sec1(self.key.der_bytes()).unwrap().to_uncompressed()
    }

    fn extensions(&self) -> Vec<u8> {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        if let Some(code) = &self.code {
            entries.push(("apple_cd_hash_hash_01".into(), code.as_slice().into()));
            entries.push(("apple_cd_hash_type_01".into(), self.code_type.as_slice().into()));
        }
        if let Some(category) = &self.category {
            entries.push(("apple_validation_category_01".into(), category.as_slice().into()));
        }
        if entries.is_empty() { Vec::new() } else { Value::Map(entries).encode() }
    }

    /// The attested form of the authenticator data.
    pub(crate) fn attested(&self) -> Vec<u8> {
        let point = self.point();
        [
            Hash::of(self.app.as_bytes()).as_ref(),
            &[self.flags],
            &self.counter.to_be_bytes(),
            &self.aaguid,
            &[0, 32],
            Hash::of(&point).as_ref(),
            b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20",
            &point[1..33],
            b"\x22\x58\x20",
            &point[33..],
            &self.extensions(),
        ]
        .concat()
    }

    /// The object over authenticator data that a test may have changed.
    pub(crate) fn object_over(
        &self,
        vendor: &Vendor,
        data: &[u8],
        hash: &[u8],
        certified: &KeyPair,
    ) -> Vec<u8> {
        let nonce = Hash::of_parts(&[data, hash]);
        let text = |number: &[u8], text: &str| {
            [number, &[text.len() as u8 + 2, 4, text.len() as u8], text.as_bytes()].concat()
        };
        let sequence = |inside: Vec<u8>| [&[0x30, inside.len() as u8][..], &inside].concat();
        let mut extensions: Vec<(&[u64], Vec<u8>)> = vec![
            (&[2], [&b"\x30\x24\xa1\x22\x04\x20"[..], nonce.as_ref()].concat()),
            (&[5], sequence(text(b"\xbf\x89\x34", &self.app))),
            (
                &[7],
                sequence(
                    [
                        text(b"\xbf\x8a\x78", "27.1"),
                        text(b"\xbf\x8a\x7b", "26B100"),
                        text(b"\xbf\x88\x02", self.platform),
                    ]
                    .concat(),
                ),
            ),
        ];
        extensions.extend(self.access_control.clone().map(|value| (&[6][..], value)));
        let leaf = vendor.leaf(certified, &extensions);
        let chain = vec![leaf.as_slice().into(), vendor.authority.as_slice().into()];
        Value::Map(vec![
            ("fmt".into(), "apple-appattest".into()),
            ("attStmt".into(), Value::Map(vec![("x5c".into(), Value::Array(chain))])),
            ("authData".into(), data.into()),
        ])
        .encode()
    }

    pub(crate) fn object(&self, vendor: &Vendor, hash: &[u8]) -> Vec<u8> {
        self.object_over(vendor, &self.attested(), hash, &self.key)
    }

    /// An assertion with this counter.
    pub(crate) fn assertion(&self, counter: u32, hash: &[u8]) -> Vec<u8> {
        let data = [
            Hash::of(self.app.as_bytes()).as_ref(),
            &[self.flags],
            &counter.to_be_bytes(),
            &self.extensions(),
        ]
        .concat();
        let nonce = Hash::of_parts(&[&data, hash]);
        let signature = self.key.sign(nonce.as_ref()).unwrap();
        assertion(&signature, &data)
    }
}

pub(crate) fn assertion(signature: &[u8], data: &[u8]) -> Vec<u8> {
    Value::Map(vec![("signature".into(), signature.into()), ("authenticatorData".into(), data.into())])
        .encode()
}
