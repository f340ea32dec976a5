//! `glassbloom-log keys`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use glassbloom_service::ExitCode;
use glassbloom_spec::note::{NoteSigner, VerifierKey};

use crate::{
    config::{ConfigFile, Layout},
    keyfile, rotation,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data folder.
    #[arg(long, default_value = "data/log", global = true)]
    data: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the public keys in force of every log (the default).
    Show,
    /// Take keys made elsewhere: the first keys of a new log, before `init`, or new keys beside those in force.
    Import {
        /// The log, such as registry.
        log: String,
        /// Files with private keys, one per line: `PRIVATE+KEY+NAME/LOG+…`, as Go's note package writes them.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Make a new Ed25519 and a new ML-DSA-44 key, which sign beside those in force.
    Rotate {
        /// The log, such as registry.
        log: String,
    },
    /// End a key: from the next start on it signs nothing.
    Retire {
        /// The log, such as registry.
        log: String,
        /// The key's id: the eight hexadecimal digits in its vkey.
        id: String,
        /// Take it out of the policy too: what it alone signed is believed no more. For keys that leaked.
        #[arg(long)]
        forget: bool,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let layout = Layout::new(&args.data);
    match args.command.unwrap_or(Command::Show) {
        Command::Show => {
            let file = ConfigFile::read(&layout.config())?;
            for log in &file.logs {
                for key in keyfile::read(&layout, &file.name, &log.path)?.vkeys() {
                    println!("{key}");
                }
            }
        }
        Command::Import { log, files } => {
            let mut given: Vec<NoteSigner> = Vec::new();
            for file in &files {
                if !file.is_file() {
                    bail!("there is no file {}", file.display());
                }
                given.extend(keyfile::read_file(file)?);
            }
            let keys = rotation::import(&layout, &log, given).await.context("no key was taken")?;
            if layout.config().is_file() {
                announce(&args.data, &keys);
            } else {
                print_all(&keys);
                let name = keys[0].name().strip_suffix(&format!("/{log}")).unwrap_or_default();
                println!("next: glassbloom-log init --data {} --name {name}", args.data.display());
            }
        }
        Command::Rotate { log } => announce(&args.data, &rotation::rotate(&layout, &log, Vec::new())?),
        Command::Retire { log, id, forget } => {
            let key = rotation::retire(&layout, &log, &id, forget).await?;
            println!("{key} signs nothing any more");
            println!("next: glassbloom-log serve --data {}", args.data.display());
            if !forget {
                println!("its line stays in the policy, so that what it signed stays verifiable");
            }
        }
    }
    Ok(ExitCode::Ok)
}

fn print_all(keys: &[VerifierKey]) {
    for key in keys {
        println!("{key}");
    }
}

/// What an operator does with new keys, in the order in which nothing breaks.
fn announce(data: &Path, keys: &[VerifierKey]) {
    print_all(keys);
    let data = data.display();
    println!("The log signs with these, too, from its next start. Do this, in this order:");
    println!(
        "1. give these keys to the operators of your witnesses, and wait until they have added them: a witness"
    );
    println!("   that knows no key in force refuses the log's checkpoints");
    println!("2. restart: glassbloom-log serve --data {data}");
    println!("3. hand {data}/policy, which names them now, to clients and auditors");
    println!("4. once all have it, end the old keys: glassbloom-log keys retire LOG KEYID --data {data}");
}
