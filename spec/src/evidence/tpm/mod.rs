//! Evidence of format `tpm`: a TPM 2.0 holds both keys and cannot give them away.
//!
//! # In scope
//! The chain of signatures from a TPM's maker to the two keys of a provider: the maker certifies an endorsement key; an
//! endorser saw the TPM with that key open a [challenge](credential) for an attestation key; the attestation key signs
//! the registers of the machine, and that the signing key and the sealing key are beside it. See `spec/evidence-tpm.md`.
//!
//! # Out of scope
//! Which software filled the registers with what they hold: the values are listed, and judging them is for people.

pub mod credential;
mod ek;
pub mod wire;

use ek::EndorsementKey;
use wire::{Attest, Attested, Attributes, BadTpm, Name, Public, parse_signature};

use self::credential::{Seeds, Transcript, subject};
use super::{Anchor, Bound, Proven, Refused, Trust, Voucher, endorsement::Endorsement, key::VendorKey};
use crate::{
    cbor::{FieldError, Fields, Value, map},
    curve::PublicKey,
    hash::Hash,
    id::UnixSeconds,
    statement,
};

/// The format's name.
pub const FORMAT: &str = "tpm";

/// Most endorsements in one piece of evidence.
pub const MAX_ENDORSEMENTS: usize = 8;

/// Registers that a quote has to cover: what the firmware measured before an operating system ran.
pub const REQUIRED_REGISTERS: core::ops::RangeInclusive<u8> = 0..=7;

/// Evidence of this format, taken apart; nothing of it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What is made once per attestation key.
    pub lasting: Lasting,
    /// The registers of the machine.
    pub quote: Signed,
    /// The values that the quote is over, by register, in ascending order.
    pub registers: Vec<(u8, Hash)>,
    /// The signing key.
    pub signing: Certified,
    /// The sealing key.
    pub sealing: Certified,
}

/// The part of evidence that is made once per attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lasting {
    /// The endorsement key's certificate, its issuers, and the root. DER.
    pub chain: Vec<Vec<u8>>,
    /// The attestation key's `TPMT_PUBLIC`.
    pub attestation_key: Vec<u8>,
    /// The challenge that shows both keys to be in one TPM.
    pub activation: Transcript,
    /// The word of those who saw it answered.
    pub endorsements: Vec<Vec<u8>>,
}

/// Something that the attestation key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// The `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
}

/// A key that the attestation key certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Its `TPMT_PUBLIC`.
    pub public: Vec<u8>,
    /// That it is in this TPM.
    pub by: Signed,
}

impl Evidence {
    /// The bytes in an attestation.
    pub fn encode(&self) -> Vec<u8> {
        let Value::Map(mut fields) = self.lasting.to_value() else { return Vec::new() };
        let registers = self
            .registers
            .iter()
            .map(|(index, value)| Value::Array(vec![Value::Unsigned(u64::from(*index)), (*value).into()]));
        let fresh = map([
            (5, self.quote.attest.as_slice().into()),
            (6, self.quote.signature.as_slice().into()),
            (7, Value::Array(registers.collect())),
            (8, self.signing.public.as_slice().into()),
            (9, self.signing.by.attest.as_slice().into()),
            (10, self.signing.by.signature.as_slice().into()),
            (11, self.sealing.public.as_slice().into()),
            (12, self.sealing.by.attest.as_slice().into()),
            (13, self.sealing.by.signature.as_slice().into()),
        ]);
        if let Value::Map(fresh) = fresh {
            fields.extend(fresh);
        }
        Value::Map(fields).encode()
    }

