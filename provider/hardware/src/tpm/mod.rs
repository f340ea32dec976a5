//! Keys in a TPM 2.0, spoken to directly: through the kernel's device, or the socket of a software TPM.
//!
//! No tool is started and no file holds what a tool would leave behind, so the sealing key exists nowhere but in the TPM
//! and, encrypted by it, in this process's memory: when the process ends, what was sealed to it can be opened no more.

mod command;
mod enrolment;
mod error;
mod examine;
mod key;
mod pem;
mod transport;
mod wire;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use glassbloom_spec::{
    cbor::{FieldError, Value},
    curve::{self, DhError, DiffieHellman, PublicKey, SIGNATURE_LEN, SignError, Signer, UNCOMPRESSED_LEN},
    evidence::tpm::{Certified, Evidence, FORMAT, Lasting, REQUIRED_REGISTERS, credential::Transcript},
    hash::Hash,
};
use zeroize::Zeroizing;

#[cfg(feature = "test-support")]
pub(crate) use self::pem::read_certificates;
use self::{
    command::{Blobs, Link, Object, Tpm},
    enrolment::Enrolled,
    error::TpmError,
    key::Template,
    wire::{Reader, Writer, handle},
};
pub use self::{
    examine::{Examined, examine},
    transport::{BadTcti, Tcti},
};
use crate::{Device, DeviceError, Endorsed, EnrolmentRequest, files};

/// Which TPM, and where its keys are remembered.
#[derive(Clone, Debug)]
pub struct TpmConfig {
    /// Where the TPM is.
    pub tcti: Tcti,
    /// Folder for the keys' encrypted halves and the enrolment; made when missing.
    pub folder: PathBuf,
    /// Certificates between the TPM's own and the pinned root, in PEM or DER, issuer by issuer.
    pub certificates: Vec<PathBuf>,
    /// The platform configuration registers that quotes cover beside 0 to 7, which say what firmware started and how.
    pub more_registers: Vec<u8>,
}

impl TpmConfig {
    /// The defaults, with this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            tcti: Tcti::default(),
            folder: folder.into(),
            certificates: Vec::new(),
            more_registers: Vec::new(),
        }
    }
}

/// A provider's keys in a TPM.
pub struct TpmDevice {
    tpm: Arc<Tpm>,
    folder: PathBuf,
    registers: Vec<u8>,
    /// The TPM's own certificate and those between it and the root.
    certificates: Vec<Vec<u8>>,
    attestation: Object,
    signing: Arc<TpmSigner>,
    sealing: Arc<TpmSealer>,
    enrolled: Mutex<Option<Enrolled>>,
}

impl TpmDevice {
    /// Finds or makes the attestation and signing keys, and makes a new sealing key.
    ///
    /// # Errors
    /// When the TPM fails, its keys are not those in the folder, or it has no certificate. A key that exists is never
    /// replaced.
    pub fn open(config: &TpmConfig) -> Result<Self, DeviceError> {
        let mut registers: Vec<u8> =
            REQUIRED_REGISTERS.chain(config.more_registers.iter().copied()).collect();
        registers.sort_unstable();
        registers.dedup();
        if let Some(register) = registers.last().filter(|register| **register >= REGISTERS) {
            return Err(DeviceError::failed(
                "configuring the TPM",
                format!("there is no platform configuration register {register}"),
                "name some of 8 to 23, or leave the setting out",
            ));
        }
        let tpm = Arc::new(Tpm::new(config.tcti.clone()));
        let certificates = certificate_chain(&tpm, &config.certificates)?;
        let [attestation, signing] = [
            (Template::Attestation, ATTESTATION_KEY, "the attestation key"),
            (Template::Signing, SIGNING_KEY, "the signing key"),
        ]
        .map(|(template, name, what)| lasting_key(&tpm, &config.folder.join(name), template, what));
        let (attestation, signing) = (attestation?, signing?);
        let sealing = tpm.run("making the sealing key", |link| {
            // Under a parent whose seed the TPM changes at each start, so that not even the memory of this process
            // would help after one.
            let (parent, _) = link.create_primary(handle::NULL, Template::Storage)?;
            let (loaded, public) = link.during(parent, |link, parent| {
                let blobs = link.create(parent, Template::Sealing)?;
                Ok((link.load(parent, &blobs)?, blobs.public))
            })?;
            link.keep(loaded, public)
        })?;
        let public_key = |object: &Object, action| {
            key::point(&object.public).map_err(|error| TpmError::from(error).during(action, tpm.tcti()))
        };
        let signing_point = public_key(&signing, "reading the signing key")?;
        let sealing_point = public_key(&sealing, "reading the sealing key")?;
        let enrolled = Enrolled::read(&config.folder)?
            .filter(|enrolled| enrolled.is_about(&certificates, &attestation.public));
        Ok(Self {
            folder: config.folder.clone(),
            registers,
            certificates,
            signing: Arc::new(TpmSigner { tpm: Arc::clone(&tpm), key: signing, public_key: signing_point }),
            sealing: Arc::new(TpmSealer { tpm: Arc::clone(&tpm), key: sealing, public_key: sealing_point }),
            attestation,
            tpm,
            enrolled: Mutex::new(enrolled),
        })
    }

