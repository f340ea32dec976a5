//! The command line of `glassbloom-log`.

mod export;
mod fsck;
mod import;
mod keys;
mod split;
mod status;
mod target;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use glassbloom_service::{ExitCode, SystemClock, on_signals};
use tokio::net::TcpListener;

use crate::{
    config::Config,
    init::{Init, init},
    serve,
};

/// The Glassbloom transparency log: tlog-tiles on disk, cosigned checkpoints, nothing lost.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys, token, configuration, policy and empty logs; run again to change witnesses or addresses.
    Init(Init),
    /// Serve both logs until SIGINT or SIGTERM.
    Serve(Serve),
    /// Check every entry and tile of a log; exits 10 when something is wrong.
    Fsck(fsck::Args),
    /// Make a verified copy of a log that any static file server can serve.
    Export(export::Args),
    /// Fill a new log with the entries of another one, at the same indices.
    Import(import::Args),
    /// Show, add and retire the keys of the logs.
    Keys(keys::Args),
    /// Close a log at a date and have another one go on.
    Split(split::Args),
    /// Show size, rate, keys and witnesses of what is published; exits 20 when it is too old.
    Status(status::Args),
}

#[derive(Debug, Args)]
struct Serve {
    /// The data folder that `init` made.
    #[arg(long, default_value = "data/log")]
    data: PathBuf,
    /// Configuration [default: DATA/log.toml].
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address to listen on [default: as configured]; port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

/// Runs one command.
///
/// # Errors
/// For a person to read; the caller prints it and exits with [`ExitCode::Usage`].
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Init(args) => {
            let policy = init(&args).await?;
            let (data, count) = (args.data.display(), policy.witnesses().len());
            println!("logs ready in {data}: {count} witness keys, quorum {}", policy.quorum());
            println!("next: glassbloom-log serve --data {data}");
            Ok(ExitCode::Ok)
        }
        Command::Serve(args) => {
            let config = Config::load(&args.data, args.config.as_deref())?;
            let address = args.listen.unwrap_or(config.listen);
            let listener = TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address}; is it in use? choose another with --listen")
            })?;
            serve::serve(config, listener, Arc::new(SystemClock), on_signals()).await?;
            Ok(ExitCode::Ok)
        }
        Command::Fsck(args) => fsck::run(&args).await,
        Command::Export(args) => export::run(&args).await,
        Command::Import(args) => import::run(&args).await,
        Command::Keys(args) => keys::run(args).await,
        Command::Split(args) => split::run(args).await,
        Command::Status(args) => status::run(&args).await,
    }
}
