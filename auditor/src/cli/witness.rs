//! `glassbloom-auditor witness`.

use std::{
    fs,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use glassbloom_service::{ExitCode, SystemClock, on_signals};
use glassbloom_spec::{note::VerifierKey, policy::Policy};
use serde::Deserialize;
use tokio::net::TcpListener;

use super::{complain, print, usage};
use crate::witness::{self, Rate};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Accept a log's checkpoints; a running witness sees it at once
    AddLog {
        /// Folder of the witness
        #[arg(long)]
        data: PathBuf,
        #[command(flatten)]
        logs: Logs,
    },
    /// Make the witness's keys (Ed25519, ML-DSA-44) where they are missing, and print both vkeys for policy files
    Init {
        /// Folder of the witness
        #[arg(long)]
        data: PathBuf,
        /// Name of the witness: a domain and path that its operator controls
        #[arg(long)]
        name: String,
        /// Make the Ed25519 key alone: a tenth of the work for each cosignature, and no sign-subtree
        #[arg(long)]
        only_ed25519: bool,
    },
    /// Answer add-checkpoint and sign-subtree requests until told to stop
    Serve(Serve),
}

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// A log's verifier key; may be repeated
    #[arg(long, value_name = "VKEY", num_args = 1..)]
    vkey: Vec<VerifierKey>,
    /// Take every log line of this policy file
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// TOML file with `data`, `listen`, `policy` and `qps`; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the witness
    #[arg(long)]
    data: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8791]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Checkpoints per second that each log may have cosigned [default: 1000]
    #[arg(long, value_name = "COUNT")]
    qps: Option<NonZeroU32>,
    #[command(flatten)]
    logs: Logs,
}

/// The TOML file of `witness serve`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    /// Folder with the key and the state.
    data: Option<PathBuf>,
    /// Address to listen on.
    listen: Option<SocketAddr>,
    /// Policy file whose log lines are accepted.
    policy: Option<PathBuf>,
    /// Checkpoints per second that each log may have cosigned.
    qps: Option<NonZeroU32>,
}

pub(super) async fn run(command: Command) -> ExitCode {
    match command {
        Command::AddLog { data, logs } => add_log(&data, &logs).await,
        Command::Init { data, name, only_ed25519 } => {
            let init = if only_ed25519 { witness::init_ed25519 } else { witness::init };
            match init(&data, &name) {
                Ok(vkeys) => {
                    print(&vkeys.iter().map(|vkey| format!("{vkey}\n")).collect::<String>());
                    ExitCode::Ok
                }
                Err(error) => usage(&error.to_string()),
            }
        }
        Command::Serve(serve) => self::serve(serve).await,
    }
}

async fn add_log(data: &Path, logs: &Logs) -> ExitCode {
    let keys = match logs.keys() {
        Ok(keys) if keys.is_empty() => return usage("name a log: --vkey VKEY or --policy FILE"),
        Ok(keys) => keys,
        Err(message) => return usage(&message),
    };
    match witness::add_logs(data, &keys).await {
        Ok(()) => ExitCode::Ok,
        Err(error) => usage(&error.to_string()),
    }
}

async fn serve(serve: Serve) -> ExitCode {
    let (config, listen) = match serve.resolve() {
        Ok(resolved) => resolved,
        Err(message) => return usage(&message),
    };
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            return usage(&format!(
                "{listen}: {error}; choose another --listen address or stop what uses it"
            ));
        }
    };
    match witness::serve(config, listener, Arc::new(SystemClock), on_signals()).await {
        Ok(()) => ExitCode::Ok,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::Usage
        }
    }
}

impl Logs {
    fn keys(&self) -> Result<Vec<VerifierKey>, String> {
        let mut keys = self.vkey.clone();
        if let Some(path) = &self.policy {
            keys.extend(policy_logs(path)?);
        }
        Ok(keys)
    }
}

impl Serve {
    fn resolve(self) -> Result<(witness::Config, SocketAddr), String> {
        let file = match &self.config {
            None => ConfigFile::default(),
            Some(path) => {
                let text =
                    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?
            }
        };
        let mut logs = self.logs.keys()?;
        if let Some(path) = &file.policy {
            logs.extend(policy_logs(path)?);
        }
        let data =
            self.data.or(file.data).ok_or("--data DIR is missing: the folder that `witness init` filled")?;
        let listen = self.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8791)));
        let rate = self.qps.or(file.qps).map(Rate::per_second).unwrap_or_default();
        Ok((witness::Config { data, logs, rate }, listen))
    }
}

fn policy_logs(path: &Path) -> Result<Vec<VerifierKey>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let policy = Policy::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(policy.logs().iter().flat_map(|log| log.keys.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_a_configuration_that_parses() {
        let readme = include_str!("../../README.md");
        let sample = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let file: ConfigFile = toml::from_str(sample).unwrap();
        assert!(file.data.is_some() && file.listen.is_some() && file.policy.is_some() && file.qps.is_some());
        assert!(toml::from_str::<ConfigFile>("listn = \"127.0.0.1:1\"").is_err());
    }
}
