//! The command line.

mod audit;
mod endorser;
mod evidence;
mod mirror;
mod watch;
mod witness;

use clap::{Parser, Subcommand};
use glassbloom_service::ExitCode;

use crate::rules;

/// Recomputes every claim in the Glassbloom logs; also a C2SP witness.
#[derive(Debug, Parser)]
#[command(name = "glassbloom-auditor", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replay the registry and the receipts, check every entry, remember where the logs stood
    Audit(audit::Args),
    /// Vouch for evidence that the public does not see: that a TPM holds a key, that a Mac's chain was seen whole
    #[command(subcommand)]
    Endorser(endorser::Command),
    /// Verify a file of evidence by itself, and explain it field by field
    Evidence(evidence::Args),
    /// Print what a rule asks for and what to do when it does not hold
    Explain {
        /// Such as GB-LOG-001; without it, every rule in one line each
        rule: Option<String>,
    },
    /// Keep a verified copy of whole logs and serve it, so that a log that vanished can still be audited
    #[command(subcommand)]
    Mirror(mirror::Command),
    /// Follow the registry for one machine, provider or key: a JSON line for whatever is logged under it
    Watch(watch::Args),
    /// Run a witness: cosign checkpoints that extend the last one cosigned
    #[command(subcommand)]
    Witness(witness::Command),
}

/// Runs what the command line asks for.
pub async fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Audit(args) => audit::run(args).await,
        Command::Endorser(command) => endorser::run(command).await,
        Command::Evidence(args) => evidence::run(args),
        Command::Explain { rule: None } => {
            for rule in rules::ALL {
                print(&format!("{}  {}\n", rule.id, rule.title));
            }
            ExitCode::Ok
        }
        Command::Explain { rule: Some(id) } => match rules::find(&id.to_ascii_uppercase()) {
            Some(rule) => {
                print(&format!("{}\n", rule.page()));
                ExitCode::Ok
            }
            None => usage(&format!("no rule {id:?}: `glassbloom-auditor explain` lists them all")),
        },
        Command::Mirror(command) => mirror::run(command).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Witness(command) => witness::run(command).await,
    }
}

/// Writes to standard output; a reader that went away is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(message: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "error: {message}");
}

fn usage(message: &str) -> ExitCode {
    complain(message);
    ExitCode::Usage
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 usage, 10 rejected (findings), 20 stale or too few witnesses, \
30 malformed, 40 unreachable";
