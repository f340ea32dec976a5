//! What Apple's hardware and servers write: App Attest, and Managed Device Attestation.

use glassbloom_spec::{
    evidence::{
        Refused, Voucher, anchor,
        app_attest::{Assertion, AttestedKey, Environment, MAC_ACCESS_CONTROL, Object, Platform},
        mda::{FIELDS, Form, MdaChain},
        x509::Certificate,
    },
    hash::Hash,
    leaf::Tier,
};

use super::{
    Explanation, Found, Malformed, Options,
    certificate::{mask, others, plain},
    detect::Capture,
    hex_text, time,
};

/// Objects and assertions: an object in the same capture, or given beside, verifies the assertions.
pub(super) fn captures(
    captures: &[Capture],
    with: &[Found],
    options: &Options,
) -> Result<Explanation, Malformed> {
    let beside = with.iter().filter_map(|found| match found {
        Found::Captures(captures) => Some(captures),
        _ => None,
    });
    let all: Vec<&Capture> = captures.iter().chain(beside.flatten()).collect();
    let has_object = captures.iter().any(|capture| capture.is_object);
    let mut explanation = Explanation::new(
        match (has_object, captures.iter().any(|capture| !capture.is_object)) {
            (true, true) => "App Attest object and assertion",
            (true, false) => "App Attest object",
            _ => "App Attest assertion",
        },
        options,
        Tier::AppAttest.does_not_prove(),
    );
    let mut keys = Vec::new();
    for capture in all.iter().filter(|capture| capture.is_object) {
        let parsed = Object::parse(&capture.bytes).map_err(|refused| Malformed(refused.detail))?;
        let hash = options.nonce.as_ref().or(capture.client_data_hash.as_ref());
        keys.extend(object(&mut explanation, &parsed, hash.map(Vec::as_slice)));
    }
    for capture in captures.iter().filter(|capture| !capture.is_object) {
        let parsed = Assertion::parse(&capture.bytes).map_err(|refused| Malformed(refused.detail))?;
        let hash = options.nonce.as_ref().or(capture.client_data_hash.as_ref());
        assertion(&mut explanation, &parsed, hash.map(Vec::as_slice), &keys);
    }
    Ok(explanation)
}

const NO_NONCE: &str =
    "the file does not say what was to be signed: give it with --nonce HEX, the clientDataHash";

fn object(explanation: &mut Explanation, object: &Object, hash: Option<&[u8]>) -> Option<AttestedKey> {
    let apple = Some(Voucher::Apple);
    explanation.field("receipt", None, if object.has_receipt() { "present; not read" } else { "absent" });
    if let Some(leaf) = object.chain().first().and_then(|der| Certificate::parse(der).ok()) {
        explanation.ends_by(Some(leaf.not_after()));
    }
    let Some(hash) = hash else {
        explanation.open("object", NO_NONCE);
        return None;
    };
    let at = explanation.at;
    let verify = |platform| object.verify(&anchor::APPLE_APP_ATTESTATION, hash, at, platform);
    let key = explanation.step(
        "object",
        verify(Platform::Any),
        "Apple's certificate is for this key, this nonce and that time",
    )?;
    explanation.field("nonce", apple, hex_text(hash));
    explanation.field("key", apple, key.id().to_string());
    let unknown = || "unknown".to_owned();
    explanation.field("app", apple, key.app.as_deref().map_or_else(unknown, plain));
    explanation.field("app identifier's SHA-256", apple, key.app_id_hash.to_string());
    let environment = match key.environment {
        Environment::Development => "development",
        Environment::Production => "production",
    };
    explanation.field("environment", apple, environment);
    explanation.field("platform", apple, key.platform.clone().unwrap_or_else(unknown));
    explanation.field("os-version", apple, key.os_version.clone().unwrap_or_else(unknown));
    explanation.field("os-build", apple, key.os_build.clone().unwrap_or_else(unknown));
    let access = match key.access_control.as_deref() {
        Some(MAC_ACCESS_CONTROL) => "signs only in Full Security with System Integrity Protection".to_owned(),
        other => other.map_or_else(unknown, hex_text),
    };
    explanation.field("access control", apple, access);
    explanation.field("minted", apple, time::text(key.minted));
    let provider = match verify(Platform::Mac) {
        Ok(_) => "yes: a Mac that signs only in Full Security with System Integrity Protection".to_owned(),
        Err(refused) => format!("no: {refused}"),
    };
    explanation.field("would do for a provider", None, provider);
    Some(key)
}

