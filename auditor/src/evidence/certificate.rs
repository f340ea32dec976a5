//! X.509 certificates, unfolded, and their chain as far as the file has it.

use glassbloom_spec::{
    evidence::{
        Refused, anchor,
        der::{Der, Tag},
        key::{Algorithm, VendorKey},
        mda,
        x509::{BASIC_CONSTRAINTS, Certificate, EXTENDED_KEY_USAGE, KEY_USAGE, Root, SUBJECT_ALT_NAME},
    },
    hash::Hash,
};

use super::{Explanation, Found, Malformed, Options, apple, hex_text, time};

pub(super) fn explain(
    chain: &[Vec<u8>],
    with: &[Found],
    options: &Options,
) -> Result<Explanation, Malformed> {
    let parsed = parse(chain)?;
    if let Some(leaf) = parsed.first()
        && is_mda(leaf)
    {
        return Ok(apple::mda_chain(chain, with, options));
    }
    let mut explanation = Explanation::new(
        match chain.len() {
            1 => "X.509 certificate".to_owned(),
            count => format!("{count} X.509 certificates"),
        },
        options,
        "anything about a device: certificates are public, and only a signature by the key in the first shows who has it",
    );
    let mut all = chain.to_vec();
    all.extend(others(with));
    let all = parse(&all)?;
    for (at, certificate) in parsed.iter().enumerate() {
        unfold(&mut explanation, certificate, at, chain.len(), options);
    }
    for (at, certificate) in parsed.iter().enumerate() {
        let name = |what: &str| if chain.len() == 1 { what.to_owned() } else { format!("{what} {}", at + 1) };
        let validity = certificate.check_validity(explanation.at).map_err(Refused::from);
        let _ = explanation.step(&name("validity"), validity, "it is valid at that time");
        issuer(&mut explanation, &name("issuer"), certificate, &all, options);
        explanation.ends_by(Some(certificate.not_after()));
    }
    Ok(explanation)
}

/// The certificates among other files.
pub(super) fn others(with: &[Found]) -> Vec<Vec<u8>> {
    let certificates = with.iter().filter_map(|found| match found {
        Found::Certificates(chain) => Some(chain.clone()),
        _ => None,
    });
    certificates.flatten().collect()
}

fn parse(chain: &[Vec<u8>]) -> Result<Vec<Certificate<'_>>, Malformed> {
    let parsed = chain.iter().enumerate().map(|(at, der)| {
        Certificate::parse(der).map_err(|error| Malformed(format!("certificate {}: {error}", at + 1)))
    });
    parsed.collect()
}

/// Whether it is a Mac's.
fn is_mda(leaf: &Certificate) -> bool {
    mda::FIELDS.iter().any(|field| leaf.extension(field.oid).is_some())
}

/// Who signed it: another certificate at hand, or a root that is pinned.
fn issuer(
    explanation: &mut Explanation,
    name: &str,
    certificate: &Certificate,
    all: &[Certificate],
    options: &Options,
) {
    let trust = options.trust();
    if certificate.issuer_name() == certificate.subject_name() {
        let key = Hash::of(certificate.spki());
        let own = certificate.verify_signature(certificate.key()).map_err(Refused::from);
        if explanation.step(name, own, "it is signed by itself, which vouches for nothing").is_some() {
            match known_root(&key, certificate.spki()).or_else(|| {
                trust.anchors.iter().find(|anchor| anchor.key == key).map(|anchor| anchor.name.as_str())
            }) {
                Some(root) => explanation.verified("root", format!("{root}, whose key is pinned")),
                None => explanation
                    .open("root", format!("no vendor's root and no `anchor` of the policy has key {key}")),
            }
        }
        return;
    }
    let above = all.iter().find(|above| above.subject_name() == certificate.issuer_name());
    let pinned = PINNED.iter().find_map(|root| match root {
        Root::Named { name, subject, spki } if *subject == certificate.issuer_name() => {
            VendorKey::from_spki(spki).ok().map(|key| (*name, key))
        }
        _ => None,
    });
    match (above, pinned) {
        (_, Some((root, key))) => {
            let signed = certificate.verify_signature(&key).map_err(Refused::from);
            let _ = explanation.step(name, signed, format!("signed by {root}, which is pinned"));
        }
        (Some(above), None) => {
            let signed = certificate.verify_signature(above.key()).map_err(Refused::from);
            let _ = explanation.step(name, signed, format!("signed by {}", name_text(above.subject_name())));
        }
        (None, None) => explanation.open(
            name,
            format!(
                "{} is not at hand: give its certificate with --with",
                name_text(certificate.issuer_name())
            ),
        ),
    }
}

