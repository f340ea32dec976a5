//! Evidence of format `tdx`: an Intel confidential virtual machine made the keys.
//!
//! # In scope
//! The quote, the chain from the processor's key to Intel's root, and what Intel publishes about platforms of that
//! kind, which the evidence brings with it: what was current then can be checked for ever. See `spec/evidence-vm.md`.
//!
//! # Out of scope
//! Quotes of SGX enclaves, and attestation services that answer in Intel's place.

mod collateral;
mod crl;
mod pck;
mod quote;

pub use collateral::Document;

use self::{
    collateral::{EnclaveIdentity, TcbInfo},
    crl::Crl,
    pck::Platform,
    quote::{Body, Quote},
};
use super::{
    Bound, Code, Proven, Refused, Voucher,
    anchor::INTEL_SGX,
    der::{Der, DerError, Tag},
    key::{Algorithm, VendorKey},
    x509::{Certificate, DIGITAL_SIGNATURE, Profile, Purpose, Root, verify_chain},
};
use crate::{
    cbor::{FieldError, Fields, map},
    curve::PublicKey,
    hash::Hash,
    id::UnixSeconds,
    leaf::Tier,
};

/// The format's name.
pub const FORMAT: &str = "tdx";

/// Evidence of this format, taken apart; nothing of it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The quote, cut at its own length.
    pub quote: Vec<u8>,
    /// What Intel said of such platforms when it was made.
    pub collateral: Collateral,
}

/// What Intel publishes about a kind of platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collateral {
    /// The levels of its firmware.
    pub tcb_info: Document,
    /// What the quoting enclave has to be.
    pub enclave_identity: Document,
    /// The certificate of the key that signed both, issued by the root. DER.
    pub signer: Vec<u8>,
    /// Certificates that the root revoked. DER.
    pub root_crl: Vec<u8>,
    /// Certificates that the issuer of the processor's certificate revoked. DER.
    pub pck_crl: Vec<u8>,
}

impl Evidence {
    /// The bytes in an attestation.
    pub fn encode(&self) -> Vec<u8> {
        let Collateral { tcb_info, enclave_identity, signer, root_crl, pck_crl } = &self.collateral;
        let collateral = map([
            (1, tcb_info.json.as_slice().into()),
            (2, tcb_info.signature.as_slice().into()),
            (3, enclave_identity.json.as_slice().into()),
            (4, enclave_identity.signature.as_slice().into()),
            (5, signer.as_slice().into()),
            (6, root_crl.as_slice().into()),
            (7, pck_crl.as_slice().into()),
        ]);
        map([(1, self.quote.as_slice().into()), (2, collateral)]).encode()
    }

    /// Takes the bytes in an attestation apart.
    ///
    /// # Errors
    /// `evidence-malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let read = || {
            let mut fields = Fields::decode(bytes)?;
            let quote = fields.bytes(1)?;
            let mut inner = Fields::of(fields.value(2, "a map of collateral")?)?;
            fields.finish()?;
            let collateral = Collateral {
                tcb_info: Document { json: inner.bytes(1)?, signature: inner.fixed(2)? },
                enclave_identity: Document { json: inner.bytes(3)?, signature: inner.fixed(4)? },
                signer: inner.bytes(5)?,
                root_crl: inner.bytes(6)?,
                pck_crl: inner.bytes(7)?,
            };
            inner.finish()?;
            Ok::<_, FieldError>(Self { quote, collateral })
        };
        let evidence = read().map_err(|error| Refused::malformed(error.to_string()))?;
        // Fields that readers may skip have no place in evidence: nothing would cover them.
        if evidence.encode() == bytes {
            Ok(evidence)
        } else {
            Err(Refused::malformed("it has fields that this version does not know"))
        }
    }
}

/// Verifies evidence of this format.
///
/// # Errors
/// With the reason, of those in `spec/evidence-vm.md`.
pub fn verify(bytes: &[u8], bound: &Bound) -> Result<Proven, Refused> {
    verify_quote(bytes, &super::snp::report_data(bound.nonce), bound.at)
}

/// Verifies evidence whose quote carries this data.
///
/// # Errors
/// As [`verify`].
pub fn verify_quote(bytes: &[u8], report_data: &[u8; 64], at: UnixSeconds) -> Result<Proven, Refused> {
    verify_under(&INTEL_SGX, bytes, report_data, at)
}

