//! The command line of `glassbloom-log`.

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use glassbloom_service::{Clock, ExitCode, SystemClock, http_client, on_signals};
use glassbloom_spec::{checkpoint::TreeHead, note::SignedNote, policy::Policy};
use tokio::net::TcpListener;

use crate::{
    config::{Config, ConfigFile, LOGS, Layout, read, read_keys},
    fsck::{FsckError, Source, check},
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
    Fsck(Target),
    /// Print the public keys of the logs.
    Keys {
        /// The data folder.
        #[arg(long, default_value = "data/log")]
        data: PathBuf,
    },
    /// Show size, root and cosignatures of what is published; exits 20 when it is too old.
    Status(Target),
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

#[derive(Debug, Args)]
struct Target {
    /// Address of a log service or of one log, or a data or public folder.
    target: String,
    /// Whom to believe [default: the policy beside the log, which proves only that the log agrees with itself].
    #[arg(long)]
    policy: Option<PathBuf>,
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
        Command::Fsck(target) => fsck(&target).await,
        Command::Keys { data } => {
            let layout = Layout::new(&data);
            let name = ConfigFile::read(&layout.config())?.name;
            for log in LOGS {
                for key in read_keys(&layout, &name, log)?.vkeys() {
                    println!("{key}");
                }
            }
            Ok(ExitCode::Ok)
        }
        Command::Status(target) => status(&target).await,
    }
}

struct Resolved {
    policy: Policy,
    logs: Vec<(String, Source)>,
}

/// Finds the logs that a target stands for: one log, or all of a service.
async fn resolve(target: &Target) -> anyhow::Result<Result<Resolved, FsckError>> {
    let http = target.target.contains("://");
    let base = target.target.trim_end_matches('/').to_owned();
    let folder = Path::new(&base);
    let below = |path: &str| match (http, path) {
        (true, "") => Source::Http(http_client(), base.clone()),
        (true, path) => Source::Http(http_client(), format!("{base}/{path}")),
        (false, path) if folder.join("public").is_dir() => Source::Folder(folder.join("public").join(path)),
        (false, path) => Source::Folder(folder.join(path)),
    };
    let policy = match (&target.policy, http) {
        (Some(path), _) => read(path)?,
        (None, false) => {
            let beside =
                [folder.to_owned(), folder.join(".."), folder.join("../..")].map(|f| f.join("policy"));
            let Some(path) = beside.iter().find(|path| path.is_file()) else {
                bail!("no policy beside {base}; name one with --policy");
            };
            read(path)?
        }
        (None, true) => match below("").get("policy").await {
            Ok(Some(text)) => String::from_utf8(text.to_vec()).context("the policy that the log serves")?,
            Ok(None) => bail!("{base} serves no policy; name one with --policy"),
            Err(error) => return Ok(Err(error)),
        },
    };
    let policy = Policy::parse(&policy).context("the policy")?;
    // A target that has a checkpoint is one log, whichever it says it is.
    let alone = match below("").get("checkpoint").await {
        Ok(note) => note.and_then(|note| TreeHead::parse(&SignedNote::parse(&note).ok()?.text).ok()),
        Err(error) => return Ok(Err(error)),
    };
    let logs = match alone {
        Some(head) => vec![(head.origin, below(""))],
        None => policy
            .logs()
            .iter()
            .map(|log| (log.origin.clone(), below(log.origin.rsplit('/').next().unwrap_or_default())))
            .collect(),
    };
    Ok(Ok(Resolved { policy, logs }))
}

fn report(error: &FsckError) -> ExitCode {
    eprintln!("error: {error}");
    error.exit_code()
}

/// The first that is not ok, findings before all others.
fn worse(one: ExitCode, other: ExitCode) -> ExitCode {
    match (one, other) {
        (ExitCode::Ok, other) | (_, other @ ExitCode::Rejected) => other,
        (one, _) => one,
    }
}

async fn fsck(target: &Target) -> anyhow::Result<ExitCode> {
    let Resolved { policy, logs } = match resolve(target).await? {
        Ok(resolved) => resolved,
        Err(error) => return Ok(report(&error)),
    };
    let mut code = ExitCode::Ok;
    for (origin, source) in logs {
        let terminal = std::io::stderr().is_terminal();
        let progress = |done: u64, all: u64| {
            if terminal {
                eprint!("\r{origin}: {done} of {all} entries");
                // Progress that cannot be shown is no reason to stop.
                let _ = std::io::stderr().flush();
            }
        };
        let checked = check(&source, &policy, &origin, progress).await;
        if terminal {
            eprintln!();
        }
        code = worse(
            code,
            match checked {
                Err(error) => report(&error),
                Ok(found) if found.findings.is_empty() => {
                    println!(
                        "{origin}: ok, {} entries, root {}",
                        found.checkpoint.size(),
                        found.checkpoint.root()
                    );
                    ExitCode::Ok
                }
                Ok(found) => {
                    for finding in &found.findings {
                        println!("{origin}: {finding}");
                    }
                    println!(
                        "{origin}: {} findings in {} entries",
                        found.findings.len(),
                        found.checkpoint.size()
                    );
                    ExitCode::Rejected
                }
            },
        );
    }
    Ok(code)
}

async fn status(target: &Target) -> anyhow::Result<ExitCode> {
    let Resolved { policy, logs } = match resolve(target).await? {
        Ok(resolved) => resolved,
        Err(error) => return Ok(report(&error)),
    };
    let now = SystemClock.now().seconds().get();
    let mut code = ExitCode::Ok;
    for (origin, source) in logs {
        let note = source.get("checkpoint").await;
        let opened = note.and_then(|note| {
            let note = note.ok_or_else(|| FsckError::NoCheckpoint(origin.clone()))?;
            Ok(policy.open(Some(&origin), &note)?)
        });
        let checkpoint = match opened {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                code = worse(code, report(&error));
                continue;
            }
        };
        println!("{origin}: {} entries, root {}", checkpoint.size(), checkpoint.root());
        for (witness, time) in checkpoint.cosignatures() {
            let age = Duration::from_secs(now.saturating_sub(time.get()));
            println!("  cosigned by {witness} {age:?} ago");
        }
        let cosigned_at = checkpoint.cosigned_at().get();
        if cosigned_at > 0 && now.saturating_sub(cosigned_at) > policy.checkpoint_age() {
            println!("  too old: the policy allows {} seconds", policy.checkpoint_age());
            code = worse(code, ExitCode::Stale);
        }
    }
    Ok(code)
}