/// The name of a vendor's root with this key.
fn known_root<'a>(digest: &Hash, of: &[u8]) -> Option<&'a str> {
    PINNED.iter().find_map(|root| match root {
        Root::Named { name, spki, .. } if *spki == of => Some(*name),
        Root::Pinned { name, key } if key == digest => Some(*name),
        _ => None,
    })
}

const PINNED: [Root<'static>; 6] = [
    anchor::APPLE_APP_ATTESTATION,
    anchor::APPLE_ENTERPRISE_ATTESTATION,
    anchor::AMD_ARK_MILAN,
    anchor::AMD_ARK_GENOA,
    anchor::AMD_ARK_TURIN,
    anchor::INTEL_SGX,
];

/// All that a certificate says.
pub(super) fn unfold(
    explanation: &mut Explanation,
    certificate: &Certificate,
    at: usize,
    count: usize,
    options: &Options,
) {
    let prefix = if count == 1 { String::new() } else { format!("{} ", at + 1) };
    let mut field = |name: &str, value: String| explanation.field(format!("{prefix}{name}"), None, value);
    field("subject", name_text(certificate.subject_name()));
    field("issuer", name_text(certificate.issuer_name()));
    let serial = certificate.serial();
    field("serial number", if serial.is_empty() { "00".to_owned() } else { hex::encode(serial) });
    field(
        "validity",
        format!("{} to {}", time::text(certificate.not_before()), time::text(certificate.not_after())),
    );
    field(
        "key",
        format!(
            "{}, SHA-256 of its SubjectPublicKeyInfo {}",
            key_text(certificate.key()),
            Hash::of(certificate.spki())
        ),
    );
    field("signature", algorithm_text(certificate.algorithm()).to_owned());
    for extension in certificate.extensions() {
        let (name, value) = extension_text(extension.oid, extension.value, options.reveal);
        field(&name, if extension.critical { format!("{value} (critical)") } else { value });
    }
}

fn key_text(key: &VendorKey) -> String {
    match key {
        VendorKey::P256(_) => "P-256".to_owned(),
        VendorKey::P384(_) => "P-384".to_owned(),
        VendorKey::Rsa(key) => format!("RSA-{}", 8 * key.modulus().len()),
    }
}

const fn algorithm_text(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EcdsaSha256 => "ECDSA with SHA-256",
        Algorithm::EcdsaSha384 => "ECDSA with SHA-384",
        Algorithm::RsaPkcs1Sha256 => "RSA PKCS #1 with SHA-256",
        Algorithm::RsaPkcs1Sha384 => "RSA PKCS #1 with SHA-384",
        Algorithm::RsaPssSha256 => "RSA-PSS with SHA-256",
        Algorithm::RsaPssSha384 => "RSA-PSS with SHA-384",
    }
}

