//! Reports and quotes of confidential virtual machines, with the certificates and collateral that lie beside them.

use glassbloom_spec::{
    evidence::{Proven, Refused, Voucher, key::VendorKey, snp, tdx, x509::Certificate},
    leaf::Tier,
};
use serde_json::{Map, Value};

use super::{Explanation, Found, Options, certificate::others, detect::pem, hex_text};

/// What of a report carries the nonce.
type ReportData = [u8; 64];

pub(super) fn snp(report: &[u8], with: &[Found], options: &Options) -> Explanation {
    let mut explanation = Explanation::new("SEV-SNP report", options, Tier::SevSnp.does_not_prove());
    let Some(data) = part::<64>(report, SNP_DATA) else {
        explanation.failed("form", "evidence-malformed: the report ends early");
        return explanation;
    };
    explanation.field("report data", Some(Voucher::Amd), hex_text(&data));
    let expected = expected(&mut explanation, &data, options);
    let pool = others(with);
    let certificates: Vec<Certificate> = pool.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
    // A processor's key is on a curve; those above it are RSA keys.
    let mut best: Option<Result<Proven, Refused>> = None;
    for leaf in certificates.iter().filter(|leaf| matches!(leaf.key(), VendorKey::P384(_))) {
        let above = |of: &Certificate| {
            certificates.iter().find(|other| other.subject_name() == of.issuer_name()).cloned()
        };
        let Some(ask) = above(leaf) else { continue };
        let Some(ark) = above(&ask) else { continue };
        let chain = [leaf, &ask, &ark].map(|certificate| certificate.bytes().to_vec());
        let evidence = snp::Evidence { report: report.to_vec(), chain };
        let result = snp::verify_report(&evidence.encode(), &expected, explanation.at);
        // The certificate of another processor says nothing about this report.
        let other_processor = matches!(&result, Err(refused) if refused.reason == "snp-signature");
        if best.is_none() || !other_processor {
            best = Some(result);
        }
        if matches!(best, Some(Ok(_))) {
            break;
        }
    }
    match best {
        None => {
            let detail = "the certificates of the processor (VCEK), ASK and ARK are not at hand: give their folder with --with";
            explanation.open("report", detail);
        }
        Some(result) => {
            finish(&mut explanation, "report", result, "AMD's chain leads to the processor that signed it")
        }
    }
    explanation
}

pub(super) fn tdx(quote: &[u8], with: &[Found], options: &Options) -> Explanation {
    let mut explanation = Explanation::new("TDX quote", options, Tier::Tdx.does_not_prove());
    let Some((quote, data)) = cut(quote) else {
        explanation
            .failed("form", "evidence-malformed: the quote ends early, or other bytes than zeros follow it");
        return explanation;
    };
    explanation.field("report data", Some(Voucher::Intel), hex_text(&data));
    let expected = expected(&mut explanation, &data, options);
    let collateral = with.iter().find_map(|found| match found {
        Found::TdxCollateral(json) => Some(collateral(json)),
        _ => None,
    });
    let collateral = match collateral {
        Some(Ok(collateral)) => collateral,
        Some(Err(missing)) => {
            explanation.failed(
                "collateral",
                format!("tdx-collateral-malformed: {missing} is missing or not of its form"),
            );
            return explanation;
        }
        None => {
            explanation
                .open("quote", "Intel's collateral of that time is not at hand: give its JSON with --with");
            return explanation;
        }
    };
    let evidence = tdx::Evidence { quote: quote.to_vec(), collateral };
    let result = tdx::verify_quote(&evidence.encode(), &expected, explanation.at);
    finish(&mut explanation, "quote", result, "Intel's chain leads to the machine that signed it");
    explanation
}

fn finish(explanation: &mut Explanation, name: &str, result: Result<Proven, Refused>, holds: &str) {
    if let Some(proven) = explanation.step(name, result, holds) {
        explanation.proven(&proven);
        // Which keys it is for is in an attestation, so that the tier's words would say too much.
        explanation.tier = None;
    }
}

/// What the hardware must have signed: for a nonce of ours, the nonce and zeros; else what it did sign, unjudged.
fn expected(explanation: &mut Explanation, found: &ReportData, options: &Options) -> ReportData {
    let Some(nonce) = &options.nonce else {
        explanation.open("nonce", "nothing says what it should be for: give it with --nonce HEX");
        return *found;
    };
    let mut expected = [0; 64];
    match expected.get_mut(..nonce.len()) {
        Some(start) => start.copy_from_slice(nonce),
        None => explanation.failed("nonce", "report data has 64 bytes at most"),
    }
    if expected == *found {
        explanation.verified("nonce", "the report data is the nonce given, and zeros");
    } else {
        explanation.failed("nonce", "the report data is another than the nonce given, and zeros");
    }
    expected
}

/// The quote without the padding that some tools leave behind it, and its report data.
fn cut(quote: &[u8]) -> Option<(&[u8], ReportData)> {
    let body_end = match quote.first()? {
        4 => TDX_HEADER + TDX_BODY,
        // From version 5 on, the body says how long it is.
        _ => {
            let size = u32::from_le_bytes(part(quote, TDX_HEADER + 2)?);
            (TDX_HEADER + 6).checked_add(usize::try_from(size).ok()?)?
        }
    };
    let length = u32::from_le_bytes(part(quote, body_end)?);
    let end = (body_end + 4).checked_add(usize::try_from(length).ok()?)?;
    let (quote, rest) = quote.split_at_checked(end)?;
    // The body of a later version goes on behind the report data.
    let start = if quote.first() == Some(&4) { TDX_HEADER } else { TDX_HEADER + 6 };
    rest.iter().all(|byte| *byte == 0).then_some((quote, part(quote, start + TDX_DATA)?))
}

/// Intel's collateral in the form in which its clients write it: texts, PEM and hexadecimal.
fn collateral(json: &Map<String, Value>) -> Result<tdx::Collateral, &'static str> {
    let text = |name: &'static str| json.get(name).and_then(Value::as_str).ok_or(name);
    let bytes = |name| hex::decode(text(name)?).map_err(|_| name);
    let document = |name, signature| {
        let signature = bytes(signature)?.try_into().map_err(|_| signature)?;
        Ok::<_, &'static str>(tdx::Document { json: text(name)?.as_bytes().to_vec(), signature })
    };
    let signer = pem(text("tcb_info_issuer_chain")?).ok().and_then(|chain| chain.into_iter().next());
    Ok(tdx::Collateral {
        tcb_info: document("tcb_info", "tcb_info_signature")?,
        enclave_identity: document("qe_identity", "qe_identity_signature")?,
        signer: signer.ok_or("tcb_info_issuer_chain")?,
        root_crl: bytes("root_ca_crl")?,
        pck_crl: bytes("pck_crl")?,
    })
}

fn part<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..start.checked_add(N)?)?.try_into().ok()
}

const SNP_DATA: usize = 0x50;
const TDX_HEADER: usize = 48;
const TDX_BODY: usize = 584;
const TDX_DATA: usize = 520;
