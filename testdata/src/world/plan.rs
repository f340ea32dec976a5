//! What a network signs, open to changes before it is signed.

use glassbloom_spec::{
    curve::SigningKey,
    hash::Hash,
    id::UnixSeconds,
    leaf::{
        Attestation, Beacon, Coordinator, Evidence, Model, ModelFile, Payload, PolicyLeaf, Price, PriceTable,
        Release, Verdict, attestation_nonce,
    },
    statement::Statement,
};

use super::{Keys, Log, MODEL, NOW};

/// A network to build. [`Plan::default`] is in good order; each field is a way to depart from it.
pub struct Plan {
    /// The rules.
    pub rules: PolicyLeaf,
    /// The prices.
    pub prices: PriceTable,
    /// The model.
    pub model: Model,
    /// The provider's build.
    pub release: Release,
    /// Changes the attestation before it is signed; `true` asks to derive the nonce anew afterwards.
    pub attestation: fn(&mut Attestation) -> bool,
    /// Changes the beacon's note.
    pub beacon: fn(&Keys, &Log) -> Vec<u8>,
    /// Changes the verdict before it is signed.
    pub verdict: fn(&mut Verdict),
    /// Who signs for the coordinator.
    pub coordinator_signer: fn(&Keys) -> &SigningKey,
    /// Who signs the release.
    pub release_signer: fn(&Keys) -> &SigningKey,
    /// Who signs the attestation.
    pub attestation_signer: fn(&Keys) -> &SigningKey,
    /// Tiers that the user's policy accepts.
    pub accept: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        let file = |name: &str, content: &[u8]| ModelFile {
            name: name.to_owned(),
            size: content.len() as u64,
            sha256: Hash::of(content),
        };
        Self {
            rules: PolicyLeaf {
                tiers: vec!["self-signed".to_owned()],
                max_lifetime: 24 * 3600,
                plaintext_api: false,
                ..PolicyLeaf::default()
            },
            prices: PriceTable {
                prices: vec![Price { alias: MODEL.to_owned(), prompt: 50_000, completion: 200_000 }],
            },
            model: Model {
                alias: MODEL.to_owned(),
                files: vec![
                    file("config.json", b"{}"),
                    file("model.safetensors", b"weights"),
                    file("tokenizer.json", b"tokens"),
                ],
                quantisation: "bf16".to_owned(),
                licence: "Apache-2.0".to_owned(),
                source: "https://models.example/bloom-tiny".to_owned(),
            },
            release: Release {
                version: "0.1.0".to_owned(),
                build: Hash::of(b"build"),
                platform: "aarch64-macos".to_owned(),
                commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
                not_before: UnixSeconds::new(NOW - 3600),
                code: None,
                approvals: Vec::new(),
            },
            attestation: |_| false,
            beacon: |keys, registry| registry.checkpoint(keys, registry.size(), NOW),
            verdict: |_| {},
            coordinator_signer: |keys| &keys.coordinator,
            release_signer: |keys| &keys.release,
            attestation_signer: |keys| &keys.provider,
            accept: vec!["self-signed".to_owned()],
        }
    }
}

impl Plan {
    /// The leaves before the attestation, in the order of [`super::index`].
    pub(super) fn network_leaves(&self, keys: &Keys) -> [Statement; 5] {
        let coordinator = Coordinator {
            key: keys.coordinator.public_key(),
            name: "glassbloom.test".to_owned(),
            build: Hash::of(b"coordinator build"),
            quote: None,
        };
        let by_coordinator = self.coordinator_signer(keys);
        [
            coordinator.sign(by_coordinator),
            self.rules.sign(by_coordinator),
            self.prices.sign(by_coordinator),
            self.model.sign(by_coordinator),
            self.release.sign((self.release_signer)(keys)),
        ]
        .map(|statement| statement.expect("software keys sign"))
    }

    pub(super) fn attestation(&self, keys: &Keys, registry: &Log) -> Attestation {
        let beacon = Beacon { checkpoint: (self.beacon)(keys, registry) };
        let signing_key = keys.provider.public_key();
        let key_config = keys.key_config();
        let mut attestation = Attestation {
            nonce: attestation_nonce(beacon.digest(), &signing_key, &key_config),
            signing_key,
            key_config,
            build: self.release.build,
            endpoint: "https://glassbloom.test".to_owned(),
            not_after: UnixSeconds::new(NOW + 12 * 3600),
            models: vec![self.model.digest()],
            beacon,
            evidence: Evidence::self_signed(),
            previous: None,
            possession: None,
            countersignature: None,
            release_proof: None,
            enrolment: None,
        };
        if (self.attestation)(&mut attestation) {
            attestation.nonce = attestation.expected_nonce();
        }
        match attestation.possession {
            None => attestation.possessed(&keys.sealing),
            Some(_) => attestation,
        }
    }

    pub(super) fn attestation_signer<'a>(&self, keys: &'a Keys) -> &'a SigningKey {
        (self.attestation_signer)(keys)
    }

    pub(super) fn coordinator_signer<'a>(&self, keys: &'a Keys) -> &'a SigningKey {
        (self.coordinator_signer)(keys)
    }
}
