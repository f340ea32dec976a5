//! What another program's TPM signed, with tpm2-tools.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use glassbloom_spec::{
    curve::SigningKey,
    evidence::{
        Anchor, Bound, Refused, Trust,
        endorsement::Endorsement,
        key::VendorKey,
        tpm::{
            self, Certified, Evidence, Lasting, Signed,
            credential::{Challenge, Seeds, Transcript, subject},
            wire::{Attest, Attested, Key, Public, parse_signature},
        },
        x509::Certificate,
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::{Payload, Tier},
};

use crate::shared;

/// A day after the certificates were made.
const AT: UnixSeconds = UnixSeconds::new(1_795_300_000);

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

fn pem(folder: &Path, name: &str) -> Vec<u8> {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    BASE64_STANDARD.decode(text.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
}

/// Without the size in front.
fn unsized_(bytes: &[u8]) -> Vec<u8> {
    assert_eq!(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])), bytes.len() - 2);
    bytes[2..].to_vec()
}

fn nonce(folder: &Path) -> Hash {
    String::from_utf8(read(folder, "nonce.hex")).unwrap().trim().parse().unwrap()
}

/// The first values of the file that `tpm2_quote` writes: eight to a block.
fn registers(folder: &Path) -> Vec<(u8, Hash)> {
    let file = read(folder, "quote.pcrs");
    let selected = match Attest::parse(&read(folder, "quote.msg")).unwrap().attested {
        Attested::Quote { registers, .. } => registers,
        Attested::Certify { .. } => panic!("not a quote"),
    };
    let block = |n: usize| &file[0x8c + 532 * n..];
    let value = |n: usize| Hash::try_from(&block(n / 8)[2 + 66 * (n % 8)..][..32]).unwrap();
    selected.iter().enumerate().map(|(n, index)| (*index, value(n))).collect()
}

#[test]
fn names_keys_and_signatures_are_as_the_tpm_made_them() {
    let Some(folder) = shared() else { return };
    let ak = Public::parse(&unsized_(&read(&folder, "ak.pub"))).unwrap();
    let sk = Public::parse(&unsized_(&read(&folder, "sk.pub"))).unwrap();
    assert_eq!(ak.name().as_bytes().as_slice(), read(&folder, "ak.name"));
    assert_eq!(sk.name().as_bytes().as_slice(), read(&folder, "sk.name"));
    assert_eq!(VendorKey::from_spki(&pem(&folder, "ak.pem")).unwrap(), VendorKey::P256(*ak.p256().unwrap()));
    assert_eq!(VendorKey::from_spki(&pem(&folder, "sk.pem")).unwrap(), VendorKey::P256(*sk.p256().unwrap()));
    let certificate = pem(&folder, "ek.pem");
    let certificate = Certificate::parse(&certificate).unwrap();
    let ek = Public::parse(&unsized_(&read(&folder, "ek.pub"))).unwrap();
    let (Key::Rsa(modulus), VendorKey::Rsa(key)) = (ek.key, certificate.key()) else { panic!("not RSA") };
    assert_eq!(modulus, key.modulus());

    for (attest, signature) in [("quote.msg", "quote.sig"), ("certify.attest", "certify.sig")] {
        let signature = parse_signature(&read(&folder, signature)).unwrap();
        let digest = Hash::of(&read(&folder, attest));
        ak.p256().unwrap().verify_digest(digest.as_ref(), &signature).unwrap();
        assert!(sk.p256().unwrap().verify_digest(digest.as_ref(), &signature).is_err());
    }
    let quote = Attest::parse(&read(&folder, "quote.msg")).unwrap();
    assert_eq!(quote.extra, nonce(&folder).as_ref());
    let values = registers(&folder);
    assert_eq!(values.len(), 9);
    let values: Vec<&[u8]> = values.iter().map(|(_, value)| value.as_ref()).collect();
    let Attested::Quote { digest, .. } = quote.attested else { panic!("not a quote") };
    assert_eq!(digest, Hash::of_parts(&values));
    let certify = Attest::parse(&read(&folder, "certify.attest")).unwrap();
    assert_eq!(certify.attested, Attested::Certify { name: sk.name().as_bytes().to_vec() });
}

#[test]
fn a_challenge_has_the_shape_that_others_make() {
    let Some(folder) = shared() else { return };
    let theirs = read(&folder, "cred.blob");
    let certificate = pem(&folder, "ek.pem");
    let ek = Certificate::parse(&certificate).unwrap();
    let ak = Public::parse(&unsized_(&read(&folder, "ak.pub"))).unwrap().name();
    let secret = read(&folder, "secret.bin").try_into().unwrap();
    let seeds = Seeds { secret, seed: [1; 32], padding: Some([2; 32]) };
    let ours = Challenge::make(ek.key(), ak, &seeds).unwrap().to_tools_file();
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(ours[..12], theirs[..12]);
    assert_eq!(ours[0x4e..0x50], theirs[0x4e..0x50]);
}

/// All that these vectors have: the certification of their signing key is for another nonce, and no sealing key is there.
struct Partial {
    evidence: Evidence,
    anchor: Anchor,
    endorser: SigningKey,
    nonce: Hash,
}