/// The name and the value of an extension, in words where they are known.
fn extension_text(oid: &[u8], value: &[u8], reveal: bool) -> (String, String) {
    if let Some(property) = mda::FIELDS.iter().find(|property| property.oid == oid) {
        let text = property.text(value).unwrap_or_else(|_| hex_text(value));
        return (property.name.to_owned(), if property.identifies { mask(&text, reveal) } else { text });
    }
    let dotted = oid_text(oid);
    let known = NAMES.iter().find(|(known, _)| *known == dotted).map(|(_, name)| *name);
    let text = match oid {
        BASIC_CONSTRAINTS => authority_text(value),
        KEY_USAGE => usage_text(value),
        EXTENDED_KEY_USAGE => purposes_text(value),
        SUBJECT_ALT_NAME => Some(plain(&texts(value).join(", "))).filter(|text| !text.is_empty()),
        _ => None,
    };
    // What Apple has not said the meaning of could tell which device it is, so it is shown on demand alone.
    let is_apples = dotted.starts_with("1.2.840.113635.100.8.9.");
    let text =
        text.unwrap_or_else(|| if is_apples { mask(&hex_text(value), reveal) } else { hex_text(value) });
    (known.map_or_else(|| dotted.clone(), str::to_owned), text)
}

/// A value that tells which device it is.
pub(super) fn mask(text: &str, reveal: bool) -> String {
    if reveal { text.to_owned() } else { "masked: it tells which device it is; --reveal shows it".to_owned() }
}

fn authority_text(value: &[u8]) -> Option<String> {
    let mut fields = Der::new(value).sequence().ok()?;
    let authority = fields.peek().ok()? == Some(Tag::BOOLEAN) && fields.boolean().ok()?;
    let below = (!fields.is_empty()).then(|| fields.small().ok()).flatten();
    Some(match (authority, below) {
        (false, _) => "no certification authority".to_owned(),
        (true, None) => "a certification authority".to_owned(),
        (true, Some(below)) => format!("a certification authority, at most {below} others below it"),
    })
}

fn usage_text(value: &[u8]) -> Option<String> {
    let (_, bits) = Der::new(value).bits().ok()?;
    let names = [
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
    ];
    let first = *bits.first()?;
    let set = names.iter().enumerate().filter(|(bit, _)| first & (0x80 >> bit) != 0).map(|(_, name)| *name);
    Some(set.collect::<Vec<_>>().join(", "))
}

fn purposes_text(value: &[u8]) -> Option<String> {
    let mut purposes = Der::new(value).sequence().ok()?;
    let mut names = Vec::new();
    while !purposes.is_empty() {
        let dotted = oid_text(purposes.oid().ok()?);
        let known = NAMES.iter().find(|(known, _)| *known == dotted);
        names.push(known.map_or(dotted, |(_, name)| (*name).to_owned()));
    }
    Some(names.join(", "))
}

/// `CN=…, O=…` out of a name in DER.
pub(super) fn name_text(name: &[u8]) -> String {
    let read = || {
        let mut sets = Der::new(name).sequence().ok()?;
        let mut parts = Vec::new();
        while !sets.is_empty() {
            let mut set = sets.nested(Tag::SET).ok()?;
            while !set.is_empty() {
                let mut attribute = set.sequence().ok()?;
                let dotted = oid_text(attribute.oid().ok()?);
                let value = String::from_utf8_lossy(attribute.any().ok()?.contents).into_owned();
                let short = ATTRIBUTES.iter().find(|(known, _)| *known == dotted).map(|(_, short)| *short);
                parts.push(format!("{}={}", short.unwrap_or(&dotted), plain(&value)));
            }
        }
        Some(if parts.is_empty() { "(empty)".to_owned() } else { parts.join(", ") })
    };
    read().unwrap_or_else(|| hex_text(name))
}

/// Every text inside, at whatever depth DER is read to.
fn texts(der: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(der, 0)];
    while let Some((bytes, depth)) = open.pop() {
        let mut reader = Der::new(bytes);
        let mut inside = Vec::new();
        while let Ok(value) = reader.any() {
            if value.tag.is_constructed() && depth < 16 {
                inside.push((value.contents, depth + 1));
            } else if matches!(value.tag, Tag::UTF8_STRING | Tag::PRINTABLE_STRING) || value.tag.is_context()
            {
                found.push(String::from_utf8_lossy(value.contents).into_owned());
            }
        }
        open.extend(inside.into_iter().rev());
    }
    found
}