/// Verifies evidence under another root than Intel's, named by name and key: for tests of what Intel never signs.
///
/// # Errors
/// As [`verify`].
pub fn verify_under(
    intel: &Root,
    bytes: &[u8],
    report_data: &[u8; 64],
    at: UnixSeconds,
) -> Result<Proven, Refused> {
    let evidence = Evidence::decode(bytes)?;
    let quote = Quote::parse(&evidence.quote)?;
    let chain = [
        Certificate::parse(&quote.chain[0])?,
        Certificate::parse(&quote.chain[1])?,
        Certificate::parse(&quote.chain[2])?,
    ];
    let [pck, issuer, root] = &chain;
    // Intel's library has the root in the quote. It issued itself, so that it is one more link to what is pinned.
    verify_chain(&chain, intel, at, &PROFILE)?;
    if !matches!(intel, Root::Named { spki, .. } if *spki == root.spki()) {
        return Err(Refused::new(
            "certificate-root",
            "the last certificate of the quote is not Intel's root",
        ));
    }
    let signer = Certificate::parse(&evidence.collateral.signer)?;
    verify_chain(core::slice::from_ref(&signer), intel, at, &PROFILE)?;
    if common_name(signer.subject_name()).ok().flatten() != Some(SIGNER) {
        return Err(Refused::new(
            "certificate-purpose",
            "the collateral is signed by another key of Intel's",
        ));
    }

    let (root_crl, pck_crl) =
        (Crl::parse(&evidence.collateral.root_crl)?, Crl::parse(&evidence.collateral.pck_crl)?);
    let due = [root_crl.verify(root, at)?, pck_crl.verify(issuer, at)?];
    root_crl.check(issuer)?;
    root_crl.check(&signer)?;
    pck_crl.check(pck)?;

    quote.verify(p256(pck)?)?;
    if quote.body.report_data != report_data {
        return Err(Refused::new("tdx-report-data", "the quote was made for another nonce"));
    }
    check_domain(&quote.body)?;
    let platform = Platform::of(pck)?;
    let signer_key = p256(&signer)?;
    let Collateral { tcb_info, enclave_identity, .. } = &evidence.collateral;
    let enclave_due = EnclaveIdentity::check(enclave_identity, signer_key, &quote.enclave, at)?;
    let current = TcbInfo::check(tcb_info, signer_key, &platform, &quote.body, at)?;

    let body = &quote.body;
    let mut proven = Proven::new(Tier::Tdx);
    proven.claim("platform", Voucher::Intel, format!("FMSPC {}", hex::encode(platform.fmspc)));
    proven.claim("firmware", Voucher::Intel, format!("up to date, level of {}", day(&current.date)));
    proven.claim("launch-measurement", Voucher::Intel, hex::encode(body.measurement));
    for (name, register) in REGISTERS.into_iter().zip(body.registers.chunks_exact(48)) {
        proven.claim(name, Voucher::Intel, hex::encode(register));
    }
    proven.claim("configuration", Voucher::Intel, hex::encode(body.configuration));
    proven.claim("owner", Voucher::Intel, hex::encode(body.owner));
    proven.claim("owner-configuration", Voucher::Intel, hex::encode(body.owner_configuration));
    proven.claim(
        "guest-policy",
        Voucher::Intel,
        format!("{:016x}, debugging and migration off", body.attributes),
    );
    proven.code = Some(Code::Launch([&body.measurement[..], body.registers].concat()));
    proven.device = Some(Hash::of_parts(&[b"glassbloom/device/v1\0tdx\0", platform.ppid]));
    let certificates = chain.iter().chain([&signer]).map(Certificate::not_after);
    proven.expires = certificates.chain(due).chain([enclave_due, current.next_update]).min();
    Ok(proven)
}

/// What the domain is allowed, and what may be done to it.
fn check_domain(body: &Body) -> Result<(), Refused> {
    if body.attributes & DEBUG != 0 {
        return Err(Refused::new(
            "tdx-debug",
            "the attributes let the host read and change the guest's memory",
        ));
    }
    if body.attributes & MIGRATABLE != 0 || body.services.is_some_and(|services| services != &[0; 48]) {
        let detail = "a service domain that is not measured may take the guest away";
        return Err(Refused::new("tdx-migration", detail));
    }
    if body.attributes & SEPT_VE_DISABLE == 0 || body.attributes & !(SEPT_VE_DISABLE | ALLOWED) != 0 {
        let detail = format!("the attributes {:016x} are not those of a protected guest", body.attributes);
        return Err(Refused::new("tdx-attributes", detail));
    }
    Ok(())
}

