//! `glassbloom ask`: one question, as an application would ask it, and what the proxy verified of the answer.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use futures_util::StreamExt;
use glassbloom_service::{ExitCode, durable, http_client, log_client::root_cause};
use glassbloom_spec::openai::SseParser;
use serde_json::{Value, json};

use super::complain;
use crate::{config::Config, store::Store};

/// What to ask.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The question.
    question: String,
    /// The model's alias.
    #[arg(long)]
    model: String,
    /// Write the receipt's bundle to this file.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

pub(super) async fn run(data: &Path, arguments: &Arguments) -> ExitCode {
    let config = match Config::load(data) {
        Ok(config) => config,
        Err(error) => return complain(&error, ExitCode::Usage),
    };
    let body = json!({
        "model": arguments.model,
        "messages": [{"role": "user", "content": arguments.question}],
        "stream": true,
        "temperature": 0,
    });
    let request = http_client()
        .post(format!("http://{}/v1/chat/completions", config.listen))
        .bearer_auth(&config.api_key)
        .json(&body);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            let error = anyhow!(
                "no proxy answers at {}: {}; `cargo up` or `glassbloom proxy` starts one",
                config.listen,
                root_cause(&error)
            );
            return complain(&error, ExitCode::Unreachable);
        }
    };
    match answered(response).await {
        Ok(proof) => match show(&proof, &config, arguments.save.as_deref()).await {
            Ok(()) => ExitCode::Ok,
            Err(error) => complain(&error, ExitCode::Usage),
        },
        Err(error) => complain(&error, ExitCode::Rejected),
    }
}

/// Prints the streamed answer and gives the object that the proxy adds at its end.
async fn answered(response: reqwest::Response) -> anyhow::Result<Value> {
    let status = response.status();
    if !status.is_success() {
        let error: Value = response.json().await.unwrap_or_default();
        bail!(
            "{}",
            error["error"]["message"].as_str().unwrap_or("the proxy answered with an error and no reason")
        );
    }
    let mut parser = SseParser::default();
    let mut proof = None;
    let mut stream = response.bytes_stream();
    let mut out = std::io::stdout();
    while let Some(bytes) = stream.next().await {
        for event in parser.push(&bytes.context("the proxy's answer was cut")?)? {
            if event.is_done() {
                writeln!(out)?;
                return proof.context("the proxy let an answer end without a receipt");
            }
            let chunk: Value =
                serde_json::from_str(&event.data).context("the proxy sent an event that is not JSON")?;
            if let Some(message) = chunk["error"]["message"].as_str() {
                writeln!(out)?;
                bail!("{message}");
            }
            if let Some(text) = chunk["choices"][0]["delta"]["content"].as_str() {
                write!(out, "{text}")?;
                out.flush()?;
            }
            if chunk["glassbloom"].is_object() {
                proof = Some(chunk["glassbloom"].clone());
            }
        }
    }
    bail!("the proxy's answer was cut before its end")
}

async fn show(proof: &Value, config: &Config, save: Option<&Path>) -> anyhow::Result<()> {
    println!();
    for step in proof["steps"].as_array().into_iter().flatten() {
        let text = |field: &str| step[field].as_str().unwrap_or_default().to_owned();
        println!("{:<15} {:<24} {}", text("state"), text("name"), text("detail"));
    }
    let id = proof["receipt"].as_str().context("the proxy named no receipt")?;
    println!("\nreceipt   {id}");
    println!("log       {} index {}", proof["log"].as_str().unwrap_or_default(), proof["index"]);
    let store = Store::open(&config.database).await?;
    match save {
        None => println!(
            "bundle    kept; `glassbloom receipts export {} -o FILE` writes it",
            &id[..16.min(id.len())]
        ),
        Some(file) => {
            let (_, bundle) = store.find(id).await?.pop().context("the proxy did not keep the receipt")?;
            durable::write_secret(file, &bundle).with_context(|| format!("writing {}", file.display()))?;
            println!("bundle    {}", file.display());
        }
    }
    Ok(())
}
