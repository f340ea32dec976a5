//! A maker of TPMs and a TPM, played in memory, so that every rule can be broken alone.

use glassbloom_spec::{
    curve::{EcdhSecret, PublicKey, SigningKey},
    evidence::{
        Anchor, Bound, Proven, Refused, Trust,
        endorsement::Endorsement,
        tpm::{
            self, Certified, Evidence, Lasting, Signed,
            credential::{Seeds, Transcript, subject},
            wire::Public,
        },
        x509::Certificate,
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::{Payload, Tier},
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

pub(crate) const AT: UnixSeconds = UnixSeconds::new(1_800_000_000);
pub(crate) const EK_PURPOSE: &[u64] = &[2, 23, 133, 8, 1];

pub(crate) const AK_ATTRIBUTES: u32 = 0x0005_0072;
pub(crate) const SIGNING_ATTRIBUTES: u32 = 0x0004_0072;
pub(crate) const SEALING_ATTRIBUTES: u32 = 0x0002_0072;
pub(crate) const ECDSA: &[u8] = &[0, 0x18, 0, 0x0b];
pub(crate) const ECDH: &[u8] = &[0, 0x19, 0, 0x0b];
pub(crate) const NONE: &[u8] = &[0, 0x10];

/// What a maker writes into a certificate.
pub(crate) struct Names {
    pub(crate) manufacturer: &'static str,
    pub(crate) model: &'static str,
    pub(crate) purpose: &'static [u64],
}

impl Default for Names {
    fn default() -> Self {
        Self { manufacturer: "id:474C4153", model: "Glass 1", purpose: EK_PURPOSE }
    }
}

/// A machine with a TPM.
pub(crate) struct Machine {
    pub(crate) anchor: Anchor,
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) attestation: SigningKey,
    pub(crate) signing: SigningKey,
    pub(crate) sealing: EcdhSecret,
    pub(crate) endorser: SigningKey,
    pub(crate) nonce: Hash,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::of(&Names::default(), Tier::TpmHw)
    }

    pub(crate) fn of(names: &Names, tier: Tier) -> Self {
        let chain = certificates(names);
        let root = Certificate::parse(chain.last().unwrap()).unwrap();
        let anchor = Anchor { tier, key: Hash::of(root.spki()), name: "Glass root".to_owned() };
        Self {
            anchor,
            chain,
            attestation: SigningKey::from_seed(b"attestation"),
            signing: SigningKey::from_seed(b"signing"),
            sealing: EcdhSecret::from_bytes(&[9; 32]).unwrap(),
            endorser: SigningKey::from_seed(b"endorser"),
            nonce: Hash::of(b"nonce"),
        }
    }

    pub(crate) fn sealing_key(&self) -> PublicKey {
        PublicKey::from_sec1(&self.sealing.public_key()).unwrap()
    }

    /// Evidence as an honest provider makes it.
    pub(crate) fn evidence(&self) -> Evidence {
        let ak = public(&self.attestation.public_key(), AK_ATTRIBUTES, ECDSA);
        let signing = public(&self.signing.public_key(), SIGNING_ATTRIBUTES, ECDSA);
        let sealing = public(&self.sealing_key(), SEALING_ATTRIBUTES, ECDH);
        let registers: Vec<(u8, Hash)> = (0..8).map(|index| (index, Hash::of(&[index]))).collect();
        Evidence {
            lasting: self.endorsed(Lasting {
                chain: self.chain.clone(),
                attestation_key: ak.clone(),
                activation: self.activation(&ak),
                endorsements: Vec::new(),
            }),
            quote: self.quote(&registers),
            registers,
            signing: Certified { by: self.certify(&signing), public: signing },
            sealing: Certified { by: self.certify(&sealing), public: sealing },
        }
    }

    /// A challenge by an endorser for an attestation key.
    pub(crate) fn activation(&self, ak: &[u8]) -> Transcript {
        let leaf = Certificate::parse(&self.chain[0]).unwrap();
        let seeds = Seeds { secret: [1; 32], seed: [2; 32], padding: None };
        Transcript::make(leaf.key(), Public::parse(ak).unwrap().name(), seeds).unwrap()
    }

    /// The same with the word of the endorser that the challenge was answered.
    pub(crate) fn endorsed(&self, mut lasting: Lasting) -> Lasting {
        let leaf = Certificate::parse(&lasting.chain[0]).unwrap();
        let name = Public::parse(&lasting.attestation_key).unwrap().name();
        let says = Endorsement {
            format: tpm::FORMAT.to_owned(),
            subject: subject(leaf.spki(), name, &lasting.activation),
            nonce: self.nonce,
            device: None,
        };
        lasting.endorsements = vec![says.sign(&self.endorser).unwrap().bytes().to_vec()];
        lasting
    }

    pub(crate) fn quote(&self, registers: &[(u8, Hash)]) -> Signed {
        let mut bits = [0; 3];
        for (index, _) in registers {
            bits[usize::from(index / 8)] |= 1 << (index % 8);
        }
        let values: Vec<&[u8]> = registers.iter().map(|(_, value)| value.as_ref()).collect();
        let digest = Hash::of_parts(&values);
        let what = [&[0, 0, 0, 1, 0, 0x0b, 3][..], &bits, &[0, 32], digest.as_ref()].concat();
        self.attest(0x8018, self.nonce, &what)
    }

    pub(crate) fn certify(&self, public: &[u8]) -> Signed {
        let name = Public::parse(public).unwrap().name();
        let name = [&[0, 34][..], name.as_bytes()].concat();
        self.attest(0x8017, self.nonce, &[name.as_slice(), &name].concat())
    }

    /// A statement that the attestation key signs.
    pub(crate) fn attest(&self, kind: u16, nonce: Hash, what: &[u8]) -> Signed {
        sign(&self.attestation, attest(kind, nonce, what))
    }

    pub(crate) fn verify(&self, evidence: &Evidence) -> Result<Proven, Refused> {
        self.verify_bytes(&evidence.encode())
    }

    pub(crate) fn verify_bytes(&self, bytes: &[u8]) -> Result<Proven, Refused> {
        self.verify_for(bytes, &self.signing.public_key(), &self.sealing_key(), self.nonce)
    }

    pub(crate) fn verify_for(
        &self,
        bytes: &[u8],
        signing: &PublicKey,
        sealing: &PublicKey,
        nonce: Hash,
    ) -> Result<Proven, Refused> {
        let bound = Bound { nonce, signing_key: signing, sealing_key: sealing, at: AT, enrolled: None };
        let (anchors, endorsers) = ([self.anchor.clone()], [self.endorser.public_key()]);
        tpm::verify(bytes, &bound, &Trust { anchors: &anchors, endorsers: &endorsers, apps: &[] })
    }

    pub(crate) fn reason(&self, evidence: &Evidence) -> &'static str {
        self.verify(evidence).unwrap_err().reason
    }
}

