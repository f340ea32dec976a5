//! Whom certificate chains must lead to: pinned by name and key, one root per format.

use crate::{hash::Hash, leaf::Tier};

/// A root that rules name: TPMs have hundreds of makers, so none is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// What evidence under this root is: `tpm-hw` or `tpm-soft`.
    pub tier: Tier,
    /// SHA-256 over the root's SubjectPublicKeyInfo (DER).
    pub key: Hash,
    /// For people.
    pub name: String,
}
