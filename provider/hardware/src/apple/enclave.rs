//! Keys in the Secure Enclave.

use std::ptr;

use core_foundation::{
    base::TCFType,
    data::CFData,
    dictionary::CFDictionary,
    error::{CFError, CFErrorRef},
    number::CFNumber,
    string::CFString,
};
use glassbloom_spec::curve::{
    self, DhError, DiffieHellman, PublicKey, SIGNATURE_LEN, SignError, Signer, UNCOMPRESSED_LEN,
};
use security_framework::{
    access_control::{ProtectionMode, SecAccessControl},
    item::{ItemSearchOptions, KeyClass, Location, Reference, SearchResult},
    key::{Algorithm, GenerateKeyOptions, KeyType, SecKey, Token},
};
use security_framework_sys::{
    access_control::kSecAccessControlPrivateKeyUsage,
    base::errSecItemNotFound,
    item::{
        kSecAttrKeyClass, kSecAttrKeyClassPublic, kSecAttrKeySizeInBits, kSecAttrKeyType,
        kSecAttrKeyTypeECSECPrimeRandom,
    },
    key::SecKeyCreateWithData,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{DeviceError, apple_format};

/// The signing key: made once, and found in the keychain by its label.
pub(super) struct EnclaveSigner {
    key: SecKey,
    public_key: PublicKey,
}

impl EnclaveSigner {
    /// A key that exists is never replaced: when it cannot be looked for, none is made.
    pub(super) fn find_or_make(label: &str) -> Result<Self, DeviceError> {
        let key = match find(label)? {
            Some(key) => key,
            None => make("the signing key", Some(label))?,
        };
        let public_key = public_key(&key, "the signing key")?;
        Ok(Self { key, public_key })
    }
}

impl Signer for EnclaveSigner {
    fn public_key(&self) -> PublicKey {
        self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], SignError> {
        let der = self
            .key
            .create_signature(Algorithm::ECDSASignatureMessageX962SHA256, message)
            .map_err(|error| SignError(error.to_string()))?;
        let raw = apple_format::raw_signature(&der)
            .ok_or_else(|| SignError("the Secure Enclave's signature is not DER".to_owned()))?;
        let signature = curve::low_s(&raw).map_err(|error| SignError(error.to_string()))?;
        self.public_key.verify(message, &signature).map_err(|error| SignError(error.to_string()))?;
        Ok(signature)
    }
}

/// The sealing key: in no keychain, so it ends with the process.
pub(super) struct EnclaveSealer {
    key: SecKey,
    public_key: PublicKey,
}

impl EnclaveSealer {
    pub(super) fn make() -> Result<Self, DeviceError> {
        let key = make("the sealing key", None)?;
        let public_key = public_key(&key, "the sealing key")?;
        Ok(Self { key, public_key })
    }
}

impl DiffieHellman for EnclaveSealer {
    fn public_key(&self) -> [u8; UNCOMPRESSED_LEN] {
        self.public_key.to_uncompressed()
    }

    fn diffie_hellman(&self, peer: &[u8; UNCOMPRESSED_LEN]) -> Result<Zeroizing<[u8; 32]>, DhError> {
        let point = PublicKey::from_sec1(peer)?.to_uncompressed();
        let device = |error: CFError| DhError::Device(error.to_string());
        let peer = import(&point).map_err(device)?;
        let mut shared =
            self.key.key_exchange(Algorithm::ECDHKeyExchangeStandard, &peer, 32, None).map_err(device)?;
        let x = <[u8; 32]>::try_from(shared.as_slice()).map(Zeroizing::new);
        shared.zeroize();
        x.map_err(|_| DhError::Device("the Secure Enclave's secret does not have 32 bytes".to_owned()))
    }
}

fn find(label: &str) -> Result<Option<SecKey>, DeviceError> {
    let mut options = ItemSearchOptions::new();
    options.key_class(KeyClass::private()).label(label).load_refs(true).ignore_legacy_keychains();
    match options.search() {
        Ok(found) => Ok(found.into_iter().find_map(|found| match found {
            SearchResult::Ref(Reference::Key(key)) => Some(key),
            _ => None,
        })),
        Err(error) if error.code() == errSecItemNotFound => Ok(None),
        Err(error) => Err(failed("looking for the signing key in the keychain", error)),
    }
}

/// Makes a key that may be used once the Mac has been unlocked after its start, and on this Mac alone.
fn make(what: &str, label: Option<&str>) -> Result<SecKey, DeviceError> {
    let action = format!("making {what} in the Secure Enclave");
    let access = SecAccessControl::create_with_protection(
        Some(ProtectionMode::AccessibleAfterFirstUnlockThisDeviceOnly),
        kSecAccessControlPrivateKeyUsage,
    )
    .map_err(|error| failed(&action, error))?;
    let mut options = GenerateKeyOptions::default();
    options
        .set_key_type(KeyType::ec_sec_prime_random())
        .set_size_in_bits(256)
        .set_token(Token::SecureEnclave)
        .set_access_control(access);
    if let Some(label) = label {
        options.set_location(Location::DataProtectionKeychain).set_label(label);
    }
    SecKey::new(&options).map_err(|error| failed(&action, &error))
}

fn public_key(key: &SecKey, what: &str) -> Result<PublicKey, DeviceError> {
    let action = format!("reading {what}");
    let point = key
        .public_key()
        .and_then(|key| key.external_representation())
        .ok_or_else(|| failed(&action, "it has no public half"))?;
    PublicKey::from_sec1(point.bytes()).map_err(|error| failed(&action, error))
}

/// A public key of someone else, as the Security framework holds it.
#[expect(unsafe_code, reason = "the safe wrappers make private keys alone")]
fn import(point: &[u8; UNCOMPRESSED_LEN]) -> Result<SecKey, CFError> {
    // SAFETY: the constants are strings of the framework that live for ever, both arguments live during the call, and
    // what comes back is ours to release: a key when it is not null, an error otherwise.
    unsafe {
        let text = |constant| CFString::wrap_under_get_rule(constant);
        let attributes = CFDictionary::from_CFType_pairs(&[
            (text(kSecAttrKeyType), text(kSecAttrKeyTypeECSECPrimeRandom).into_CFType()),
            (text(kSecAttrKeyClass), text(kSecAttrKeyClassPublic).into_CFType()),
            (text(kSecAttrKeySizeInBits), CFNumber::from(256_i32).into_CFType()),
        ]);
        let data = CFData::from_buffer(point);
        let mut error: CFErrorRef = ptr::null_mut();
        let key =
            SecKeyCreateWithData(data.as_concrete_TypeRef(), attributes.as_concrete_TypeRef(), &mut error);
        if key.is_null() {
            Err(CFError::wrap_under_create_rule(error))
        } else {
            Ok(SecKey::wrap_under_create_rule(key))
        }
    }
}

fn failed(action: &str, cause: impl std::fmt::Display) -> DeviceError {
    DeviceError::failed(
        action,
        cause,
        "run the signed release of the provider (its entitlements must name a keychain access group: `codesign -d \
         --entitlements - PROGRAM`), on Apple silicon that was unlocked since it started",
    )
}
