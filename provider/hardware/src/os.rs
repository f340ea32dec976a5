//! What only the operating system gives.

use crate::DeviceError;

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], DeviceError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| DeviceError::failed("asking for randomness", error, "restart the machine"))?;
    Ok(bytes)
}