    /// Takes the bytes in an attestation apart.
    ///
    /// # Errors
    /// `evidence-malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let read = || {
            let mut fields = Fields::decode(bytes)?;
            let evidence = Self {
                lasting: Lasting::from_fields(&mut fields)?,
                quote: Signed { attest: fields.bytes(5)?, signature: fields.bytes(6)? },
                registers: registers(fields.array(7)?)?,
                signing: Certified {
                    public: fields.bytes(8)?,
                    by: Signed { attest: fields.bytes(9)?, signature: fields.bytes(10)? },
                },
                sealing: Certified {
                    public: fields.bytes(11)?,
                    by: Signed { attest: fields.bytes(12)?, signature: fields.bytes(13)? },
                },
            };
            fields.finish()?;
            Ok::<_, FieldError>(evidence)
        };
        let evidence = read().map_err(|error| Refused::malformed(error.to_string()))?;
        // Fields that readers may skip have no place in evidence: nothing would cover them.
        if evidence.encode() == bytes {
            Ok(evidence)
        } else {
            Err(Refused::malformed("it has fields that this version does not know"))
        }
    }
}

impl Lasting {
    fn to_value(&self) -> Value {
        let list =
            |items: &[Vec<u8>]| Value::Array(items.iter().map(|item| item.as_slice().into()).collect());
        map([
            (1, list(&self.chain)),
            (2, self.attestation_key.as_slice().into()),
            (3, self.activation.to_value()),
            (4, list(&self.endorsements)),
        ])
    }

    fn from_fields(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self {
            chain: byte_strings(fields, 1, super::x509::MAX_CHAIN)?,
            attestation_key: fields.bytes(2)?,
            activation: Transcript::from_value(fields.value(3, "the transcript of an activation")?)?,
            endorsements: byte_strings(fields, 4, MAX_ENDORSEMENTS)?,
        })
    }

    /// The name of this part: equal in two attestations exactly when all of it is.
    pub fn digest(&self) -> Hash {
        Hash::of(&self.to_value().encode())
    }
}

/// Names the part that is made once per attestation key; `None` for other bytes than evidence of this format.
pub fn lasting(bytes: &[u8]) -> Option<Hash> {
    Some(Evidence::decode(bytes).ok()?.lasting.digest())
}

/// Verifies evidence of this format.
///
/// # Errors
/// With the reason, of those in `spec/evidence-tpm.md`.
pub fn verify(bytes: &[u8], bound: &Bound, trust: &Trust) -> Result<Proven, Refused> {
    let evidence = Evidence::decode(bytes)?;
    let enrolment = bound.enrolment();
    let ek = EndorsementKey::verify(&evidence.lasting.chain, trust.anchors, enrolment.at)?;
    let ak = AttestationKey::parse(&evidence.lasting.attestation_key)?;
    let endorser = activated(&evidence.lasting, &ek, ak.name, enrolment.nonce, trust.endorsers)?;
    let quote = ak.quote(&evidence.quote, &evidence.registers, bound.nonce)?;
    let signing = ak.certified(&evidence.signing, Role::Signing, bound.signing_key, bound.nonce)?;
    let sealing = ak.certified(&evidence.sealing, Role::Sealing, bound.sealing_key, bound.nonce)?;

    let mut proven = Proven::new(ek.anchor.tier);
    proven.claim("tpm-manufacturer", Voucher::Tpm, ek.model.maker());
    proven.claim("tpm-model", Voucher::Tpm, &ek.model.name);
    proven.claim("tpm-version", Voucher::Tpm, &ek.model.version);
    proven.claim("tpm-root", Voucher::Tpm, &ek.anchor.name);
    proven.claim("activation", Voucher::Endorser, format!("seen by {}", statement::key_id(&endorser)));
    proven.claim("signing-key", Voucher::Tpm, residency(&signing));
    proven.claim("sealing-key", Voucher::Tpm, residency(&sealing));
    proven.claim("tpm-firmware", Voucher::Tpm, format!("{:016x}", quote.firmware));
    proven.claim(
        "tpm-clock",
        Voucher::Tpm,
        format!("{} s powered, {} resets, {} restarts", quote.clock / 1000, quote.resets, quote.restarts),
    );
    let registers =
        evidence.registers.iter().map(|(index, value)| format!("{index}={}", &value.to_string()[..16]));
    proven.claim("pcrs", Voucher::Tpm, registers.collect::<Vec<_>>().join(" "));
    proven.device = Some(Hash::of_parts(&[b"glassbloom/device/v1\0tpm\0", &ek.spki]));
    proven.holds_sealing_key = true;
    proven.expires = Some(ek.expires);
    Ok(proven)
}

