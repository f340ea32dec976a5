//! The properties in a certificate of Managed Device Attestation, and the commitments to them.

use crate::{
    evidence::{Refused, der::Der},
    hash::{Hash, hmac_sha256},
};

/// One property: an extension of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name in records and reports.
    pub name: &'static str,
    /// The contents of the extension's OBJECT IDENTIFIER.
    pub oid: &'static [u8],
    /// How Apple encodes it.
    pub kind: Kind,
    /// Whether it names the device, or helps to, so that it is never opened.
    pub identifies: bool,
    /// The one value that a provider's Mac may have, where there is one.
    pub safe: Option<Safe>,
}

/// How a property is encoded. Each is different from what most verifiers read: texts are bare, numbers are DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bare printable ASCII, without a tag.
    Text,
    /// A DER INTEGER, which stands for the word at its place.
    Number(&'static [&'static str]),
}

/// The value that a property must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Safe {
    /// As Apple encodes it.
    pub value: &'static [u8],
    /// The reason for refusing any other.
    pub reason: &'static str,
}

impl Property {
    /// The value in words.
    ///
    /// # Errors
    /// `mda-property` when it is not encoded as Apple encodes this property.
    pub fn text(&self, raw: &[u8]) -> Result<String, Refused> {
        match self.kind {
            Kind::Text => core::str::from_utf8(raw)
                .ok()
                .filter(|text| {
                    (1..=MAX_TEXT).contains(&text.len())
                        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
                })
                .map(str::to_owned),
            Kind::Number(words) => {
                let mut reader = Der::new(raw);
                let value = reader.small().ok().filter(|_| reader.is_empty());
                value.and_then(|value| words.get(usize::try_from(value).ok()?)).map(|word| (*word).to_owned())
            }
        }
        .ok_or_else(|| {
            let detail = format!("{} is not encoded as Apple encodes it", self.name);
            Refused::new("mda-property", detail)
        })
    }

    /// The commitment to a value, as it is encoded, under a salt of 32 random bytes.
    pub fn commit(&self, salt: &[u8; 32], raw: &[u8]) -> Hash {
        hmac_sha256(salt, &[COMMITMENT, self.name.as_bytes(), &[0], &(raw.len() as u32).to_be_bytes(), raw])
    }
}

/// A salt for each of [`FIELDS`], fresh for each record: who learns one can try values for that field.
pub type Salts = [[u8; 32]; FIELDS.len()];

/// Every property that a record commits to, in its order there.
pub const FIELDS: [Property; 9] = [
    Property {
        name: "sip",
        oid: b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x0d\x01",
        kind: Kind::Number(&["enabled", "disabled"]),
        identifies: false,
        safe: Some(Safe { value: b"\x02\x01\x00", reason: "mda-sip-disabled" }),
    },
    Property {
        name: "secure-boot",
        oid: b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x0d\x02",
        kind: Kind::Text,
        identifies: false,
        safe: Some(Safe { value: b"Full Security", reason: "mda-secure-boot" }),
    },
    Property {
        name: "third-party-kexts",
        oid: b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x0d\x03",
        kind: Kind::Number(&["none", "allowed"]),
        identifies: false,
        safe: Some(Safe { value: b"\x02\x01\x00", reason: "mda-kexts-allowed" }),
    },
    Property {
        name: "os-version",
        oid: b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x0a\x01",
        kind: Kind::Text,
        identifies: false,
        safe: None,
    },
    Property {
        name: "sepos-version",
        oid: b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x0a\x02",
        kind: Kind::Text,
        identifies: false,
        safe: None,
    },
    Property {
        name: "llb-version",
        oid: b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x0a\x03",
        kind: Kind::Text,
        identifies: false,
        safe: None,
    },
    Property {
        name: "board",
        oid: b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x09\x04",
        kind: Kind::Text,
        identifies: false,
        safe: None,
    },
    Property {
        name: "serial",
        oid: b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x09\x01",
        kind: Kind::Text,
        identifies: true,
        safe: None,
    },
    Property {
        name: "udid",
        oid: b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x09\x02",
        kind: Kind::Text,
        identifies: true,
        safe: None,
    },
];

/// Where [`FIELDS`] has the UDID, from which an endorser derives the name of the device.
pub(super) const UDID: usize = 8;

const COMMITMENT: &[u8] = b"glassbloom/mda-field/v1\0";
/// Longest text of a property: no certificate fits.
const MAX_TEXT: usize = 64;
