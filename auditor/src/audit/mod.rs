//! One audit: the registry and every receipts log of the policy, from what was remembered to what is served now.

pub(crate) mod fork;
mod logs;
mod report;
mod state;
mod succession;

use std::path::PathBuf;

use glassbloom_service::{Clock, FetchError, LogClient};
use glassbloom_spec::{
    checkpoint::Checkpoint,
    hash::Hash,
    policy::{OpenError, Policy},
    receipt::is_receipts,
};

pub use report::{LogReport, Problem, ProblemKind, Report};
pub use state::{Seen, State, StateError};

use crate::{finding::Finding, replay::ReplayError, rules};

/// What to audit.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URL of the log service; each log is below it at its origin without the name: `/registry`, `/receipts`.
    pub log: String,
    /// Whom to believe.
    pub policy: Policy,
    /// Folder for what is remembered.
    pub state: PathBuf,
    /// Replay from the first entry instead of from where the last audit ended.
    pub from_genesis: bool,
}

/// Why an audit could not even begin, or had to be given up for reasons on this side.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The policy has no log of this kind.
    #[error("the policy file has no log line whose origin ends in /{0}")]
    NoSuchLog(&'static str),
    /// The remembered state.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Audits the registry and every receipts log of the policy.
///
/// # Errors
/// Only for what is wrong on the auditor's side; whatever is wrong with the logs is in the report.
pub async fn audit(config: &Config, clock: &dyn Clock) -> Result<Report, AuditError> {
    let source = |origin: &str| Source { client: below(&config.log, origin), origin: origin.to_owned() };
    let origins = || config.policy.logs().iter().map(|log| log.origin.as_str());
    let registry = registry_origin(&config.policy).ok_or(AuditError::NoSuchLog("registry"))?;
    let registry = source(registry);
    let receipts: Vec<Source> = origins().filter(|origin| is_receipts(origin)).map(source).collect();
    if receipts.is_empty() {
        return Err(AuditError::NoSuchLog("receipts"));
    }

    let state = State::open(&config.state).await?;
    let mut audit = Audit {
        config,
        state: &state,
        policy_hash: policy_hash(&config.policy),
        report: Report::default(),
        aged: Vec::new(),
    };
    // The receipts' checkpoints first: whatever registry their receipts rely on was published before them.
    let mut opened = Vec::new();
    for receipts in receipts {
        let head = audit.open(&receipts, clock).await?;
        opened.push((receipts, head));
    }
    let registry_head = audit.open(&registry, clock).await?;
    if opened.len() > 1 {
        audit.successions(&opened).await;
    }
    let aged = std::mem::take(&mut audit.aged);
    audit.report.problems.extend(aged.into_iter().map(|(_, problem)| problem));
    let copy = match registry_head {
        Some(checkpoint) => audit.registry(&registry, &checkpoint).await?,
        None => None,
    };
    for (receipts, checkpoint) in &opened {
        if let Some(checkpoint) = checkpoint {
            audit.receipts(receipts, checkpoint, copy.as_ref()).await?;
        }
    }
    let report = audit.report;
    state.close().await;
    Ok(report)
}

/// The registry of a policy, and how to reach it: below this address, or where the policy says.
pub(crate) fn registry_client(policy: &Policy, log: Option<&str>) -> Option<(String, LogClient)> {
    let origin = registry_origin(policy)?;
    let client = match log {
        Some(base) => below(base, origin),
        None => LogClient::new(policy.log_url(origin)?),
    };
    Some((origin.to_owned(), client))
}

fn registry_origin(policy: &Policy) -> Option<&str> {
    let mut origins = policy.logs().iter().map(|log| log.origin.as_str());
    origins.find(|origin| origin.rsplit('/').next() == Some("registry"))
}

fn below(base: &str, origin: &str) -> LogClient {
    let path = origin.split_once('/').map_or(origin, |(_, path)| path);
    LogClient::new(&format!("{}/{path}", base.trim_end_matches('/')))
}

/// A log and how to reach it.
struct Source {
    client: LogClient,
    origin: String,
}

struct Audit<'a> {
    config: &'a Config,
    state: &'a State,
    policy_hash: Hash,
    report: Report,
    /// Checkpoints that are too old, by their log; those of logs that have ended are taken out again.
    aged: Vec<(String, Problem)>,
}

