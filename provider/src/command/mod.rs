//! The command line.

mod doctor;
mod init;
mod keys;
mod release;
mod serve;
mod status;

use std::path::PathBuf;

use clap::Subcommand;
use glassbloom_service::ExitCode;

/// What the program can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Signs that a release key stands behind a release, and prints what `release --approval` takes
    Approve(release::Approve),
    /// Looks at everything that serving needs, and says what to do: exit code 0 well, 10 something is wrong
    Doctor(DataFolder),
    /// Writes the configuration and makes the signing key; run again, it changes what is given and keeps the key
    Init(init::Init),
    /// Prints the public signing key and its identifier, or rotates it
    Keys(keys::Keys),
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
            Self::Approve(approve) => approve.run(),
            Self::Doctor(folder) => doctor::run(&folder),
            Self::Init(init) => init.run(),
            Self::Keys(keys) => keys.run(),
            Self::Release(release) => release.run(),
            Self::Serve(serve) => serve.run(),
            Self::Status(folder) => status::run(&folder),
        }
    }
}
