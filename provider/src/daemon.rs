//! The daemon: keys, models and registry made ready once, then one session after another until it is stopped.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use glassbloom_service::{Clock, Shutdown, random};
use glassbloom_spec::hash::Hash;

use crate::{
    admission::Loaded,
    attest::{self, Attested, Claims, Identity},
    config::Config,
    cool_off,
    engine::Engine,
    enrol, health, keys,
    measure::{self, Build},
    registry::{Registry, RegistryError},
    session::{self, Ended},
    status::{Reporter, State},
};

/// Answers requests until it is asked to stop. Lost connections and refusals are retried for ever.
///
/// # Errors
/// Only for what an operator must put right: configuration, keys, model files, a folder that cannot be written.
pub async fn serve(
    config: Config,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut daemon = Daemon::new(config, engine, clock).await?;
    let health = health::Health::bind(&daemon.config, daemon.reporter.clone()).await?;
    let stop = shutdown.clone();
    let (served, ()) = tokio::join!(
        async {
            let served = daemon.run(&shutdown).await;
            shutdown.trigger();
            served
        },
        health.serve(stop),
    );
    served
}

/// What every session needs.
pub(crate) struct Daemon {
    pub(crate) config: Config,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) loaded: Vec<Loaded>,
    pub(crate) registry: Registry,
    pub(crate) reporter: Reporter,
    pub(crate) build: Hash,
    /// Whether the rules let no release serve at once, as a refusal said.
    cools_off: bool,
}

impl Daemon {
    async fn new(config: Config, engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let aliases: Vec<String> = config.models.iter().map(|model| model.alias.clone()).collect();
        let reporter = Reporter::new(&config.data, aliases, Arc::clone(&clock));
        let device = keys::open(&config)?;
        tracing::info!(format = device.format(), "{}", device.describe());
        let served = config.models.clone();
        // Models are gigabytes, so hashing them is no work for the thread that answers.
        let (build, loaded) = tokio::task::spawn_blocking(move || {
            let build = Build::of_this_process().context("this program cannot be measured")?;
            let loaded = served
                .into_iter()
                .map(|model| Ok(Loaded { digest: measure::model_digest(&model.folder)?, alias: model.alias }))
                .collect::<anyhow::Result<Vec<_>>>()?;
            anyhow::Ok((build.hash(), loaded))
        })
        .await??;
        for model in &loaded {
            let known = engine.models().iter().any(|known| known.id == model.alias);
            ensure!(known, "the engine has not loaded the model {:?}", model.alias);
        }
        let registry = Registry::load(&config.policy, &config.log, &config.data)?;
        let identity = Arc::new(Identity::new(device)?);
        Ok(Self { config, engine, clock, identity, loaded, registry, reporter, build, cools_off: false })
    }

    async fn run(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let (mut attested, mut backoff): (Option<Attested>, _) = (None, Backoff::default());
        while !shutdown.is_requested() {
            attested = attested.filter(|attested| self.clock.now().seconds() < attested.renew_at);
            let current = match attested.take() {
                Some(attested) => attested,
                None => match shutdown.unless_requested(self.attest()).await {
                    None => break,
                    Some(Ok(attested)) => attested,
                    Some(Err(error)) => {
                        self.note_registry_error(&error)?;
                        backoff.wait(shutdown).await;
                        continue;
                    }
                },
            };
            let (ended, served) = session::run(self, &current, shutdown).await;
            if served {
                backoff = Backoff::default();
            }
            match ended {
                Ended::Stopped => break,
                // At once: requests wait at the coordinator.
                Ended::Renew => continue,
                Ended::Lost(why) => {
                    tracing::warn!(why, "no session with the coordinator; trying again");
                    self.reporter.set(State::Disconnected, why);
                    attested = Some(current);
                }
                Ended::Rejected(why) => {
                    tracing::error!(why, "not serving; trying again");
                    self.reporter.set(State::Refused, why);
                    attested = Some(current);
                }
                // The next attempt attests anew: what was missing, such as a release, may be in the registry by then,
                // and a verdict is about one attestation.
                Ended::Refused(why) => {
                    tracing::error!(why, "not allowed to serve; trying again");
                    self.heed(&why)?;
                    self.reporter.set(State::Refused, why);
                }
            }
            backoff.wait(shutdown).await;
        }
        self.reporter.set(State::Stopped, "asked to stop");
        Ok(())
    }