/// Refuses a time at which something of Intel's was not in force, both ends of which count.
fn check_window(what: &str, from: UnixSeconds, to: UnixSeconds, at: UnixSeconds) -> Result<(), Refused> {
    if at < from {
        let detail = format!("{what} begins at {from} s, after {at} s");
        return Err(Refused::new("tdx-collateral-not-yet-valid", detail));
    }
    if at > to {
        let detail =
            format!("{what} ended at {to} s, before {at} s: fetch it again from Intel with the quote");
        return Err(Refused::new("tdx-collateral-expired", detail));
    }
    Ok(())
}

fn p256<'c>(certificate: &'c Certificate) -> Result<&'c PublicKey, Refused> {
    match certificate.key() {
        VendorKey::P256(key) => Ok(key),
        _ => Err(Refused::new("certificate-algorithm", "a key of Intel's is not on P-256")),
    }
}

/// The common name in a name, when there is exactly one.
fn common_name(name: &[u8]) -> Result<Option<&[u8]>, DerError> {
    let mut found = None;
    let mut sets = Der::new(Der::only(name, Tag::SEQUENCE)?);
    while !sets.is_empty() {
        let mut set = sets.nested(Tag::SET)?;
        while !set.is_empty() {
            let mut attribute = set.sequence()?;
            if attribute.oid()? == COMMON_NAME && found.replace(attribute.any()?.contents).is_some() {
                return Ok(None);
            }
        }
    }
    Ok(found)
}

/// The day of a time that Intel signed, without what could trouble a terminal.
fn day(date: &str) -> String {
    date.chars().take(10).filter(|c| c.is_ascii_digit() || *c == '-').collect()
}

const PROFILE: Profile = Profile {
    algorithms: &[Algorithm::EcdsaSha256],
    critical: &[],
    purpose: Purpose::Any,
    max_chain: 3,
    leaf_usage: DIGITAL_SIGNATURE,
};

/// The subject of the certificate that collateral is signed with.
const SIGNER: &[u8] = b"Intel SGX TCB Signing";
/// 2.5.4.3
const COMMON_NAME: &[u8] = b"\x55\x04\x03";

const REGISTERS: [&str; 4] = ["rtmr0", "rtmr1", "rtmr2", "rtmr3"];

/// The first eight: any of them makes the domain one whose secrets are not protected.
const DEBUG: u64 = 0xff;
/// A page that the host takes away stops the guest, in place of an exception that the host could mislead it by.
const SEPT_VE_DISABLE: u64 = 1 << 28;
const MIGRATABLE: u64 = 1 << 29;
/// Protection keys of the guest's kernel, and counters of its performance: both serve the guest alone.
const ALLOWED: u64 = 1 << 30 | 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(attributes: u64, services: Option<&[u8; 48]>) -> Result<(), &'static str> {
        let body = Body {
            tcb_svn: &[0; 16],
            module_signer: &[0; 48],
            module_attributes: &[0; 8],
            attributes,
            measurement: &[0; 48],
            configuration: &[0; 48],
            owner: &[0; 48],
            owner_configuration: &[0; 48],
            registers: &[0; 192],
            report_data: &[0; 64],
            services,
        };
        check_domain(&body).map_err(|refused| refused.reason)
    }

    #[test]
    fn domains_that_the_host_may_look_into_are_refused() {
        for attributes in [1 << 28, 1 << 28 | 1 << 30, 1 << 28 | 1 << 30 | 1 << 63] {
            assert_eq!(domain(attributes, None), Ok(()));
            assert_eq!(domain(attributes, Some(&[0; 48])), Ok(()));
        }
        for bit in 0..8 {
            assert_eq!(domain(1 << 28 | 1 << bit, None), Err("tdx-debug"));
        }
        assert_eq!(domain(1 << 28 | 1 << 29, None), Err("tdx-migration"));
        assert_eq!(domain(1 << 28, Some(&[1; 48])), Err("tdx-migration"));
        assert_eq!(domain(0, None), Err("tdx-attributes"));
        for bit in [8, 27, 31, 32, 62] {
            assert_eq!(domain(1 << 28 | 1 << bit, None), Err("tdx-attributes"));
        }
    }
}
