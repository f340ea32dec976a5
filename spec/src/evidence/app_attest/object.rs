//! The attestation object: Apple's certificate for a key of a Secure Enclave.

use super::{Platform, authenticator::AuthenticatorData};
use crate::{
    cbor::Value,
    curve::PublicKey,
    evidence::{
        Refused,
        der::{Der, DerError, Tag},
        key::{Algorithm, VendorKey},
        x509::{BadCertificate, Certificate, DIGITAL_SIGNATURE, Profile, Purpose, Root, verify_chain},
    },
    hash::Hash,
    id::UnixSeconds,
};

/// An attestation object in the one accepted form; nothing of it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    chain: Vec<Vec<u8>>,
    receipt: Option<Vec<u8>>,
    authenticator_data: Vec<u8>,
}

/// Where the app runs, by what its key is marked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// `appattestdevelop`
    Development,
    /// `appattest` and seven zeros. Development builds for the Mac have it too.
    Production,
}

/// A key that Apple certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestedKey {
    /// The key.
    pub key: PublicKey,
    /// SHA-256 over the app identifier.
    pub app_id_hash: Hash,
    /// The app identifier in the certificate, whose SHA-256 is the one above.
    pub app: Option<String>,
    /// What the key is marked with.
    pub environment: Environment,
    /// `macosx` or another, when the certificate says.
    pub platform: Option<String>,
    /// Such as `27.0`.
    pub os_version: Option<String>,
    /// Such as `26A5425a`.
    pub os_build: Option<String>,
    /// What the enclave asks before it signs, as Apple encodes it.
    pub access_control: Option<Vec<u8>>,
    /// When Apple made the certificate: it sets the beginning a day back.
    pub minted: UnixSeconds,
    /// When the certificate ends.
    pub expires: UnixSeconds,
}

impl AttestedKey {
    /// SHA-256 over the uncompressed point: the name of the key in Apple's interfaces.
    pub fn id(&self) -> Hash {
        Hash::of(&self.key.to_uncompressed())
    }
}

impl Object {
    /// Parses an object. Apple's encoder is deterministic: every published object passes our strict reader.
    ///
    /// # Errors
    /// `evidence-malformed`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let malformed = |what: &str| Refused::malformed(format!("App Attest object: {what}"));
        let Value::Map(entries) = Value::decode(bytes).map_err(|error| malformed(&error.to_string()))? else {
            return Err(malformed("not a map"));
        };
        let Ok(
            [
                (fmt, Value::Text(name)),
                (statement, Value::Map(inside)),
                (data, Value::Bytes(authenticator_data)),
            ],
        ) = <[(Value, Value); 3]>::try_from(entries)
        else {
            return Err(malformed("not {fmt, attStmt, authData}"));
        };
        if [fmt, statement, data] != ["fmt".into(), "attStmt".into(), "authData".into()] {
            return Err(malformed("not {fmt, attStmt, authData}"));
        }
        if name != "apple-appattest" {
            return Err(malformed("of another format than apple-appattest"));
        }
        let (mut chain, mut receipt) = (Vec::new(), None);
        for (key, value) in inside {
            match (key, value) {
                (Value::Text(key), Value::Array(certificates)) if key == "x5c" => {
                    for certificate in certificates {
                        let Value::Bytes(certificate) = certificate else {
                            return Err(malformed("a certificate is no byte string"));
                        };
                        chain.push(certificate);
                    }
                }
                (Value::Text(key), Value::Bytes(bytes)) if key == "receipt" => receipt = Some(bytes),
                _ => return Err(malformed("its statement is not {x5c, receipt}")),
            }
        }
        Ok(Self { chain, receipt, authenticator_data })
    }

    /// Whether it holds a receipt, with which the app's team may ask Apple about the device's past. Nothing else in
    /// the object covers it.
    pub const fn has_receipt(&self) -> bool {
        self.receipt.is_some()
    }

    /// The certificates, the key's first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The object without its receipt, encoded: what evidence holds.
    pub fn without_receipt(&self) -> Vec<u8> {
        let chain = self.chain.iter().map(|der| der.as_slice().into()).collect();
        Value::Map(vec![
            ("fmt".into(), "apple-appattest".into()),
            ("attStmt".into(), Value::Map(vec![("x5c".into(), Value::Array(chain))])),
            ("authData".into(), self.authenticator_data.as_slice().into()),
        ])
        .encode()
    }

    /// Verifies that Apple certified a key for `client_data_hash` at a time.
    ///
    /// # Errors
    /// `certificate-*` or `app-attest-*`, by the order of the checks: chain, nonce, key, app, device.
    pub fn verify(
        &self,
        root: &Root,
        client_data_hash: &[u8],
        at: UnixSeconds,
        platform: Platform,
    ) -> Result<AttestedKey, Refused> {
        let chain: Vec<Certificate> =
            self.chain.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?;
        verify_chain(&chain, root, at, &PROFILE)?;
        let Some(leaf) = chain.first() else { return Err(Refused::malformed("no certificate")) };

        let nonce = Hash::of_parts(&[&self.authenticator_data, client_data_hash]);
        let expected = [NONCE_PREFIX, nonce.as_ref()].concat();
        if leaf.extension(NONCE).is_none_or(|extension| extension.value != expected) {
            return Err(Refused::new(
                "app-attest-nonce",
                "the certificate was made for another nonce or other authenticator data",
            ));
        }
        let data = AuthenticatorData::parse(&self.authenticator_data, true)?;
        let (VendorKey::P256(key), Some(credential)) = (leaf.key(), &data.credential) else {
            return Err(Refused::new("app-attest-key", "the certificate's key is not on P-256"));
        };
        let point = key.to_uncompressed();
        if credential.point != point[1..] || credential.id != Hash::of(&point) {
            return Err(Refused::new("app-attest-key", "the certificate is for another key than the object"));
        }
        let facts = Facts::of(leaf).map_err(BadCertificate::from)?;
        if facts.app.as_ref().is_some_and(|app| Hash::of(app.as_bytes()) != data.app_id_hash) {
            return Err(Refused::new("app-attest-app", "the certificate is for another app than the object"));
        }
        let environment = match credential.aaguid {
            b"appattest\0\0\0\0\0\0\0" => Environment::Production,
            b"appattestdevelop" => Environment::Development,
            _ => {
                return Err(Refused::new(
                    "app-attest-environment",
                    "the key is marked with no known environment",
                ));
            }
        };
        if data.counter != 0 {
            return Err(Refused::new(
                "app-attest-counter",
                "a key that is being certified has signed before",
            ));
        }
        let key = AttestedKey {
            key: *key,
            app_id_hash: data.app_id_hash,
            app: facts.app,
            environment,
            platform: facts.platform,
            os_version: facts.os_version,
            os_build: facts.os_build,
            access_control: leaf.extension(ACCESS_CONTROL).map(|extension| extension.value.to_vec()),
            minted: UnixSeconds::new(leaf.not_before().get().saturating_add(BACKDATED)),
            expires: leaf.not_after(),
        };
        if platform == Platform::Mac {
            key.check_mac()?;
        }
        Ok(key)
    }
}