    /// Evidence with a quote and the certificates of both keys, over a nonce.
    fn with_fresh(&self, lasting: Lasting, nonce: Hash) -> Result<Evidence, DeviceError> {
        let (signing, sealing) = (&self.signing.key, &self.sealing.key);
        let nonce = nonce.as_ref();
        self.tpm.run("making evidence", |link| {
            // Two at a time: a small TPM has room for three loaded keys.
            let certify = |link: &mut Link, object: &Object| {
                let by = link.with(object, |link, object| {
                    link.with(&self.attestation, |link, key| link.certify(object, key, nonce))
                })?;
                Ok::<_, TpmError>(Certified { public: object.public.clone(), by })
            };
            let (signing, sealing) = (certify(link, signing)?, certify(link, sealing)?);
            let quote = link.with(&self.attestation, |link, key| link.quote(key, nonce, &self.registers))?;
            let registers = link.read_pcrs(&self.registers)?;
            Ok(Evidence { lasting, quote, registers, signing, sealing })
        })
    }

    fn held(&self) -> MutexGuard<'_, Option<Enrolled>> {
        self.enrolled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for TpmDevice {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn describe(&self) -> String {
        format!("keys in the TPM at {}", self.tpm.tcti())
    }

    fn signing(&self) -> Arc<dyn Signer> {
        Arc::clone(&self.signing) as _
    }

    fn sealing(&self) -> Arc<dyn DiffieHellman> {
        Arc::clone(&self.sealing) as _
    }

    fn evidence(&self, nonce: Hash) -> Result<Vec<u8>, DeviceError> {
        let enrolled = self.held().clone().filter(|enrolled| enrolled.is_good_for(nonce));
        let lasting = enrolled.ok_or(DeviceError::NotEnrolled)?.lasting;
        for _ in 0..QUOTE_TRIES {
            let evidence = self.with_fresh(lasting.clone(), nonce)?;
            // The registers are read after they were quoted, and may have changed in between.
            let values: Vec<&[u8]> = evidence.registers.iter().map(|(_, value)| value.as_ref()).collect();
            if evidence.quote.attest.ends_with(Hash::of_parts(&values).as_ref()) {
                return Ok(evidence.encode());
            }
        }
        Err(DeviceError::failed(
            "making evidence",
            "the platform configuration registers change too often to be quoted",
            "leave those that change out of the configuration",
        ))
    }

    fn enrolment(&self) -> Option<Hash> {
        self.held().as_ref().and_then(|enrolled| enrolled.leaf)
    }

    fn logged(&self, leaf: Hash) -> Result<(), DeviceError> {
        let mut held = self.held();
        match held.as_mut() {
            Some(enrolled) if enrolled.leaf.is_none() => {
                let logged = Enrolled { leaf: Some(leaf), ..enrolled.clone() };
                logged.write(&self.folder)?;
                *enrolled = logged;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn forget_enrolment(&self) -> Result<(), DeviceError> {
        let mut held = self.held();
        Enrolled::remove(&self.folder)?;
        *held = None;
        Ok(())
    }

    fn endorsed(&self) -> Option<&dyn Endorsed> {
        Some(self)
    }
}

impl Endorsed for TpmDevice {
    fn is_wanted(&self, nonce: Hash) -> bool {
        self.held().as_ref().is_none_or(|enrolled| !enrolled.is_good_for(nonce))
    }

    fn request(&self) -> Result<EnrolmentRequest, DeviceError> {
        Ok(EnrolmentRequest {
            certificates: self.certificates.clone(),
            attestation_key: self.attestation.public.clone(),
        })
    }

    fn activate(
        &self,
        credential: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DeviceError> {
        // The first of an ID_OBJECT's parts is shorter than the whole, and an encrypted secret is of one of two lengths.
        let credential = without_length(credential).unwrap_or(credential);
        let encrypted_secret = match without_length(encrypted_secret) {
            Some(inner) if encrypted_secret.len() != RSA_2048 => inner,
            _ => encrypted_secret,
        };
        self.tpm.run("answering the auditor's challenge", |link| {
            let open = |link: &mut Link, endorsement: u32| {
                link.with(&self.attestation, |link, key| {
                    link.activate(key, endorsement, credential, encrypted_secret)
                })
            };
            // Making the key anew can take a minute, and systems often keep it.
            match link.read_public(KEPT_ENDORSEMENT_KEY)? {
                Some(public) if Template::Endorsement.made(&public) => open(link, KEPT_ENDORSEMENT_KEY),
                _ => {
                    let (loaded, _) = link.create_primary(handle::ENDORSEMENT, Template::Endorsement)?;
                    link.during(loaded, open)
                }
            }
        })
    }

    fn set_enrolment(
        &self,
        nonce: Hash,
        transcript: &[u8],
        endorsements: &[Vec<u8>],
    ) -> Result<(), DeviceError> {
        let transcript = Value::decode(transcript).map_err(FieldError::from).and_then(Transcript::from_value);
        let activation = transcript.map_err(|error| {
            DeviceError::failed(
                "reading the auditor's transcript",
                error,
                "check that the auditor is of the same version",
            )
        })?;
        let lasting = Lasting {
            chain: self.certificates.clone(),
            attestation_key: self.attestation.public.clone(),
            activation,
            endorsements: endorsements.to_vec(),
        };
        let enrolled = Enrolled { lasting, nonce, leaf: None };
        let mut held = self.held();
        enrolled.write(&self.folder)?;
        *held = Some(enrolled);
        Ok(())
    }
}

/// The signing key.
struct TpmSigner {
    tpm: Arc<Tpm>,
    key: Object,
    public_key: PublicKey,
}

impl Signer for TpmSigner {
    fn public_key(&self) -> PublicKey {
        self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], SignError> {
        let digest = Hash::of(message);
        let signature = self
            .tpm
            .run("signing", |link| link.with(&self.key, |link, key| link.sign(key, digest.as_bytes())))?;
        let signature = curve::low_s(&signature).map_err(|error| SignError(error.to_string()))?;
        // A TPM on a loose bus answers nonsense at times, and a wrong signature would be logged for ever.
        self.public_key.verify(message, &signature).map_err(|error| SignError(error.to_string()))?;
        Ok(signature)
    }
}

/// The sealing key.
struct TpmSealer {
    tpm: Arc<Tpm>,
    key: Object,
    public_key: PublicKey,
}

impl DiffieHellman for TpmSealer {
    fn public_key(&self) -> [u8; UNCOMPRESSED_LEN] {
        self.public_key.to_uncompressed()
    }

    fn diffie_hellman(&self, peer: &[u8; UNCOMPRESSED_LEN]) -> Result<Zeroizing<[u8; 32]>, DhError> {
        let point = PublicKey::from_sec1(peer)?.to_uncompressed();
        self.tpm
            .run("opening a request", |link| {
                link.with(&self.key, |link, key| link.agree(key, &point[1..33], &point[33..]))
            })
            .map_err(|error| DhError::Device(error.to_string()))
    }
}

/// Loads a key from its file, or makes it.
fn lasting_key(tpm: &Tpm, path: &Path, template: Template, what: &str) -> Result<Object, DeviceError> {
    let stored = files::read(path)?.map(|bytes| read_blobs(path, &bytes, template)).transpose()?;
    let action = format!("{} {what}", if stored.is_some() { "loading" } else { "making" });
    let (object, made) = tpm.run(&action, |link| {
        link.tidy()?;
        let (parent, _) = link.create_primary(handle::OWNER, Template::Storage)?;
        let (loaded, blobs, made) = link.during(parent, |link, parent| {
            let made = stored.is_none();
            let blobs = stored.map_or_else(|| link.create(parent, template), Ok)?;
            Ok((link.load(parent, &blobs)?, blobs, made))
        })?;
        let object = link.keep(loaded, blobs.public.clone())?;
        Ok((object, made.then_some(blobs)))
    })?;
    if let Some(blobs) = made {
        let bytes = Writer::default().sized(&blobs.public).sized(&blobs.private);
        files::write(path, bytes.bytes())?;
    }
    Ok(object)
}

/// A key's file: TPM2B_PUBLIC and TPM2B_PRIVATE, as other TPM software has them in two files.
fn read_blobs(path: &Path, bytes: &[u8], template: Template) -> Result<Blobs, DeviceError> {
    let parse = || {
        let mut reader = Reader(bytes);
        let (public, private) = (reader.sized()?, reader.sized()?);
        reader.end()?;
        Ok::<_, wire::Garbled>((public.to_vec(), Zeroizing::new(private.to_vec())))
    };
    match parse() {
        Ok((public, private)) if template.made(&public) => Ok(Blobs { public, private }),
        _ => Err(DeviceError::Malformed {
            path: path.to_path_buf(),
            what: "not a key file of this program".to_owned(),
            next: "restore it from a backup, or remove it to start as a new provider",
        }),
    }
}

/// The TPM's certificate out of its own memory, and the others out of files.
fn certificate_chain(tpm: &Tpm, others: &[PathBuf]) -> Result<Vec<Vec<u8>>, DeviceError> {
    let (certificate, kept) = tpm.run("reading the maker's certificate", |link| {
        Ok((link.read_nv(ENDORSEMENT_CERTIFICATE)?, link.read_public(KEPT_ENDORSEMENT_KEY)?))
    })?;
    let action = "reading the maker's certificate";
    let certificate = certificate.as_deref().and_then(pem::first_of_der).ok_or_else(|| {
        DeviceError::failed(
            action,
            format!("the TPM holds none at {ENDORSEMENT_CERTIFICATE:#x}"),
            "ask its maker for the certificate of an RSA-2048 endorsement key and write it there: \
             `tpm2_getekcertificate`, `tpm2_nvdefine`, `tpm2_nvwrite`",
        )
    })?;
    let kept = kept.filter(|public| Template::Endorsement.made(public));
    if let Some(modulus) = kept.as_deref().and_then(key::modulus)
        && !certificate.windows(modulus.len()).any(|window| window == modulus)
    {
        return Err(DeviceError::failed(
            action,
            format!("it is not about the key that the TPM keeps at {KEPT_ENDORSEMENT_KEY:#x}"),
            "remove that key with `tpm2_evictcontrol`; the provider makes the right one anew",
        ));
    }
    let mut certificates = vec![certificate.to_vec()];
    for path in others {
        certificates.extend(pem::read_certificates(path)?);
    }
    Ok(certificates)
}

/// What follows a length that is right.
fn without_length(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    (usize::from(u16::from_be_bytes(*length)) == rest.len()).then_some(rest)
}

/// Names of files in the folder.
const ATTESTATION_KEY: &str = "attestation.tpm";
const SIGNING_KEY: &str = "signing.tpm";

/// Where TPMs have the certificate of the RSA-2048 endorsement key. [EK profile §2.2.1.4]
const ENDORSEMENT_CERTIFICATE: u32 = 0x01c0_0002;
/// Where systems keep that key, if they do. [TPM registry of handles §2.3.1]
const KEPT_ENDORSEMENT_KEY: u32 = 0x8101_0001;
/// Length of what is encrypted to such a key, in bytes.
const RSA_2048: usize = 256;
/// Platforms have so many registers.
const REGISTERS: u8 = 24;
const QUOTE_TRIES: usize = 5;
