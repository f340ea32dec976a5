//! The bytes of TPM 2.0 commands and responses. All integers are big-endian; `2B` is a length of two bytes and the bytes.
//! [TPM 2.0 part 1 §18, part 2, part 3]

use zeroize::Zeroizing;

/// Commands. [TPM 2.0 part 2 §6.5.2]
pub(super) mod code {
    pub(crate) const ACTIVATE_CREDENTIAL: u32 = 0x147;
    pub(crate) const CERTIFY: u32 = 0x148;
    pub(crate) const CONTEXT_LOAD: u32 = 0x161;
    pub(crate) const CONTEXT_SAVE: u32 = 0x162;
    pub(crate) const CREATE: u32 = 0x153;
    pub(crate) const CREATE_PRIMARY: u32 = 0x131;
    pub(crate) const ECDH_ZGEN: u32 = 0x154;
    pub(crate) const FLUSH_CONTEXT: u32 = 0x165;
    pub(crate) const GET_CAPABILITY: u32 = 0x17a;
    pub(crate) const LOAD: u32 = 0x157;
    pub(crate) const NV_READ: u32 = 0x14e;
    pub(crate) const NV_READ_PUBLIC: u32 = 0x169;
    pub(crate) const PCR_READ: u32 = 0x17e;
    pub(crate) const POLICY_SECRET: u32 = 0x151;
    pub(crate) const QUOTE: u32 = 0x158;
    pub(crate) const READ_PUBLIC: u32 = 0x173;
    pub(crate) const SIGN: u32 = 0x15d;
    pub(crate) const START_AUTH_SESSION: u32 = 0x176;
}

/// Handles that every TPM has. [TPM 2.0 part 2 §7.4]
pub(super) mod handle {
    pub(crate) const ENDORSEMENT: u32 = 0x4000_000b;
    pub(crate) const NULL: u32 = 0x4000_0007;
    pub(crate) const OWNER: u32 = 0x4000_0001;
    pub(crate) const PASSWORD_SESSION: u32 = 0x4000_0009;
}

/// Algorithms. [TPM 2.0 part 2 §6.3]
pub(super) mod algorithm {
    pub(crate) const AES: u16 = 0x0006;
    pub(crate) const CFB: u16 = 0x0043;
    pub(crate) const ECC: u16 = 0x0023;
    pub(crate) const ECDH: u16 = 0x0019;
    pub(crate) const ECDSA: u16 = 0x0018;
    pub(crate) const NULL: u16 = 0x0010;
    pub(crate) const RSA: u16 = 0x0001;
    pub(crate) const SHA256: u16 = 0x000b;
    /// TPM_ECC_NIST_P256.
    pub(crate) const P256: u16 = 0x0003;
}

/// Response tags. [TPM 2.0 part 2 §6.9]
pub(super) const NO_SESSIONS: u16 = 0x8001;
pub(super) const SESSIONS: u16 = 0x8002;
/// Tag of a ticket that says a digest was made by this TPM; with no digest, that it was not.
pub(super) const HASH_CHECK: u16 = 0x8024;

/// No command or response of any TPM is longer.
pub(super) const LARGEST: usize = 4096;
/// Tag, length and code.
pub(super) const HEADER: usize = 10;

/// Builds the bytes of a command; wiped when dropped.
#[derive(Default)]
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A length of two bytes, and the bytes. What is longer than a command can be is cut here and refused by the TPM,
    /// because its length is then wrong.
    pub(super) fn sized(self, bytes: &[u8]) -> Self {
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).raw(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A response that ends too early, or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the TPM's answer is not of the expected form")]
pub(super) struct Garbled;

/// Reads the bytes of a response.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Garbled> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Garbled)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        self.take(N)?.try_into().map_err(|_| Garbled)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Garbled> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Garbled> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Garbled> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn sized(&mut self) -> Result<&'a [u8], Garbled> {
        let length = self.u16()?;
        self.take(length.into())
    }

    pub(super) fn end(self) -> Result<(), Garbled> {
        if self.0.is_empty() { Ok(()) } else { Err(Garbled) }
    }
}

/// A coordinate or half of a signature, which a TPM may return without its leading zeros.
pub(super) fn scalar(bytes: &[u8]) -> Result<[u8; 32], Garbled> {
    let skip = bytes.len().saturating_sub(32);
    let (zeros, rest) = bytes.split_at(skip);
    if zeros.iter().any(|byte| *byte != 0) {
        return Err(Garbled);
    }
    let mut out = [0; 32];
    out[32 - rest.len()..].copy_from_slice(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_filled_up_from_the_left() {
        assert_eq!(scalar(&[1, 2]).unwrap()[29..], [0, 1, 2]);
        assert_eq!(scalar(&[7; 32]).unwrap(), [7; 32]);
        assert_eq!(scalar(&[[0].as_slice(), &[7; 32]].concat()).unwrap(), [7; 32]);
        assert_eq!(scalar(&[1; 33]), Err(Garbled));
    }

    #[test]
    fn readers_stop_at_the_end() {
        let mut reader = Reader(&[0, 2, 9, 9, 1]);
        assert_eq!(reader.sized(), Ok(&[9, 9][..]));
        assert_eq!(reader.u16(), Err(Garbled));
        assert_eq!(Reader(&[1]).end(), Err(Garbled));
        assert_eq!(Writer::default().u8(1).u16(2).u32(3).sized(&[4]).bytes(), [1, 0, 2, 0, 0, 0, 3, 0, 1, 4]);
    }
}
