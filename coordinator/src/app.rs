//! What every part of the running coordinator shares.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use glassbloom_service::{Clock, LogClient, Shutdown};
use glassbloom_spec::{api::ReleaseRecord, curve::SigningKey, hash::Hash, policy::Policy, record::LeafProof};
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval},
};
use tokio_util::task::TaskTracker;

use crate::{
    bootstrap,
    config::Config,
    liveness::Liveness,
    logs::{Appender, Registry},
    metrics::Metrics,
    session::Sessions,
    store::Store,
};

/// The running coordinator.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    /// Builds whose release has its proof kept.
    kept: std::sync::Mutex<HashSet<Hash>>,
    /// Held from judging an attestation until its verdict is logged: a verdict must follow from exactly what the
    /// registry says before it.
    pub(crate) judging: Mutex<()>,
    pub(crate) liveness: Liveness,
    pub(crate) metrics: Metrics,
    pub(crate) receipts: Appender,
    pub(crate) registry: Registry,
    pub(crate) sessions: Sessions,
    pub(crate) shutdown: Shutdown,
    pub(crate) signer: SigningKey,
    pub(crate) store: Store,
    /// Work that must end before the process does: receipts on their way into the log.
    pub(crate) tasks: TaskTracker,
}

impl App {
    /// Opens what the configuration names; talks to nobody yet.
    pub(crate) async fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let signer = Config::read_key(&config.data)?;
        let policy = policy(&config, &signer)?;
        let file = config.path(&config.log.token_file);
        let token = std::fs::read_to_string(&file)
            .with_context(|| format!("the log's token {} cannot be read", file.display()))?;
        let appender = |origin: String, prefix: &str| {
            let client = LogClient::new(&format!("{}/{prefix}", config.log.url));
            Appender::new(client, token.trim().to_owned(), origin, policy.clone())
        };
        Ok(Self {
            clock,
            kept: std::sync::Mutex::default(),
            judging: Mutex::new(()),
            liveness: Liveness::default(),
            metrics: Metrics::default(),
            receipts: appender(config.receipts_origin(), "receipts"),
            registry: Registry::new(appender(config.registry_origin(), "registry"), signer.public_key()),
            sessions: Sessions::default(),
            shutdown,
            signer,
            store: Store::open(&config.database()).await.context("coordinator.db cannot be opened")?,
            tasks: TaskTracker::new(),
            config,
        })
    }

    /// Makes the registry say what this coordinator goes by, waiting for a log that is still starting.
    pub(crate) async fn publish(&self) -> anyhow::Result<()> {
        for attempt in 1.. {
            let error = match bootstrap::publish(&self.config, &self.signer, &self.registry).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if attempt == START_ATTEMPTS {
                return Err(error.context(format!("the logs at {} cannot be used", self.config.log.url)));
            }
            tracing::info!(reason = format!("{error:#}"), "waiting for the log");
            let waited = self.shutdown.unless_requested(tokio::time::sleep(START_EVERY)).await;
            ensure!(waited.is_some(), "stopped while waiting for the log");
        }
        self.log_actions().await?;
        self.keep_release_proofs().await;
        Ok(())
    }

    /// Logs what was changed by hand since.
    pub(crate) async fn log_actions(&self) -> anyhow::Result<()> {
        for (id, statement) in self.store.unlogged_actions().await? {
            self.registry.ensure(&statement).await?;
            self.store.action_logged(id).await?;
        }
        Ok(())
    }

    /// Keeps a proof of each release under the first checkpoint that shows it.
    async fn keep_release_proofs(&self) {
        let builds = self.registry.view().released();
        for build in builds {
            if !self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(build) {
                continue;
            }
            let record = self.registry.view().release_record(&build);
            let Some((leaf, record)) = record else { continue };
            let kept = self.store.keep_release_proof(leaf, &record.checkpoint, &record.release.proof).await;
            if let Err(error) = kept {
                tracing::warn!(%error, "a release's proof could not be kept");
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&build);
            }
        }
    }

    /// The release of a build, under the oldest checkpoint kept with it that the policy still opens.
    pub(crate) async fn release(&self, build: &Hash) -> Result<Option<ReleaseRecord>, sqlx::Error> {
        let found = self.registry.view().release_record(build);
        let Some((leaf, now)) = found else { return Ok(None) };
        let Some((checkpoint, proof)) = self.store.release_proof(leaf).await? else { return Ok(Some(now)) };
        let origin = self.config.registry_origin();
        let opens = self
            .registry
            .policy()
            .open(Some(&origin), &checkpoint)
            .is_ok_and(|kept| kept.includes(now.release.leaf.clone(), now.release.index, &proof).is_ok());
        Ok(Some(if opens {
            ReleaseRecord { checkpoint, release: LeafProof { proof, ..now.release } }
        } else {
            now
        }))
    }

    /// Reads the registry unless that was done a moment ago, and ends the sessions of those that may not serve any more.
    pub(crate) async fn refresh(&self) {
        self.registry.refresh().await;
        self.end_dead_sessions();
    }

    /// Follows the registry and ends the sessions of providers that may not serve any more.
    pub(crate) async fn watch(&self) {
        let mut ticks = interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.shutdown.unless_requested(ticks.tick()).await.is_some() {
            self.refresh().await;
            self.keep_release_proofs().await;
            if let Err(error) = self.log_actions().await {
                tracing::warn!(error = format!("{error:#}"), "a change by hand is not logged yet");
            }
        }
    }

    /// Ends the sessions of those that may not serve any more; their requests end with them.
    pub(crate) fn end_dead_sessions(&self) {
        let now = self.clock.now().seconds();
        for live in self.sessions.all() {
            if self.registry.view().revoked(live.admitted.key_id).is_some() {
                live.close("the provider's key is revoked");
            } else if live.admitted.not_after <= now {
                live.close("the attestation expired; a new one is needed");
            }
        }
    }
}

/// The policy of the log with this coordinator's own key and tiers where the file does not name them: the file is
/// written before the key exists.
pub(crate) fn policy(config: &Config, signer: &SigningKey) -> anyhow::Result<Policy> {
    let file = config.path(&config.log.policy_file);
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("the policy {} cannot be read", file.display()))?;
    let policy = Policy::parse(&text).with_context(|| format!("{}", file.display()))?;
    for origin in [config.registry_origin(), config.receipts_origin()] {
        ensure!(policy.log(&origin).is_some(), "{} has no log line for {origin}", file.display());
    }
    let own = signer.public_key();
    let mut text = format!("{text}\n");
    if !policy.coordinators().contains(&own) {
        text.push_str(&format!("coordinator {own}\n"));
    }
    if policy.accepted_tiers().is_empty() && !config.rules.tiers.is_empty() {
        text.push_str(&format!("accept {}\n", config.rules.tiers.join(" ")));
    }
    Policy::parse(&text).context("the policy with this coordinator's own lines")
}

const START_ATTEMPTS: u32 = 60;
const START_EVERY: Duration = Duration::from_millis(500);
const WATCH_EVERY: Duration = Duration::from_secs(2);
