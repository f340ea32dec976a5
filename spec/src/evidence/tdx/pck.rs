//! What a PCK certificate says about its processor. `[Intel SGX PCK Certificate and CRL Profile, §1.3.5]`

use crate::evidence::{
    Refused,
    der::{Der, DerError, Tag},
    x509::Certificate,
};

/// The platform that a certificate is for, at one level of its firmware.
pub(super) struct Platform<'a> {
    /// Names the platform.
    pub(super) ppid: &'a [u8],
    /// Versions of the sixteen components.
    pub(super) components: [u8; 16],
    /// Version of the provisioning enclave.
    pub(super) pce_svn: u64,
    /// Which provisioning enclave.
    pub(super) pce_id: &'a [u8],
    /// Family, model and stepping: which TCB info counts.
    pub(super) fmspc: &'a [u8],
}

impl<'a> Platform<'a> {
    pub(super) fn of(certificate: &Certificate<'a>) -> Result<Self, Refused> {
        let bad = |detail: &str| Refused::new("tdx-pck", detail);
        let extension = certificate
            .extension(SGX)
            .ok_or_else(|| bad("the certificate is not one for a processor's key"))?;
        Self::read(extension.value)
            .map_err(|error| bad(&format!("the certificate says badly which processor it is for: {error}")))
    }

    fn read(extension: &'a [u8]) -> Result<Self, DerError> {
        let (mut ppid, mut tcb, mut pce_id, mut fmspc) = (None, None, None, None);
        let mut entries = Der::new(Der::only(extension, Tag::SEQUENCE)?);
        while !entries.is_empty() {
            let mut entry = entries.sequence()?;
            let place = match entry.oid()?.strip_prefix(SGX) {
                Some([1]) => &mut ppid,
                Some([2]) => &mut tcb,
                Some([3]) => &mut pce_id,
                Some([4]) => &mut fmspc,
                // Kind of platform, its instance and its configuration decide nothing here.
                _ => continue,
            };
            let value = entry.any()?;
            entry.finish()?;
            if place.replace(value).is_some() {
                return Err(DerError::Value("an entry stands twice"));
            }
        }
        let octets = |tlv: Option<crate::evidence::der::Tlv<'a>>, length| match tlv {
            Some(tlv) if tlv.tag == Tag::OCTET_STRING && tlv.contents.len() == length => Ok(tlv.contents),
            _ => Err(DerError::Value("an entry is missing or of another length")),
        };
        let tcb = tcb.filter(|tlv| tlv.tag == Tag::SEQUENCE);
        let (components, pce_svn) = levels(tcb.ok_or(DerError::Value("the versions are missing"))?.contents)?;
        Ok(Self {
            ppid: octets(ppid, 16)?,
            components,
            pce_svn,
            pce_id: octets(pce_id, 2)?,
            fmspc: octets(fmspc, 6)?,
        })
    }
}

fn levels(entries: &[u8]) -> Result<([u8; 16], u64), DerError> {
    let mut found = [None; 17];
    let mut entries = Der::new(entries);
    while !entries.is_empty() {
        let mut entry = entries.sequence()?;
        let place = match entry.oid()?.strip_prefix(SGX) {
            Some([2, place @ 1..=17]) => usize::from(*place) - 1,
            // All sixteen in one byte string, once more.
            _ => continue,
        };
        let value = entry.small()?;
        entry.finish()?;
        if found[place].replace(value).is_some() {
            return Err(DerError::Value("a version stands twice"));
        }
    }
    let mut components = [0; 16];
    for (component, value) in components.iter_mut().zip(found) {
        *component = value
            .and_then(|value| u8::try_from(value).ok())
            .ok_or(DerError::Value("a version is missing or above 255"))?;
    }
    Ok((components, found[16].ok_or(DerError::Value("the provisioning enclave's version is missing"))?))
}

/// 1.2.840.113741.1.13.1
const SGX: &[u8] = b"\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01";
