//! Quotes: what a trust domain is, signed by Intel's quoting enclave. `[Intel TDX DCAP Quoting Library API, appendix A]`

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{curve::PublicKey, evidence::Refused, hash::Hash};

/// A quote of version 4 or 5, taken apart; nothing of it is verified yet.
pub(super) struct Quote<'a> {
    /// Header and body: what the attestation key signs.
    signed: &'a [u8],
    pub(super) body: Body<'a>,
    signature: &'a [u8; 64],
    /// x and y.
    attestation_key: &'a [u8; 64],
    pub(super) enclave: Enclave<'a>,
    enclave_signature: &'a [u8; 64],
    authentication: &'a [u8],
    /// PCK certificate, its issuer, and the root. DER.
    pub(super) chain: [Vec<u8>; 3],
}

/// A TD report, as a quote carries it.
pub(super) struct Body<'a> {
    pub(super) tcb_svn: &'a [u8; 16],
    pub(super) module_signer: &'a [u8; 48],
    pub(super) module_attributes: &'a [u8; 8],
    pub(super) attributes: u64,
    pub(super) measurement: &'a [u8; 48],
    pub(super) configuration: &'a [u8; 48],
    pub(super) owner: &'a [u8; 48],
    pub(super) owner_configuration: &'a [u8; 48],
    /// The four runtime registers, one after another.
    pub(super) registers: &'a [u8; 192],
    pub(super) report_data: &'a [u8; 64],
    /// Measurement of the domains that serve this one, from version 1.5 of the report.
    pub(super) services: Option<&'a [u8; 48]>,
}

/// The report of the quoting enclave.
pub(super) struct Enclave<'a> {
    report: &'a [u8; ENCLAVE_REPORT],
    pub(super) misc_select: &'a [u8; 4],
    pub(super) attributes: &'a [u8; 16],
    pub(super) signer: &'a [u8; 32],
    pub(super) product: u16,
    pub(super) svn: u16,
    report_data: &'a [u8; 64],
}

impl<'a> Quote<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Refused> {
        let mut reader = Reader { rest: bytes };
        let version = reader.u16()?;
        let (key_type, tee) = (reader.u16()?, reader.u32()?);
        let _versions_of_quoting_enclave = reader.u32()?;
        let (vendor, _user_data) = (reader.array::<16>()?, reader.array::<20>()?);
        if key_type != ECDSA_P256 || tee != TDX || vendor != INTEL {
            return Err(Refused::malformed(
                "not a TDX quote that Intel's quoting enclave signs with ECDSA P-256",
            ));
        }
        let body = match version {
            4 => Body::parse(&mut reader, false)?,
            5 => {
                let (kind, length) = (reader.u16()?, reader.u32()?);
                match (kind, length) {
                    (TD_REPORT_1_0, 584) => Body::parse(&mut reader, false)?,
                    (TD_REPORT_1_5, 648) => Body::parse(&mut reader, true)?,
                    _ => return Err(Refused::malformed("the quote's body is no report of TDX 1.0 or 1.5")),
                }
            }
            _ => {
                let detail = format!("the quote is of version {version}: versions 4 and 5 are known");
                return Err(Refused::new("tdx-version", detail));
            }
        };
        let signed = &bytes[..bytes.len() - reader.rest.len()];

        let mut reader = reader.rest_of_length()?;
        let (signature, attestation_key) = (reader.array()?, reader.array()?);
        if reader.u16()? != CERTIFIED_BY_REPORT {
            return Err(Refused::malformed("the quote's key is not certified by a report"));
        }
        let mut reader = reader.rest_of_length()?;
        let enclave = Enclave::parse(reader.array()?);
        let enclave_signature = reader.array()?;
        let length = usize::from(reader.u16()?);
        let authentication = reader.take(length)?;
        if reader.u16()? != CERTIFICATE_CHAIN {
            return Err(Refused::malformed("the quote does not bring its certificates"));
        }
        let chain = certificates(reader.rest_of_length()?.rest)?;
        Ok(Self {
            signed,
            body,
            signature,
            attestation_key,
            enclave,
            enclave_signature,
            authentication,
            chain,
        })
    }

    /// Checks the signatures below the PCK certificate: it signs the quoting enclave's report, which names the
    /// attestation key, which signs the quote.
    pub(super) fn verify(&self, pck: &PublicKey) -> Result<(), Refused> {
        pck.verify_digest(Hash::of(self.enclave.report).as_ref(), self.enclave_signature).map_err(|_| {
            Refused::new("tdx-signature", "the processor's key did not sign the quoting enclave")
        })?;
        let named = Hash::of_parts(&[self.attestation_key, self.authentication]);
        let (digest, rest) = self.enclave.report_data.split_at(Hash::LEN);
        if digest != named.as_ref() || rest.iter().any(|byte| *byte != 0) {
            return Err(Refused::new("tdx-signature", "the quoting enclave has another attestation key"));
        }
        let point = [&[4], &self.attestation_key[..]].concat();
        PublicKey::from_sec1(&point)
            .ok()
            .and_then(|key| key.verify_digest(Hash::of(self.signed).as_ref(), self.signature).ok())
            .ok_or_else(|| Refused::new("tdx-signature", "the attestation key did not sign the quote"))
    }
}

