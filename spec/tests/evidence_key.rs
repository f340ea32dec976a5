//! Signatures of vendors, each asked of ring as well.

#![expect(clippy::unwrap_used, reason = "what tests share is a test too")]

mod evidence_shared;

use evidence_shared::second::ALGORITHMS;
use glassbloom_spec::evidence::key::{Algorithm, BadVendorKey, RsaKey, VendorKey};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use rsa::{
    Pkcs1v15Sign, Pss, RsaPrivateKey,
    rand_core::{Infallible, TryCryptoRng, TryRng},
    traits::PublicKeyParts as _,
};
use rustls_pki_types::SignatureVerificationAlgorithm;
use sha2::{Digest as _, Sha256, Sha384};
use webpki::ring::{
    ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256_LEGACY_KEY, RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
};

/// The same numbers on every run, for keys that protect nothing.
struct Repeatable(u64);

impl TryRng for Repeatable {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|n| n as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        // SplitMix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(z ^ (z >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Repeatable {}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = match contents.len() {
        n @ 0..=0x7f => vec![n as u8],
        n @ 0x80..=0xff => vec![0x81, n as u8],
        n => vec![0x82, (n >> 8) as u8, n as u8],
    };
    [&[tag], length.as_slice(), contents].concat()
}

/// RSAPublicKey, and the SubjectPublicKeyInfo around it.
fn rsa_key(modulus: &[u8], exponent: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let modulus = if modulus[0] >= 0x80 { [&[0], modulus].concat() } else { modulus.to_vec() };
    let key = tlv(0x30, &[tlv(2, &modulus), tlv(2, exponent)].concat());
    let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00".to_vec();
    let spki = tlv(0x30, &[algorithm, tlv(3, &[&[0], key.as_slice()].concat())].concat());
    (key, spki)
}

const F4: &[u8] = &[1, 0, 1];
const MESSAGE: &[u8] = b"what was signed";

#[test]
fn two_verifiers_agree_on_rsa() {
    let mut rng = Repeatable(7);
    let private = RsaPrivateKey::new(&mut rng, 2048).unwrap();
    let modulus = private.n().to_be_bytes_trimmed_vartime().to_vec();
    let (raw, spki) = rsa_key(&modulus, F4);
    let key = VendorKey::from_spki(&spki).unwrap();
    assert_eq!(key, VendorKey::Rsa(RsaKey::from_modulus(&modulus).unwrap()));
    let prefix = |oid: u8, length: u8| {
        let mut prefix =
            b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20".to_vec();
        (prefix[1], prefix[14], prefix[18]) = (length + 17, oid, length);
        prefix
    };
    let pkcs1 = |oid, length| Pkcs1v15Sign {
        hash_len: Some(usize::from(length)),
        prefix: prefix(oid, length).into(),
    };
    let (short, long) = (Sha256::digest(MESSAGE), Sha384::digest(MESSAGE));
    let mut signed: Vec<(Algorithm, &dyn SignatureVerificationAlgorithm, Vec<u8>)> = vec![
        (Algorithm::RsaPkcs1Sha256, RSA_PKCS1_2048_8192_SHA256, private.sign(pkcs1(1, 32), &short).unwrap()),
        (Algorithm::RsaPkcs1Sha384, RSA_PKCS1_2048_8192_SHA384, private.sign(pkcs1(2, 48), &long).unwrap()),
    ];
    let pss = private.sign_with_rng(&mut rng, Pss::<Sha256>::new(), &short).unwrap();
    signed.push((Algorithm::RsaPssSha256, RSA_PSS_2048_8192_SHA256_LEGACY_KEY, pss));
    let pss = private.sign_with_rng(&mut rng, Pss::<Sha384>::new(), &long).unwrap();
    signed.push((Algorithm::RsaPssSha384, RSA_PSS_2048_8192_SHA384_LEGACY_KEY, pss));

    for (algorithm, ring, signature) in &signed {
        let agree = |message: &[u8], signature: &[u8]| {
            let ours = key.verify(*algorithm, message, signature).is_ok();
            assert_eq!(ours, ring.verify_signature(&raw, message, signature).is_ok(), "{algorithm:?}");
            ours
        };
        assert!(agree(MESSAGE, signature));
        assert!(!agree(b"another", signature));
        for byte in 0..signature.len() {
            let mut changed = signature.clone();
            changed[byte] ^= 0x10;
            assert!(!agree(MESSAGE, &changed));
        }
        assert!(!agree(MESSAGE, &signature[1..]));
        assert!(!agree(MESSAGE, &[&[0], signature.as_slice()].concat()));
        assert!(!agree(MESSAGE, &[signature.as_slice(), &[0]].concat()));
        assert!(!agree(MESSAGE, &[]));
        // The modulus more than the signature is the same number modulo it, and no signature.
        assert!(!agree(MESSAGE, &modulus));
        for (other, _, _) in &signed {
            assert_eq!(key.verify(*other, MESSAGE, signature).is_ok(), other == algorithm);
        }
        for other in [Algorithm::EcdsaSha256, Algorithm::EcdsaSha384] {
            assert!(key.verify(other, MESSAGE, signature).is_err());
        }
    }
    // A salt of another length is another algorithm.
    let odd = private.sign_with_rng(&mut rng, Pss::<Sha256>::new_with_salt(20), &short).unwrap();
    assert!(key.verify(Algorithm::RsaPssSha256, MESSAGE, &odd).is_err());

    // The bare operation undoes the signature: 1, ff.., 0, and the prefix before the digest.
    let VendorKey::Rsa(bare) = &key else { panic!("not RSA") };
    let block = bare.apply(&signed[0].2).unwrap();
    assert_eq!((block.len(), &block[..2], &block[256 - 32..]), (256, &[0, 1][..], &short[..]));
    assert!(bare.apply(&modulus).is_err() && bare.apply(&block[1..]).is_err());
}