/// What an endorser sends to a TPM, and what it signs for once the secret has come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The challenge with what it was made from.
    pub transcript: Transcript,
    /// The subject of the endorsement.
    pub subject: Hash,
}

/// Makes a challenge for a TPM, once its maker's certificates and its attestation key are such as [`verify`] accepts.
///
/// The randomness always brings padding, which is left out where the kind of key takes none.
///
/// # Errors
/// As [`verify`] about the lasting part, and `tpm-challenge` for an endorsement key that no challenge can be made for.
pub fn ask(
    chain: &[Vec<u8>],
    attestation_key: &[u8],
    anchors: &[Anchor],
    at: UnixSeconds,
    seeds: &Seeds,
) -> Result<Asked, Refused> {
    let ek = EndorsementKey::verify(chain, anchors, at)?;
    let ak = AttestationKey::parse(attestation_key)?;
    let padding = seeds.padding.filter(|_| matches!(ek.key, VendorKey::Rsa(_)));
    let transcript = Transcript::make(&ek.key, ak.name, Seeds { padding, ..seeds.clone() })
        .map_err(|error| Refused::new("tpm-challenge", error.to_string()))?;
    Ok(Asked { subject: subject(&ek.spki, ak.name, &transcript), transcript })
}

/// Whoever of the endorsers saw this TPM answer a challenge for this attestation key.
fn activated(
    lasting: &Lasting,
    ek: &EndorsementKey,
    ak: Name,
    nonce: Hash,
    endorsers: &[PublicKey],
) -> Result<PublicKey, Refused> {
    if !lasting.activation.check(&ek.key, ak) {
        let detail = "made again from its seeds, the challenge is another than the one for these two keys";
        return Err(Refused::new("tpm-activation-mismatch", detail));
    }
    let subject = subject(&ek.spki, ak, &lasting.activation);
    let mut refused = Refused::new("tpm-not-endorsed", "nobody says that the challenge was answered");
    for endorsement in &lasting.endorsements {
        match Endorsement::open(endorsement, endorsers, FORMAT, subject, nonce) {
            Ok((by, _)) => return Ok(by),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// An attestation key with the attributes that its signature's meaning rests on.
struct AttestationKey {
    key: PublicKey,
    name: Name,
}

impl AttestationKey {
    fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let public = Public::parse(bytes).map_err(malformed)?;
        // A restricted key signs what begins like an attestation only if the TPM made it.
        let usage = Attributes::RESTRICTED.0 | Attributes::SIGN.0;
        if !public.attributes.has(Attributes::RESIDENT) || public.attributes.usage() != usage {
            let detail =
                "the attestation key is not a restricted signing key that was made in its TPM to stay there";
            return Err(Refused::new("tpm-ak-attributes", detail));
        }
        match public.p256() {
            Some(key) if public.is_ecdsa_sha256() => Ok(Self { key: *key, name: public.name() }),
            _ => Err(Refused::new(
                "tpm-ak-kind",
                "the attestation key does not sign with ECDSA P-256 and SHA-256",
            )),
        }
    }

    /// What the key signed for the nonce.
    fn open(&self, signed: &Signed, nonce: Hash) -> Result<Attest, Refused> {
        let signature = parse_signature(&signed.signature).map_err(malformed)?;
        self.key
            .verify_digest(Hash::of(&signed.attest).as_ref(), &signature)
            .map_err(|_| Refused::new("tpm-signature", "the attestation key did not sign this"))?;
        let attest = Attest::parse(&signed.attest).map_err(malformed)?;
        if attest.extra != nonce.as_ref() {
            return Err(Refused::new("tpm-nonce", "the attestation key signed it for another nonce"));
        }
        Ok(attest)
    }

    fn quote(&self, signed: &Signed, values: &[(u8, Hash)], nonce: Hash) -> Result<Attest, Refused> {
        let attest = self.open(signed, nonce)?;
        let Attested::Quote { registers, digest } = &attest.attested else {
            return Err(Refused::new("tpm-kind", "what should be a quote certifies a key"));
        };
        let values_of: Vec<&[u8]> = values.iter().map(|(_, value)| value.as_ref()).collect();
        if !values.iter().map(|(index, _)| index).eq(registers) || Hash::of_parts(&values_of) != *digest {
            return Err(Refused::new("tpm-registers", "the quote is over other registers or values"));
        }
        if !REQUIRED_REGISTERS.clone().all(|index| registers.contains(&index)) {
            return Err(Refused::new(
                "tpm-registers-missing",
                "the quote leaves out one of the registers 0 to 7",
            ));
        }
        Ok(attest)
    }

    fn certified(
        &self,
        certified: &Certified,
        role: Role,
        expected: &PublicKey,
        nonce: Hash,
    ) -> Result<Public, Refused> {
        let refused =
            |reason, detail: &str| Err(Refused::new(reason, format!("{} key: {detail}", role.name())));
        let public = Public::parse(&certified.public).map_err(malformed)?;
        let Attested::Certify { name } = self.open(&certified.by, nonce)?.attested else {
            return refused("tpm-kind", "what should certify it is a quote");
        };
        if name != public.name().as_bytes() {
            return refused("tpm-name", "another object is certified than this one");
        }
        if public.p256() != Some(expected) {
            return refused("tpm-key-mismatch", "the attestation names another one");
        }
        if !public.attributes.has(Attributes::RESIDENT) || public.attributes.usage() != role.usage() {
            return refused(
                "tpm-key-attributes",
                "it can leave the TPM, was made elsewhere, or is for another use",
            );
        }
        let fits = match role {
            Role::Signing => public.scheme.is_none() || public.is_ecdsa_sha256(),
            Role::Sealing => public.scheme.is_none() || public.is_ecdh(),
        };
        if fits { Ok(public) } else { refused("tpm-key-attributes", "its scheme is for another use") }
    }
}

/// What a key of a provider is for.
#[derive(Clone, Copy)]
enum Role {
    Signing,
    Sealing,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Sealing => "sealing",
        }
    }

    /// The only use that the key may have. Neither may be restricted: such a key serves the TPM alone.
    const fn usage(self) -> u32 {
        match self {
            Self::Signing => Attributes::SIGN.0,
            Self::Sealing => Attributes::DECRYPT.0,
        }
    }
}

