//! A whole network in one process, on real sockets: two witnesses, the log, the coordinator, providers with a fake
//! engine and verifying proxies. Everything but the engine is what people run.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by test programs that each use a part; a test that cannot go on may panic"
)]

pub mod client;
pub mod endorser;
pub mod engine;
pub mod evil;
pub mod start;

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use glassbloom_auditor::audit::{self, audit};
use glassbloom_provider::config::{ConfigFile, KeysFile};
use glassbloom_service::{Append, Clock, ExitCode, LogClient, MockClock, Shutdown, SystemClock};
use glassbloom_spec::{
    api::{Appended, Providers, path},
    curve::SigningKey,
    hash::Hash,
    id::{LeafIndex, TreeSize},
    policy::{Checkpoint, Policy},
    record::{LeafProof, ProviderRecord},
    verify::{Continuity, Known, Report, RevocationState, VerifiedProvider},
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use self::{client::Client, engine::FakeEngine};

/// The only model of the test network.
pub const MODEL: &str = "test-model";
/// The network's name.
pub const NAME: &str = "test.local";
/// No test takes longer.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Runs a test, which fails when it does not end.
pub async fn within<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, test).await.expect("the test ends in time")
}

/// A part that runs, and how to stop it.
pub struct Running {
    stop: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    fn spawn<E: std::fmt::Debug + Send + 'static>(
        serve: impl FnOnce(Shutdown) -> futures_util::future::BoxFuture<'static, Result<(), E>>,
    ) -> Self {
        let stop = Shutdown::new();
        let serving = serve(stop.clone());
        let task = tokio::spawn(async move { serving.await.expect("the part runs until it is stopped") });
        Self { stop, task }
    }

    /// Stops it as an operator would and waits for it.
    pub async fn stop(self) {
        self.stop.trigger();
        timeout(LIMIT, self.task).await.expect("the part stops in time").expect("the part did not fail");
    }

    /// Ends it at once, with its connections.
    pub fn kill(self) {
        self.task.abort();
    }
}

/// A provider.
pub struct Provider {
    /// Its engine.
    pub engine: FakeEngine,
    /// Its folder.
    pub data: PathBuf,
    /// As in `provider.toml`.
    pub config: ConfigFile,
    /// While it runs.
    pub running: Option<Running>,
}

/// The network. Everything ends with the test's runtime; the folder goes with this.
pub struct TestNet {
    folder: TempDir,
    /// Where the log is.
    pub log_url: String,
    /// Where the coordinator is.
    pub url: String,
    /// A user's key.
    pub key: String,
    /// What the log's writers need.
    pub log_token: String,
    /// The policy, as users have it.
    pub policy_text: String,
    /// Signs releases.
    pub release_key: SigningKey,
    /// The witnesses, while they run.
    pub witnesses: Vec<Option<Running>>,
    /// The log, while it runs.
    pub log: Option<Running>,
    /// The coordinator, while it runs.
    pub coordinator: Option<Running>,
    /// Its providers.
    pub providers: Vec<Provider>,
}

/// What a test may want otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many providers.
    pub providers: usize,
    /// How many requests each answers at a time.
    pub capacity: u32,
    /// How long the log waits for witnesses before it says that it is late.
    pub append_timeout: Duration,
    /// How long a release must have been in the registry, in seconds.
    pub cool_off: u64,
}

/// What holds the providers' keys, and whom everybody believes about it.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// As in `provider.toml`.
    pub keys: KeysFile,
    /// Lines of the policy: `accept`, `anchor`, `endorser`.
    pub policy: String,
}

impl Default for Hardware {
    fn default() -> Self {
        Self { keys: KeysFile::default(), policy: "accept self-signed\n".to_owned() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { providers: 1, capacity: 4, append_timeout: Duration::from_secs(10), cool_off: 0 }
    }
}

impl TestNet {
    /// Starts a network with one provider and waits until it serves.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// The network's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The policy.
    pub fn policy(&self) -> Policy {
        Policy::parse(&self.policy_text).unwrap()
    }

    /// The registry, as anybody reads it.
    pub fn registry(&self) -> LogClient {
        LogClient::new(&format!("{}/registry", self.log_url))
    }

    /// The checkpoint that the registry or the receipts log has published.
    pub async fn checkpoint(&self, log: &str) -> Checkpoint {
        let client = LogClient::new(&format!("{}/{log}", self.log_url));
        let note = client.checkpoint_bytes().await.unwrap();
        self.policy().open(Some(&format!("{NAME}/{log}")), &note).unwrap()
    }

    /// Appends to a log with the coordinator's token.
    pub async fn append(&self, log: &str, entry: &[u8]) -> Appended {
        let client = LogClient::new(&format!("{}/{log}", self.log_url));
        match client.append(entry, &self.log_token).await.unwrap() {
            Append::Proven(appended) => appended,
            Append::Promised(entry) => panic!("the log is late: {entry:?}"),
        }
    }

    /// The coordinator's signing key, as its operator has it.
    pub fn coordinator_key(&self) -> SigningKey {
        let text = std::fs::read_to_string(self.folder().join("coordinator/coordinator.key")).unwrap();
        let scalar: glassbloom_spec::hash::Hash = text.trim_end().parse().unwrap();
        SigningKey::from_bytes(*scalar.as_bytes()).unwrap()
    }