#[test]
fn rsa_keys_have_2048_to_4096_bits_and_one_exponent() {
    let modulus = |bytes: usize| {
        let mut modulus = vec![0xa5; bytes];
        modulus[bytes - 1] = 1;
        modulus
    };
    let parse = |modulus: &[u8], exponent: &[u8]| VendorKey::from_spki(&rsa_key(modulus, exponent).1);
    for bytes in [256, 257, 384, 512] {
        assert!(parse(&modulus(bytes), F4).is_ok(), "{bytes}");
    }
    for bytes in [64, 128, 255, 513, 1024] {
        assert_eq!(parse(&modulus(bytes), F4), Err(BadVendorKey::Rsa), "{bytes}");
    }
    let mut short = modulus(256);
    short[0] = 0x7f;
    assert_eq!(parse(&short, F4), Err(BadVendorKey::Rsa), "2047 bits");
    let mut even = modulus(256);
    even[255] = 2;
    assert_eq!(parse(&even, F4), Err(BadVendorKey::Rsa));
    for exponent in [&[3][..], &[1], &[1, 0, 3], &[0], &[1, 0, 0, 0, 0, 0, 0, 0, 1]] {
        assert!(parse(&modulus(256), exponent).is_err(), "{exponent:?}");
    }
    assert!(RsaKey::from_modulus(&[&[0], modulus(256).as_slice()].concat()).is_err());
}