fn residency(public: &Public) -> String {
    format!("made in the TPM and unable to leave it (attributes {:08x})", public.attributes.0)
}

fn malformed(bad: BadTpm) -> Refused {
    Refused::malformed(bad.to_string())
}

fn byte_strings(fields: &mut Fields, key: u64, most: usize) -> Result<Vec<Vec<u8>>, FieldError> {
    const EXPECTED: &str = "an array of a few byte strings";
    let items = fields.array(key)?;
    if items.len() > most {
        return Err(FieldError::Field { key, expected: EXPECTED });
    }
    items
        .into_iter()
        .map(|item| match item {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(FieldError::Field { key, expected: EXPECTED }),
        })
        .collect()
}

fn registers(items: Vec<Value>) -> Result<Vec<(u8, Hash)>, FieldError> {
    let pair = |item| match item {
        Value::Array(pair) => match <[Value; 2]>::try_from(pair).ok()? {
            [Value::Unsigned(index), Value::Bytes(value)] => {
                Some((u8::try_from(index).ok()?, Hash::try_from(value.as_slice()).ok()?))
            }
            _ => None,
        },
        _ => None,
    };
    items
        .into_iter()
        .map(pair)
        .collect::<Option<_>>()
        .ok_or(FieldError::Field { key: 7, expected: "an array of [register, SHA-256 value]" })
}
