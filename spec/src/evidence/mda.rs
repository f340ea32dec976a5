//! Evidence of format `mda`.

use super::{Bound, Proven, Refused, Trust};
use crate::hash::Hash;

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
