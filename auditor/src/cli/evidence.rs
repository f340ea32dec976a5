//! `glassbloom-auditor evidence`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use glassbloom_service::{Clock, ExitCode, SystemClock};
use glassbloom_spec::{id::UnixSeconds, policy::Policy};

use super::{complain, print, usage};
use crate::evidence::{Options, explain, parse_time};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An attestation, our evidence, or what a vendor's hardware wrote; the kind is found by content
    file: PathBuf,
    /// A file that belongs to it, or a folder of them: certificates, a signature, a key, collateral; may be repeated
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,
    /// Policy file: whom to believe about beacons, TPMs, apps and endorsements
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Verify as of this time (2026-11-20, 2026-11-20T17:23:00Z, or seconds) [default: the beacon's, else now]
    #[arg(long, value_parser = time)]
    at: Option<UnixSeconds>,
    /// What the hardware must have signed
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    nonce: Option<Nonce>,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
    /// Show serial numbers and other identifiers of devices
    #[arg(long)]
    reveal: bool,
}

/// Any number of bytes: other people's nonces are of any length.
#[derive(Clone, Debug)]
struct Nonce(Vec<u8>);

fn time(text: &str) -> Result<UnixSeconds, String> {
    parse_time(text).ok_or_else(|| "not a time such as 2026-11-20 or 2026-11-20T17:23:00Z".to_owned())
}

fn nonce(text: &str) -> Result<Nonce, String> {
    hex::decode(text).map(Nonce).map_err(|error| format!("not hexadecimal: {error}"))
}

pub(super) fn run(args: Args) -> ExitCode {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let policy = match &args.policy {
        None => None,
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| error.to_string());
            match text.and_then(|text| Policy::parse(&text).map_err(|error| error.to_string())) {
                Ok(policy) => Some(policy),
                Err(error) => return usage(&format!("{}: {error}", path.display())),
            }
        }
    };
    let (file, with) = match (read(&args.file), beside(&args.with)) {
        (Ok(file), Ok(with)) => (file, with),
        (Err(error), _) | (_, Err(error)) => return usage(&error),
    };
    let options = Options {
        policy,
        at: args.at,
        now: SystemClock.now().seconds(),
        nonce: args.nonce.map(|nonce| nonce.0),
        reveal: args.reveal,
    };
    match explain(&file, &with, &options) {
        Ok(explanation) => {
            if args.json {
                print(&format!("{:#}\n", explanation.to_json()));
            } else {
                print(&explanation.to_string());
            }
            if explanation.holds() { ExitCode::Ok } else { ExitCode::Rejected }
        }
        Err(malformed) => {
            complain(&format!("{}: {malformed}", args.file.display()));
            ExitCode::Malformed
        }
    }
}

/// The files beside the one in question, those in folders in the order of their names.
fn beside(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let mut files = Vec::new();
    for path in paths {
        let named = |error: io::Error| format!("{}: {error}", path.display());
        if path.is_dir() {
            let entries = fs::read_dir(path).map_err(named)?.collect::<Result<Vec<_>, _>>().map_err(named)?;
            let mut inside: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
            inside.sort();
            for file in inside.iter().filter(|file| file.is_file()) {
                files.push(fs::read(file).map_err(named)?);
            }
        } else {
            files.push(fs::read(path).map_err(named)?);
        }
    }
    Ok(files)
}
