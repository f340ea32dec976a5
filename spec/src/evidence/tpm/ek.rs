//! Endorsement key certificates: which TPM it is, by the word of its maker. `[TCG EK Credential Profile 2.6 §3]`

use crate::{
    cbor::is_plain,
    evidence::{
        Anchor, Refused,
        der::{Der, DerError, Tag},
        key::{Algorithm, VendorKey},
        x509::{
            Certificate, KEY_AGREEMENT, KEY_ENCIPHERMENT, MAX_CHAIN, Profile, Purpose, SUBJECT_ALT_NAME,
            verify_chain,
        },
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::Tier,
};

/// What a verified certificate says about its TPM.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EndorsementKey<'a> {
    /// The root that the chain leads to.
    pub(super) anchor: &'a Anchor,
    /// The key itself.
    pub(super) key: VendorKey,
    /// Its SubjectPublicKeyInfo, which names the TPM.
    pub(super) spki: Vec<u8>,
    /// What the certificate calls the TPM.
    pub(super) model: Model,
    /// When the first certificate of the chain ends.
    pub(super) expires: UnixSeconds,
}

/// What a certificate calls its TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// `id:` and the eight hexadecimal digits of the maker.
    pub(super) manufacturer: String,
    /// The part.
    pub(super) name: String,
    /// The version of its firmware when the certificate was made.
    pub(super) version: String,
}

impl<'a> EndorsementKey<'a> {
    /// Verifies a chain that brings its root, which one of the anchors pins.
    pub(super) fn verify(chain: &[Vec<u8>], anchors: &'a [Anchor], at: UnixSeconds) -> Result<Self, Refused> {
        if chain.len() < 2 || chain.len() > MAX_CHAIN {
            let detail = format!(
                "the endorsement key has {} certificates: expected its own, the issuers and the root",
                chain.len()
            );
            return Err(Refused::new("certificate-chain", detail));
        }
        let chain = chain.iter().map(|bytes| Certificate::parse(bytes)).collect::<Result<Vec<_>, _>>()?;
        let [leaf, .., root] = chain.as_slice() else {
            return Err(Refused::new("certificate-chain", "the endorsement key has no certificates"));
        };
        let key = Hash::of(root.spki());
        let Some(anchor) = anchors.iter().find(|anchor| anchor.key == key) else {
            let detail = format!("no rule names the root with key {key}: a rule `anchor` would have to");
            return Err(Refused::new("certificate-root", detail));
        };
        let profile = Profile {
            algorithms: &[
                Algorithm::EcdsaSha256,
                Algorithm::EcdsaSha384,
                Algorithm::RsaPkcs1Sha256,
                Algorithm::RsaPkcs1Sha384,
                Algorithm::RsaPssSha256,
                Algorithm::RsaPssSha384,
            ],
            // Policies tell people under which terms a maker certifies.
            critical: &[SUBJECT_ALT_NAME, CERTIFICATE_POLICIES],
            purpose: Purpose::Required(EK_CERTIFICATE),
            max_chain: MAX_CHAIN,
            leaf_usage: match leaf.key() {
                VendorKey::Rsa(_) => KEY_ENCIPHERMENT,
                VendorKey::P256(_) | VendorKey::P384(_) => KEY_AGREEMENT,
            },
        };
        verify_chain(&chain, &anchor.root(), at, &profile)?;
        let model = Model::of(leaf)?;
        // Whoever pins a root as hardware may not know what else its owner certifies.
        if anchor.tier == Tier::TpmHw && model.is_software() {
            let detail = format!(
                "{} {} is a program and no hardware, whoever certifies it",
                model.manufacturer, model.name
            );
            return Err(Refused::new("tpm-is-software", detail));
        }
        Ok(Self {
            anchor,
            key: leaf.key().clone(),
            spki: leaf.spki().to_vec(),
            model,
            expires: chain.iter().map(Certificate::not_after).min().unwrap_or(at),
        })
    }
}

impl Model {
    fn of(certificate: &Certificate) -> Result<Self, Refused> {
        let unnamed = |detail: &str| Refused::new("tpm-unnamed", detail);
        let names = certificate
            .extension(SUBJECT_ALT_NAME)
            .ok_or_else(|| unnamed("the endorsement key's certificate does not say which TPM it is for"))?;
        let [manufacturer, name, version] = attributes(names.value).map_err(|error| {
            unnamed(&format!("the endorsement key's certificate says badly which TPM it is for: {error}"))
        })?;
        let (Some(manufacturer), Some(name), Some(version)) = (manufacturer, name, version) else {
            return Err(unnamed("the endorsement key's certificate lacks manufacturer, model or version"));
        };
        let digits = manufacturer.strip_prefix("id:").unwrap_or_default();
        if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unnamed("the manufacturer is not `id:` and eight hexadecimal digits"));
        }
        Ok(Self { manufacturer: format!("id:{}", digits.to_ascii_uppercase()), name, version })
    }

    /// Whether this is known to be a program: a TPM for tests, or one that a hypervisor plays for its guests.
    pub(super) fn is_software(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        SOFTWARE_MAKERS.iter().any(|(id, _)| *id == self.manufacturer)
            || SOFTWARE_MODELS.iter().any(|model| name.contains(model))
    }

    /// The manufacturer for people: the letters that its number stands for, where it does.
    pub(super) fn maker(&self) -> String {
        if let Some((_, maker)) = SOFTWARE_MAKERS.iter().find(|(id, _)| *id == self.manufacturer) {
            return format!("{maker} ({})", self.manufacturer);
        }
        let letters = hex::decode(&self.manufacturer[3..]).unwrap_or_default();
        let letters = String::from_utf8(letters).unwrap_or_default();
        let letters = letters.trim_end_matches(['\0', ' ']);
        if !letters.is_empty() && letters.bytes().all(|byte| byte.is_ascii_graphic()) {
            format!("{letters} ({})", self.manufacturer)
        } else {
            self.manufacturer.clone()
        }
    }
}

