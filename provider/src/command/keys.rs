//! `keys`: the signing key, and putting another in its place.

use clap::Subcommand;
use glassbloom_service::ExitCode;
use glassbloom_spec::{curve::Signer, statement::key_id};

use super::DataFolder;
use crate::{
    config::{Config, KeyDevice},
    keys,
};

/// What to do with the keys.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Keys {
    #[command(subcommand)]
    command: Option<Change>,
    #[command(flatten)]
    folder: Option<DataFolder>,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Makes a new signing key, which the present one counter-signs at the next start: the identity stays
    Rotate(DataFolder),
}

impl Keys {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match (self.command, self.folder) {
            (Some(Change::Rotate(folder)), _) => rotate(&folder),
            (None, Some(folder)) => print(&folder),
            (None, None) => anyhow::bail!("name the data folder with --data DIR"),
        }
    }
}

fn print(folder: &DataFolder) -> anyhow::Result<ExitCode> {
    // Without a configuration there is only the key in the file.
    let public = match Config::load(&folder.data) {
        Ok(config) if config.keys.device != KeyDevice::Software => {
            keys::open(&config)?.signing().public_key()
        }
        _ => Signer::public_key(&keys::load(&folder.data.join(keys::SIGNING_KEY))?),
    };
    println!("signing {public}\nkey-id {}", key_id(&public));
    Ok(ExitCode::Ok)
}

fn rotate(folder: &DataFolder) -> anyhow::Result<ExitCode> {
    let config = Config::load(&folder.data)?;
    anyhow::ensure!(
        config.keys.device == KeyDevice::Software,
        "the signing key is in hardware: it is replaced only together with the device"
    );
    let public = Signer::public_key(&keys::rotate(&folder.data)?);
    println!("signing {public}\nkey-id {}", key_id(&public));
    println!("next: restart the daemon; {} is needed until the new key is logged", keys::PREVIOUS_KEY);
    Ok(ExitCode::Ok)
}
