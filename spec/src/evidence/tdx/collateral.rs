//! What Intel publishes about its platforms, signed: which levels of firmware are current. `[Intel PCS API v4]`

use serde::Deserialize;

use super::{
    check_window,
    pck::Platform,
    quote::{Body, Enclave},
};
use crate::{
    curve::PublicKey,
    evidence::{Refused, der::Der, x509::time},
    hash::Hash,
    id::UnixSeconds,
};

/// A document of Intel's with its signature; nothing of it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The JSON, to the byte as it was signed.
    pub json: Vec<u8>,
    /// r || s by Intel's TCB signing key.
    pub signature: [u8; 64],
}

impl Document {
    fn open<'a, T: Deserialize<'a>>(&'a self, signer: &PublicKey) -> Result<T, Refused> {
        signer.verify_digest(Hash::of(&self.json).as_ref(), &self.signature).map_err(|_| {
            Refused::new("tdx-collateral-signature", "Intel's signing key did not sign the collateral")
        })?;
        serde_json::from_slice(&self.json).map_err(|error| malformed(&error.to_string()))
    }
}

/// What is known of a kind of platform.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TcbInfo {
    id: String,
    version: u32,
    issue_date: String,
    next_update: String,
    fmspc: String,
    pce_id: String,
    tcb_type: u32,
    tdx_module: Module,
    #[serde(default)]
    tdx_module_identities: Vec<ModuleIdentity>,
    tcb_levels: Vec<TcbLevel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Module {
    mrsigner: String,
    attributes: String,
    attributes_mask: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleIdentity {
    id: String,
    #[serde(flatten)]
    module: Module,
    tcb_levels: Vec<IsvLevel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IsvLevel {
    tcb: IsvTcb,
    tcb_status: String,
}

#[derive(Deserialize)]
struct IsvTcb {
    isvsvn: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbLevel {
    tcb: Tcb,
    tcb_date: String,
    tcb_status: String,
}

#[derive(Deserialize)]
struct Tcb {
    sgxtcbcomponents: [Component; 16],
    pcesvn: u64,
    tdxtcbcomponents: [Component; 16],
}

#[derive(Deserialize)]
struct Component {
    svn: u8,
}

/// A document's age, and what it says of the platform.
pub(super) struct Current {
    /// When the next document is due.
    pub(super) next_update: UnixSeconds,
    /// The day of the level that the platform is at.
    pub(super) date: String,
}

impl TcbInfo {
    /// Finds the level of a platform and its module, which has to be current.
    pub(super) fn check(
        document: &Document,
        signer: &PublicKey,
        platform: &Platform,
        body: &Body,
        at: UnixSeconds,
    ) -> Result<Current, Refused> {
        let info: Self = document.open(signer)?;
        if (info.id.as_str(), info.version, info.tcb_type) != ("TDX", 3, 0) {
            return Err(malformed("the TCB info is not one for TDX, of version 3 and type 0"));
        }
        let next_update = window("the TCB info", &info.issue_date, &info.next_update, at)?;
        if unhex(&info.fmspc)? != platform.fmspc || unhex(&info.pce_id)? != platform.pce_id {
            return Err(Refused::new(
                "tdx-collateral-mismatch",
                "the TCB info is for another kind of platform",
            ));
        }
        info.check_module(body)?;
        let level =
            info.tcb_levels.iter().find(|level| level.tcb.is_met(platform, body.tcb_svn)).ok_or_else(
                || Refused::new("tdx-tcb-unknown", "the platform is below every level that Intel lists"),
            )?;
        up_to_date("the platform", &level.tcb_status)?;
        Ok(Current { next_update, date: level.tcb_date.clone() })
    }

    /// The TDX module: the first of its versions is in the quote, and says which identity counts.
    fn check_module(&self, body: &Body) -> Result<(), Refused> {
        let [svn, version, ..] = *body.tcb_svn;
        if version == 0 {
            return self.tdx_module.check(body);
        }
        let id = format!("TDX_{version:02x}");
        let identity = self
            .tdx_module_identities
            .iter()
            .find(|identity| identity.id.eq_ignore_ascii_case(&id))
            .ok_or_else(|| Refused::new("tdx-module", format!("Intel lists no TDX module {id}")))?;
        identity.module.check(body)?;
        level_of(&identity.tcb_levels, "the TDX module", u16::from(svn))
    }
}

impl Module {
    fn check(&self, body: &Body) -> Result<(), Refused> {
        let attributes = masked(body.module_attributes, &self.attributes_mask)?;
        if unhex(&self.mrsigner)? != body.module_signer || unhex(&self.attributes)? != attributes {
            return Err(Refused::new("tdx-module", "the TDX module is not Intel's, or not as Intel runs it"));
        }
        Ok(())
    }
}

impl Tcb {
    fn is_met(&self, platform: &Platform, tdx: &[u8; 16]) -> bool {
        let reaches = |have: &[u8; 16], needed: &[Component; 16], from: usize| {
            have.iter().zip(needed).skip(from).all(|(have, needed)| *have >= needed.svn)
        };
        // From version 1 of the module its own identity decides on the first two.
        let from = if tdx[1] > 0 { 2 } else { 0 };
        reaches(&platform.components, &self.sgxtcbcomponents, 0)
            && platform.pce_svn >= self.pcesvn
            && reaches(tdx, &self.tdxtcbcomponents, from)
    }
}

/// What the quoting enclave has to be.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnclaveIdentity {
    id: String,
    version: u32,
    issue_date: String,
    next_update: String,
    miscselect: String,
    miscselect_mask: String,
    attributes: String,
    attributes_mask: String,
    mrsigner: String,
    isvprodid: u16,
    tcb_levels: Vec<IsvLevel>,
}

impl EnclaveIdentity {
    /// Checks that an enclave is Intel's quoting enclave for TDX, and current. Gives when the next document is due.
    pub(super) fn check(
        document: &Document,
        signer: &PublicKey,
        enclave: &Enclave,
        at: UnixSeconds,
    ) -> Result<UnixSeconds, Refused> {
        let identity: Self = document.open(signer)?;
        if (identity.id.as_str(), identity.version) != ("TD_QE", 2) {
            return Err(malformed(
                "the enclave identity is not one of the quoting enclave for TDX, of version 2",
            ));
        }
        let next_update = window("the enclave identity", &identity.issue_date, &identity.next_update, at)?;
        let holds = masked(enclave.misc_select, &identity.miscselect_mask)? == unhex(&identity.miscselect)?
            && masked(enclave.attributes, &identity.attributes_mask)? == unhex(&identity.attributes)?
            && enclave.signer[..] == unhex(&identity.mrsigner)?
            && enclave.product == identity.isvprodid;
        if !holds {
            return Err(Refused::new(
                "tdx-quoting-enclave",
                "the quote was not made by Intel's quoting enclave",
            ));
        }
        level_of(&identity.tcb_levels, "the quoting enclave", enclave.svn)?;
        Ok(next_update)
    }
}

/// The first level at or below a version has to be current; levels stand in descending order.
fn level_of(levels: &[IsvLevel], what: &str, svn: u16) -> Result<(), Refused> {
    let level = levels.iter().find(|level| level.tcb.isvsvn <= svn).ok_or_else(|| {
        Refused::new("tdx-tcb-unknown", format!("{what} is below every level that Intel lists"))
    })?;
    up_to_date(what, &level.tcb_status)
}

/// Refuses every status but the one: `SWHardeningNeeded` too, because nobody here can tell whether the guest's software
/// has what Intel asks of it.
fn up_to_date(what: &str, status: &str) -> Result<(), Refused> {
    let reason = match status {
        "UpToDate" => return Ok(()),
        "ConfigurationAndSWHardeningNeeded" => "tdx-tcb-configuration-and-sw-hardening-needed",
        "ConfigurationNeeded" => "tdx-tcb-configuration-needed",
        "OutOfDate" => "tdx-tcb-out-of-date",
        "OutOfDateConfigurationNeeded" => "tdx-tcb-out-of-date-configuration-needed",
        "Revoked" => "tdx-tcb-revoked",
        "SWHardeningNeeded" => "tdx-tcb-sw-hardening-needed",
        _ => "tdx-tcb-unknown",
    };
    let status: String = status.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    Err(Refused::new(reason, format!("Intel says of {what}: {status}")))
}

fn window(what: &str, from: &str, to: &str, at: UnixSeconds) -> Result<UnixSeconds, Refused> {
    let (from, to) = (date(from)?, date(to)?);
    check_window(what, from, to, at)?;
    Ok(to)
}

/// `2025-06-19T10:16:03Z`, read as the time in a certificate that it is.
fn date(text: &str) -> Result<UnixSeconds, Refused> {
    let bad = || malformed("a time is not YYYY-MM-DDTHH:MM:SSZ");
    let separators: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
    let places = [4, 7, 10, 13, 16, 19].map(|place| text.as_bytes().get(place).copied());
    if text.len() != 20 || separators != "--T::Z" || places != [b'-', b'-', b'T', b':', b':', b'Z'].map(Some)
    {
        return Err(bad());
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let der = [&[24, 15], digits.as_bytes(), b"Z"].concat();
    time(&mut Der::new(&der)).map_err(|_| bad())
}

fn masked(bytes: &[u8], mask: &str) -> Result<Vec<u8>, Refused> {
    let mask = unhex(mask)?;
    if mask.len() != bytes.len() {
        return Err(malformed("a mask has another length than what it masks"));
    }
    Ok(bytes.iter().zip(mask).map(|(byte, mask)| byte & mask).collect())
}

fn unhex(text: &str) -> Result<Vec<u8>, Refused> {
    hex::decode(text).map_err(|_| malformed("a number is not hexadecimal"))
}

fn malformed(detail: &str) -> Refused {
    Refused::new("tdx-collateral-malformed", detail)
}

#[cfg(test)]
mod tests;
