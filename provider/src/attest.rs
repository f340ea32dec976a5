//! The attestation: this process's keys, bound to a witnessed checkpoint of the registry.

use std::{
    collections::HashSet,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use glassbloom_service::durable;
use glassbloom_spec::{
    curve::{BadKey, PublicKey, SignError, Signer, SigningKey},
    hash::Hash,
    id::{UnixMillis, UnixSeconds},
    leaf::{Attestation, Beacon, Evidence, Payload, attestation_nonce},
    policy::Checkpoint,
    seal::{KeyConfig, hpke::EcdhSecret},
    statement::Statement,
};

use crate::keys;

/// How long an attestation holds, in seconds: half a day.
pub const LIFE: u64 = 12 * 60 * 60;

/// File with the leaf hash of the last attestation that was logged.
pub const PREVIOUS: &str = "attestation.leaf";

/// The keys of this process.
pub struct Identity {
    /// Signs attestations and receipts; lasts.
    pub signing: SigningKey,
    /// Opens requests; ends with the process.
    pub sealing: Arc<EcdhSecret>,
    /// The sealing key as it is published.
    pub key_config: KeyConfig,
    /// The requests that were opened, by their encapsulated keys; ends with the sealing key, so it need not be kept.
    opened: Mutex<HashSet<Hash>>,
}

impl Identity {
    /// Takes a signing key and makes a sealing key.
    ///
    /// # Errors
    /// Never for keys of this crate; the point is checked again where it is published.
    pub fn new(signing: SigningKey) -> Result<Self, BadKey> {
        let sealing = keys::fresh_sealing_key();
        let key_config = KeyConfig::new(KEY_NUMBER, PublicKey::from_sec1(&sealing.public_key())?);
        Ok(Self { signing, sealing: Arc::new(sealing), key_config, opened: Mutex::default() })
    }

    /// Whether a request with this encapsulated key comes for the first time, as each must: a relay that sends one again
    /// would have it charged twice, and learn by how much the token counts differ. See `spec/receipt.md`.
    pub fn is_first(&self, encapsulated_key: &[u8]) -> bool {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.insert(Hash::of(encapsulated_key))
    }

    /// Signs an attestation that was demonstrably made after the checkpoint was witnessed.
    ///
    /// # Errors
    /// When the signing key's device fails.
    pub fn attest(
        &self,
        claims: &Claims,
        checkpoint: &Checkpoint,
        now: UnixMillis,
    ) -> Result<Attested, SignError> {
        let beacon = Beacon { checkpoint: checkpoint.note_bytes().to_vec() };
        let signing_key = Signer::public_key(&self.signing);
        let not_after = UnixSeconds::new(now.seconds().get() + LIFE);
        let attestation = Attestation {
            nonce: attestation_nonce(beacon.digest(), &signing_key, &self.key_config),
            signing_key,
            key_config: self.key_config.clone(),
            build: claims.build,
            endpoint: claims.endpoint.clone(),
            not_after,
            models: claims.models.clone(),
            beacon,
            evidence: Evidence::self_signed(),
            previous: claims.previous,
            possession: None,
            countersignature: None,
            release_proof: None,
            enrolment: None,
        };
        let statement = attestation.possessed(&self.sealing).sign(&self.signing)?;
        Ok(Attested {
            leaf: statement.leaf_hash(),
            statement,
            renew_at: UnixSeconds::new(not_after.get() - LIFE / 2),
        })
    }
}

/// What an attestation says beside the keys.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The build that runs.
    pub build: Hash,
    /// The coordinator's address.
    pub endpoint: String,
    /// Digests of the models served.
    pub models: Vec<Hash>,
    /// The provider's attestation before this one.
    pub previous: Option<Hash>,
}

/// A signed attestation.
#[derive(Clone, Debug)]
pub struct Attested {
    /// The statement to log.
    pub statement: Statement,
    /// Its leaf hash, by which requests name it.
    pub leaf: Hash,
    /// From then on a new one should take its place.
    pub renew_at: UnixSeconds,
}

/// The leaf hash of the last attestation that was logged, if this provider remembers one.
///
/// # Errors
/// When the file is there and cannot be read; a chain of attestations must not break silently.
pub fn previous(data: &Path) -> io::Result<Option<Hash>> {
    match fs::read_to_string(data.join(PREVIOUS)) {
        Ok(text) => text
            .trim_end()
            .parse()
            .map(Some)
            .map_err(|_| io::Error::other(format!("{}: not a leaf hash", data.join(PREVIOUS).display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Remembers an attestation that was logged.
///
/// # Errors
/// When it cannot be written.
pub fn remember(data: &Path, leaf: Hash) -> io::Result<()> {
    durable::write(&data.join(PREVIOUS), format!("{leaf}\n").as_bytes())
}

/// The number of the one sealing key. `[RFC 9458 §3]`
const KEY_NUMBER: u8 = 1;
