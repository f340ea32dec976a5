//! Whom certificate chains must lead to: pinned by name and key, one root per format.
//!
//! The certificates of these roots are not needed and not kept: a root is a name and a key, and its own signature
//! says nothing. Each is compared in tests with the vendor's published certificate.

use super::x509::Root;
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

impl Anchor {
    /// The root that a chain of this maker brings as its last certificate.
    pub fn root(&self) -> Root<'_> {
        Root::Pinned { name: &self.name, key: self.key }
    }
}

/// Signs the chains of App Attest objects, and of nothing else.
pub const APPLE_APP_ATTESTATION: Root<'static> = Root::Named {
    name: "Apple App Attestation Root CA",
    subject: &unhex::<84>(
        "30523126302406035504030c1d4170706c6520417070204174746573746174696f6e20526f6f7420434131133011060355040a0c0a4170\
         706c6520496e632e3113301106035504080c0a43616c69666f726e6961",
    ),
    spki: &unhex::<120>(
        "3076301006072a8648ce3d020106052b81040022036200044531e198b5b4ec04da1502045704ed4f877272d76135b26116cfc88b615d0a\
         000719ba69858dfe77caa3b839e020ddd656141404702831e43f70b88fd6c394b608ea2bd6ae61e9f598c12f46af52937266e57f14eb61\
         fec530f7144f53812e35",
    ),
};

/// Signs the chains of Managed Device Attestation, and of nothing else.
pub const APPLE_ENTERPRISE_ATTESTATION: Root<'static> = Root::Named {
    name: "Apple Enterprise Attestation Root CA",
    subject: &unhex::<83>(
        "3051312d302b06035504030c244170706c6520456e7465727072697365204174746573746174696f6e20526f6f7420434131133011060355\
         040a0c0a4170706c6520496e632e310b3009060355040613025553",
    ),
    spki: &unhex::<120>(
        "3076301006072a8648ce3d020106052b8104002203620004fa26282af8fb3d4380a84fcb7cabe52739eda9a13f6745a51f1a10536e0bea48\
         65cf8d591b62521660efb5ccf9364b3f61439a33ce62eb3e64c18045917078c0dbfcbbec6122729b3dc27dad8fe1bcf65dc834d0ca113771\
         48f3c86693e3f159",
    ),
};

/// Signs what certifies the signing keys of AMD's processors of the Milan line; the chain brings it.
pub const AMD_ARK_MILAN: Root<'static> = Root::Pinned {
    name: "ARK-Milan",
    key: Hash::from_bytes(unhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9")),
};

/// The same for the Genoa line.
pub const AMD_ARK_GENOA: Root<'static> = Root::Pinned {
    name: "ARK-Genoa",
    key: Hash::from_bytes(unhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831")),
};

/// The same for the Turin line.
pub const AMD_ARK_TURIN: Root<'static> = Root::Pinned {
    name: "ARK-Turin",
    key: Hash::from_bytes(unhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08")),
};

/// Signs the certificates of Intel's quoting enclaves, its lists of revoked ones, and the levels of its firmware.
pub const INTEL_SGX: Root<'static> = Root::Named {
    name: "Intel SGX Root CA",
    subject: &unhex::<106>(
        "3068311a301806035504030c11496e74656c2053475820526f6f74204341311a3018060355040a0c11496e74656c20436f72706f72617469\
         6f6e3114301206035504070c0b53616e746120436c617261310b300906035504080c024341310b3009060355040613025553",
    ),
    spki: &unhex::<91>(
        "3059301306072a8648ce3d020106082a8648ce3d030107034200040ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e70\
         5525f567918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394",
    ),
};

/// Reads the constants above when this file is compiled, so that people can compare them with a vendor's page.
const fn unhex<const N: usize>(text: &str) -> [u8; N] {
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => panic!("a constant is not lowercase hexadecimal"),
        }
    }
    let text = text.as_bytes();
    assert!(text.len() == 2 * N, "a constant has another length");
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        bytes[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
        i += 1;
    }
    bytes
}
