//! A TPM that nobody has, by a maker that does not exist: evidence of format `tpm` in good order, from fixed seeds.
//!
//! The endorsement key is on P-256, so that all of it follows from the seeds. What a real TPM signs is in the tests of
//! `spec` and of `provider/hardware`.

use glassbloom_spec::{
    curve::{PublicKey, SigningKey},
    evidence::{
        Anchor,
        endorsement::Endorsement,
        key::VendorKey,
        tpm::{
            Certified, Evidence, FORMAT, Lasting, Signed,
            credential::{Seeds, Transcript, subject},
            wire::Public,
        },
        x509,
    },
    hash::Hash,
    leaf::{self, Payload, Tier},
};

use crate::der::{self, Certificate, authority, directory, extension, purpose, tlv, usage};

/// Attributes of an attestation key: stays where it was made, restricted, signs.
pub const ATTESTATION: u32 = 0x0005_0072;
/// Attributes of a provider's signing key.
pub const SIGNING: u32 = 0x0004_0072;
/// Attributes of a provider's sealing key.
pub const SEALING: u32 = 0x0002_0072;
/// The scheme of keys that sign.
pub const ECDSA: &[u8] = &[0, 0x18, 0, 0x0b];
/// The scheme of keys that agree on secrets.
pub const ECDH: &[u8] = &[0, 0x19, 0, 0x0b];
/// No scheme: the key is free to use the one that its use needs.
pub const NO_SCHEME: &[u8] = &[0, 0x10];
/// `TPM_ST_ATTEST_CERTIFY`
pub const CERTIFY: u16 = 0x8017;
/// `TPM_ST_ATTEST_QUOTE`
pub const QUOTE: u16 = 0x8018;

/// The endorser whom rules and policies must believe.
pub fn endorser() -> SigningKey {
    SigningKey::from_seed(b"endorser of TPMs")
}

/// A maker of TPMs with a root and one key below it.
pub struct Maker {
    /// What rules call the root.
    pub name: &'static str,
    /// What rules take its TPMs for.
    pub tier: Tier,
    root: SigningKey,
    issuer: SigningKey,
}

impl Maker {
    /// A maker of hardware.
    pub fn hardware() -> Self {
        Self::of("Glass TPM Root", Tier::TpmHw)
    }

    /// Somebody who certifies programs.
    pub fn software() -> Self {
        Self::of("Paper TPM Root", Tier::TpmSoft)
    }

    /// A maker of this name, which its keys follow from.
    pub fn of(name: &'static str, tier: Tier) -> Self {
        let key = |what: &str| SigningKey::from_seed(format!("{name}, {what}").as_bytes());
        Self { name, tier, root: key("root"), issuer: key("issuer") }
    }

    /// What rules and policies say about it.
    ///
    /// # Panics
    /// Never: the root parses.
    pub fn anchor(&self) -> Anchor {
        let root = self.authorities().pop().expect("two of them");
        let root = x509::Certificate::parse(&root).expect("a certificate of ours");
        Anchor { tier: self.tier, key: Hash::of(root.spki()), name: self.name.to_owned() }
    }

    /// The line of a policy about it.
    pub fn policy_line(&self) -> String {
        let anchor = self.anchor();
        format!("anchor {} {} {}\n", anchor.tier, anchor.key, anchor.name)
    }

    /// The issuer's certificate, and the root's own.
    fn authorities(&self) -> Vec<Vec<u8>> {
        let certificate = |subject: &str, key: &SigningKey| Certificate {
            issuer: self.name.to_owned(),
            subject: subject.to_owned(),
            key: key.public_key(),
            valid: ["200101000000Z", "451231235959Z"],
            algorithm: der::ECDSA_SHA256,
            extensions: vec![authority(true), usage(der::KEY_CERT_SIGN)],
        };
        let issuer = certificate(&self.issuer_name(), &self.issuer).sign(&self.root);
        vec![issuer, certificate(self.name, &self.root).sign(&self.root)]
    }

    fn issuer_name(&self) -> String {
        format!("{} 1", self.name)
    }
}

/// What a certificate calls its TPM.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// `id:` and eight hexadecimal digits.
    pub manufacturer: &'static str,
    /// The part.
    pub model: &'static str,
    /// Of the firmware.
    pub version: &'static str,
}

