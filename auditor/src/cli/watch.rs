//! `glassbloom-auditor watch`.

use std::{fs, path::PathBuf, time::Duration};

use glassbloom_service::{ExitCode, FetchError, SystemClock, on_signals};
use glassbloom_spec::{
    hash::Hash,
    id::KeyId,
    identity::ProviderId,
    policy::{OpenError, Policy},
};

use super::{complain, print, usage};
use crate::{
    replay::{ReplayError, SyncError},
    watch::{Config, Subject, Watch, WatchError},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    subject: Over,
    /// A signing key of yours; may be given several times. Any other key is an alert
    #[arg(long, value_name = "KEYID")]
    mine: Vec<Hash>,
    /// Base URL of the log service; by default the registry's URL in the policy
    #[arg(long, value_name = "URL")]
    log: Option<String>,
    /// Policy file: the registry, the witnesses and the keys to believe
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Folder that remembers what was seen and told; an audit may use the same one
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Look once and end: with 10 after an alert
    #[arg(long)]
    once: bool,
    /// Seconds between looks
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
}

/// What to watch over.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Over {
    /// A machine, by the name that its evidence has for it
    #[arg(long, value_name = "COMMITMENT")]
    device: Option<Hash>,
    /// A signing key, and the provider that it belongs to
    #[arg(long, value_name = "KEYID")]
    key: Option<Hash>,
    /// A provider
    #[arg(long, value_name = "ID")]
    provider: Option<Hash>,
}

pub(super) async fn run(args: Args) -> ExitCode {
    let text = match fs::read_to_string(&args.policy) {
        Ok(text) => text,
        Err(error) => return usage(&format!("{}: {error}", args.policy.display())),
    };
    let policy = match Policy::parse(&text) {
        Ok(policy) => policy,
        Err(error) => return usage(&format!("{}: {error}", args.policy.display())),
    };
    let Some(subject) = args.subject.subject() else {
        return usage("say what to watch: --device, --provider or --key");
    };
    let mine = args.mine.into_iter().map(KeyId).collect();
    let config = Config { log: args.log, policy, state: args.state, subject, mine };
    let mut watch = match Watch::open(config).await {
        Ok(watch) => watch,
        Err(error) => return usage(&error.to_string()),
    };
    let shutdown = on_signals();
    loop {
        let looked = shutdown.unless_requested(look(&mut watch)).await;
        let Some(code) = looked else { return ExitCode::Ok };
        if args.once {
            return code;
        }
        let wait = tokio::time::sleep(Duration::from_secs(args.interval));
        if shutdown.unless_requested(wait).await.is_none() {
            return ExitCode::Ok;
        }
    }
}

impl Over {
    fn subject(&self) -> Option<Subject> {
        let device = self.device.map(Subject::Device);
        let key = || self.key.map(|key| Subject::Key(KeyId(key)));
        device.or_else(key).or_else(|| self.provider.map(|id| Subject::Provider(ProviderId(id))))
    }
}

async fn look(watch: &mut Watch) -> ExitCode {
    let events = match watch.look(&SystemClock).await {
        Ok(events) => events,
        Err(error) => {
            complain(&error.to_string());
            return code(&error);
        }
    };
    for event in &events {
        print(&format!("{}\n", serde_json::to_string(event).expect("an event is JSON")));
    }
    // Only now: whoever is cut off while reading is told again.
    if let Err(error) = watch.told().await {
        complain(&error.to_string());
        return ExitCode::Usage;
    }
    if events.iter().any(crate::watch::Event::is_alert) { ExitCode::Rejected } else { ExitCode::Ok }
}

fn code(error: &WatchError) -> ExitCode {
    match error {
        WatchError::Aged { .. } | WatchError::Open(OpenError::Quorum { .. }) => ExitCode::Stale,
        WatchError::Sync(SyncError::Older { .. }) => ExitCode::Stale,
        WatchError::Forked { .. } | WatchError::Sync(SyncError::Altered(_) | SyncError::Forked { .. }) => {
            ExitCode::Rejected
        }
        WatchError::Fetch(error) | WatchError::Sync(SyncError::Replay(ReplayError::Fetch(error))) => {
            match error {
                FetchError::Refused { .. } | FetchError::Unreachable { .. } => ExitCode::Unreachable,
                FetchError::Malformed { .. } | FetchError::Proof(_) | FetchError::Tile(_) => {
                    ExitCode::Malformed
                }
            }
        }
        WatchError::Open(OpenError::Malformed(_))
        | WatchError::Sync(SyncError::Replay(ReplayError::Malformed(_)) | SyncError::Unproven { .. }) => {
            ExitCode::Malformed
        }
        WatchError::Open(_) | WatchError::Sync(SyncError::OtherLog { .. }) => ExitCode::Rejected,
        WatchError::NoRegistry | WatchError::State(_) => ExitCode::Usage,
    }
}
