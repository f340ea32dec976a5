//! What this client believes, and why: verified providers, a replayed registry, pinned checkpoints.
//!
//! The registry is fetched from the log that the policy names, not from the coordinator, and replayed from its first
//! entry: "not revoked" is something this client found out for itself.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use glassbloom_auditor::replay::{Registry, SyncError};
use glassbloom_service::{Clock, FetchError, LogClient};
use glassbloom_spec::{
    checkpoint::TreeHead,
    id::UnixSeconds,
    leaf::{Attestation, Payload},
    merkle::verify_consistency,
    policy::{Checkpoint, OpenError, Policy},
    proof::TlogProof,
    receipt::LoggedReceipt,
    record::ProviderRecord,
    statement::{Statement, key_id},
    verify::{Continuity, Known, Rejected, Report, RevocationState, VerifiedProvider},
};
use tokio::sync::Mutex;

use crate::{
    store::Store,
    upstream::{Upstream, UpstreamError},
};

/// Why nothing was sealed, or why an answer was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The witnesses signed too long ago.
    #[error("checkpoint fresh: {origin} was cosigned {age} s ago; the policy allows {allowed} s")]
    Aged {
        /// The log.
        origin: String,
        /// Seconds since the quorum signed.
        age: u64,
        /// Seconds that the policy allows.
        allowed: u64,
    },
    /// The log's checkpoint is not one that the policy accepts.
    #[error("the registry's checkpoint: {0}")]
    Checkpoint(#[from] OpenError),
    /// The log could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Two checkpoints of one log contradict each other.
    #[error(
        "FORK: {origin} showed this client size {} with root {}, and now size {} with root {}, which does not extend it; \
         keep {} and tell others: the log shows different histories",
        older.size, older.root, newer.size, newer.root, "the receipts database"
    )]
    Fork {
        /// The log.
        origin: String,
        /// What was seen first.
        older: Box<TreeHead>,
        /// What contradicts it.
        newer: Box<TreeHead>,
    },
    /// The coordinator serves a checkpoint from before one this client has seen.
    #[error(
        "checkpoint fresh: the coordinator serves {origin} at size {served}, and this client has seen size {seen}"
    )]
    Older {
        /// The log.
        origin: String,
        /// Size served.
        served: u64,
        /// Size seen before.
        seen: u64,
    },
    /// The policy lacks something.
    #[error("the policy {0}")]
    Policy(&'static str),
    /// A provider was refused.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The store failed.
    #[error("the receipts database failed: {0}")]
    Store(#[from] sqlx::Error),
    /// The registry could not be replayed.
    #[error("not revoked: the registry cannot be replayed: {0}")]
    Sync(SyncError),
    /// The coordinator did not give providers.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// A provider that may be sealed to, and the steps that say so.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// The provider.
    pub provider: VerifiedProvider,
    /// The steps.
    pub report: Report,
}

struct Cached {
    until: UnixSeconds,
    providers: Arc<Vec<Trusted>>,
}

/// Seconds for which verified providers are used without asking again.
const KEEP: u64 = 60;

/// What this client believes.
pub struct Trust {
    policy: Policy,
    store: Store,
    clock: Arc<dyn Clock>,
    upstream: Upstream,
    origin: String,
    log: LogClient,
    // Held while the registry grows, so that checkpoints are compared in order.
    registry: Mutex<Registry>,
    cache: RwLock<HashMap<String, Cached>>,
}

impl Trust {
    /// Believes nothing but the policy, yet.
    pub fn new(
        policy: Policy,
        store: Store,
        upstream: Upstream,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TrustError> {
        let (origin, log) = registry_of(&policy)?;
        Ok(Self {
            registry: Mutex::new(Registry::new(&origin, &policy)),
            origin,
            log,
            cache: RwLock::default(),
            policy,
            store,
            clock,
            upstream,
        })
    }

    /// The client's policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Providers for a model, verified now or less than a minute ago, in the coordinator's order.
    pub async fn providers(&self, model: &str) -> Result<Arc<Vec<Trusted>>, TrustError> {
        let now = self.clock.now().seconds();
        if let Some(kept) = self.kept(model, now) {
            return Ok(kept);
        }
        let offered = self.upstream.providers(model).await?;
        let mut providers = Vec::new();
        let mut refused = None;
        for record in &offered.providers {
            match self.verify(record, model).await {
                Ok(trusted) => providers.push(trusted),
                Err(error) => {
                    tracing::error!(%error, model, "a provider that the coordinator offers is refused");
                    refused = Some(error);
                }
            }
        }
        if providers.is_empty() {
            return Err(refused.unwrap_or_else(|| UpstreamError::nobody(model).into()));
        }
        let providers = Arc::new(providers);
        let until = UnixSeconds::new(offered.expires.get().min(now.get() + KEEP));
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        cache.insert(model.to_owned(), Cached { until, providers: Arc::clone(&providers) });
        Ok(providers)
    }

    fn kept(&self, model: &str, now: UnixSeconds) -> Option<Arc<Vec<Trusted>>> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        cache.get(model).filter(|kept| now < kept.until).map(|kept| Arc::clone(&kept.providers))
    }

    /// Forgets the providers of a model, so that the next request asks again.
    pub fn forget(&self, model: &str) {
        self.cache.write().unwrap_or_else(PoisonError::into_inner).remove(model);
    }

    /// Verifies one record in named steps.
    pub async fn verify(&self, record: &ProviderRecord, model: &str) -> Result<Trusted, TrustError> {
        let mut report = Report::new();
        let known = match self.policy.open(Some(&self.origin), &record.checkpoint) {
            Ok(checkpoint) => self.known(&checkpoint, record).await?,
            // The steps below say what is wrong with it.
            Err(
                OpenError::BadSignature(_)
                | OpenError::Malformed(_)
                | OpenError::Quorum { .. }
                | OpenError::Unsigned { .. }
                | OpenError::UnknownLog { .. },
            ) => Known {
                now: self.clock.now(),
                continuity: Continuity::NotChecked,
                revocation: RevocationState::NotChecked,
            },
        };
        let provider = self.policy.verify(record, model, &known, &mut report)?;
        Ok(Trusted { provider, report })
    }

    /// Follows the registry to the checkpoint and says what that shows.
    async fn known(&self, checkpoint: &Checkpoint, record: &ProviderRecord) -> Result<Known, TrustError> {
        let mut registry = self.registry.lock().await;
        let continuity =
            follow(&mut registry, &self.log, checkpoint, &self.policy, Some(&self.store)).await?;
        let signing_key =
            Statement::parse(&record.attestation.leaf).ok().and_then(|leaf| Attestation::of(&leaf).ok());
        let revoked = signing_key.and_then(|attestation| {
            let (_, revocation) = registry.revocation(&key_id(&attestation.signing_key))?;
            Some(revocation.reason.clone())
        });
        let revocation = match revoked {
            Some(reason) => RevocationState::Revoked { reason },
            None => RevocationState::NotRevoked { as_of: registry.size() },
        };
        Ok(Known { now: self.clock.now(), continuity, revocation })
    }

    /// Checks that the receipts log's checkpoint and the one this client saw last are of one history, and pins the later.
    pub async fn follow_receipts(&self, logged: &LoggedReceipt) -> Result<Continuity, TrustError> {
        let head = logged.head();
        let proof = TlogProof::parse(logged.proof())
            .map_err(|_| TrustError::Policy("was met by a proof that no longer parses"))?;
        let Some(note) = self.store.checkpoint(&head.origin).await? else {
            self.store.pin(&head.origin, &proof.checkpoint).await?;
            return Ok(Continuity::FirstSeen);
        };
        let pinned = pinned(&self.policy, &note)?;
        // Answers of concurrent requests may arrive in either order; what matters is that one extends the other.
        let (older, newer) = if pinned.size <= head.size { (&pinned, head) } else { (head, &pinned) };
        let url = self.policy.log_url(&head.origin);
        let url =
            url.ok_or(TrustError::Policy("gives no URL for the receipts log at the end of its `log` line"))?;
        let hashes = match older.size == newer.size || older.size.get() == 0 {
            true => Vec::new(),
            false => LogClient::new(url).consistency_proof(older.size, newer.size).await?,
        };
        if verify_consistency(older.size, newer.size, older.root, newer.root, &hashes).is_err() {
            let (older, newer) = (Box::new(older.clone()), Box::new(newer.clone()));
            return Err(TrustError::Fork { origin: head.origin.clone(), older, newer });
        }
        if head.size > pinned.size {
            self.store.pin(&head.origin, &proof.checkpoint).await?;
        }
        Ok(Continuity::Consistent { older: pinned.size })
    }
}

/// Fetches and replays the registry that the policy names, up to its newest checkpoint, which is pinned where there is
/// a store.
///
/// # Errors
/// When the log cannot be read, shows another history than before, or stands still.
pub async fn follow_registry(
    policy: &Policy,
    store: Option<&Store>,
    now: UnixSeconds,
) -> Result<Registry, TrustError> {
    let (origin, log) = registry_of(policy)?;
    let checkpoint = policy.open(Some(&origin), &log.checkpoint_bytes().await?)?;
    let mut registry = Registry::new(&origin, policy);
    follow(&mut registry, &log, &checkpoint, policy, store).await?;
    let (age, allowed) = (now.get().saturating_sub(checkpoint.cosigned_at().get()), policy.checkpoint_age());
    if checkpoint.cosigned_at().get() > 0 && age > allowed {
        return Err(TrustError::Aged { origin, age, allowed });
    }
    Ok(registry)
}

/// The registry of a policy, and how to reach it.
fn registry_of(policy: &Policy) -> Result<(String, LogClient), TrustError> {
    let registry = policy.logs().iter().find(|log| log.origin.ends_with("/registry"));
    let log = registry
        .ok_or(TrustError::Policy("names no registry: a `log` line with an origin that ends in /registry"))?;
    let url = log
        .url
        .as_deref()
        .ok_or(TrustError::Policy("gives no URL for the registry at the end of its `log` line"))?;
    Ok((log.origin.clone(), LogClient::new(url)))
}

/// Takes a copy to a checkpoint, which must be of one history with the one pinned, and pins it.
async fn follow(
    registry: &mut Registry,
    log: &LogClient,
    checkpoint: &Checkpoint,
    policy: &Policy,
    store: Option<&Store>,
) -> Result<Continuity, TrustError> {
    let origin = registry.origin().to_owned();
    let note = match store {
        Some(store) => store.checkpoint(&origin).await?,
        None => None,
    };
    let pinned = note.map(|note| pinned(policy, &note)).transpose()?;
    if let Some(pinned) = &pinned
        && checkpoint.size() < pinned.size
    {
        let (served, seen) = (checkpoint.size().get(), pinned.size.get());
        return Err(TrustError::Older { origin, served, seen });
    }
    registry.sync(log, checkpoint).await.map_err(|error| match error {
        SyncError::Forked { older, newer } => TrustError::Fork { origin: origin.clone(), older, newer },
        SyncError::Older { served, seen } => {
            TrustError::Older { origin: origin.clone(), served: served.get(), seen: seen.get() }
        }
        other => TrustError::Sync(other),
    })?;
    let continuity = match &pinned {
        None => Continuity::FirstSeen,
        Some(pinned) if registry.root_at(pinned.size) == Some(pinned.root) => {
            Continuity::Consistent { older: pinned.size }
        }
        Some(pinned) => {
            let (older, newer) = (Box::new(pinned.clone()), Box::new(checkpoint.head().clone()));
            return Err(TrustError::Fork { origin, older, newer });
        }
    };
    if let Some(store) = store {
        store.pin(&origin, checkpoint.note_bytes()).await?;
    }
    Ok(continuity)
}

/// Reads back a checkpoint that was verified when it was pinned.
fn pinned(policy: &Policy, note: &[u8]) -> Result<TreeHead, TrustError> {
    let opened = policy.open_uncosigned(None, note);
    Ok(opened
        .map_err(|_| {
            TrustError::Policy("no longer names the log whose checkpoint is pinned in the receipts database")
        })?
        .head()
        .clone())
}