/// Control characters do not reach the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(256).collect()
}

/// `1.2.840…`; [`Der::oid`] has seen that the arcs are whole.
fn oid_text(oid: &[u8]) -> String {
    let mut arcs: Vec<u128> = Vec::new();
    let mut arc: u128 = 0;
    for byte in oid {
        arc = (arc << 7) | u128::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - 40 * first]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    arcs.iter().map(u128::to_string).collect::<Vec<_>>().join(".")
}

const ATTRIBUTES: [(&str, &str); 8] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
];

/// Extensions and purposes by name.
const NAMES: [(&str, &str); 38] = [
    ("2.5.29.9", "subject directory attributes"),
    ("2.5.29.14", "subject key identifier"),
    ("2.5.29.15", "key usage"),
    ("2.5.29.17", "subject alternative name"),
    ("2.5.29.19", "basic constraints"),
    ("2.5.29.31", "revocation lists"),
    ("2.5.29.32", "certificate policies"),
    ("2.5.29.35", "authority key identifier"),
    ("2.5.29.37", "extended key usage"),
    ("1.3.6.1.5.5.7.1.1", "authority information"),
    ("1.3.6.1.5.5.7.3.1", "server authentication"),
    ("1.3.6.1.5.5.7.3.2", "client authentication"),
    ("1.2.840.113635.100.4.24", "attested keys (Apple)"),
    ("1.2.840.113635.100.8.2", "App Attest nonce"),
    ("1.2.840.113635.100.8.5", "App Attest app"),
    ("1.2.840.113635.100.8.6", "App Attest access control"),
    ("1.2.840.113635.100.8.7", "App Attest platform"),
    ("1.2.840.113635.100.8.11.1", "freshness"),
    ("2.23.133.2.16", "TPM specification"),
    ("2.23.133.8.1", "TPM endorsement key"),
    ("2.23.133.8.3", "TPM attestation key"),
    ("1.2.840.113741.1.13.1", "SGX extensions"),
    ("1.3.6.1.4.1.3704.1.1", "AMD structure version"),
    ("1.3.6.1.4.1.3704.1.2", "AMD product"),
    ("1.3.6.1.4.1.3704.1.3.1", "boot loader version"),
    ("1.3.6.1.4.1.3704.1.3.2", "TEE version"),
    ("1.3.6.1.4.1.3704.1.3.3", "SNP version"),
    ("1.3.6.1.4.1.3704.1.3.4", "reserved version 4"),
    ("1.3.6.1.4.1.3704.1.3.5", "reserved version 5"),
    ("1.3.6.1.4.1.3704.1.3.6", "reserved version 6"),
    ("1.3.6.1.4.1.3704.1.3.7", "reserved version 7"),
    ("1.3.6.1.4.1.3704.1.3.8", "microcode version"),
    ("1.3.6.1.4.1.3704.1.3.9", "FMC version"),
    ("1.3.6.1.4.1.3704.1.4", "AMD chip"),
    ("1.3.6.1.4.1.3704.1.5", "AMD key server"),
    ("2.5.29.16", "private key usage period"),
    ("2.5.29.18", "issuer alternative name"),
    ("2.5.29.30", "name constraints"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_written_as_people_know_them() {
        for (bytes, text) in [
            (KEY_USAGE, "2.5.29.15"),
            (&b"\x2a\x86\x48\x86\xf7\x63\x64\x08\x0b\x01"[..], "1.2.840.113635.100.8.11.1"),
            (b"\x67\x81\x05\x08\x01", "2.23.133.8.1"),
            (b"\x88\x37\x03", "2.999.3"),
            (b"", ""),
        ] {
            assert_eq!(oid_text(bytes), text);
        }
    }
}
