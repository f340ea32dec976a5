//! What kind of TPM it is and whether it is in a state to be used: for `doctor`. It is the TPM's own word; who made it is
//! shown by its certificate.

use std::fmt;

use super::{
    ENDORSEMENT_CERTIFICATE, TpmConfig,
    command::{Link, Tpm},
    error::TpmError,
    pem,
};
use crate::DeviceError;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Four letters that the maker has registered, such as `IBM` or `INTC`.
    pub maker: String,
    /// What the maker calls it.
    pub model: String,
    /// Version of the firmware, as the maker counts.
    pub firmware: (u32, u32),
    /// It holds a certificate for an RSA-2048 endorsement key.
    pub has_certificate: bool,
    /// The owner hierarchy has a password, so no keys can be made.
    pub owner_has_password: bool,
    /// The endorsement hierarchy has a password, so no challenge can be answered.
    pub endorsement_has_password: bool,
    /// Too many wrong passwords were tried.
    pub is_locked: bool,
}

impl Examined {
    /// Whether a provider can use it.
    pub const fn is_usable(&self) -> bool {
        self.has_certificate && !self.owner_has_password && !self.endorsement_has_password && !self.is_locked
    }
}

/// Looks at the TPM, and changes nothing.
///
/// # Errors
/// When it cannot be reached.
pub fn examine(config: &TpmConfig) -> Result<Examined, DeviceError> {
    Tpm::new(config.tcti.clone()).run("looking at it", |link| {
        let property = |link: &mut Link, number| link.property(number);
        let permanent = property(link, PERMANENT)?;
        let mut model = Vec::new();
        for part in 0..VENDOR_STRINGS {
            model.extend(property(link, VENDOR_STRING + part)?.to_be_bytes());
        }
        let certificate = link.read_nv(ENDORSEMENT_CERTIFICATE)?;
        Ok::<_, TpmError>(Examined {
            maker: text(&property(link, MANUFACTURER)?.to_be_bytes()),
            model: text(&model),
            firmware: (property(link, FIRMWARE_HIGH)?, property(link, FIRMWARE_LOW)?),
            has_certificate: certificate.as_deref().and_then(pem::first_of_der).is_some(),
            owner_has_password: permanent & OWNER_AUTH_SET != 0,
            endorsement_has_password: permanent & ENDORSEMENT_AUTH_SET != 0,
            is_locked: permanent & IN_LOCKOUT != 0,
        })
    })
}

impl fmt::Display for Examined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = self.firmware;
        writeln!(f, "TPM: {} {}, firmware {high:08x}.{low:08x}", self.maker, self.model)?;
        for (what, holds, next) in [
            (
                "the maker's certificate is in it",
                self.has_certificate,
                "ask the maker for it; see the manual, \"Using a TPM\"",
            ),
            (
                "the owner hierarchy has no password",
                !self.owner_has_password,
                "`tpm2_changeauth -c owner -p OLD`",
            ),
            (
                "the endorsement hierarchy has no password",
                !self.endorsement_has_password,
                "`tpm2_changeauth -c endorsement -p OLD`",
            ),
            ("it is not locked", !self.is_locked, "wait, or `tpm2_dictionarylockout --clear-lockout`"),
        ] {
            if holds {
                writeln!(f, "{what}: yes")?;
            } else {
                writeln!(f, "{what}: no; {next}")?;
            }
        }
        Ok(())
    }
}

/// Letters, filled up with zeros.
fn text(bytes: &[u8]) -> String {
    bytes.iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect()
}

/// Properties. [TPM 2.0 part 2 §6.13]
const MANUFACTURER: u32 = 0x105;
const VENDOR_STRING: u32 = 0x106;
const VENDOR_STRINGS: u32 = 4;
const FIRMWARE_HIGH: u32 = 0x10b;
const FIRMWARE_LOW: u32 = 0x10c;
const PERMANENT: u32 = 0x200;
/// Bits of the last. [TPM 2.0 part 2 §8.6]
const OWNER_AUTH_SET: u32 = 1;
const ENDORSEMENT_AUTH_SET: u32 = 1 << 1;
const IN_LOCKOUT: u32 = 1 << 9;
