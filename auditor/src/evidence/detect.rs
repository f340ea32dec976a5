//! What a file is, by its content.

use base64::{Engine, prelude::BASE64_STANDARD};
use glassbloom_spec::{
    cbor::Value,
    evidence::{
        app_attest,
        app_attest::{Assertion, Object},
        der::Der,
        mda::{self, MdaChain, Record},
        snp, tdx, tpm,
    },
    statement::{Statement, StatementError},
};

/// The kinds of files that are explained.
pub const SUPPORTED: &str = "an attestation statement, evidence of formats app-attest, mda, tpm, sev-snp and tdx, an \
    App Attest object or assertion (CBOR, base64, or a capture in JSON or YAML), a chain of Managed Device Attestation, \
    a TPM's TPMS_ATTEST, TPMT_PUBLIC or TPMT_SIGNATURE, an SEV-SNP report, a TDX quote, X.509 certificates (PEM or DER)";

/// A file that is of no supported kind, or not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Largest file in bytes.
const MAX_FILE: usize = 1 << 20;

/// What was found.
pub(super) enum Found {
    Statement(Box<Statement>),
    /// DER, in the order of the file.
    Certificates(Vec<Vec<u8>>),
    Captures(Vec<Capture>),
    /// One of our maps, and its format.
    Map(&'static str, Vec<u8>),
    Mda(MdaChain),
    TpmAttest(Vec<u8>),
    TpmPublic(Vec<u8>),
    TpmSignature(Vec<u8>),
    SnpReport(Vec<u8>),
    TdxQuote(Vec<u8>),
    TdxCollateral(serde_json::Map<String, serde_json::Value>),
}

/// Something that a device's App Attest made.
pub(super) struct Capture {
    pub(super) is_object: bool,
    pub(super) bytes: Vec<u8>,
    /// What was to be signed, where the capture says.
    pub(super) client_data_hash: Option<Vec<u8>>,
}

pub(super) fn detect(bytes: &[u8]) -> Result<Found, Malformed> {
    if bytes.len() > MAX_FILE {
        return Err(Malformed("the file is larger than 1 MiB, which no evidence is".to_owned()));
    }
    if let Some(text) = core::str::from_utf8(bytes).ok().map(str::trim).filter(|text| is_text(text)) {
        return detect_text(text);
    }
    detect_binary(bytes)
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}

fn detect_text(text: &str) -> Result<Found, Malformed> {
    if text.starts_with('{') {
        let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text) else {
            return Err(Malformed("it begins like JSON and is none".to_owned()));
        };
        if object.contains_key("tcb_info") {
            return Ok(Found::TdxCollateral(object));
        }
        let text = |key: &str| object.get(key)?.as_str().map(str::to_owned);
        return captures(&[&text]);
    }
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return pem(text).map(Found::Certificates);
    }
    if text.starts_with("---") {
        let documents: Vec<_> = text.split("---").map(yaml).collect();
        let lookups: Vec<_> = documents
            .iter()
            .map(|lines| {
                move |key: &str| {
                    lines.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
                }
            })
            .collect();
        let lookups: Vec<&Lookup> = lookups.iter().map(|lookup| lookup as &Lookup).collect();
        return captures(&lookups);
    }
    let joined: String = text.split_whitespace().collect();
    if let Ok(bytes) = hex::decode(&joined) {
        return detect_binary(&bytes);
    }
    match BASE64_STANDARD.decode(&joined) {
        Ok(bytes) => detect_binary(&bytes),
        Err(_) => Err(unsupported("text that is neither PEM, JSON, hexadecimal nor base64")),
    }
}

fn detect_binary(bytes: &[u8]) -> Result<Found, Malformed> {
    let malformed = |what: &str, error: &dyn core::fmt::Display| Malformed(format!("{what}: {error}"));
    match bytes {
        // A COSE_Sign1
        [0xd2, ..] => match Statement::parse(bytes) {
            Ok(statement) => Ok(Found::Statement(Box::new(statement))),
            Err(error @ StatementError::Cbor(_)) => Err(malformed("a statement that is not whole", &error)),
            Err(error) => Err(malformed("a COSE message", &error)),
        },
        // A SEQUENCE with a length of two bytes: certificates are longer than 255 bytes and shorter than 64 KiB.
        [0x30, 0x82, ..] => certificates(bytes).map(Found::Certificates),
        [0xff, b'T', b'C', b'G', ..] => Ok(Found::TpmAttest(bytes.to_vec())),
        [_, _, 0xff, b'T', b'C', b'G', ..] => sized(bytes).map(Found::TpmAttest),
        [0, 0x23 | 1, 0, 0x0b, ..] => Ok(Found::TpmPublic(bytes.to_vec())),
        [_, _, 0, 0x23 | 1, 0, 0x0b, ..] => sized(bytes).map(Found::TpmPublic),
        [0, 0x14 | 0x16 | 0x18, 0, 0x0b, ..] => Ok(Found::TpmSignature(bytes.to_vec())),
        [2..=5, 0, 0, 0, ..] if bytes.len() == snp::REPORT_LEN => Ok(Found::SnpReport(bytes.to_vec())),
        [4 | 5, 0, 2 | 3, 0, 0x81, 0, 0, 0, ..] => Ok(Found::TdxQuote(bytes.to_vec())),
        // A CBOR map
        [0xa0..=0xbf, ..] => map(bytes),
        [] => Err(Malformed("the file is empty".to_owned())),
        _ => Err(unsupported("bytes of no kind that is known here")),
    }
}

