//! Evidence of format `mda`.

use super::{Bound, Proven, Refused, Trust};
use crate::hash::Hash;

/// 1.2.840.113635.100.4.24: the purpose that certificates of attested keys have since 2026.
pub(crate) const ATTESTATION_PURPOSE: &[u8] = b"\x2a\x86\x48\x86\xf7\x63\x64\x04\x18";

/// The format's name.
pub const FORMAT: &str = "mda";

/// Verifies evidence of this format.
///
/// # Errors
/// With the reason.
pub fn verify(_bytes: &[u8], _bound: &Bound, _trust: &Trust) -> Result<Proven, Refused> {
    Err(Refused::new("evidence-unknown", "this version does not verify mda"))
}

/// Names the part that is made once per key.
pub fn lasting(_bytes: &[u8]) -> Option<Hash> {
    None
}
