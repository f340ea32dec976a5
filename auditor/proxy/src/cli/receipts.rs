//! `glassbloom receipts`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use glassbloom_service::{ExitCode, durable};
use glassbloom_spec::{
    bundle::ReceiptBundle, bundle::utc, leaf::Payload, receipt::Receipt, statement::Statement,
};

use super::complain;
use crate::store::{Store, Summary, is_prefix};

/// What to do with receipts.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// The newest receipts, a line each.
    List {
        /// How many.
        #[arg(long, default_value_t = 20)]
        most: u32,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// What one receipt says.
    Show {
        /// The receipt, or the first digits of it.
        id: String,
    },
    /// The receipts that a log promised to publish when it could not prove them in time.
    Promises {
        /// Write each receipt and its promise into this folder, as ID.receipt and ID.promise.
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Write one receipt's bundle to a file, which `glassbloom verify` and the explorer check offline.
    Export {
        /// The receipt, or the first digits of it.
        id: String,
        /// The file.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

pub(super) async fn run(data: &Path, action: Action) -> ExitCode {
    match act(data, action).await {
        Ok(code) => code,
        Err(error) => complain(&error, ExitCode::Usage),
    }
}

async fn act(data: &Path, action: Action) -> anyhow::Result<ExitCode> {
    let database = data.join("receipts.db");
    if !database.exists() {
        anyhow::bail!(
            "{} does not exist yet: ask something through the proxy first, or name its folder with --data",
            database.display()
        );
    }
    let store = Store::open(&database).await?;
    match action {
        Action::List { most, json } => {
            let rows = store.list(most).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&rows)?);
                return Ok(ExitCode::Ok);
            }
            println!(
                "{:<16}  {:<16}  {:>7}  {:<18}  {:>6} {:>6}",
                "receipt", "time (UTC)", "index", "model", "prompt", "answer"
            );
            for row in rows {
                let time = utc(row.created as u64 / 60_000);
                println!(
                    "{:<16}  {time:<16}  {:>7}  {:<18}  {:>6} {:>6}",
                    &row.id[..16],
                    row.index,
                    row.model,
                    row.prompt,
                    row.completion
                );
            }
            Ok(ExitCode::Ok)
        }
        Action::Promises { output } => {
            for kept in store.promises().await? {
                let until = utc(kept.deadline as u64 / 60);
                println!(
                    "{}  index {:>7} of {}, promised until {until} UTC",
                    &kept.id[..16],
                    kept.index,
                    kept.log
                );
                if let Some(folder) = &output {
                    durable::create_folder(folder)?;
                    durable::write_secret(&folder.join(format!("{}.receipt", kept.id)), &kept.receipt)?;
                    durable::write_secret(&folder.join(format!("{}.promise", kept.id)), &kept.promise)?;
                }
            }
            Ok(ExitCode::Ok)
        }
        Action::Show { id } => Ok(match one(&store, &id).await? {
            Some((row, bytes)) => {
                show(&row, &ReceiptBundle::parse(&bytes)?)?;
                ExitCode::Ok
            }
            None => ExitCode::Usage,
        }),
        Action::Export { id, output } => Ok(match one(&store, &id).await? {
            Some((row, bytes)) => {
                durable::write_secret(&output, &bytes)?;
                println!("{}", output.display());
                eprintln!(
                    "receipt {} exported; check it with: glassbloom verify {}",
                    &row.id[..16],
                    output.display()
                );
                ExitCode::Ok
            }
            None => ExitCode::Usage,
        }),
    }
}

async fn one(store: &Store, id: &str) -> anyhow::Result<Option<(Summary, Vec<u8>)>> {
    if !is_prefix(id) {
        anyhow::bail!(
            "{id} is not a receipt: give at least 4 of its hexadecimal digits; `glassbloom receipts list` shows them"
        );
    }
    let mut found = store.find(id).await?;
    if found.len() > 1 {
        anyhow::bail!("{id} is the start of several receipts: give more digits");
    }
    if found.is_empty() {
        eprintln!(
            "glassbloom: no receipt starts with {id}; `glassbloom receipts list` shows those there are"
        );
    }
    Ok(found.pop())
}

fn show(row: &Summary, bundle: &ReceiptBundle) -> anyhow::Result<()> {
    let statement = Statement::parse(&bundle.receipt)?;
    let receipt = Receipt::of(&statement)?;
    println!("receipt      {}", row.id);
    println!("log          {} index {}", row.log, row.index);
    println!("model        {} (leaf {})", row.model, receipt.model);
    println!("provider     key {} (attestation {})", statement.key_id(), receipt.attestation);
    println!("policy       {}", receipt.policy);
    println!("prices       {}", receipt.prices);
    println!("registry     size {} root {}", receipt.registry.0, receipt.registry.1);
    println!("request      {} (salted commitment)", receipt.request);
    println!(
        "answer       {} over {} chunks, ended: {}",
        receipt.response,
        receipt.chunks,
        receipt.finish.name()
    );
    println!(
        "tokens       {} prompt, {} answer (public: commitments only)",
        bundle.usage.prompt, bundle.usage.completion
    );
    println!("time         {} to {} UTC", utc(receipt.times[0].get()), utc(receipt.times[1].get()));
    println!("sealed by    {}, attempt {}", receipt.sealed_by, receipt.attempt);
    Ok(())
}
