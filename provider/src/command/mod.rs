//! The command line.

mod init;
mod release;
mod serve;
mod status;

use std::path::PathBuf;

use clap::Subcommand;
use glassbloom_service::ExitCode;
use glassbloom_spec::{curve::Signer, statement::key_id};

use crate::keys;

/// What the program can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Writes the configuration and makes the signing key; run again, it changes what is given and keeps the key
    Init(init::Init),
    /// Prints the public signing key and its identifier
    Keys(DataFolder),
    /// Measures this program and signs a release statement, which lets providers that run it serve
    Release(release::Release),
    /// Loads the models, attests, and answers requests until it is stopped
    Serve(serve::Serve),
    /// Prints what the running daemon last wrote down: exit code 0 connected, 10 refused, 40 not connected
    Status(DataFolder),
}

/// Where the provider keeps its state.
#[derive(Debug, clap::Args)]
pub struct DataFolder {
    /// The data folder that `init` made
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

impl Command {
    /// Does it, printing results to standard output.
    ///
    /// # Errors
    /// With the cause and what to do about it; the exit code is then 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Init(init) => init.run(),
            Self::Keys(folder) => print_keys(&folder),
            Self::Release(release) => release.run(),
            Self::Serve(serve) => serve.run(),
            Self::Status(folder) => status::run(&folder),
        }
    }
}

fn print_keys(folder: &DataFolder) -> anyhow::Result<ExitCode> {
    let key = keys::load(&folder.data.join(keys::SIGNING_KEY))?;
    let public = Signer::public_key(&key);
    println!("signing {public}\nkey-id {}", key_id(&public));
    Ok(ExitCode::Ok)
}
