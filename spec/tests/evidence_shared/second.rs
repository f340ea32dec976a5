//! The second opinion: rustls-webpki with ring, which shares no line with our verifier.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::time::Duration;

use glassbloom_spec::evidence::{
    der::{Der, Tag},
    x509::{Certificate, Root},
};
use rustls_pki_types::{CertificateDer, Der as Raw, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, Error, KeyUsage,
    ring::{
        ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    },
};

pub(crate) const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    ECDSA_P256_SHA256,
    ECDSA_P256_SHA384,
    ECDSA_P384_SHA256,
    ECDSA_P384_SHA384,
    RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
];

/// Verifies a chain without its root, under a root's name and key.
pub(crate) fn verify(
    chain: &[Vec<u8>],
    (subject, spki): (&[u8], &[u8]),
    at: u64,
    purpose: Option<&'static [u8]>,
) -> Result<(), Error> {
    let inside = |der| Raw::from(Der::only(der, Tag::SEQUENCE).unwrap());
    let anchors = [TrustAnchor {
        subject: inside(subject),
        subject_public_key_info: inside(spki),
        name_constraints: None,
    }];
    let Some((leaf, above)) = chain.split_first() else { return Err(Error::UnknownIssuer) };
    let leaf = CertificateDer::from(leaf.as_slice());
    let above: Vec<CertificateDer> = above.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let usage = match purpose {
        // Where it is required, webpki asks it of authorities too, which makers of TPMs do not give theirs.
        Some(purpose) => KeyUsage::required_if_present(purpose),
        // A purpose that no certificate here has: those that have any purpose at all name theirs.
        None => KeyUsage::required_if_present(&[0x2a, 0x03]),
    };
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(ALGORITHMS, &anchors, &above, time, usage, None, None)
        .map(drop)
}

/// Name and key of a root: of the last certificate where the chain brings it.
pub(crate) fn anchor<'a>(root: &Root<'a>, chain: &'a [Vec<u8>]) -> (&'a [u8], &'a [u8]) {
    match root {
        Root::Named { subject, spki, .. } => (subject, spki),
        Root::Pinned { .. } => {
            let last = Certificate::parse(chain.last().unwrap()).unwrap();
            (last.subject_name(), last.spki())
        }
    }
}
