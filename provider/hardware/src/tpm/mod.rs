//! Keys in a TPM 2.0, spoken to directly: through the kernel's device, or the socket of a software TPM.
//!
//! No tool is started and no file holds what a tool would leave behind, so the sealing key exists nowhere but in the TPM
//! and, encrypted by it, in this process's memory: when the process ends, what was sealed to it can be opened no more.

mod command;
mod error;
mod evidence;
mod key;
mod pem;
mod transport;
mod wire;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use glassbloom_spec::{
    cbor::{FieldError, Value},
    curve::{self, DhError, DiffieHellman, PublicKey, SIGNATURE_LEN, SignError, Signer, UNCOMPRESSED_LEN},
    hash::Hash,
};
use zeroize::Zeroizing;

pub use self::transport::{BadTcti, Tcti};
use self::{
    command::{Blobs, Link, Object, Tpm},
    error::TpmError,
    evidence::{Fresh, Lasting},
    key::Template,
    wire::{Reader, Writer, handle},
};
use crate::{Device, DeviceError, Endorsed, EnrolmentRequest, files};

/// The format of the evidence.
pub const FORMAT: &str = "tpm";

/// Which TPM, and where its keys are remembered.
#[derive(Clone, Debug)]
pub struct TpmConfig {
    /// Where the TPM is.
    pub tcti: Tcti,
    /// Folder for the keys' encrypted halves and the enrolment; made when missing.
    pub folder: PathBuf,
    /// Certificates between the TPM's own and the pinned root, in PEM or DER, issuer by issuer.
    pub certificates: Vec<PathBuf>,
    /// The platform configuration registers that quotes cover: by default 0 to 7, firmware and how it started.
    pub pcrs: Vec<u8>,
}

impl TpmConfig {
    /// The defaults, with this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            tcti: Tcti::default(),
            folder: folder.into(),
            certificates: Vec::new(),
            pcrs: (0..8).collect(),
        }
    }
}

/// A provider's keys in a TPM.
pub struct TpmDevice {
    tpm: Arc<Tpm>,
    folder: PathBuf,
    pcrs: Vec<u8>,
    /// The TPM's own certificate and those between it and the root.
    certificates: Vec<Vec<u8>>,
    attestation: Object,
    signing: Arc<TpmSigner>,
    sealing: Arc<TpmSealer>,
    lasting: Mutex<Option<Lasting>>,
}

impl TpmDevice {
    /// Finds or makes the attestation and signing keys, and makes a new sealing key.
    ///
    /// # Errors
    /// When the TPM fails, its keys are not those in the folder, or it has no certificate. A key that exists is never
    /// replaced.
    pub fn open(config: &TpmConfig) -> Result<Self, DeviceError> {
        if config.pcrs.is_empty() || config.pcrs.iter().any(|pcr| *pcr >= 24) {
            return Err(DeviceError::failed(
                "configuring the TPM",
                "a quote covers some of the registers 0 to 23",
                "name at least one of them, or leave the setting out",
            ));
        }
        let tpm = Arc::new(Tpm::new(config.tcti.clone()));
        let certificates = read_certificates(&tpm, &config.certificates)?;
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
        let lasting = Lasting::read(&config.folder)?
            .filter(|lasting| lasting.is_about(&certificates, &attestation.public));
        Ok(Self {
            folder: config.folder.clone(),
            pcrs: config.pcrs.clone(),
            certificates,
            signing: Arc::new(TpmSigner { tpm: Arc::clone(&tpm), key: signing, public_key: signing_point }),
            sealing: Arc::new(TpmSealer { tpm: Arc::clone(&tpm), key: sealing, public_key: sealing_point }),
            attestation,
            tpm,
            lasting: Mutex::new(lasting),
        })
    }

    /// The quote and the certificates of both keys, over a nonce.
    fn fresh(&self, nonce: Hash) -> Result<Fresh, DeviceError> {
        let (signing, sealing) = (&self.signing.key, &self.sealing.key);
        let nonce = nonce.as_ref();
        self.tpm.run("making evidence", |link| {
            // Two at a time: a small TPM has room for three loaded keys.
            let certify = |link: &mut Link<'_>, object: &Object| {
                link.with(object, |link, object| {
                    link.with(&self.attestation, |link, key| link.certify(object, key, nonce))
                })
            };
            let (signing_certified, sealing_certified) = (certify(link, signing)?, certify(link, sealing)?);
            let quoted = link.with(&self.attestation, |link, key| link.quote(key, nonce, &self.pcrs))?;
            Ok(Fresh {
                quoted,
                pcrs: link.read_pcrs(&self.pcrs)?,
                signing_key: signing.public.clone(),
                signing_certified,
                sealing_key: sealing.public.clone(),
                sealing_certified,
            })
        })
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
        let lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lasting = lasting.filter(|lasting| lasting.is_good_for(nonce)).ok_or(DeviceError::NotEnrolled)?;
        for _ in 0..QUOTE_TRIES {
            let fresh = self.fresh(nonce)?;
            // The registers are read after they were quoted, and may have changed in between.
            if fresh.registers_are_as_quoted() {
                return Ok(evidence::encode(&lasting, &fresh));
            }
        }
        Err(DeviceError::failed(
            "making evidence",
            "the platform configuration registers change too often to be quoted",
            "leave those that change out of the configuration (0 to 7 do not change once the system runs)",
        ))
    }

    fn enrolment(&self) -> Option<Hash> {
        self.lasting.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|lasting| lasting.leaf)
    }

    fn logged(&self, leaf: Hash) -> Result<(), DeviceError> {
        let mut held = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            Some(lasting) if lasting.leaf.is_none() => {
                let logged = Lasting { leaf: Some(leaf), ..lasting.clone() };
                logged.write(&self.folder)?;
                *lasting = logged;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn forget_enrolment(&self) -> Result<(), DeviceError> {
        let mut held = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        Lasting::remove(&self.folder)?;
        *held = None;
        Ok(())
    }

    fn endorsed(&self) -> Option<&dyn Endorsed> {
        Some(self)
    }
}

impl Endorsed for TpmDevice {
    fn is_wanted(&self, nonce: Hash) -> bool {
        let lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        lasting.as_ref().is_none_or(|lasting| !lasting.is_good_for(nonce))
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
            let open = |link: &mut Link<'_>, endorsement: u32| {
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
        let transcript = Value::decode(transcript).map_err(FieldError::from).and_then(evidence::transcript);
        let transcript = transcript.map_err(|error| {
            DeviceError::failed(
                "reading the auditor's transcript",
                error,
                "check that the auditor is of the same version",
            )
        })?;
        let lasting = Lasting {
            certificates: self.certificates.clone(),
            attestation_key: self.attestation.public.clone(),
            transcript,
            endorsements: endorsements.to_vec(),
            nonce,
            leaf: None,
        };
        let mut held = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        lasting.write(&self.folder)?;
        *held = Some(lasting);
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
fn read_certificates(tpm: &Tpm, others: &[PathBuf]) -> Result<Vec<Vec<u8>>, DeviceError> {
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
const QUOTE_TRIES: usize = 5;