impl AttestedKey {
    fn check_mac(&self) -> Result<(), Refused> {
        if self.environment != Environment::Production {
            return Err(Refused::new("app-attest-environment", "the key is one for development"));
        }
        if self.platform.as_deref() != Some("macosx") {
            let detail =
                format!("the device is {}, not a Mac", self.platform.as_deref().unwrap_or("unknown"));
            return Err(Refused::new("app-attest-platform", detail));
        }
        if self.access_control.as_deref() != Some(MAC_ACCESS_CONTROL) {
            return Err(Refused::new(
                "app-attest-access-control",
                "the enclave would sign with the key without Full Security and System Integrity Protection",
            ));
        }
        Ok(())
    }
}

/// What a leaf says in extensions of Apple's own.
#[derive(Default)]
struct Facts {
    app: Option<String>,
    platform: Option<String>,
    os_version: Option<String>,
    os_build: Option<String>,
}

impl Facts {
    fn of(leaf: &Certificate) -> Result<Self, DerError> {
        let mut facts = Self::default();
        if let Some(extension) = leaf.extension(APP) {
            facts.app = text_at(extension.value, 1204)?;
        }
        if let Some(extension) = leaf.extension(OS) {
            facts.platform = text_at(extension.value, 1026)?;
            facts.os_version = text_at(extension.value, 1400)?;
            facts.os_build = text_at(extension.value, 1403)?;
        }
        Ok(facts)
    }
}

/// The text under a context tag of a sequence, `None` when it is absent or blank, and refused when it is there twice:
/// Apple puts it in an OCTET STRING.
fn text_at(sequence: &[u8], number: u32) -> Result<Option<String>, DerError> {
    let mut fields = Der::new(Der::only(sequence, Tag::SEQUENCE)?);
    let mut found = None;
    while !fields.is_empty() {
        let field = fields.any()?;
        if field.tag == Tag::context(number) {
            let text = Der::only(field.contents, Tag::OCTET_STRING)?;
            let readable = text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
            let text = core::str::from_utf8(text).ok().filter(|_| readable);
            let text = text.ok_or(DerError::Value("a text of Apple's is not printable ASCII"))?;
            if found.replace(text).is_some() {
                return Err(DerError::Value("a field of Apple's stands twice"));
            }
        }
    }
    Ok(found.filter(|text| !text.trim().is_empty()).map(str::to_owned))
}

/// The access control of a key that signs only on a Mac that starts in Full Security with System Integrity
/// Protection (`osgn` asks for `rsec`), to the byte: Apple documents this value and no other counts.
pub const MAC_ACCESS_CONTROL: &[u8] = b"\x30\x46\xa3\x44\x04\x42\x30\x40\x0c\x02\x31\x31\x30\x3a\x30\x09\x0c\x02\x6f\x6b\
    \xa1\x03\x01\x01\xff\x30\x09\x0c\x02\x6f\x61\xa1\x03\x01\x01\xff\x30\x0b\x0c\x04\x6f\x64\x65\x6c\xa1\x03\x01\x01\xff\
    \x30\x15\x0c\x04\x6f\x73\x67\x6e\xa0\x06\x0c\x04\x72\x73\x65\x63\x30\x05\xa6\x03\x02\x01\x01";

/// Key, and one authority that signs with a P-384 key: the leaf with SHA-256, as it happens.
const PROFILE: Profile = Profile {
    algorithms: &[Algorithm::EcdsaSha256, Algorithm::EcdsaSha384],
    critical: &[],
    purpose: Purpose::IfPresent(crate::evidence::mda::ATTESTATION_PURPOSE),
    max_chain: 2,
    leaf_usage: DIGITAL_SIGNATURE,
};

/// SEQUENCE { [1] { OCTET STRING of 32 bytes } } up to the bytes.
const NONCE_PREFIX: &[u8] = b"\x30\x24\xa1\x22\x04\x20";
/// How far Apple sets notBefore back.
const BACKDATED: u64 = 86_400;
/// 1.2.840.113635.100.8.2
const NONCE: &[u8] = b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x02";
/// 1.2.840.113635.100.8.5
const APP: &[u8] = b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x05";
/// 1.2.840.113635.100.8.6
const ACCESS_CONTROL: &[u8] = b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x06";
/// 1.2.840.113635.100.8.7
const OS: &[u8] = b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x07";