impl Audit<'_> {
    /// Fetches and opens a checkpoint; what keeps it from being opened goes into the report.
    async fn open(&mut self, source: &Source, clock: &dyn Clock) -> Result<Option<Checkpoint>, AuditError> {
        let note = match source.client.checkpoint_bytes().await {
            Ok(note) => note,
            // A log claims nothing before its first checkpoint. Afterwards, not to have one is a failure.
            Err(FetchError::Refused { status: 404, .. })
                if self.state.seen(&source.origin).await?.is_none() =>
            {
                self.report.unpublished.push(source.origin.clone());
                return Ok(None);
            }
            Err(error) => {
                self.problem(source, &ReplayError::Fetch(error));
                return Ok(None);
            }
        };
        let checkpoint = match self.config.policy.open(Some(&source.origin), &note) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                self.not_opened(source, &error);
                return Ok(None);
            }
        };
        let age = clock.now().seconds().get().saturating_sub(checkpoint.cosigned_at().get());
        let asks_for_witnesses = checkpoint.cosigned_at().get() > 0;
        if asks_for_witnesses && age > self.config.policy.checkpoint_age() {
            let detail = format!(
                "{}: the checkpoint was cosigned {age} s ago, the policy allows {} s; is the log still running?",
                source.origin,
                self.config.policy.checkpoint_age()
            );
            self.aged.push((source.origin.clone(), Problem { kind: ProblemKind::Stale, detail }));
        }
        let log = LogReport {
            origin: source.origin.clone(),
            size: checkpoint.size(),
            root: checkpoint.root(),
            new_entries: 0,
            cosigned_at: checkpoint.cosigned_at(),
            age,
            cosigned_by: checkpoint.cosignatures().iter().map(|(name, _)| name.clone()).collect(),
        };
        // The registry was asked last and is shown first.
        self.report.logs.insert(0, log);
        Ok(Some(checkpoint))
    }

    fn not_opened(&mut self, source: &Source, error: &OpenError) {
        let Source { client, origin } = source;
        let kind = match error {
            OpenError::Malformed(_) => ProblemKind::Malformed,
            OpenError::Quorum { .. } => ProblemKind::Stale,
            OpenError::BadSignature(_) | OpenError::UnknownLog { .. } | OpenError::Unsigned { .. } => {
                self.report.findings.push(Finding::about_log(&rules::CHECKPOINT, origin, error.to_string()));
                return;
            }
        };
        let detail = format!("{origin}: {}/checkpoint: {error}", client.prefix());
        self.report.problems.push(Problem { kind, detail });
    }

    fn problem(&mut self, source: &Source, error: &ReplayError) {
        let kind = match error {
            ReplayError::Malformed(_)
            | ReplayError::Fetch(FetchError::Malformed { .. } | FetchError::Proof(_) | FetchError::Tile(_)) => {
                ProblemKind::Malformed
            }
            ReplayError::Fetch(FetchError::Refused { .. } | FetchError::Unreachable { .. }) => {
                ProblemKind::Unreachable
            }
        };
        self.report.problems.push(Problem { kind, detail: format!("{}: {error}", source.origin) });
    }

    fn log_report(&mut self, origin: &str) -> &mut LogReport {
        let mut logs = self.report.logs.iter_mut();
        logs.find(|log| log.origin == origin).expect("a log is in the report once its checkpoint is open")
    }
}

/// What entries were judged by: the policy, and the rules that this version has.
fn policy_hash(policy: &Policy) -> Hash {
    let rules: String = rules::ALL.iter().map(|rule| format!("{}\n", rule.id)).collect();
    Hash::of_parts(&[policy.to_string().as_bytes(), rules.as_bytes()])
}