/// What a test knows of a key: ours, its point, and ring's two algorithms for it.
type Curve = (VendorKey, Vec<u8>, [&'static dyn SignatureVerificationAlgorithm; 2]);

#[test]
fn two_verifiers_agree_on_ecdsa() {
    let p256 = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let p384 = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let points = [
        p256.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
        p384.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
    ];
    let curves: [Curve; 2] = [
        (
            VendorKey::from_sec1(&points[0]).unwrap(),
            points[0].clone(),
            [ECDSA_P256_SHA256, ECDSA_P256_SHA384],
        ),
        (
            VendorKey::from_sec1(&points[1]).unwrap(),
            points[1].clone(),
            [ECDSA_P384_SHA256, ECDSA_P384_SHA384],
        ),
    ];
    for (place, (key, point, ring)) in curves.iter().enumerate() {
        assert_eq!(key.to_sec1().as_ref(), Some(point));
        for (algorithm, ring) in [Algorithm::EcdsaSha256, Algorithm::EcdsaSha384].into_iter().zip(ring) {
            let digest = match algorithm {
                Algorithm::EcdsaSha256 => Sha256::digest(MESSAGE).to_vec(),
                _ => Sha384::digest(MESSAGE).to_vec(),
            };
            let raw: Vec<u8> = if place == 0 {
                let signature: p256::ecdsa::Signature = p256.sign_prehash(&digest).unwrap();
                signature.to_bytes().to_vec()
            } else {
                let signature: p384::ecdsa::Signature = p384.sign_prehash(&digest).unwrap();
                signature.to_bytes().to_vec()
            };
            key.verify_ecdsa_raw(&digest, &raw).unwrap();
            assert!(key.verify_ecdsa_raw(&digest, &raw[1..]).is_err());
            assert!(key.verify_ecdsa_raw(&digest[..20], &raw).is_err());
            assert!(key.verify_ecdsa_raw(&digest, &vec![0; raw.len()]).is_err());
            let (r, s) = raw.split_at(raw.len() / 2);
            let agree = |signature: &[u8]| {
                let ours = key.verify(algorithm, MESSAGE, signature).is_ok();
                assert_eq!(
                    ours,
                    ring.verify_signature(point, MESSAGE, signature).is_ok(),
                    "{signature:02x?}"
                );
                ours
            };
            let number = |bytes: &[u8]| {
                let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
                let sign: &[u8] = if bytes[start] >= 0x80 { &[0] } else { &[] };
                tlv(2, &[sign, &bytes[start..]].concat())
            };
            let pair = |r: &[u8], s: &[u8]| tlv(0x30, &[r, s].concat());
            assert!(agree(&pair(&number(r), &number(s))));
            // Vendors leave s where it falls, so the other half counts too.
            let order = order(place);
            let high = subtract(&order, s);
            assert!(agree(&pair(&number(r), &number(&high))));
            for bad in [
                [pair(&number(r), &number(s)), vec![0]].concat(),
                pair(&number(r), &[number(s), vec![5, 0]].concat()),
                pair(&tlv(2, &[&[0, 0], r].concat()), &number(s)),
                pair(&tlv(2, &[]), &number(s)),
                pair(&tlv(2, &[0xff]), &number(s)),
                pair(&number(&[0]), &number(s)),
                pair(&number(r), &number(&[0])),
                pair(&number(&order), &number(s)),
                pair(&number(r), &number(&order)),
                pair(&number(r), &number(&[1; 70])),
                pair(&number(s), &number(r)),
                pair(&number(r), &[]),
                [&[0x31], &pair(&number(r), &number(s))[1..]].concat(),
                raw.clone(),
                Vec::new(),
            ] {
                assert!(!agree(&bad));
            }
            for other in [Algorithm::RsaPkcs1Sha256, Algorithm::RsaPssSha384] {
                assert!(key.verify(other, MESSAGE, &pair(&number(r), &number(s))).is_err());
            }
        }
        for bad in [&point[1..], &[&[2], &point[1..]].concat(), &[&[4], &point[2..]].concat(), &[4; 65], &[]]
        {
            assert!(VendorKey::from_sec1(bad).is_err());
        }
    }
    assert_eq!(ALGORITHMS.len(), 8);
}

fn order(place: usize) -> Vec<u8> {
    hex::decode(
        [
            "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
            "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        ][place],
    )
    .unwrap()
}

fn subtract(from: &[u8], number: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut out: Vec<u8> = from
        .iter()
        .zip(number)
        .rev()
        .map(|(a, b)| {
            let difference = i16::from(*a) - i16::from(*b) - borrow;
            borrow = i16::from(difference < 0);
            difference.rem_euclid(256) as u8
        })
        .collect();
    out.reverse();
    out
}
