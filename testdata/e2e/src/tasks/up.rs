//! `cargo up`: everything built, the whole network started, and what to do with it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{build, mlx};
use crate::network::{MODEL, Network, Part, Plan};

/// What to start.
#[derive(Debug, clap::Args)]
pub struct Up {
    /// Ask this once through the verifying proxy, show what was verified, audit both logs, and stop
    #[arg(long, value_name = "QUESTION")]
    once: Option<String>,
    /// Port of the proxy; coordinator, log, explorer and the two witnesses take the five after it
    #[arg(long, default_value_t = 8787, value_name = "PORT")]
    port_base: u16,
    /// Folder that keeps all state; a second start continues the same logs
    #[arg(long, default_value = "data", value_name = "DIR")]
    data: PathBuf,
}

impl Up {
    /// Builds, starts, and waits for Ctrl-C or for the one question to be answered.
    ///
    /// # Errors
    /// When something cannot be built, does not start, or does not hold.
    pub fn run(&self, root: &Path, progress: &dyn Fn(&str)) -> Result<()> {
        ensure!(self.port_base >= 1024 && self.port_base <= 65_000, "--port-base is between 1024 and 65000");
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("catching Ctrl-C")?;
        }
        let plan = Plan {
            root: root.to_owned(),
            programs: build::programs()?,
            data: std::path::absolute(&self.data).context("--data is not a path")?,
            port_base: self.port_base,
        };
        // Before the long build, so that a port in use is known at once.
        plan.check_ports()?;
        mlx::set_up(root, progress).context("setting up MLX")?;
        build::binaries(root, true, progress)?;
        build::explorer(root, progress)?;
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        plan.prepare(progress)?;
        let mut network = Network::start(plan, &Part::ALL, progress)?;
        print_table(network.plan())?;
        println!("ready");
        let result = match &self.once {
            Some(question) => once(network.plan(), question),
            None => wait(&mut network, &interrupted),
        };
        progress("stopping");
        network.stop_all().and(result)
    }
}

fn print_table(plan: &Plan) -> Result<()> {
    println!();
    for (part, what) in [
        (Part::Proxy, "OpenAI-compatible, verifying; give this to applications"),
        (Part::Coordinator, "relays ciphertext"),
        (Part::Log, "registry and receipts"),
        (Part::Explorer, "check everything in a browser"),
        (Part::Witness1, "cosigns checkpoints"),
        (Part::Witness2, "cosigns checkpoints"),
    ] {
        println!("  {:<12} {:<24} {what}", part.name(), plan.url(part));
    }
    println!("  {:<12} {:<24} {MODEL} on MLX, connected to the coordinator", "provider", "-");
    println!("\n  export OPENAI_BASE_URL={}/v1 OPENAI_API_KEY={}", plan.url(Part::Proxy), plan.api_key()?);
    println!(
        "  export GLASSBLOOM_HOME={} PATH={}:$PATH",
        plan.data.join("proxy").display(),
        plan.programs.display()
    );
    println!("  then: glassbloom receipts list; glassbloom run -- python chat.py");
    println!("  state in {}, policy {}\n", plan.data.display(), plan.policy().display());
    Ok(())
}

fn wait(network: &mut Network, interrupted: &AtomicBool) -> Result<()> {
    println!("Ctrl-C stops it.");
    while !interrupted.load(Ordering::Relaxed) {
        if let Some(part) = network.ended() {
            bail!("the {} ended; its last words:\n{}", part.name(), network.tail(part));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Asks, shows what was verified, verifies the bundle offline and audits both logs.
fn once(plan: &Plan, question: &str) -> Result<()> {
    let bundle = plan.data.join("receipt.glassbloom");
    let mut ask = plan.command("glassbloom");
    ask.arg("--data")
        .arg(plan.data.join("proxy"))
        .args(["ask", "--model", MODEL, "--save"])
        .arg(&bundle)
        .arg(question);
    let mut verify = plan.command("glassbloom");
    verify.arg("verify").arg(&bundle).arg("--policy").arg(plan.policy());
    let mut audit = plan.command("glassbloom-auditor");
    audit
        .args(["audit", "--log", &plan.url(Part::Log)])
        .arg("--policy")
        .arg(plan.policy())
        .arg("--state")
        .arg(plan.data.join("audit"));
    for (title, mut command) in
        [("ask, verifying", ask), ("verify the saved receipt, offline", verify), ("audit both logs", audit)]
    {
        println!("\n--- {title}");
        let status = command.status().with_context(|| format!("starting to {title}"))?;
        ensure!(status.success(), "{title}: ended with {status}");
    }
    Ok(())
}
