//! The `glassbloom` command.

mod ask;
mod providers;
mod receipts;
mod verify;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use glassbloom_service::{ExitCode, SystemClock, on_signals};
use tokio::net::TcpListener;

use crate::config::{self, Config, ConfigFile};

/// Talks to a private inference network that you can check: an OpenAI-compatible server on this machine.
#[derive(Debug, Parser)]
#[command(name = "glassbloom", version, max_term_width = 110)]
pub struct Arguments {
    /// Folder with proxy.toml, the key and the receipts.
    #[arg(
        long,
        global = true,
        env = "GLASSBLOOM_HOME",
        default_value = "glassbloom-home",
        value_name = "DIR"
    )]
    data: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask one question through the running proxy and show what was verified.
    Ask(ask::Arguments),
    /// Write proxy.toml.
    Init {
        /// The coordinator's address, for example http://127.0.0.1:8788.
        #[arg(long)]
        coordinator: String,
        /// File with the coordinator's API key.
        #[arg(long, value_name = "FILE")]
        api_key_file: PathBuf,
        /// File with the policy: whom to believe.
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// Where applications reach the proxy.
        #[arg(long, default_value = "127.0.0.1:8787", value_name = "ADDR")]
        listen: SocketAddr,
        /// Keep the text of requests and answers in the bundles.
        #[arg(long)]
        keep_text: bool,
    },
    /// List who serves, by what evidence, and what that does not prove.
    Providers(providers::Arguments),
    /// Serve the OpenAI API on this machine, verifying everything.
    Proxy {
        /// Listen here instead of where proxy.toml says.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
    },
    /// List, show and export the receipts of your requests.
    Receipts {
        #[command(subcommand)]
        action: receipts::Action,
    },
    /// Run a program with OPENAI_BASE_URL and OPENAI_API_KEY set to this proxy.
    Run {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Verify a receipt bundle offline: no network, no state but the policy file.
    Verify(verify::Arguments),
}

impl Arguments {
    /// Parses the command line; a wrong one is explained on standard error.
    pub fn parse_or_exit() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            // Nothing can be done when not even the explanation can be printed.
            let _ = error.print();
            if error.use_stderr() { ExitCode::Usage } else { ExitCode::Ok }
        })
    }

    /// Runs the command and says how it ended.
    pub async fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Ask(arguments) => return ask::run(&self.data, &arguments).await,
            Command::Init { coordinator, api_key_file, policy, listen, keep_text } => {
                init(&self.data, coordinator, &api_key_file, &policy, listen, keep_text)
            }
            Command::Providers(arguments) => return providers::run(&self.data, &arguments).await,
            Command::Proxy { listen } => proxy(&self.data, listen).await,
            Command::Receipts { action } => return receipts::run(&self.data, action).await,
            Command::Run { command } => return run(&self.data, &command),
            Command::Verify(arguments) => return verify::run(&self.data, &arguments),
        };
        match done {
            Ok(()) => ExitCode::Ok,
            Err(error) => complain(&error, ExitCode::Usage),
        }
    }
}

fn init(
    data: &Path,
    coordinator: String,
    key: &Path,
    policy: &Path,
    listen: SocketAddr,
    keep_text: bool,
) -> anyhow::Result<()> {
    config::read_policy(policy)?;
    let absolute =
        |path: &Path| std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()));
    let file = ConfigFile {
        listen,
        coordinator,
        api_key_file: absolute(key)?,
        policy: absolute(policy)?,
        keep_text,
    };
    config::init(data, &file)
}

async fn proxy(data: &Path, listen: Option<SocketAddr>) -> anyhow::Result<()> {
    let config = Config::load(data)?;
    let address = listen.unwrap_or(config.listen);
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("{address} cannot be listened on; is another proxy running? `--listen` takes another address")
    })?;
    crate::serve(config, listener, Arc::new(SystemClock), on_signals()).await
}

fn run(data: &Path, command: &[String]) -> ExitCode {
    let config = match Config::load(data) {
        Ok(config) => config,
        Err(error) => return complain(&error, ExitCode::Usage),
    };
    let base = format!("http://{}/v1", config.listen);
    if std::net::TcpStream::connect_timeout(&config.listen, std::time::Duration::from_secs(2)).is_err() {
        let error = anyhow::anyhow!(
            "nothing answers at {base}; start it with `cargo up`, or with `glassbloom proxy`"
        );
        return complain(&error, ExitCode::Unreachable);
    }
    let (program, arguments) = command.split_first().expect("clap asks for at least one word");
    let status = std::process::Command::new(program)
        .args(arguments)
        .env("OPENAI_BASE_URL", &base)
        .env("OPENAI_API_BASE", &base)
        .env("OPENAI_API_KEY", &config.api_key)
        .status();
    match status {
        // The program's own code is what its caller asks for; ours are only for what we could not do.
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => complain(&anyhow::anyhow!("{program} cannot be started: {error}"), ExitCode::Usage),
    }
}

fn complain(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    eprintln!("glassbloom: {error:#}");
    code
}
