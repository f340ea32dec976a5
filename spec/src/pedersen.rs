//! Pedersen commitments on ristretto255: amounts that stay secret and still add up. The only file that imports
//! `curve25519-dalek`.
//!
//! `C = v·G + r·H`, where G is the ristretto255 base point and H has a discrete logarithm that nobody knows.
//! Commitments are linear, so `price·C(tokens, r) = C(price·tokens, price·r)`: anyone can check a charge against the
//! logged price without learning either number. See `spec/receipt.md`.

use core::fmt;

use curve25519_dalek::{
    constants::RISTRETTO_BASEPOINT_POINT,
    ristretto::{CompressedRistretto, RistrettoPoint},
    scalar::Scalar,
};

use crate::hash::{Hash, hkdf_expand};

/// A commitment: a compressed ristretto255 point, canonical.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Commitment(CompressedRistretto);

/// The number and the blinding factor that open a commitment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    value: u64,
    blinding: Scalar,
}

/// Bytes that are no commitment, or numbers that do not open one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentError {
    /// The bytes are not a canonical ristretto255 point.
    #[error("not a canonical ristretto255 point")]
    NotAPoint,
    /// The bytes are not a canonical scalar.
    #[error("not a canonical ristretto255 scalar")]
    NotAScalar,
    /// The sum of the products does not fit 64 bits.
    #[error("an amount does not fit 64 bits")]
    Overflow,
}

impl Opening {
    /// An opening for `value`, its blinding derived from 64 secret bytes.
    pub fn new(value: u64, secret: &[u8; 64]) -> Self {
        Self { value, blinding: Scalar::from_bytes_mod_order_wide(secret) }
    }

    /// An opening as it is handed over: the number and the 32-byte blinding.
    pub fn from_parts(value: u64, blinding: [u8; 32]) -> Result<Self, CommitmentError> {
        let blinding =
            Option::from(Scalar::from_canonical_bytes(blinding)).ok_or(CommitmentError::NotAScalar)?;
        Ok(Self { value, blinding })
    }

    /// The number.
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// The blinding factor.
    pub fn blinding(&self) -> [u8; 32] {
        self.blinding.to_bytes()
    }

    /// The commitment that this opens.
    pub fn commitment(&self) -> Commitment {
        Commitment(
            (RISTRETTO_BASEPOINT_POINT * Scalar::from(self.value) + self.blinding * second_base()).compress(),
        )
    }

    /// The opening of `Σ factor·opening`.
    pub fn linear(terms: &[(u64, Self)]) -> Result<Self, CommitmentError> {
        let mut sum = Self { value: 0, blinding: Scalar::ZERO };
        for (factor, opening) in terms {
            let product = factor.checked_mul(opening.value).ok_or(CommitmentError::Overflow)?;
            sum.value = sum.value.checked_add(product).ok_or(CommitmentError::Overflow)?;
            sum.blinding += Scalar::from(*factor) * opening.blinding;
        }
        Ok(sum)
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening(secret)")
    }
}

impl Commitment {
    /// Parses a canonical point.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, CommitmentError> {
        let compressed = CompressedRistretto(bytes);
        compressed.decompress().map(|_| Self(compressed)).ok_or(CommitmentError::NotAPoint)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The commitment to `Σ factor·value`.
    pub fn linear(terms: &[(u64, Self)]) -> Self {
        let point = |commitment: &Self| commitment.0.decompress().expect("decompressed when it was made");
        Self(
            terms
                .iter()
                .map(|(factor, commitment)| Scalar::from(*factor) * point(commitment))
                .sum::<RistrettoPoint>()
                .compress(),
        )
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commitment({})", hex::encode(self.as_bytes()))
    }
}

/// H: hashed to the group from a fixed tag, so that nobody knows its discrete logarithm.
fn second_base() -> RistrettoPoint {
    let mut uniform = [0; 64];
    hkdf_expand(Hash::of(b"glassbloom/pedersen/v1").as_bytes(), &[b"second base"], &mut uniform);
    RistrettoPoint::from_uniform_bytes(&uniform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_its_price_times_the_tokens() {
        let prompt = Opening::new(12, &[1; 64]);
        let completion = Opening::new(34, &[2; 64]);
        let charge = Opening::linear(&[(50_000, prompt), (200_000, completion)]).unwrap();
        assert_eq!(charge.value(), 12 * 50_000 + 34 * 200_000);
        let public = Commitment::linear(&[(50_000, prompt.commitment()), (200_000, completion.commitment())]);
        assert_eq!(charge.commitment(), public);
        assert_ne!(
            Commitment::linear(&[(50_000, prompt.commitment()), (200_001, completion.commitment())]),
            public
        );
    }

    #[test]
    fn equal_amounts_do_not_look_equal() {
        assert_ne!(Opening::new(7, &[1; 64]).commitment(), Opening::new(7, &[2; 64]).commitment());
    }

    #[test]
    fn amounts_that_overflow_are_an_error() {
        assert_eq!(Opening::linear(&[(u64::MAX, Opening::new(2, &[0; 64]))]), Err(CommitmentError::Overflow));
    }

    #[test]
    fn bytes_that_are_no_point_are_refused() {
        assert_eq!(Commitment::from_bytes([0xff; 32]), Err(CommitmentError::NotAPoint));
        let opening = Opening::new(3, &[9; 64]);
        assert_eq!(Commitment::from_bytes(*opening.commitment().as_bytes()).unwrap(), opening.commitment());
        assert_eq!(Opening::from_parts(3, opening.blinding()).unwrap(), opening);
    }
}
