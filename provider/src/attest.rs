//! The attestation: this process's keys, bound to a witnessed checkpoint of the registry.

use std::{
    collections::HashSet,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use glassbloom_hardware::{Device, DeviceError};
use glassbloom_service::durable;
use glassbloom_spec::{
    curve::{BadKey, DiffieHellman, PublicKey, SignError, Signer, SigningKey},
    hash::Hash,
    id::{UnixMillis, UnixSeconds},
    leaf::{Attestation, Beacon, Evidence, Payload, attestation_nonce, rotation_message},
    policy::Checkpoint,
    seal::KeyConfig,
    statement::Statement,
};

use crate::keys;

/// How long an attestation holds, in seconds: half a day.
pub const LIFE: u64 = 12 * 60 * 60;

/// File with the leaf hash of the last attestation that was logged, and the key that signed it.
pub const PREVIOUS: &str = "attestation.leaf";

/// The keys of this process.
pub struct Identity {
    device: Arc<dyn Device>,
    /// Signs attestations and receipts; lasts.
    pub signing: Arc<dyn Signer>,
    /// Opens requests; ends with the process.
    pub sealing: Arc<dyn DiffieHellman>,
    /// The sealing key as it is published.
    pub key_config: KeyConfig,
    /// The requests that were opened, by their encapsulated keys; ends with the sealing key, so it need not be kept.
    opened: Mutex<HashSet<Hash>>,
}

/// Why there is no attestation.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// What holds the keys failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The signing key failed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Identity {
    /// The keys that a device holds.
    ///
    /// # Errors
    /// When the device's sealing key is no point on the curve.
    pub fn new(device: Arc<dyn Device>) -> Result<Self, BadKey> {
        let sealing = device.sealing();
        let key_config = KeyConfig::new(KEY_NUMBER, PublicKey::from_sec1(&sealing.public_key())?);
        Ok(Self { signing: device.signing(), device, sealing, key_config, opened: Mutex::default() })
    }

    /// What holds the keys.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// Whether a request with this encapsulated key comes for the first time, as each must: a relay that sends one again
    /// would have it charged twice, and learn by how much the token counts differ. See `spec/receipt.md`.
    pub fn is_first(&self, encapsulated_key: &[u8]) -> bool {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.insert(Hash::of(encapsulated_key))
    }

    /// What evidence after this checkpoint has to cover.
    pub fn nonce(&self, checkpoint: &Checkpoint) -> Hash {
        let beacon = Beacon { checkpoint: checkpoint.note_bytes().to_vec() };
        attestation_nonce(beacon.digest(), &self.signing.public_key(), &self.key_config)
    }

    /// Signs an attestation that was demonstrably made after the checkpoint was witnessed.
    ///
    /// # Errors
    /// When what holds the keys fails, or an auditor must vouch for it first.
    pub fn attest(
        &self,
        claims: &Claims,
        checkpoint: &Checkpoint,
        now: UnixMillis,
    ) -> Result<Attested, AttestError> {
        let (nonce, signing_key) = (self.nonce(checkpoint), self.signing.public_key());
        let not_after = UnixSeconds::new(now.seconds().get() + LIFE);
        let countersignature = claims.previous.as_ref().and_then(|previous| {
            let key = previous.key.as_ref()?;
            Some(key.sign(&rotation_message(previous.leaf, &signing_key, nonce)))
        });
        let attestation = Attestation {
            nonce,
            signing_key,
            key_config: self.key_config.clone(),
            build: claims.build,
            endpoint: claims.endpoint.clone(),
            not_after,
            models: claims.models.clone(),
            beacon: Beacon { checkpoint: checkpoint.note_bytes().to_vec() },
            evidence: Evidence {
                format: self.device.format().to_owned(),
                bytes: self.device.evidence(nonce)?,
            },
            previous: claims.previous.as_ref().map(|previous| previous.leaf),
            possession: self.device.possession(nonce)?,
            countersignature,
            release_proof: claims.release_proof.clone(),
            enrolment: self.device.enrolment(),
        };
        let statement = attestation.sign(&*self.signing)?;
        Ok(Attested {
            leaf: statement.leaf_hash(),
            statement,
            renew_at: UnixSeconds::new(not_after.get() - LIFE / 2),
        })
    }
}

/// What an attestation says beside the keys.
#[derive(Clone)]
pub struct Claims {
    /// The build that runs.
    pub build: Hash,
    /// The coordinator's address.
    pub endpoint: String,
    /// Digests of the models served.
    pub models: Vec<Hash>,
    /// The provider's attestation before this one.
    pub previous: Option<Previous>,
    /// Shows how long the build's release has been in the registry.
    pub release_proof: Option<Vec<u8>>,
}

/// The attestation before.
#[derive(Clone)]
pub struct Previous {
    /// Its leaf hash.
    pub leaf: Hash,
    /// The key that signed it, where that is another than now and still at hand: it counter-signs the new one.
    pub key: Option<SigningKey>,
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

/// The last attestation that was logged, if this provider remembers one.
///
/// # Errors
/// When the file is there and cannot be read; a chain of attestations must not break silently.
pub fn previous(data: &Path, signing_key: &PublicKey) -> io::Result<Option<Previous>> {
    let path = data.join(PREVIOUS);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bad = || io::Error::other(format!("{}: not a leaf hash and a key", path.display()));
    let mut words = text.split_ascii_whitespace();
    let leaf = words.next().and_then(|leaf| leaf.parse().ok()).ok_or_else(bad)?;
    // Versions before rotation kept the leaf hash alone; then the key was the one in the file.
    let by: Option<PublicKey> = words.next().map(|key| key.parse().map_err(|_| bad())).transpose()?;
    let key = by.filter(|by| by != signing_key).and_then(|by| {
        let key = keys::earlier(data).into_iter().find(|key| key.public_key() == by);
        if key.is_none() {
            tracing::warn!(%by, "the previous signing key is gone: the new one begins a new identity");
        }
        key
    });
    Ok(Some(Previous { leaf, key }))
}

/// Remembers an attestation that was logged.
///
/// # Errors
/// When it cannot be written.
pub fn remember(data: &Path, leaf: Hash, signing_key: &PublicKey) -> io::Result<()> {
    durable::write(&data.join(PREVIOUS), format!("{leaf} {signing_key}\n").as_bytes())
}

/// The number of the one sealing key. `[RFC 9458 §3]`
const KEY_NUMBER: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_key_is_counter_signed_as_long_as_the_old_one_is_at_hand() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let old = keys::load_or_create(&data.join(keys::SIGNING_KEY)).unwrap();
        remember(data, Hash::of(b"leaf"), &old.public_key()).unwrap();
        assert!(previous(data, &old.public_key()).unwrap().unwrap().key.is_none(), "nothing changed");
        let new = keys::rotate(data).unwrap();
        assert_ne!(new.public_key(), old.public_key());
        let found = previous(data, &new.public_key()).unwrap().unwrap();
        assert_eq!(found.leaf, Hash::of(b"leaf"));
        assert_eq!(found.key.unwrap().public_key(), old.public_key());
        fs::remove_file(data.join(keys::PREVIOUS_KEY)).unwrap();
        assert!(previous(data, &new.public_key()).unwrap().unwrap().key.is_none());
        fs::write(data.join(PREVIOUS), format!("{}\n", Hash::of(b"old form"))).unwrap();
        assert!(previous(data, &new.public_key()).unwrap().unwrap().key.is_none());
        fs::write(data.join(PREVIOUS), "nonsense").unwrap();
        assert!(previous(data, &new.public_key()).is_err());
    }
}
