//! `glassbloom-auditor mirror`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand};
use glassbloom_service::{ExitCode, SystemClock, on_signals};
use glassbloom_spec::policy::Policy;
use tokio::net::TcpListener;

use super::{complain, print, usage};
use crate::mirror::{self, Config, Mirror};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the mirror's keys (Ed25519, ML-DSA-44) where they are missing, and print both vkeys: it then signs that
    /// it keeps a copy
    Init {
        /// Folder of the mirror
        #[arg(long)]
        data: PathBuf,
        /// Name of the mirror: a domain and path that its operator controls, and no witness's or log's
        #[arg(long)]
        name: String,
    },
    /// Copy what is new, verify it, and end
    Sync(Source),
    /// Go on copying, and serve the copies
    Serve(Serve),
}

#[derive(Debug, Args)]
pub(super) struct Source {
    /// Folder of the mirror
    #[arg(long)]
    data: PathBuf,
    /// Policy file: every log in it is mirrored, from the URL in its line
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Base URL of a log service, in place of the URLs in the policy
    #[arg(long, value_name = "URL")]
    log: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    source: Source,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8792")]
    listen: SocketAddr,
    /// Seconds between two looks at each log
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    interval: u64,
    /// Take what the logs upload (add-checkpoint, add-entries) instead of reading them
    #[arg(long, conflicts_with = "log")]
    submissions: bool,
}

pub(super) async fn run(command: Command) -> ExitCode {
    match command {
        Command::Init { data, name } => match mirror::init(&data, &name) {
            Ok(vkeys) => {
                print(&vkeys.iter().map(|vkey| format!("{vkey}\n")).collect::<String>());
                ExitCode::Ok
            }
            Err(error) => usage(&error.to_string()),
        },
        Command::Sync(source) => match source.open(false) {
            Ok(mirror) => sync(&mirror).await,
            Err(message) => usage(&message),
        },
        Command::Serve(serve) => self::serve(serve).await,
    }
}

async fn sync(mirror: &Mirror) -> ExitCode {
    let mut worst = ExitCode::Ok;
    for copy in mirror.copies() {
        match copy.sync().await {
            Ok(synced) => print(&format!("{}  size {}  {} new\n", copy.origin(), synced.size, synced.new)),
            Err(error) => {
                complain(&format!("{}: {error}", copy.origin()));
                // What is wrong with a log weighs more than what is in the way.
                if worst == ExitCode::Ok || error.exit_code() == ExitCode::Rejected {
                    worst = error.exit_code();
                }
            }
        }
    }
    worst
}

async fn serve(serve: Serve) -> ExitCode {
    let mirror = match serve.source.open(serve.submissions) {
        Ok(mirror) => mirror,
        Err(message) => return usage(&message),
    };
    let listener = match TcpListener::bind(serve.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            let listen = serve.listen;
            return usage(&format!(
                "{listen}: {error}; choose another --listen address or stop what uses it"
            ));
        }
    };
    match mirror::serve(mirror, listener, Duration::from_secs(serve.interval.max(1)), on_signals()).await {
        Ok(()) => ExitCode::Ok,
        Err(error) => usage(&error.to_string()),
    }
}

impl Source {
    fn open(&self, submissions: bool) -> Result<Mirror, String> {
        let policy = read(&self.policy)?;
        let config = Config { data: self.data.clone(), policy, log: self.log.clone(), submissions };
        Mirror::open(config, Arc::new(SystemClock)).map_err(|error| error.to_string())
    }
}

fn read(path: &Path) -> Result<Policy, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Policy::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}