    /// Whom the coordinator offers.
    pub async fn offered(&self) -> Option<Providers> {
        let response = glassbloom_service::http_client()
            .get(format!("{}{}?model={MODEL}&n=8", self.url, path::PROVIDERS))
            .bearer_auth(&self.key)
            .send()
            .await
            .unwrap();
        let found = response.status().is_success();
        let body = response.bytes().await.unwrap();
        found.then(|| serde_json::from_slice(&body).unwrap())
    }

    /// Stops a provider and starts it again, with what is in its folder.
    pub async fn restart_provider(&mut self, number: usize) {
        let provider = &mut self.providers[number];
        provider.running.take().expect("it runs").stop().await;
        provider.start();
    }

    /// The record of a provider that serves with another attestation than this.
    pub async fn offered_after(&self, leaf: &Hash) -> ProviderRecord {
        until(async || {
            let offered = self.offered().await?.providers;
            offered.into_iter().find(|record| Hash::leaf(&record.attestation.leaf) != *leaf)
        })
        .await
    }

    /// What the coordinator, or the provider's own policy, said when it refused a provider.
    pub async fn refusal_of_provider(&self, number: usize) -> String {
        let data = &self.providers[number].data;
        until(async || glassbloom_provider::status::Status::read(data).ok()?.last_refusal).await
    }

    /// What a user with this policy verifies of the first provider, with the report.
    pub async fn verified_by_policy(&self) -> (VerifiedProvider, Report) {
        let record = self.offered().await.unwrap().providers.remove(0);
        let known = Known {
            now: SystemClock.now(),
            continuity: Continuity::FirstSeen,
            revocation: RevocationState::NotChecked,
        };
        let mut report = Report::new();
        let verified = self.policy().verify(&record, MODEL, &known, &mut report).unwrap();
        (verified, report)
    }

    /// A proxy of a user who knows nothing yet, going to the coordinator or whoever stands before it.
    pub async fn client(&self, coordinator: &str) -> Client {
        self.client_with_policy(coordinator, &self.policy_text).await
    }

    /// The same with a policy of its own.
    pub async fn client_with_policy(&self, coordinator: &str, policy: &str) -> Client {
        let folder = tempfile::tempdir_in(self.folder()).unwrap();
        let clock = MockClock::new(SystemClock.now());
        Client::start(Arc::new(folder), coordinator, &self.key, policy, clock).await
    }

    /// The policy of a user who reads the log through this address.
    pub fn policy_through(&self, log: &str) -> String {
        self.policy_text.replace(&self.log_url, log)
    }

    /// One audit of the logs at this address, remembering in the folder of this name.
    pub async fn audit(&self, log: &str, state: &str) -> audit::Report {
        let config = audit::Config {
            log: log.to_owned(),
            policy: self.policy(),
            state: self.folder().join(state),
            from_genesis: false,
        };
        audit(&config, &SystemClock).await.unwrap()
    }

    /// Runs a command of the coordinator's operator.
    pub async fn coordinator_command(&self, arguments: &[&str]) -> ExitCode {
        let data = self.folder().join("coordinator");
        let all = ["glassbloom-coordinator"].into_iter().chain(arguments.iter().copied());
        let all = all.chain(["--data", data.to_str().unwrap()]);
        glassbloom_coordinator::cli::run(glassbloom_coordinator::cli::Cli::try_parse_from(all).unwrap()).await
    }
}

/// The leaf at this index with its proof in the log as it is at this size.
pub async fn leaf(log: &LogClient, index: LeafIndex, size: TreeSize) -> LeafProof {
    let entries = log.entries(index.get()..index.get() + 1, size).await.unwrap();
    let proof = log.inclusion_proof(index, size).await.unwrap();
    LeafProof { leaf: entries[0].clone(), index, proof }
}

/// The record with fresh proofs for whatever leaves it names, under the newest checkpoint of a log.
pub async fn record_now(
    log: &LogClient,
    origin: &str,
    policy: &Policy,
    record: &ProviderRecord,
) -> ProviderRecord {
    let note = log.checkpoint_bytes().await.unwrap();
    let size = policy.open(Some(origin), &note).unwrap().size();
    let again = async |old: &LeafProof| leaf(log, old.index, size).await;
    ProviderRecord {
        checkpoint: note,
        attestation: again(&record.attestation).await,
        verdict: again(&record.verdict).await,
        policy: again(&record.policy).await,
        prices: again(&record.prices).await,
        model: again(&record.model).await,
        release: again(&record.release).await,
        enrolment: match &record.enrolment {
            Some(leaf) => Some(again(leaf).await),
            None => None,
        },
    }
}

/// Repeats until there is something.
pub async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let found = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    timeout(Duration::from_secs(30), found).await.expect("what the test waits for happens in time")
}

/// Every file below a folder, with what is in it.
pub fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push((entry.path(), std::fs::read(entry.path()).unwrap())),
        }
    }
    found
}

/// Whether the bytes are in there.
pub fn contains(bytes: &[u8], sought: &[u8]) -> bool {
    bytes.windows(sought.len()).any(|window| window == sought)
}