    async fn attest(&mut self) -> anyhow::Result<Attested> {
        let checkpoint = self.registry.latest(&self.config.policy, self.clock.now()).await?;
        let claims = Claims {
            build: self.build,
            endpoint: self.config.endpoint().to_owned(),
            models: self.loaded.iter().map(|model| model.digest).collect(),
            previous: attest::previous(&self.config.data, &self.identity.signing.public_key())?,
            release_proof: if self.cools_off { cool_off::kept(&self.config, &self.build)? } else { None },
        };
        // Its checkpoint is what counts later, so it is fetched at once, whether the rules ask for it or not.
        if let Err(error) = cool_off::fetch(&self.config, &mut self.registry, &self.build).await {
            tracing::debug!(error = format!("{error:#}"), "no proof of this build's release yet");
        }
        let (identity, now) = (Arc::clone(&self.identity), self.clock.now());
        enrol::ensure(identity.device(), self.config.endorser.as_ref(), identity.nonce(&checkpoint)).await?;
        // A TPM takes its time.
        Ok(tokio::task::spawn_blocking(move || identity.attest(&claims, &checkpoint, now)).await??)
    }

    /// Does what a refusal asks for, where that is in this provider's hands.
    fn heed(&mut self, why: &str) -> anyhow::Result<()> {
        self.cools_off |= why.contains("build-cooling-off");
        if why.contains("enrolment-") {
            self.identity.device().forget_enrolment()?;
        }
        Ok(())
    }

    /// Notes why there is no attestation; what only an operator can put right ends the daemon.
    fn note_registry_error(&self, error: &anyhow::Error) -> anyhow::Result<()> {
        let why = format!("{error:#}");
        match error.downcast_ref::<RegistryError>() {
            Some(RegistryError::Fetch(_)) => {
                tracing::warn!(why, "the registry cannot be read; trying again");
                self.reporter.set(State::Disconnected, why);
            }
            Some(RegistryError::Forked { .. } | RegistryError::Open(_) | RegistryError::Stale { .. }) => {
                tracing::error!(why, "not serving; trying again");
                self.reporter.set(State::Refused, why);
            }
            Some(RegistryError::Origin | RegistryError::Store { .. }) => bail!("{why}"),
            // The device or its endorser: both can come back.
            None => {
                tracing::error!(why, "no attestation; trying again");
                self.reporter.set(State::Refused, why);
            }
        }
        Ok(())
    }
}

/// Waits longer after each failure, and never in step with other providers.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn delay(&self, jitter: u8) -> Duration {
        let longest = FIRST_DELAY.saturating_mul(1 << self.failures.min(10)).min(LAST_DELAY);
        longest / 2 + longest / 2 * u32::from(jitter) / 255
    }

    async fn wait(&mut self, shutdown: &Shutdown) {
        let [jitter] = random();
        let delay = self.delay(jitter);
        self.failures = self.failures.saturating_add(1);
        // Whether it slept or was woken, the caller looks at the shutdown itself.
        let _ = shutdown.unless_requested(tokio::time::sleep(delay)).await;
    }
}

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let longest = |failures| Backoff { failures }.delay(255).as_secs();
        assert_eq!([0, 1, 2, 5, 6, 40].map(longest), [1, 2, 4, 32, 60, 60]);
        assert_eq!(Backoff { failures: 3 }.delay(0), Duration::from_secs(4));
    }
}
