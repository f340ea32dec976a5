//! Evidence of format `tdx`.

use super::{Bound, Proven, Refused};

/// The format's name.
pub const FORMAT: &str = "tdx";

/// Verifies evidence of this format.
///
/// # Errors
/// With the reason.
pub fn verify(_bytes: &[u8], _bound: &Bound) -> Result<Proven, Refused> {
    Err(Refused::new("evidence-unknown", "this version does not verify tdx"))
}
