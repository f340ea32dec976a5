//! `glassbloom-log split`.

use std::path::PathBuf;

use glassbloom_service::ExitCode;

use crate::{
    config::{Date, Layout},
    split::{Split, split},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The log that closes, such as receipts.
    log: String,
    /// When it takes its last entries: 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "DATE")]
    at: Date,
    /// The log that goes on, such as receipts/2027.
    #[arg(long, value_name = "LOG")]
    next: String,
    /// The data folder.
    #[arg(long, default_value = "data/log")]
    data: PathBuf,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { log, at, next, data } = args;
    let keys = split(&Layout::new(&data), &Split { log: log.clone(), at, next: next.clone() }).await?;
    for key in keys {
        println!("{key}");
    }
    let data = data.display();
    println!("From {at} on {log} is read-only, and {next} goes on with its final checkpoint as first entry.");
    println!("Do this before that date, in this order:");
    println!(
        "1. give these keys to the operators of your witnesses: of a log that they do not know they cosign"
    );
    println!("   nothing, and nothing of it is published");
    println!("2. hand {data}/policy, which names {next} now, to clients, coordinators and auditors");
    println!("3. restart: glassbloom-log serve --data {data}");
    println!(
        "Writers that still send to {log} are told where to go; {log} stays served and is never signed anew."
    );
    Ok(ExitCode::Ok)
}