impl Names {
    /// Of the maker of hardware.
    pub const HARDWARE: Self = Self { manufacturer: "id:474C4153", model: "Glass 1", version: "id:00010002" };
    /// Of a well-known program.
    pub const SOFTWARE: Self = Self { manufacturer: "id:00001014", model: "swtpm", version: "id:20191023" };

    /// The extension that says so: a subjectAltName with a directory name.
    pub fn extension(&self) -> Vec<u8> {
        let name = directory(&[
            (b"\x67\x81\x05\x02\x01", self.manufacturer),
            (b"\x67\x81\x05\x02\x02", self.model),
            (b"\x67\x81\x05\x02\x03", self.version),
        ]);
        extension(b"\x55\x1d\x11", true, &tlv(0x30, &tlv(0xa4, &name)))
    }
}

/// Places of the extensions in an endorsement key's certificate.
pub mod place {
    /// Basic constraints.
    pub const AUTHORITY: usize = 0;
    /// Key usage.
    pub const USAGE: usize = 1;
    /// Extended key usage.
    pub const PURPOSE: usize = 2;
    /// Which TPM it is.
    pub const NAMES: usize = 3;
}

/// A TPM with an attestation key in it.
pub struct Tpm {
    /// The endorsement key's certificate, the issuer's, the root's.
    pub chain: Vec<Vec<u8>>,
    /// The attestation key.
    pub attestation: SigningKey,
    /// The endorsement key as the challenge is made for it.
    pub endorsement: PublicKey,
}

impl Default for Tpm {
    fn default() -> Self {
        Self::new()
    }
}

impl Tpm {
    /// Hardware in good order.
    pub fn new() -> Self {
        Self::of(&Maker::hardware(), |_| {})
    }

    /// A program, certified as one.
    pub fn software() -> Self {
        Self::of(&Maker::software(), |certificate| {
            certificate.extensions[place::NAMES] = Names::SOFTWARE.extension();
        })
    }

    /// A TPM by a maker, whose certificate is changed before it is signed.
    pub fn of(maker: &Maker, edit: impl FnOnce(&mut Certificate)) -> Self {
        let endorsement = SigningKey::from_seed(b"endorsement key").public_key();
        let mut certificate = Certificate {
            issuer: maker.issuer_name(),
            subject: "TPM 1".to_owned(),
            key: endorsement,
            valid: ["250101000000Z", "401231235959Z"],
            algorithm: der::ECDSA_SHA256,
            extensions: vec![
                authority(false),
                usage(der::KEY_AGREEMENT),
                purpose(EK_CERTIFICATE),
                Names::HARDWARE.extension(),
            ],
        };
        edit(&mut certificate);
        let mut chain = vec![certificate.sign(&maker.issuer)];
        chain.extend(maker.authorities());
        Self { chain, attestation: SigningKey::from_seed(b"attestation key"), endorsement }
    }

    /// The attestation key's `TPMT_PUBLIC`.
    pub fn attestation_public(&self) -> Vec<u8> {
        public(&self.attestation.public_key(), ATTESTATION, ECDSA)
    }

    /// The lasting part, endorsed for the nonce of the attestation that enrols it.
    pub fn lasting(&self, nonce: Hash) -> Lasting {
        self.lasting_for(self.attestation_public(), nonce)
    }

    /// The same for any attestation key.
    ///
    /// # Panics
    /// When that is no `TPMT_PUBLIC`.
    pub fn lasting_for(&self, attestation_key: Vec<u8>, nonce: Hash) -> Lasting {
        let name = Public::parse(&attestation_key).expect("a key of ours").name();
        let seeds = Seeds { secret: [0x51; 32], seed: [0x52; 32], padding: None };
        let activation = Transcript::make(&VendorKey::P256(self.endorsement), name, seeds).expect("a scalar");
        let lasting =
            Lasting { chain: self.chain.clone(), attestation_key, activation, endorsements: Vec::new() };
        let says = self.endorsement(&lasting, nonce);
        Lasting { endorsements: vec![endorse(&says, &endorser())], ..lasting }
    }

    /// What an endorser says about a lasting part.
    ///
    /// # Panics
    /// When its attestation key is no `TPMT_PUBLIC`.
    pub fn endorsement(&self, lasting: &Lasting, nonce: Hash) -> Endorsement {
        let name = Public::parse(&lasting.attestation_key).expect("a key of ours").name();
        let spki = x509::Certificate::parse(&self.chain[0]).map(|leaf| leaf.spki().to_vec());
        // A certificate that is broken on purpose has no key to name.
        let subject = subject(&spki.unwrap_or_default(), name, &lasting.activation);
        Endorsement { format: FORMAT.to_owned(), subject, nonce, device: None }
    }