/// Manufacturer, model and version out of the directory names among the subject's alternative names.
fn attributes(names: &[u8]) -> Result<[Option<String>; 3], DerError> {
    let mut found = [None, None, None];
    let mut names = Der::new(Der::only(names, Tag::SEQUENCE)?);
    while !names.is_empty() {
        let name = names.any()?;
        if name.tag != Tag::context(4) {
            continue;
        }
        let mut parts = Der::new(Der::only(name.contents, Tag::SEQUENCE)?);
        while !parts.is_empty() {
            let mut set = parts.nested(Tag::SET)?;
            while !set.is_empty() {
                let mut attribute = set.sequence()?;
                let place = [TPM_MANUFACTURER, TPM_MODEL, TPM_VERSION];
                let oid = attribute.oid()?;
                let value = attribute.any()?;
                attribute.finish()?;
                let Some(place) = place.iter().position(|of| *of == oid) else { continue };
                if value.tag != Tag::UTF8_STRING && value.tag != Tag::PRINTABLE_STRING {
                    return Err(DerError::Other { expected: Tag::UTF8_STRING, found: value.tag });
                }
                let text = core::str::from_utf8(value.contents).ok().filter(|text| is_plain(text));
                let text = text.ok_or(DerError::Value("the name of a TPM is no plain text"))?;
                if found[place].replace(text.to_owned()).is_some() {
                    return Err(DerError::Value("the name of a TPM stands twice"));
                }
            }
        }
    }
    Ok(found)
}

/// Makers whose TPMs are programs, by the numbers in their certificates. No hardware maker is among them.
const SOFTWARE_MAKERS: [(&str, &str); 8] = [
    ("id:00001014", "IBM, swtpm"),
    ("id:49424D00", "IBM, the reference simulator"),
    ("id:4D534654", "Microsoft, Hyper-V and the reference simulator"),
    ("id:474F4F47", "Google, Compute Engine"),
    ("id:414D5A4E", "Amazon, NitroTPM"),
    ("id:564D5700", "VMware"),
    ("id:564D5752", "VMware"),
    ("id:58454E00", "Xen"),
];
const SOFTWARE_MODELS: [&str; 6] = ["swtpm", "libtpms", "simulator", "sw tpm", "vtpm", "virtual"];

/// 2.5.29.32
const CERTIFICATE_POLICIES: &[u8] = b"\x55\x1d\x20";
/// 2.23.133.8.1, tcg-kp-EKCertificate
const EK_CERTIFICATE: &[u8] = b"\x67\x81\x05\x08\x01";
/// 2.23.133.2.1
const TPM_MANUFACTURER: &[u8] = b"\x67\x81\x05\x02\x01";
/// 2.23.133.2.2
const TPM_MODEL: &[u8] = b"\x67\x81\x05\x02\x02";
/// 2.23.133.2.3
const TPM_VERSION: &[u8] = b"\x67\x81\x05\x02\x03";

#[cfg(test)]
mod tests {
    use super::*;

    fn model(manufacturer: &str, name: &str) -> Model {
        Model { manufacturer: manufacturer.to_owned(), name: name.to_owned(), version: "id:1".to_owned() }
    }

    #[test]
    fn programs_are_told_from_hardware() {
        for (manufacturer, name) in [
            ("id:00001014", "swtpm"),
            ("id:00001014", "x"),
            ("id:49465800", "SWTPM 2"),
            ("id:474F4F47", "vTPM"),
        ] {
            assert!(model(manufacturer, name).is_software(), "{manufacturer} {name}");
        }
        for (manufacturer, name) in
            [("id:49465800", "SLB9670"), ("id:53544D20", "ST33HTPHAHD8"), ("id:414D4400", "AMD")]
        {
            assert!(!model(manufacturer, name).is_software(), "{manufacturer} {name}");
        }
        assert_eq!(model("id:49465800", "").maker(), "IFX (id:49465800)");
        assert_eq!(model("id:00001014", "").maker(), "IBM, swtpm (id:00001014)");
        assert_eq!(model("id:00000001", "").maker(), "id:00000001");
    }
}
