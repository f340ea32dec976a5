//! The few calls of the operating system that Rust has no safe form of. Everything unsafe of this crate that is not
//! Apple's is here.

#[cfg(unix)]
use std::io;

use crate::DeviceError;

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], DeviceError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| DeviceError::failed("asking for randomness", error, "restart the machine"))?;
    Ok(bytes)
}

/// Keeps the pages that a value lies on out of the swap area, until the process ends. What it points to is not covered.
#[cfg(unix)]
#[expect(unsafe_code, reason = "mlock takes an address; it reads and writes nothing there")]
pub(crate) fn lock<T>(value: &T) -> io::Result<()> {
    // SAFETY: the range is that of a live value, and locking changes neither its content nor whether it can be read.
    Ok(unsafe { nix::sys::mman::mlock(std::ptr::NonNull::from(value).cast(), size_of::<T>()) }?)
}

/// Keeps nothing out of a swap area.
#[cfg(not(unix))]
pub(crate) fn lock<T>(_value: &T) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Refuses debuggers for the rest of the process's life.
#[cfg(target_os = "macos")]
#[expect(unsafe_code, reason = "ptrace takes addresses for other requests than this one")]
pub(crate) fn deny_attach() -> io::Result<()> {
    // SAFETY: PT_DENY_ATTACH looks at no other argument.
    match unsafe { libc::ptrace(libc::PT_DENY_ATTACH, 0, std::ptr::null_mut(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
