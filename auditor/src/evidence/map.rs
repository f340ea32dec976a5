//! Evidence in our own maps, without the attestation that it belongs to.

use glassbloom_spec::{
    curve::{PublicKey, SigningKey},
    evidence::{
        self, Bound, Enrolled, Refused, Voucher, app_attest,
        app_attest::{Assertion, Object},
        endorsement::Endorsement,
        mda::{self, FIELDS, Form, Record, Shown},
        snp, tdx, tpm,
        tpm::wire::{Attest, Public},
    },
    hash::Hash,
    leaf::{Payload, Tier},
    statement::Statement,
};

use super::{Explanation, Options, hex_text, time};

/// What evidence of a format says by itself about what it is bound to.
#[derive(Default)]
struct Says {
    nonce: Option<Hash>,
    enrolled: Option<Hash>,
    keys: Option<(PublicKey, PublicKey)>,
}

pub(super) fn explain(format: &str, bytes: &[u8], options: &Options) -> Explanation {
    let tier = match format {
        app_attest::FORMAT => Tier::AppAttest,
        mda::FORMAT => Tier::Mda,
        snp::FORMAT => Tier::SevSnp,
        tdx::FORMAT => Tier::Tdx,
        _ => Tier::TpmHw,
    };
    let mut explanation =
        Explanation::new(format!("evidence of format {format}"), options, tier.does_not_prove());
    explanation.field("size", None, format!("{} bytes", bytes.len()));
    let says = match format {
        tpm::FORMAT => of_tpm(bytes),
        mda::FORMAT => of_mda(&mut explanation, bytes),
        snp::FORMAT => Says { nonce: report_nonce(bytes), ..Says::default() },
        _ => Says::default(),
    };
    let given = match options.nonce.as_deref().map(Hash::try_from) {
        None => None,
        Some(Ok(nonce)) => Some(nonce),
        Some(Err(_)) => {
            explanation.failed("nonce", "a nonce of ours has 32 bytes, 64 hexadecimal digits");
            return explanation;
        }
    };
    if given.is_none() {
        explanation
            .open("nonce", "nothing says what it should be for: give the attestation's with --nonce HEX");
    }
    let Some(nonce) = given.or(says.nonce) else {
        explanation.open(
            "evidence",
            "what was to be signed is not in the evidence, so that nothing can be verified",
        );
        if format == app_attest::FORMAT {
            describe_app_attest(&mut explanation, bytes);
        }
        return explanation;
    };
    let (signing_key, sealing_key) = says.keys.unwrap_or_else(|| {
        // These formats vouch for keys through the nonce alone, so that any two stand for those of the attestation.
        let any = SigningKey::from_seed(&[0; 32]).public_key();
        (any, any)
    });
    explanation.open(
        "keys",
        "which keys it should be for is in the attestation: name that file to have them compared",
    );
    let enrolled = says.enrolled.filter(|other| *other != nonce).map(|nonce| Enrolled {
        nonce,
        at: explanation.at,
        signing_key,
    });
    if enrolled.is_some() {
        explanation.open(
            "enrolment",
            "the lasting part is for an earlier attestation's nonce, which is taken from it",
        );
    }
    let bound =
        Bound { nonce, signing_key: &signing_key, sealing_key: &sealing_key, at: explanation.at, enrolled };
    verify(&mut explanation, format, bytes, &bound, options);
    explanation
}

/// The step that all formats share.
pub(super) fn verify(
    explanation: &mut Explanation,
    format: &str,
    bytes: &[u8],
    bound: &Bound,
    options: &Options,
) {
    let result = evidence::verify(format, bytes, bound, &options.trust());
    let policy = match (&result, &options.policy) {
        (Err(refused), None) if needs_policy(refused) => {
            "; whom to believe about this is in a policy file: give it with --policy"
        }
        _ => "",
    };
    match result {
        Ok(proven) => {
            explanation.verified("evidence", format!("tier {}", proven.tier));
            explanation.proven(&proven);
        }
        Err(refused) => {
            let refused = Refused::new(refused.reason, format!("{}{policy}", refused.detail));
            explanation.refused("evidence", &refused);
        }
    }
}

fn needs_policy(refused: &Refused) -> bool {
    matches!(refused.reason, "certificate-root" | "endorser-unknown" | "app-attest-app")
}

fn of_tpm(bytes: &[u8]) -> Says {
    let Ok(parts) = tpm::Evidence::decode(bytes) else { return Says::default() };
    let key = |public: &[u8]| Public::parse(public).ok()?.p256().copied();
    let endorsed = parts
        .lasting
        .endorsements
        .iter()
        .find_map(|bytes| Some(Endorsement::of(&Statement::parse(bytes).ok()?).ok()?.nonce));
    Says {
        nonce: Attest::parse(&parts.quote.attest)
            .ok()
            .and_then(|quote| Hash::try_from(quote.extra.as_slice()).ok()),
        enrolled: endorsed,
        keys: key(&parts.signing.public).zip(key(&parts.sealing.public)),
    }
}

fn of_mda(explanation: &mut Explanation, bytes: &[u8]) -> Says {
    let Ok(record) = Record::decode(bytes) else { return Says::default() };
    explanation.field("form", None, record.form.name());
    explanation.field("freshness", Some(Voucher::Mdm), record.freshness.to_string());
    explanation.field("made", Some(Voucher::Apple), time::text(record.minted));
    explanation.field("endorsements", None, record.endorsements.len().to_string());
    if let Ok(values) = record.open() {
        for (property, value) in FIELDS.iter().zip(values) {
            let value = match value {
                Shown::Absent => "unknown: absent or blank".to_owned(),
                Shown::Opened(raw) => property.text(raw).unwrap_or_else(|_| hex_text(raw)),
                Shown::Redacted(commitment) => format!("redacted ({commitment:.16})"),
            };
            explanation.field(format!("record: {}", property.name), None, value);
        }
    }
    explanation.ends_by(Some(record.ends));
    // The nonce itself in the one form; the other holds a hash of it.
    Says { nonce: (record.form == Form::DeviceInformation).then_some(record.freshness), ..Says::default() }
}

/// The nonce that a report carries, if zeros follow it.
fn report_nonce(bytes: &[u8]) -> Option<Hash> {
    let report = snp::Evidence::decode(bytes).ok()?.report;
    let data = report.get(0x50..0x90)?;
    let (nonce, zeros) = data.split_at(Hash::LEN);
    zeros.iter().all(|byte| *byte == 0).then(|| Hash::try_from(nonce).ok())?
}

fn describe_app_attest(explanation: &mut Explanation, bytes: &[u8]) {
    let Ok((object, assertion)) = app_attest::decode(bytes) else { return };
    explanation.field("object", None, format!("{} bytes, SHA-256 {}", object.len(), Hash::of(&object)));
    explanation.field("assertion", None, format!("{} bytes", assertion.len()));
    for (name, whole) in
        [("object", Object::parse(&object).is_ok()), ("assertion", Assertion::parse(&assertion).is_ok())]
    {
        if !whole {
            explanation.failed(name, "evidence-malformed: it is not of its form");
        }
    }
}
