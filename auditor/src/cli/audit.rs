//! `glassbloom-auditor audit`.

use std::{fs, path::PathBuf};

use glassbloom_service::{ExitCode, SystemClock};
use glassbloom_spec::policy::Policy;

use super::{print, usage};
use crate::audit::{Config, audit};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Base URL of the log service, for example http://127.0.0.1:8789
    #[arg(long, value_name = "URL")]
    log: String,
    /// Policy file: the logs, the witnesses and the keys to believe
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Folder that remembers what was seen
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Replay from the first entry, whatever is remembered
    #[arg(long)]
    from_genesis: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
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
    let config = Config { log: args.log, policy, state: args.state, from_genesis: args.from_genesis };
    let report = match audit(&config, &SystemClock).await {
        Ok(report) => report,
        Err(error) => return usage(&error.to_string()),
    };
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report).expect("a report is JSON")));
    } else {
        print(&report.to_string());
    }
    report.exit_code()
}
