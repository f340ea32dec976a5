//! The kinds of keys that this program has a TPM make, as templates, and how their public parts are written.

use glassbloom_spec::curve::{PublicKey, UNCOMPRESSED_LEN};

use super::wire::{Garbled, Reader, Writer, algorithm, scalar};

/// Attributes of a key. [TPM 2.0 part 2 §8.3]
mod attribute {
    pub(crate) const FIXED_TPM: u32 = 1 << 1;
    pub(crate) const FIXED_PARENT: u32 = 1 << 4;
    pub(crate) const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub(crate) const USER_WITH_AUTH: u32 = 1 << 6;
    pub(crate) const ADMIN_WITH_POLICY: u32 = 1 << 7;
    pub(crate) const NO_DA: u32 = 1 << 10;
    pub(crate) const RESTRICTED: u32 = 1 << 16;
    pub(crate) const DECRYPT: u32 = 1 << 17;
    pub(crate) const SIGN: u32 = 1 << 18;
}

/// Made in the TPM, and never anywhere else.
const STAYS: u32 = attribute::FIXED_TPM | attribute::FIXED_PARENT | attribute::SENSITIVE_DATA_ORIGIN;

/// Used with an empty password, so that nobody can lock it by guessing.
const OPEN: u32 = attribute::USER_WITH_AUTH | attribute::NO_DA;

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Template {
    /// Signs only what the TPM itself has put together: quotes and certificates of other keys.
    Attestation,
    /// Made from the seed of the endorsement hierarchy, so that the maker's certificate is about it. [EK profile, L-1]
    Endorsement,
    /// Agrees on secrets.
    Sealing,
    /// Signs anything.
    Signing,
    /// Holds the others. Made from the seed of its hierarchy, the same each time.
    Storage,
}

impl Template {
    /// TPMT_PUBLIC.
    pub(super) fn encode(self) -> Vec<u8> {
        let ecc = |attributes: u32| {
            Writer::default().u16(algorithm::ECC).u16(algorithm::SHA256).u32(attributes).sized(&[])
        };
        let null = algorithm::NULL;
        match self {
            Self::Attestation => ecc(STAYS | OPEN | attribute::RESTRICTED | attribute::SIGN)
                .u16(null)
                .u16(algorithm::ECDSA)
                .u16(algorithm::SHA256)
                .u16(algorithm::P256)
                .u16(null)
                .sized(&[])
                .sized(&[]),
            Self::Endorsement => Writer::default()
                .u16(algorithm::RSA)
                .u16(algorithm::SHA256)
                .u32(STAYS | attribute::ADMIN_WITH_POLICY | attribute::RESTRICTED | attribute::DECRYPT)
                .sized(&ENDORSEMENT_POLICY)
                .u16(algorithm::AES)
                .u16(128)
                .u16(algorithm::CFB)
                .u16(null)
                .u16(2048)
                .u32(0)
                .sized(&[0; 256]),
            Self::Sealing => ecc(STAYS | OPEN | attribute::DECRYPT)
                .u16(null)
                .u16(algorithm::ECDH)
                .u16(algorithm::SHA256)
                .u16(algorithm::P256)
                .u16(null)
                .sized(&[])
                .sized(&[]),
            Self::Signing => ecc(STAYS | OPEN | attribute::SIGN)
                .u16(null)
                .u16(algorithm::ECDSA)
                .u16(algorithm::SHA256)
                .u16(algorithm::P256)
                .u16(null)
                .sized(&[])
                .sized(&[]),
            Self::Storage => ecc(STAYS | OPEN | attribute::RESTRICTED | attribute::DECRYPT)
                .u16(algorithm::AES)
                .u16(128)
                .u16(algorithm::CFB)
                .u16(null)
                .u16(algorithm::P256)
                .u16(null)
                .sized(&[])
                .sized(&[]),
        }
        .bytes()
        .to_vec()
    }

    /// Whether a public part is a key of this kind: all but the key itself is the same.
    pub(super) fn made(self, public: &[u8]) -> bool {
        // Each template ends with the empty or zero key: two empty coordinates, or a modulus of 256 bytes.
        let ours = self.encode();
        let key = if self == Self::Endorsement { 256 } else { 4 };
        let (head, _) = ours.split_at(ours.len() - key);
        public.starts_with(head)
    }
}

/// The point of an elliptic-curve key, from its TPMT_PUBLIC.
pub(super) fn point(public: &[u8]) -> Result<PublicKey, Garbled> {
    let mut reader = Reader(public);
    if reader.u16()? != algorithm::ECC || reader.u16()? != algorithm::SHA256 {
        return Err(Garbled);
    }
    reader.u32()?;
    reader.sized()?;
    if reader.u16()? != algorithm::NULL {
        // The mode of a storage key's cipher.
        reader.take(4)?;
    }
    if reader.u16()? != algorithm::NULL {
        reader.u16()?;
    }
    if reader.u16()? != algorithm::P256 || reader.u16()? != algorithm::NULL {
        return Err(Garbled);
    }
    let (x, y) = (reader.sized()?, reader.sized()?);
    reader.end()?;
    let mut sec1 = [4; UNCOMPRESSED_LEN];
    sec1[1..33].copy_from_slice(&scalar(x)?);
    sec1[33..].copy_from_slice(&scalar(y)?);
    PublicKey::from_sec1(&sec1).map_err(|_| Garbled)
}

/// The modulus of an RSA key, from its TPMT_PUBLIC.
pub(super) fn modulus(public: &[u8]) -> Option<&[u8]> {
    public.len().checked_sub(256).map(|at| &public[at..])
}

/// PolicySecret of the endorsement hierarchy, which every endorsement key of the profile asks for. [EK profile, B.3]
const ENDORSEMENT_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_its_template_alone() {
        let all = [
            Template::Attestation,
            Template::Endorsement,
            Template::Sealing,
            Template::Signing,
            Template::Storage,
        ];
        for a in all {
            for b in all {
                assert_eq!(a.made(&b.encode()), a == b, "{a:?} {b:?}");
            }
        }
        assert_eq!(point(&Template::Signing.encode()), Err(Garbled), "a template has no key");
    }
}
