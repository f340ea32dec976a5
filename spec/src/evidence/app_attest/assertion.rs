//! The assertion: a signature by an attested key, with the code that asked for it.

use super::{AttestedKey, Platform, authenticator::AuthenticatorData};
use crate::{
    cbor::{Value, is_plain},
    evidence::{
        Refused,
        key::{Algorithm, VendorKey},
    },
    hash::Hash,
};

/// An assertion in the one accepted form; nothing of it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    signature: Vec<u8>,
    authenticator_data: Vec<u8>,
}

/// What a verified assertion says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asserted {
    /// How many assertions the key has made, this one included.
    pub counter: u32,
    /// Full SHA-256 of the CodeDirectory of the program that asked; `None` when the app does not opt in.
    pub code: Option<Hash>,
    /// Who signed the program: 6 is Developer ID.
    pub category: Option<u32>,
    /// The program's version, in its own words.
    pub bundle_version: Option<String>,
}

impl Assertion {
    /// Parses an assertion.
    ///
    /// # Errors
    /// `evidence-malformed`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let malformed = |what: &str| Refused::malformed(format!("App Attest assertion: {what}"));
        let Value::Map(entries) = Value::decode(bytes).map_err(|error| malformed(&error.to_string()))? else {
            return Err(malformed("not a map"));
        };
        let Ok([(first, Value::Bytes(signature)), (second, Value::Bytes(authenticator_data))]) =
            <[(Value, Value); 2]>::try_from(entries)
        else {
            return Err(malformed("not {signature, authenticatorData}"));
        };
        if [first, second] != ["signature".into(), "authenticatorData".into()] {
            return Err(malformed("not {signature, authenticatorData}"));
        }
        Ok(Self { signature, authenticator_data })
    }

    /// Verifies that an attested key signed `client_data_hash`.
    ///
    /// What is signed is hashed twice: the nonce is SHA-256 over both parts, and ECDSA hashes the nonce again.
    ///
    /// # Errors
    /// `app-attest-*`, by the order of the checks: signature, app, counter, code.
    pub fn verify(
        &self,
        key: &AttestedKey,
        client_data_hash: &[u8],
        platform: Platform,
    ) -> Result<Asserted, Refused> {
        let nonce = Hash::of_parts(&[&self.authenticator_data, client_data_hash]);
        VendorKey::P256(key.key).verify(Algorithm::EcdsaSha256, nonce.as_ref(), &self.signature).map_err(
            |_| {
                Refused::new(
                    "app-attest-signature",
                    "the attested key did not sign this nonce with this authenticator data",
                )
            },
        )?;
        let data = AuthenticatorData::parse(&self.authenticator_data, false)?;
        if data.app_id_hash != key.app_id_hash {
            return Err(Refused::new("app-attest-app", "the assertion is for another app than the key"));
        }
        if data.counter == 0 {
            return Err(Refused::new(
                "app-attest-counter",
                "an assertion counts itself, so its counter is not 0",
            ));
        }
        let category = data
            .extensions
            .category
            .map(|bytes| bytes.try_into().map(u32::from_le_bytes))
            .transpose()
            .map_err(|_| Refused::new("app-attest-category", "the validation category has not four bytes"))?;
        let code = match (data.extensions.code_hash, data.extensions.code_hash_type) {
            (None, None) => None,
            (Some(hash), Some(SHA256_TYPE)) => {
                Some(Hash::try_from(hash).map_err(|_| code("it is not a whole SHA-256"))?)
            }
            _ => return Err(code("its type is not SHA-256")),
        };
        let bundle_version = data.extensions.bundle_version;
        if bundle_version.is_some_and(|version| !is_plain(version)) {
            return Err(Refused::malformed("App Attest assertion: the version is not for people to read"));
        }
        if platform == Platform::Mac {
            if code.is_none() {
                return Err(self::code("the assertion has none: the app must opt in"));
            }
            if category != Some(DEVELOPER_ID) {
                let found = category.map_or_else(|| "unknown".to_owned(), |category| category.to_string());
                let detail = format!("the program's validation category is {found}, not 6 (Developer ID)");
                return Err(Refused::new("app-attest-category", detail));
            }
        }
        Ok(Asserted {
            counter: data.counter,
            code,
            category,
            bundle_version: bundle_version.filter(|version| !version.is_empty()).map(str::to_owned),
        })
    }
}

fn code(what: &str) -> Refused {
    Refused::new("app-attest-code", format!("the hash of the code that asked: {what}"))
}

/// The type of code directory hash: SHA-256 in full. Type 3 is its first 20 bytes, which do not name a build.
const SHA256_TYPE: &[u8] = &[2];
/// The category of programs that a developer signed to hand out outside of the App Store.
const DEVELOPER_ID: u32 = 6;
