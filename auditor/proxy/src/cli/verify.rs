//! `glassbloom verify`: no network, no state but the policy file.

use std::path::{Path, PathBuf};

use glassbloom_service::{Clock, ExitCode, SystemClock};
use glassbloom_spec::{
    bundle::{MAX_BUNDLE, ReceiptBundle},
    verify::State,
};

use super::complain;
use crate::config;

/// What to verify, and under which policy.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The bundle, as `glassbloom receipts export` writes it.
    file: PathBuf,
    /// Whom to believe; by default the policy that proxy.toml names.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print the steps as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(data: &Path, arguments: &Arguments) -> ExitCode {
    let policy = match &arguments.policy {
        Some(file) => config::read_policy(file),
        None => config::Config::load(data).map(|config| config.policy),
    };
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => return complain(&error, ExitCode::Usage),
    };
    let bytes = match std::fs::read(&arguments.file) {
        Ok(bytes) if bytes.len() <= MAX_BUNDLE => bytes,
        Ok(_) => {
            return complain(
                &anyhow::anyhow!("{} is too large for a bundle", arguments.file.display()),
                ExitCode::Malformed,
            );
        }
        Err(error) => {
            return complain(
                &anyhow::anyhow!("{} cannot be read: {error}", arguments.file.display()),
                ExitCode::Usage,
            );
        }
    };
    let bundle = match ReceiptBundle::parse(&bytes) {
        Ok(bundle) => bundle,
        Err(error) => {
            let error = anyhow::anyhow!("{} is not a receipt bundle: {error}", arguments.file.display());
            return complain(&error, ExitCode::Malformed);
        }
    };
    let outcome = bundle.verify(&policy, SystemClock.now());
    let rejected = outcome.sentence.is_none();
    if arguments.json {
        let json = serde_json::json!({"receipt": bundle.id(), "verified": !rejected, "sentence": outcome.sentence, "steps": outcome.report});
        println!("{json:#}");
    } else {
        for step in outcome.report.steps() {
            println!("{:<15} {:<22} {}", step.state, step.name, step.detail);
        }
        match (&outcome.sentence, outcome.report.failure()) {
            (Some(sentence), _) => println!("\n{sentence}"),
            (None, Some(step)) => println!("\nRejected: {}: {}", step.name, step.detail),
            (None, None) => println!("\nRejected: {} could not be read as a whole", arguments.file.display()),
        }
    }
    match (rejected, outcome.report.steps().iter().find(|step| step.state == State::Failed)) {
        (false, _) => ExitCode::Ok,
        (true, Some(step)) if matches!(step.name.as_str(), "witness quorum" | "checkpoint fresh") => {
            ExitCode::Stale
        }
        (true, _) => ExitCode::Rejected,
    }
}