/// A `TPMS_ATTEST`.
pub(crate) fn attest(kind: u16, nonce: Hash, what: &[u8]) -> Vec<u8> {
    let signer = [&[0, 34, 0, 0x0b][..], Hash::of(b"qualified").as_ref()].concat();
    let clock =
        [&7_000u64.to_be_bytes()[..], &[0, 0, 0, 2, 0, 0, 0, 3, 1], &[0, 1, 0, 2, 0, 3, 0, 4]].concat();
    [b"\xffTCG", &kind.to_be_bytes()[..], &signer, &[0, 32], nonce.as_ref(), &clock, what].concat()
}

/// With a `TPMT_SIGNATURE` by a key.
pub(crate) fn sign(key: &SigningKey, attest: Vec<u8>) -> Signed {
    let signature = key.sign(&attest);
    let signature = [&[0, 0x18, 0, 0x0b, 0, 32][..], &signature[..32], &[0, 32], &signature[32..]].concat();
    Signed { attest, signature }
}

/// A `TPMT_PUBLIC` on P-256.
pub(crate) fn public(key: &PublicKey, attributes: u32, scheme: &[u8]) -> Vec<u8> {
    let point = key.to_uncompressed();
    let head = [&[0, 0x23, 0, 0x0b][..], &attributes.to_be_bytes(), &[0, 0, 0, 0x10]].concat();
    [&head, scheme, &[0, 3, 0, 0x10, 0, 32], &point[1..33], &[0, 32], &point[33..]].concat()
}

fn certificates(names: &Names) -> Vec<Vec<u8>> {
    let root_key = KeyPair::generate().unwrap();
    let root = authority("Glass root");
    let issuer_key = KeyPair::generate().unwrap();
    let issuer = authority("Glass issuer");
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = DistinguishedName::new();
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(names.purpose.to_vec())];
    let attributes = [(1, names.manufacturer), (2, names.model), (3, "id:00010002")].map(|(last, text)| {
        let oid = der(6, &[0x67, 0x81, 0x05, 0x02, last]);
        der(0x31, &der(0x30, &[oid, der(12, text.as_bytes())].concat()))
    });
    let mut names = CustomExtension::from_oid_content(
        &[2, 5, 29, 17],
        der(0x30, &der(0xa4, &der(0x30, &attributes.concat()))),
    );
    names.set_criticality(true);
    leaf.custom_extensions = vec![names];
    validity(&mut leaf);
    let leaf_key = KeyPair::generate().unwrap();
    let by_root = Issuer::from_params(&root, &root_key);
    let by_issuer = Issuer::from_params(&issuer, &issuer_key);
    [
        leaf.signed_by(&leaf_key, &by_issuer).unwrap(),
        issuer.signed_by(&issuer_key, &by_root).unwrap(),
        root.self_signed(&root_key).unwrap(),
    ]
    .map(|certificate| certificate.der().to_vec())
    .to_vec()
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    validity(&mut params);
    params
}

fn validity(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
}

/// A DER value of up to 64 KiB.
pub(crate) fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let head = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [head.as_slice(), contents].concat()
}
