//! Structures of a TPM.

use glassbloom_spec::{
    curve::PublicKey,
    evidence::{
        Voucher,
        tpm::wire::{Attest, Attested, Attributes, BadTpm, Key, Public, parse_signature},
    },
    hash::Hash,
};

use super::{Explanation, Found, Malformed, Options, hex_text};

const NOT_PROVEN: &str = "that the attestation key is in a TPM: its maker's chain and an endorser's word say so, in \
    evidence of format tpm";

fn malformed(what: &'static str) -> impl Fn(BadTpm) -> Malformed {
    move |error| Malformed(format!("{what}: {error}"))
}

pub(super) fn attest(bytes: &[u8], with: &[Found], options: &Options) -> Result<Explanation, Malformed> {
    let attest = Attest::parse(bytes).map_err(malformed("a TPMS_ATTEST"))?;
    let mut explanation = Explanation::new(
        match attest.attested {
            Attested::Certify { .. } => "certification by a TPM (TPMS_ATTEST)",
            Attested::Quote { .. } => "quote of a TPM (TPMS_ATTEST)",
        },
        options,
        NOT_PROVEN,
    );
    let tpm = Some(Voucher::Tpm);
    explanation.field("nonce", tpm, hex_text(&attest.extra));
    match &attest.attested {
        Attested::Certify { name } => explanation.field("certified object", tpm, hex_text(name)),
        Attested::Quote { registers, digest } => {
            let list: Vec<_> = registers.iter().map(u8::to_string).collect();
            explanation.field("registers (SHA-256 bank)", tpm, list.join(", "));
            explanation.field("digest over their values", tpm, digest.to_string());
        }
    }
    explanation.field("powered", tpm, format!("{} s since it was cleared", attest.clock / 1000));
    explanation.field("resets", tpm, attest.resets.to_string());
    explanation.field("restarts", tpm, attest.restarts.to_string());
    explanation.field("firmware", tpm, format!("{:016x}", attest.firmware));

    let publics: Vec<Public> = with
        .iter()
        .filter_map(|found| match found {
            Found::TpmPublic(bytes) => Public::parse(bytes).ok(),
            _ => None,
        })
        .collect();
    let signatures: Vec<_> = with
        .iter()
        .filter_map(|found| match found {
            Found::TpmSignature(bytes) => parse_signature(bytes).ok(),
            _ => None,
        })
        .collect();
    let keys: Vec<(&Public, &PublicKey)> =
        publics.iter().filter_map(|public| Some((public, public.p256()?))).collect();
    if signatures.is_empty() || keys.is_empty() {
        explanation.open(
            "signature",
            "give the TPMT_SIGNATURE and the attestation key's TPMT_PUBLIC (ECC P-256) with --with",
        );
    } else {
        let digest = Hash::of(bytes);
        let signed = |key: &PublicKey| {
            signatures.iter().any(|signature| key.verify_digest(digest.as_ref(), signature).is_ok())
        };
        match keys.iter().find(|(_, key)| signed(key)) {
            None => explanation.failed("signature", "tpm-signature: none of the keys given signed this"),
            Some((public, key)) => signed_by(&mut explanation, public, key),
        }
    }
    if let Attested::Certify { name } = &attest.attested {
        match publics.iter().find(|public| public.name().as_bytes().as_slice() == name) {
            Some(public) => {
                explanation.verified("certified object", "it is the one given");
                key_fields(&mut explanation, "certified ", public);
            }
            None => explanation.open("certified object", "give its TPMT_PUBLIC with --with"),
        }
    }
    match &options.nonce {
        None => explanation.open("nonce", "nothing says what it should be for: give it with --nonce HEX"),
        Some(nonce) if *nonce == attest.extra => explanation.verified("nonce", "it is the one given"),
        Some(_) => explanation.failed("nonce", "tpm-nonce: it was made for another nonce"),
    }
    Ok(explanation)
}

/// Only a key that signs nothing from outside makes the rest mean something.
fn signed_by(explanation: &mut Explanation, public: &Public, key: &PublicKey) {
    explanation.field("attestation key", None, key.to_string());
    let name = hex::encode(public.name().as_bytes());
    explanation.verified("signature", format!("by the key of name {name}"));
    let usage = Attributes::RESTRICTED.0 | Attributes::SIGN.0;
    if public.attributes.has(Attributes::RESIDENT) && public.attributes.usage() == usage {
        explanation.verified(
            "attestation key",
            "if it is in a TPM, it was made there, cannot leave, and signs only what the TPM made",
        );
    } else {
        explanation
            .failed("attestation key", "tpm-ak-attributes: it would sign what others made, or can leave");
    }
}

pub(super) fn public(bytes: &[u8], options: &Options) -> Result<Explanation, Malformed> {
    let public = Public::parse(bytes).map_err(malformed("a TPMT_PUBLIC"))?;
    let mut explanation = Explanation::new("public part of a TPM key (TPMT_PUBLIC)", options, NOT_PROVEN);
    key_fields(&mut explanation, "", &public);
    explanation.verified("form", "a key of a kind that is accepted, to the byte");
    explanation.open("in a TPM", "anyone can write these bytes: a certification by the TPM vouches for them");
    Ok(explanation)
}

fn key_fields(explanation: &mut Explanation, prefix: &str, public: &Public) {
    let mut field = |name: &str, value: String| explanation.field(format!("{prefix}{name}"), None, value);
    field("name", hex::encode(public.name().as_bytes()));
    field(
        "key",
        match &public.key {
            Key::P256(key) => format!("P-256 {key}"),
            Key::P384(x, _) => format!("P-384, x {}", hex::encode(x)),
            Key::Rsa(modulus) => format!("RSA-{} {}", 8 * modulus.len(), hex_text(modulus)),
        },
    );
    let names = [
        (Attributes::FIXED_TPM, "fixedTPM"),
        (Attributes::FIXED_PARENT, "fixedParent"),
        (Attributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (Attributes::RESTRICTED, "restricted"),
        (Attributes::DECRYPT, "decrypt"),
        (Attributes::SIGN, "sign"),
    ];
    let set = names.iter().filter(|(bit, _)| public.attributes.has(*bit)).map(|(_, name)| *name);
    field("attributes", format!("{:08x}: {}", public.attributes.0, set.collect::<Vec<_>>().join(", ")));
}

pub(super) fn signature(bytes: &[u8], options: &Options) -> Result<Explanation, Malformed> {
    let signature = parse_signature(bytes).map_err(malformed("a TPMT_SIGNATURE"))?;
    let mut explanation = Explanation::new("signature by a TPM (TPMT_SIGNATURE)", options, NOT_PROVEN);
    explanation.field("r", None, hex::encode(&signature[..32]));
    explanation.field("s", None, hex::encode(&signature[32..]));
    explanation.verified("form", "ECDSA on P-256 with SHA-256, to the byte");
    explanation.open("signature", "name the TPMS_ATTEST that it is over first, and this file with --with");
    Ok(explanation)
}