    /// Evidence for both keys of a provider and a nonce, over a lasting part.
    pub fn evidence(
        &self,
        lasting: Lasting,
        signing: &PublicKey,
        sealing: &PublicKey,
        nonce: Hash,
    ) -> Evidence {
        let registers: Vec<(u8, Hash)> = (0..8).map(|index| (index, Hash::of(&[index]))).collect();
        Evidence {
            lasting,
            quote: self.quote(&registers, nonce),
            registers,
            signing: self.certified(public(signing, SIGNING, ECDSA), nonce),
            sealing: self.certified(public(sealing, SEALING, ECDH), nonce),
        }
    }

    /// A quote of registers with these values.
    pub fn quote(&self, registers: &[(u8, Hash)], nonce: Hash) -> Signed {
        let mut bits = [0_u8; 3];
        for (index, _) in registers {
            bits[usize::from(index / 8)] |= 1 << (index % 8);
        }
        let values: Vec<&[u8]> = registers.iter().map(|(_, value)| value.as_ref()).collect();
        let digest = Hash::of_parts(&values);
        let what = [&[0, 0, 0, 1, 0, 0x0b, 3][..], &bits, &[0, 32], digest.as_ref()].concat();
        self.sign(attest(QUOTE, nonce.as_ref(), &what))
    }

    /// A key with the certification that it is in this TPM.
    pub fn certified(&self, public: Vec<u8>, nonce: Hash) -> Certified {
        let by = self.certify(&public, nonce);
        Certified { public, by }
    }

    /// The certification of an object.
    ///
    /// # Panics
    /// When it is no `TPMT_PUBLIC`.
    pub fn certify(&self, object: &[u8], nonce: Hash) -> Signed {
        let name = Public::parse(object).expect("a key of ours").name();
        let name = [&[0, 34][..], name.as_bytes()].concat();
        self.sign(attest(CERTIFY, nonce.as_ref(), &[name.as_slice(), &name].concat()))
    }

    /// The attestation key's signature over anything that begins as a `TPMS_ATTEST` does.
    pub fn sign(&self, attest: Vec<u8>) -> Signed {
        let raw = self.attestation.sign(&attest);
        let signature = [ECDSA, &[0, 32], &raw[..32], &[0, 32], &raw[32..]].concat();
        Signed { attest, signature }
    }

    /// Sets the evidence of an attestation whose nonce is set already.
    pub fn attest(&self, attestation: &leaf::Attestation, lasting: Lasting) -> leaf::Evidence {
        let sealing = attestation.key_config.public_key();
        let evidence = self.evidence(lasting, &attestation.signing_key, sealing, attestation.nonce);
        leaf::Evidence { format: FORMAT.to_owned(), bytes: evidence.encode() }
    }
}

/// An endorsement as it stands in evidence.
///
/// # Panics
/// Never: the software key signs.
pub fn endorse(says: &Endorsement, by: &SigningKey) -> Vec<u8> {
    says.sign(by).expect("software keys sign").bytes().to_vec()
}

/// A `TPMS_ATTEST`.
pub fn attest(kind: u16, extra: &[u8], what: &[u8]) -> Vec<u8> {
    let signer = [&[0, 34, 0, 0x0b][..], Hash::of(b"qualified name").as_ref()].concat();
    let length = (extra.len() as u16).to_be_bytes();
    let clock =
        [&7_000_u64.to_be_bytes()[..], &[0, 0, 0, 2, 0, 0, 0, 3, 1], &[0, 1, 0, 2, 0, 3, 0, 4]].concat();
    [b"\xffTCG", &kind.to_be_bytes()[..], &signer, &length, extra, &clock, what].concat()
}

/// A `TPMT_PUBLIC` on P-256.
pub fn public(key: &PublicKey, attributes: u32, scheme: &[u8]) -> Vec<u8> {
    let point = key.to_uncompressed();
    let head = [&[0, 0x23, 0, 0x0b][..], &attributes.to_be_bytes(), &[0, 0, 0, 0x10]].concat();
    [&head, scheme, &[0, 3, 0, 0x10, 0, 32], &point[1..33], &[0, 32], &point[33..]].concat()
}

/// 2.23.133.8.1
const EK_CERTIFICATE: &[u8] = b"\x67\x81\x05\x08\x01";