fn assertion(
    explanation: &mut Explanation,
    assertion: &Assertion,
    hash: Option<&[u8]>,
    keys: &[AttestedKey],
) {
    let apple = Some(Voucher::Apple);
    let Some(hash) = hash else {
        explanation.open("assertion", NO_NONCE);
        return;
    };
    if keys.is_empty() {
        explanation.open(
            "assertion",
            "its key is in the App Attest object, which is not at hand or not verified: give it with --with",
        );
        return;
    }
    let verify = |platform| {
        let mut result = Err(Refused::malformed("no key"));
        for key in keys {
            result = assertion.verify(key, hash, platform);
            if result.is_ok() {
                break;
            }
        }
        result
    };
    let holds = "the attested key signed this nonce";
    let Some(asserted) = explanation.step("assertion", verify(Platform::Any), holds) else { return };
    let unknown = || "unknown".to_owned();
    explanation.field("counter", apple, asserted.counter.to_string());
    let code = asserted.code.map_or_else(unknown, |code| code.to_string());
    explanation.field("code-directory", apple, code);
    let category = match asserted.category {
        Some(6) => "6, Developer ID".to_owned(),
        Some(category) => category.to_string(),
        None => unknown(),
    };
    explanation.field("validation-category", apple, category);
    explanation.field("bundle-version", apple, asserted.bundle_version.unwrap_or_else(unknown));
    let provider = match verify(Platform::Mac) {
        Ok(_) => "yes: it names the code that asked".to_owned(),
        Err(refused) => format!("no: {refused}"),
    };
    explanation.field("would do for a provider's attestation", None, provider);
}

/// A chain in PEM or DER: which form it is of shows in the nonce alone.
pub(super) fn mda_chain(chain: &[Vec<u8>], with: &[Found], options: &Options) -> Explanation {
    explain_mda(chain, None, with, options)
}

/// A chain as owners hand it to endorsers.
pub(super) fn mda(chain: &MdaChain, with: &[Found], options: &Options) -> Result<Explanation, Malformed> {
    Ok(explain_mda(&chain.certificates, Some(chain.form), with, options))
}

fn explain_mda(
    certificates: &[Vec<u8>],
    form: Option<Form>,
    with: &[Found],
    options: &Options,
) -> Explanation {
    let mut explanation =
        Explanation::new("Managed Device Attestation chain", options, Tier::Mda.does_not_prove());
    let mut certificates = certificates.to_vec();
    if certificates.len() == 1 {
        certificates.extend(others(with));
    }
    // Apple's root is pinned and no part of the chain.
    if certificates.len() == 3 {
        certificates.truncate(2);
    }
    let short = certificates.len() == 1;
    let chain = MdaChain { form: form.unwrap_or(Form::DeviceInformation), certificates };
    let leaf = chain.certificates.first().and_then(|der| Certificate::parse(der).ok());
    explanation.ends_by(leaf.map(|leaf| leaf.not_after()));
    let seen = match chain.read(explanation.at) {
        Ok(seen) => seen,
        Err(refused) => {
            explanation.refused("chain", &refused);
            if short {
                explanation.open(
                    "chain",
                    "Apple's intermediate certificate is not in the file: give it with --with",
                );
            }
            return explanation;
        }
    };
    let apple = Some(Voucher::Apple);
    explanation.verified("chain", format!("it leads to {}", "Apple Enterprise Attestation Root CA"));
    explanation.field("minted", apple, time::text(seen.minted()));
    for property in &FIELDS {
        let value = match seen.value(property.name).map(|raw| property.text(raw)) {
            None => "unknown: absent or blank".to_owned(),
            Some(Err(refused)) => refused.to_string(),
            Some(Ok(text)) if property.identifies => mask(&text, options.reveal),
            Some(Ok(text)) => text,
        };
        explanation.field(property.name, apple, value);
    }
    explanation.field("freshness", Some(Voucher::Mdm), seen.freshness().to_string());
    match options.nonce.as_deref().map(Hash::try_from) {
        None => explanation.open(
            "nonce",
            "nothing says what it should be for: give the attestation's nonce with --nonce HEX",
        ),
        Some(Err(_)) => explanation.failed("nonce", "a nonce has 32 bytes, 64 hexadecimal digits"),
        Some(Ok(nonce)) => {
            let forms = [Form::DeviceInformation, Form::Acme];
            let fits = forms
                .into_iter()
                .filter(|other| form.is_none_or(|form| form == *other))
                .find(|form| form.freshness(nonce) == seen.freshness());
            match fits {
                Some(form) => {
                    explanation.verified("nonce", format!("the Mac vouched for it, by {}", form.name()))
                }
                None => explanation.failed("nonce", "mda-freshness: the Mac vouched for another nonce"),
            }
        }
    }
    let unsafe_ones: Vec<_> = FIELDS
        .iter()
        .filter(|property| property.safe.is_some_and(|safe| seen.value(property.name) != Some(safe.value)))
        .map(|property| property.name)
        .collect();
    let provider = if unsafe_ones.is_empty() {
        "yes".to_owned()
    } else {
        format!("no: not known to be safe: {}", unsafe_ones.join(", "))
    };
    explanation.field("settings would do for a provider", None, provider);
    explanation
}
