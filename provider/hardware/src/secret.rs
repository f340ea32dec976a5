//! Bytes that are kept out of the swap area where the system lets them, and wiped when dropped.

use std::ops::{Deref, DerefMut};

use zeroize::Zeroize;

use crate::os;

/// Secret bytes of a fixed length: they never move, so no copy stays behind. Has no `Debug`, and no `Clone`.
pub struct Secret {
    bytes: Box<[u8]>,
    locked: bool,
}

impl Secret {
    /// So many zeros, to be filled in place.
    pub fn zeros(length: usize) -> Self {
        let bytes = vec![0; length].into_boxed_slice();
        let locked = os::lock(&bytes).is_ok();
        Self { bytes, locked }
    }

    /// Takes a copy, and wipes the original.
    pub fn take(original: &mut [u8]) -> Self {
        let mut secret = Self::zeros(original.len());
        secret.copy_from_slice(original);
        original.zeroize();
        secret
    }

    /// Whether the system keeps it out of the swap area: without rights, only so much memory is (`ulimit -l`).
    pub const fn is_locked(&self) -> bool {
        self.locked
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // Wiped while it is still locked. Its pages stay locked: another secret may lie on them, and locks do not count.
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_is_wiped() {
        let mut original = *b"secret";
        let secret = Secret::take(&mut original);
        assert_eq!((&*secret, original), (&b"secret"[..], [0; 6]));
        assert!(Secret::zeros(0).is_empty());
        // A page is within every limit that systems set.
        #[cfg(target_os = "linux")]
        assert!(Secret::zeros(32).is_locked());
    }
}
