//! What a network signs, open to changes before it is signed.

use glassbloom_spec::{
    curve::SigningKey,
    evidence::tpm::Evidence as TpmEvidence,
    hash::Hash,
    id::{LeafIndex, UnixSeconds},
    leaf::{
        Attestation, Beacon, Coordinator, Evidence, Model, ModelFile, Payload, PolicyLeaf, Price, PriceTable,
        Release, Verdict, attestation_nonce,
    },
    proof::TlogProof,
    statement::Statement,
};

use super::{Keys, Log, MODEL, NOW, index};
use crate::tpm::{self, Maker, Tpm};

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
    /// What holds the provider's keys, where they are not in a file. Then two attestations are logged, an hour apart: one
    /// by the key before enrols the TPM, and one by the provider's key goes on from there.
    pub tpm: Option<Tpm>,
    /// Changes the attestation before it is signed, the second where there are two; `true` asks to derive the nonce
    /// anew afterwards, and to have the TPM sign it.
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
    /// Lines of the user's policy about makers of TPMs and auditors.
    pub trust: String,
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
            tpm: None,
            attestation: |_| false,
            beacon: |keys, registry| registry.checkpoint(keys, registry.size(), NOW),
            verdict: |_| {},
            coordinator_signer: |keys| &keys.coordinator,
            release_signer: |keys| &keys.release,
            attestation_signer: |keys| &keys.provider,
            accept: vec!["self-signed".to_owned()],
            trust: String::new(),
        }
    }
}

impl Plan {
    /// A network in good order whose provider has a TPM, with rules and a user that ask for one, and for builds that
    /// were public for an hour.
    pub fn hardware() -> Self {
        let mut plan = Self {
            tpm: Some(Tpm::new()),
            accept: vec!["tpm-hw".to_owned()],
            trust: Maker::hardware().policy_line() + &format!("endorser {}\n", tpm::endorser().public_key()),
            ..Self::default()
        };
        plan.rules.tiers = vec!["tpm-hw".to_owned()];
        plan.rules.anchors = vec![Maker::hardware().anchor()];
        plan.rules.endorsers = vec![tpm::endorser().public_key()];
        plan.rules.cool_off = HOUR;
        plan
    }

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

    /// The attestation that enrols the TPM, two checkpoints and an hour before the one in use.
    pub(super) fn enrolment(&self, keys: &Keys, registry: &Log) -> Option<Attestation> {
        let tpm = self.tpm.as_ref()?;
        let beacon = registry.checkpoint(keys, registry.size(), NOW - HOUR);
        let mut first = self.basis(keys, &keys.before, beacon);
        first.release_proof = Some(release_proof(keys, registry, NOW - 2 * HOUR));
        first.evidence = tpm.attest(&first, tpm.lasting(first.nonce));
        Some(first)
    }

    pub(super) fn attestation(
        &self,
        keys: &Keys,
        registry: &Log,
        enrolment: Option<&(Hash, Attestation)>,
    ) -> Attestation {
        let mut attestation = self.basis(keys, &keys.provider, (self.beacon)(keys, registry));
        let Some((tpm, (leaf, first))) = self.tpm.as_ref().zip(enrolment) else {
            if (self.attestation)(&mut attestation) {
                attestation.nonce = attestation.expected_nonce();
            }
            // Evidence that shows where the sealing key is needs no more.
            return match attestation.possession {
                None => attestation.possessed(&keys.sealing),
                Some(_) => attestation,
            };
        };
        let lasting = TpmEvidence::decode(&first.evidence.bytes).expect("evidence of ours").lasting;
        attestation.release_proof = Some(release_proof(keys, registry, NOW - HOUR));
        (attestation.previous, attestation.enrolment) = (Some(*leaf), Some(*leaf));
        let made = |mut attestation: Attestation| {
            let message = attestation.rotation_message().expect("there is one before");
            attestation.countersignature = Some(keys.before.sign(&message));
            attestation.evidence = tpm.attest(&attestation, lasting.clone());
            attestation
        };
        attestation = made(attestation);
        if (self.attestation)(&mut attestation) {
            attestation.nonce = attestation.expected_nonce();
            attestation = made(attestation);
        }
        attestation
    }

    /// An attestation by a key in good order, without evidence.
    fn basis(&self, keys: &Keys, signer: &SigningKey, checkpoint: Vec<u8>) -> Attestation {
        let beacon = Beacon { checkpoint };
        let signing_key = signer.public_key();
        let key_config = keys.key_config();
        Attestation {
            nonce: attestation_nonce(beacon.digest(), &signing_key, &key_config),
            signing_key,
            key_config,
            build: self.release.build,
            endpoint: "https://glassbloom.test".to_owned(),
            not_after: UnixSeconds::new(NOW + 12 * HOUR),
            models: vec![self.model.digest()],
            beacon,
            evidence: Evidence::self_signed(),
            previous: None,
            possession: None,
            countersignature: None,
            release_proof: None,
            enrolment: None,
        }
    }

    pub(super) fn attestation_signer<'a>(&self, keys: &'a Keys) -> &'a SigningKey {
        (self.attestation_signer)(keys)
    }

    pub(super) fn coordinator_signer<'a>(&self, keys: &'a Keys) -> &'a SigningKey {
        (self.coordinator_signer)(keys)
    }
}

/// Shows that the release was in the registry when witnesses signed a checkpoint at `time`.
fn release_proof(keys: &Keys, registry: &Log, time: u64) -> Vec<u8> {
    let proof = TlogProof {
        extra: None,
        index: LeafIndex::new(index::RELEASE),
        hashes: registry.inclusion(index::RELEASE, RELEASED),
        checkpoint: registry.checkpoint(keys, RELEASED, time),
    };
    proof.encode()
}

const HOUR: u64 = 3600;
/// The size of the registry right after the release.
const RELEASED: u64 = index::RELEASE + 1;
