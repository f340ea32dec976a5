//! Every key of the network, from fixed seeds. They are public: use them for nothing real.

use std::sync::Arc;

use glassbloom_spec::{
    curve::{EcdhSecret, PublicKey, SigningKey},
    note::NoteSigner,
    seal::{KeyConfig, hpke},
};

use super::log::{RECEIPTS, REGISTRY};

/// The secret keys of all parties.
pub struct Keys {
    /// Signs verdicts, policies, prices and models.
    pub coordinator: SigningKey,
    /// Signs releases.
    pub release: SigningKey,
    /// Signs attestations and receipts.
    pub provider: SigningKey,
    /// The provider's signing key before that one, in networks with hardware.
    pub before: SigningKey,
    /// Opens requests.
    pub sealing: Arc<EcdhSecret>,
    /// A stranger's, in no policy.
    pub stranger: SigningKey,
    logs: [[NoteSigner; 2]; 2],
    witnesses: [NoteSigner; 2],
}

impl Keys {
    pub(super) fn new() -> Self {
        let log = |origin: &str, seed: u8| {
            [
                NoteSigner::ed25519_log(origin, [seed; 32]).expect("a key name"),
                NoteSigner::mldsa44(origin, [seed + 1; 32]).expect("a key name"),
            ]
        };
        Self {
            coordinator: SigningKey::from_seed(&[1; 32]),
            release: SigningKey::from_seed(&[2; 32]),
            provider: SigningKey::from_seed(&[3; 32]),
            before: SigningKey::from_seed(&[6; 32]),
            sealing: Arc::new(hpke::derive_key_pair(&[4; 32])),
            stranger: SigningKey::from_seed(&[5; 32]),
            logs: [log(REGISTRY, 10), log(RECEIPTS, 20)],
            witnesses: [
                NoteSigner::ed25519_witness("w1.glassbloom.test", [30; 32]).expect("a key name"),
                NoteSigner::mldsa44("w2.glassbloom.test", [31; 32]).expect("a key name"),
            ],
        }
    }

    /// The Ed25519 and the ML-DSA-44 key of a log.
    ///
    /// # Panics
    /// When there is no such log.
    pub fn log(&self, origin: &str) -> &[NoteSigner; 2] {
        self.logs.iter().find(|keys| keys[0].vkey().name() == origin).expect("registry or receipts")
    }

    /// An Ed25519 and an ML-DSA-44 witness.
    pub const fn witnesses(&self) -> &[NoteSigner; 2] {
        &self.witnesses
    }

    /// The provider's sealing key as it is published.
    pub fn key_config(&self) -> KeyConfig {
        KeyConfig::new(1, PublicKey::from_sec1(&self.sealing.public_key()).expect("a point of ours"))
    }

    /// A policy with both logs, both witnesses, these tiers, and these lines about vendors and auditors.
    pub fn policy_text(&self, accept: &[String], trust: &str) -> String {
        let mut text = String::new();
        for keys in &self.logs {
            for key in keys {
                text.push_str(&format!("log {}\n", key.vkey()));
            }
        }
        for (number, witness) in self.witnesses.iter().enumerate() {
            text.push_str(&format!("witness w{} {}\n", number + 1, witness.vkey()));
        }
        text.push_str("group witnesses all w1 w2\nquorum witnesses\n");
        text.push_str(&format!("coordinator {}\n", self.coordinator.public_key()));
        text.push_str(&format!("release {}\n", self.release.public_key()));
        for tier in accept {
            text.push_str(&format!("accept {tier}\n"));
        }
        text.push_str(trust);
        text.push_str("checkpoint-age 1h\n");
        text
    }
}
