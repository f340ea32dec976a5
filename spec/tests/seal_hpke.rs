//! Sealing against the `hpke` crate, an implementation by other people, in both directions.

use ::hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256,
    kem::DhP256HkdfSha256, setup_receiver, setup_sender,
};
use glassbloom_spec::seal::hpke::{self, AeadError, DhError, DiffieHellman};
use zeroize::Zeroizing;

type TheirKem = DhP256HkdfSha256;

const INFO: &[u8] = b"the info";

#[test]
fn we_seal_they_open() {
    let (secret, public) = TheirKem::derive_keypair(&[3; 32]);
    let recipient: [u8; 65] = public.to_bytes().as_slice().try_into().unwrap();
    let (enc, mut ours) = hpke::setup_sender(&recipient, INFO, &[9; 32]).unwrap();
    let enc = <TheirKem as Kem>::EncappedKey::from_bytes(&enc).unwrap();
    let mut theirs =
        setup_receiver::<AesGcm256, HkdfSha256, TheirKem>(&OpModeR::Base, &secret, &enc, INFO).unwrap();
    for n in 0..300u32 {
        let sealed = ours.seal(b"aad", &n.to_be_bytes()).unwrap();
        assert_eq!(theirs.open(&sealed, b"aad").unwrap(), n.to_be_bytes());
    }
    let mut exported = [0; 32];
    theirs.export(b"label", &mut exported).unwrap();
    assert_eq!(*ours.export(b"label"), exported);
}

#[test]
fn they_seal_we_open() {
    let key = hpke::derive_key_pair(&[4; 32]);
    let recipient = <TheirKem as Kem>::PublicKey::from_bytes(&key.public_key()).unwrap();
    let (enc, mut theirs) =
        setup_sender::<AesGcm256, HkdfSha256, TheirKem>(&OpModeS::Base, &recipient, INFO).unwrap();
    let enc: [u8; 65] = enc.to_bytes().as_slice().try_into().unwrap();
    let mut ours = hpke::setup_receiver(&key, &enc, INFO).unwrap();
    for n in 0..300u32 {
        let sealed = theirs.seal(&n.to_be_bytes(), b"aad").unwrap();
        assert_eq!(ours.open(b"aad", &sealed).unwrap(), n.to_be_bytes());
    }
    let mut exported = [0; 32];
    theirs.export(b"label", &mut exported).unwrap();
    assert_eq!(*ours.export(b"label"), exported);
}

#[test]
fn derived_keys_agree() {
    for seed in 0..8 {
        let (secret, _) = TheirKem::derive_keypair(&[seed; 32]);
        assert_eq!(hpke::derive_key_pair(&[seed; 32]).to_bytes().as_slice(), secret.to_bytes().as_slice());
    }
}

#[test]
fn refuses_another_key_info_order_or_associated_data() {
    let key = hpke::derive_key_pair(&[1; 32]);
    let (enc, mut sender) = hpke::setup_sender(&key.public_key(), INFO, &[2; 32]).unwrap();
    let first = sender.seal(b"", b"first").unwrap();
    let second = sender.seal(b"", b"second").unwrap();

    let mut other_key = hpke::setup_receiver(&hpke::derive_key_pair(&[5; 32]), &enc, INFO).unwrap();
    assert_eq!(other_key.open(b"", &first), Err(AeadError::Forged));
    let mut other_info = hpke::setup_receiver(&key, &enc, b"other").unwrap();
    assert_eq!(other_info.open(b"", &first), Err(AeadError::Forged));

    let mut receiver = hpke::setup_receiver(&key, &enc, INFO).unwrap();
    assert_eq!(receiver.open(b"", &second), Err(AeadError::Forged));
    assert_eq!(receiver.open(b"final", &first), Err(AeadError::Forged));
    assert_eq!(receiver.open(b"", &[]), Err(AeadError::Forged));
    assert_eq!(receiver.open(b"", &first).unwrap(), b"first");
    assert_eq!(receiver.open(b"", &first), Err(AeadError::Forged));
    assert_eq!(receiver.open(b"", &second).unwrap(), b"second");
}

#[test]
fn refuses_points_off_the_curve() {
    let key = hpke::derive_key_pair(&[1; 32]);
    let mut off_curve = key.public_key();
    off_curve[40] ^= 1;
    assert!(hpke::setup_sender(&off_curve, INFO, &[2; 32]).is_err());
    assert!(matches!(hpke::setup_receiver(&key, &off_curve, INFO), Err(DhError::Peer(_))));
    assert!(hpke::setup_receiver(&key, &[0; 65], INFO).is_err());
}

/// Stands for a Secure Enclave: the key never leaves, and the device can refuse.
struct Locked(hpke::EcdhSecret);

impl DiffieHellman for Locked {
    fn public_key(&self) -> [u8; 65] {
        self.0.public_key()
    }

    fn diffie_hellman(&self, _: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, DhError> {
        Err(DhError::Device("the device is locked".into()))
    }
}

#[test]
fn reports_what_the_device_said() {
    let key = Locked(hpke::derive_key_pair(&[1; 32]));
    let (enc, _) = hpke::setup_sender(&key.public_key(), INFO, &[2; 32]).unwrap();
    let error = hpke::setup_receiver(&key, &enc, INFO).err().unwrap();
    assert!(error.to_string().contains("the device is locked"), "{error}");
}