fn map(bytes: &[u8]) -> Result<Found, Malformed> {
    let value =
        Value::decode(bytes).map_err(|error| Malformed(format!("a CBOR map that is not whole: {error}")))?;
    let Value::Map(entries) = value else { return Err(unsupported("CBOR that is no map")) };
    let capture = |is_object| {
        Found::Captures(vec![Capture { is_object, bytes: bytes.to_vec(), client_data_hash: None }])
    };
    if entries.iter().any(|(key, _)| *key == Value::from("fmt")) {
        return Object::parse(bytes).map(|_| capture(true)).map_err(|refused| Malformed(refused.detail));
    }
    if entries.iter().any(|(key, _)| *key == Value::from("authenticatorData")) {
        return Assertion::parse(bytes).map(|_| capture(false)).map_err(|refused| Malformed(refused.detail));
    }
    if let Ok(chain) = MdaChain::decode(bytes) {
        return Ok(Found::Mda(chain));
    }
    let formats = [
        (tpm::FORMAT, tpm::Evidence::decode(bytes).err()),
        (mda::FORMAT, Record::decode(bytes).err()),
        (app_attest::FORMAT, app_attest::decode(bytes).err()),
        (snp::FORMAT, snp::Evidence::decode(bytes).err()),
        (tdx::FORMAT, tdx::Evidence::decode(bytes).err()),
    ];
    match formats.iter().find(|(_, error)| error.is_none()) {
        Some((format, _)) => Ok(Found::Map(format, bytes.to_vec())),
        None => Err(unsupported("a CBOR map of no format that is known here")),
    }
}

/// The contents of a `TPM2B`.
fn sized(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    match bytes.split_first_chunk() {
        Some((size, contents)) if usize::from(u16::from_be_bytes(*size)) == contents.len() => {
            Ok(contents.to_vec())
        }
        _ => Err(Malformed("a TPM structure whose size is not the one in front of it".to_owned())),
    }
}

/// Certificates in DER, one after another.
fn certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut reader = Der::new(bytes);
    let mut chain = Vec::new();
    while !reader.is_empty() {
        let one = reader.any().map_err(|error| Malformed(format!("certificates: {error}")))?;
        chain.push(one.whole.to_vec());
    }
    Ok(chain)
}

pub(super) fn pem(text: &str) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut chain = Vec::new();
    for block in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let inside = block.split_once("-----END CERTIFICATE-----").map(|(inside, _)| inside);
        let inside: String = inside.unwrap_or_default().split_whitespace().collect();
        match BASE64_STANDARD.decode(inside) {
            Ok(der) if !der.is_empty() => chain.push(der),
            _ => return Err(Malformed("a PEM block that is not whole".to_owned())),
        }
    }
    Ok(chain)
}

type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// `name: value` at the start of lines: all of YAML that captures use for what is read here.
fn yaml(document: &str) -> Vec<(&str, &str)> {
    document
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name, value.trim()))
        .collect()
}

fn captures(documents: &[&Lookup]) -> Result<Found, Malformed> {
    let mut captures = Vec::new();
    for document in documents {
        for (is_object, names, hash) in [
            (true, ["attestationObjectBase64", "attestationBase64"], "attestationClientDataHashHex"),
            (false, ["assertionObjectBase64", "assertionBase64"], "assertionClientDataHashHex"),
        ] {
            let Some(text) = names.iter().find_map(|name| document(name)) else { continue };
            let bytes = BASE64_STANDARD
                .decode(text)
                .map_err(|_| Malformed("the capture holds something that is not base64".to_owned()))?;
            let client_data_hash = document(hash)
                .and_then(|text| hex::decode(text).ok())
                .or_else(|| BASE64_STANDARD.decode(document("clientDataHashSha256Base64")?).ok());
            captures.push(Capture { is_object, bytes, client_data_hash });
        }
    }
    if captures.is_empty() {
        return Err(unsupported("a document without `attestationObjectBase64` or `assertionObjectBase64`"));
    }
    Ok(Found::Captures(captures))
}

fn unsupported(what: &str) -> Malformed {
    Malformed(format!("{what}. Supported are: {SUPPORTED}"))
}
