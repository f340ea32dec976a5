//! `status`: what the daemon last wrote down.

use std::io;

use anyhow::{Context, bail};
use glassbloom_service::ExitCode;

use super::DataFolder;
use crate::status::Status;

pub(super) fn run(folder: &DataFolder) -> anyhow::Result<ExitCode> {
    let status = match Status::read(&folder.data) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "no daemon has run in {}; start one with `glassbloom-provider serve --data {}`",
            folder.data.display(),
            folder.data.display()
        ),
        Err(error) => return Err(error).context("the status file cannot be read"),
    };
    println!("state {} since {} ms", status.state.name(), status.since);
    println!("because {}", status.detail);
    println!("models {}", status.models.join(", "));
    match &status.attestation {
        Some(attestation) => {
            println!("attestation {} at index {} of the registry", attestation.leaf, attestation.index)
        }
        None => println!("attestation none yet"),
    }
    println!("last-refusal {}", status.last_refusal.as_deref().unwrap_or("none"));
    println!("last-challenge-failure {}", status.last_challenge_failure.as_deref().unwrap_or("none"));
    println!("process {}", status.process);
    Ok(status.exit_code())
}