impl Partial {
    fn read(folder: &Path, tier: Tier) -> Self {
        let chain = ["ek.pem", "issuer.pem", "root.pem"].map(|name| pem(folder, name)).to_vec();
        let root = Certificate::parse(&chain[2]).unwrap();
        let anchor = Anchor { tier, key: Hash::of(root.spki()), name: "swtpm".to_owned() };
        let leaf = Certificate::parse(&chain[0]).unwrap();
        let ak = unsized_(&read(folder, "ak.pub"));
        let name = Public::parse(&ak).unwrap().name();
        let seeds = Seeds { secret: [3; 32], seed: [4; 32], padding: Some([5; 32]) };
        let activation = Transcript::make(leaf.key(), name, seeds).unwrap();
        let endorser = SigningKey::from_seed(b"endorser");
        let nonce = nonce(folder);
        let says = Endorsement {
            format: tpm::FORMAT.to_owned(),
            subject: subject(leaf.spki(), name, &activation),
            nonce,
            device: None,
        };
        let endorsements = vec![says.sign(&endorser).unwrap().bytes().to_vec()];
        let certified = Certified {
            public: unsized_(&read(folder, "sk.pub")),
            by: Signed { attest: read(folder, "certify.attest"), signature: read(folder, "certify.sig") },
        };
        let evidence = Evidence {
            lasting: Lasting { chain, attestation_key: ak, activation, endorsements },
            quote: Signed { attest: read(folder, "quote.msg"), signature: read(folder, "quote.sig") },
            registers: registers(folder),
            signing: certified.clone(),
            sealing: certified,
        };
        Self { evidence, anchor, endorser, nonce }
    }

    fn refused(&self, evidence: &Evidence, at: UnixSeconds) -> Refused {
        let key = *Public::parse(&self.evidence.signing.public).unwrap().p256().unwrap();
        let bound = Bound { nonce: self.nonce, signing_key: &key, sealing_key: &key, at, enrolled: None };
        let (anchors, endorsers) = ([self.anchor.clone()], [self.endorser.public_key()]);
        let trust = Trust { anchors: &anchors, endorsers: &endorsers, apps: &[] };
        tpm::verify(&evidence.encode(), &bound, &trust).unwrap_err()
    }
}

// Everything up to the certification holds, which was made for another nonce.
#[test]
fn a_real_chain_and_quote_hold() {
    let Some(folder) = shared() else { return };
    let partial = Partial::read(&folder, Tier::TpmSoft);
    let refused = partial.refused(&partial.evidence, AT);
    assert_eq!(refused.reason, "tpm-nonce");
    assert_eq!(
        partial.refused(&partial.evidence, UnixSeconds::new(1_700_000_000)).reason,
        "certificate-not-yet-valid"
    );
    let hardware = Partial::read(&folder, Tier::TpmHw);
    assert_eq!(hardware.refused(&hardware.evidence, AT).reason, "tpm-is-software");
    let mut other = Partial::read(&folder, Tier::TpmSoft);
    other.anchor.key = Hash::of(b"another root");
    assert_eq!(other.refused(&other.evidence, AT).reason, "certificate-root");
}

#[test]
fn no_flipped_bit_of_a_real_quote_is_accepted() {
    let Some(folder) = shared() else { return };
    let ak = Public::parse(&unsized_(&read(&folder, "ak.pub"))).unwrap();
    let holds = |attest: &[u8], signature: &[u8]| {
        parse_signature(signature).is_ok_and(|signature| {
            ak.p256().unwrap().verify_digest(Hash::of(attest).as_ref(), &signature).is_ok()
        })
    };
    let flips = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        (0..8 * bytes.len()).map(move |bit| {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        })
    };
    for (attest, signature) in [("quote.msg", "quote.sig"), ("certify.attest", "certify.sig")] {
        let (attest, signature) = (read(&folder, attest), read(&folder, signature));
        assert!(holds(&attest, &signature));
        assert!(!flips(&attest).any(|flipped| holds(&flipped, &signature)));
        assert!(!flips(&signature).any(|flipped| holds(&attest, &flipped)));
    }
    // A name is over all of the public part.
    let public = unsized_(&read(&folder, "ak.pub"));
    assert!(
        !flips(&public).any(|flipped| Public::parse(&flipped).is_ok_and(|other| other.name() == ak.name()))
    );
}

#[test]
fn cut_and_extended_structures_are_refused() {
    let Some(folder) = shared() else { return };
    type Parses = fn(&[u8]) -> bool;
    let files: [(Vec<u8>, Parses); 5] = [
        (unsized_(&read(&folder, "ak.pub")), |bytes| Public::parse(bytes).is_ok()),
        (unsized_(&read(&folder, "ek.pub")), |bytes| Public::parse(bytes).is_ok()),
        (read(&folder, "quote.msg"), |bytes| Attest::parse(bytes).is_ok()),
        (read(&folder, "certify.attest"), |bytes| Attest::parse(bytes).is_ok()),
        (read(&folder, "quote.sig"), |bytes| parse_signature(bytes).is_ok()),
    ];
    for (bytes, parses) in files {
        assert!(parses(&bytes));
        for length in 0..bytes.len() {
            assert!(!parses(&bytes[..length]));
        }
        assert!(!parses(&[bytes.as_slice(), b"\0"].concat()));
    }
}