impl<'a> Body<'a> {
    fn parse(reader: &mut Reader<'a>, services: bool) -> Result<Self, Refused> {
        let tcb_svn = reader.array()?;
        let _module_measurement = reader.array::<48>()?;
        let (module_signer, module_attributes) = (reader.array()?, reader.array()?);
        let attributes = u64::from_le_bytes(*reader.array()?);
        let _extended_features = reader.array::<8>()?;
        let body = Self {
            tcb_svn,
            module_signer,
            module_attributes,
            attributes,
            measurement: reader.array()?,
            configuration: reader.array()?,
            owner: reader.array()?,
            owner_configuration: reader.array()?,
            registers: reader.array()?,
            report_data: reader.array()?,
            services: None,
        };
        if !services {
            return Ok(body);
        }
        let _tcb_svn_of_the_next_module = reader.array::<16>()?;
        Ok(Self { services: Some(reader.array()?), ..body })
    }
}

impl<'a> Enclave<'a> {
    fn parse(report: &'a [u8; ENCLAVE_REPORT]) -> Self {
        Self {
            report,
            misc_select: part(report, 16),
            attributes: part(report, 48),
            signer: part(report, 128),
            product: u16::from_le_bytes(*part(report, 256)),
            svn: u16::from_le_bytes(*part(report, 258)),
            report_data: part(report, 320),
        }
    }
}

fn part<const N: usize>(report: &[u8; ENCLAVE_REPORT], start: usize) -> &[u8; N] {
    report[start..].first_chunk().expect("every part lies inside the report")
}

/// Three certificates in PEM, written in the one way that Intel's library writes them; a zero may end the text.
fn certificates(pem: &[u8]) -> Result<[Vec<u8>; 3], Refused> {
    let bad = || Refused::malformed("the quote does not bring three certificates in PEM");
    let text = core::str::from_utf8(pem.strip_suffix(b"\0").unwrap_or(pem)).map_err(|_| bad())?;
    let mut chain = Vec::new();
    for block in text.split_inclusive(END) {
        let body = block.strip_prefix(BEGIN).and_then(|block| block.strip_suffix(END)).ok_or_else(bad)?;
        let der = BASE64_STANDARD.decode(body.replace('\n', "")).map_err(|_| bad())?;
        let encoded = BASE64_STANDARD.encode(&der);
        // Base64 is ASCII, so it can be cut anywhere.
        let lines = (0..encoded.len()).step_by(64).map(|at| &encoded[at..encoded.len().min(at + 64)]);
        if lines.fold(String::new(), |text, line| text + line + "\n") != body {
            return Err(bad());
        }
        chain.push(der);
    }
    chain.try_into().map_err(|_| bad())
}

/// Reads little-endian structures.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| Refused::malformed("the quote is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Refused> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or_else(|| Refused::malformed("the quote is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Refused> {
        self.array().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(&mut self) -> Result<u32, Refused> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// A part with its length in front that reaches to the end.
    fn rest_of_length(mut self) -> Result<Self, Refused> {
        let length = self.u32()?;
        if self.rest.len() as u64 != u64::from(length) {
            return Err(Refused::malformed(
                "the quote is longer or shorter than it says: it has to be cut at its own length",
            ));
        }
        Ok(self)
    }
}

const ENCLAVE_REPORT: usize = 384;
const ECDSA_P256: u16 = 2;
const TDX: u32 = 0x81;
/// Intel's quoting enclave.
const INTEL: &[u8; 16] = b"\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07";
const TD_REPORT_1_0: u16 = 2;
const TD_REPORT_1_5: u16 = 3;
const CERTIFICATE_CHAIN: u16 = 5;
const CERTIFIED_BY_REPORT: u16 = 6;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----\n";
