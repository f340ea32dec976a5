//! What the coordinator says it logged about this provider, verified as a client would.

use std::collections::HashMap;

use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, UnixMillis},
    leaf::{LeafError, Model, Payload},
    policy::Policy,
    record::ProviderRecord,
    statement::Statement,
    verify::{Continuity, Known, Rejected, Report, RevocationState, VerifiedProvider},
};

use crate::{
    attest::Attested,
    registry::{Registry, RegistryError},
};

/// Why this provider does not serve although the coordinator would let it.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The model leaf is no model leaf.
    #[error("a record has a broken model leaf: {0}")]
    Model(#[from] LeafError),
    /// The record is about a model that is not loaded, or about other files.
    #[error(
        "the registry's model {alias:?} has other files than the folder configured here; update the folder or ask the coordinator"
    )]
    ModelDiffers {
        /// The model's alias.
        alias: String,
    },
    /// The coordinator welcomed it for nothing.
    #[error(
        "the coordinator admitted none of the models; it must publish a model and a price for each alias served here"
    )]
    Nothing,
    /// The record is about another attestation.
    #[error("the coordinator answered with the record of another attestation")]
    NotOurs,
    /// The checkpoint is not one that this provider can accept.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// This provider's own policy refuses what the registry says.
    #[error("clients would refuse this provider: {0}")]
    Rejected(#[from] Rejected),
}

/// A model in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its name in requests.
    pub alias: String,
    /// Digest of its files.
    pub digest: Hash,
}

/// An attestation that is in the registry, and what it may serve.
#[derive(Debug)]
pub struct Admission {
    /// Where the attestation stands in the registry.
    pub index: LeafIndex,
    /// By alias: what a client would verify, which is what receipts refer to.
    pub models: HashMap<String, VerifiedProvider>,
}

/// Verifies the records with which a coordinator welcomes a provider.
///
/// # Errors
/// On the first record that this provider's own policy, its own registry or its own files contradict.
pub async fn admit(
    records: &[ProviderRecord],
    attested: &Attested,
    loaded: &[Loaded],
    policy: &Policy,
    registry: &mut Registry,
    now: UnixMillis,
) -> Result<Admission, AdmissionError> {
    let mut models = HashMap::new();
    for record in records {
        if record.attestation.leaf != attested.statement.bytes() {
            return Err(AdmissionError::NotOurs);
        }
        let continuity = match registry.stored() {
            Some(stored) => Continuity::Consistent { older: stored.size() },
            None => Continuity::FirstSeen,
        };
        registry.accept(policy, &record.checkpoint).await?;
        let model = Model::of(&Statement::parse(&record.model.leaf).map_err(LeafError::Statement)?)?;
        if !loaded.contains(&Loaded { alias: model.alias.clone(), digest: model.digest() }) {
            return Err(AdmissionError::ModelDiffers { alias: model.alias });
        }
        // Whether its own key is revoked the coordinator says by refusing it.
        let known = Known { now, continuity, revocation: RevocationState::NotChecked };
        let verified = policy.verify(record, &model.alias, &known, &mut Report::new())?;
        models.insert(model.alias, verified);
    }
    let index = records.first().ok_or(AdmissionError::Nothing)?.attestation.index;
    for model in loaded.iter().filter(|model| !models.contains_key(&model.alias)) {
        tracing::warn!(alias = model.alias, "the coordinator does not offer this model");
    }
    Ok(Admission { index, models })
}
