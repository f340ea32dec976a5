//! `glassbloom-auditor endorser`.

use std::{fs, net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use glassbloom_service::{ExitCode, SystemClock, on_signals};
use glassbloom_spec::policy::Policy;
use tokio::net::TcpListener;

use super::{complain, print, usage};
use crate::{endorser, witness::Rate};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the endorser's keys where they are missing, and print the line for policy files
    Init {
        /// Folder of the endorser
        #[arg(long)]
        data: PathBuf,
    },
    /// Print the line for policy files: `endorser KEY`
    Keys {
        /// Folder of the endorser
        #[arg(long)]
        data: PathBuf,
    },
    /// Vouch for TPMs and Macs that ask, until told to stop
    Serve(Serve),
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Folder of the endorser
    #[arg(long)]
    data: PathBuf,
    /// Policy file whose `anchor` lines name the makers of TPMs to vouch for
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8793")]
    listen: SocketAddr,
    /// Requests per second, all askers together
    #[arg(long, value_name = "COUNT", default_value = "20")]
    qps: NonZeroU32,
}

pub(super) async fn run(command: Command) -> ExitCode {
    match command {
        Command::Init { data } => line(endorser::init(&data)),
        Command::Keys { data } => line(endorser::load(&data).map(|keys| keys.public_key())),
        Command::Serve(serve) => self::serve(serve).await,
    }
}

fn line(key: Result<glassbloom_spec::curve::PublicKey, endorser::KeyError>) -> ExitCode {
    match key {
        Ok(key) => {
            print(&format!("endorser {key}\n"));
            ExitCode::Ok
        }
        Err(error) => usage(&error.to_string()),
    }
}

async fn serve(serve: Serve) -> ExitCode {
    let policy = fs::read_to_string(&serve.policy)
        .map_err(|error| error.to_string())
        .and_then(|text| Policy::parse(&text).map_err(|error| error.to_string()));
    let anchors = match policy {
        Ok(policy) => policy.trust().anchors.to_vec(),
        Err(error) => return usage(&format!("{}: {error}", serve.policy.display())),
    };
    let listener = match TcpListener::bind(serve.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            return usage(&format!(
                "{}: {error}; choose another --listen address or stop what uses it",
                serve.listen
            ));
        }
    };
    let config = endorser::Config { data: serve.data, anchors, rate: Rate::per_second(serve.qps) };
    match endorser::serve(config, listener, Arc::new(SystemClock), on_signals()).await {
        Ok(()) => ExitCode::Ok,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::Usage
        }
    }
}
