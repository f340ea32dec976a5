//! What these tests share: a network on free ports in a folder of its own, and programs run to their end.

use std::{
    ffi::OsStr,
    future::Future,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use glassbloom_e2e::{
    network::{Network, Part, Plan},
    tasks::build,
};
use glassbloom_testdata::{repository, skipped};
use tempfile::TempDir;
use tokio::time::timeout;

/// No program that a test runs takes longer.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);

/// A running network and the folder that it lives in. Dropping it stops it.
pub(crate) struct Bed {
    /// Declared first, so that everything has stopped before its folder goes.
    pub(crate) network: Network,
    pub(crate) folder: TempDir,
}

impl Bed {
    /// Starts a whole network, or says why this machine cannot.
    pub(crate) fn start() -> Option<Self> {
        if !is_set_up() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path());
        plan.check_ports().unwrap();
        plan.prepare(&|_| {}).unwrap();
        let network = Network::start(plan, &Part::ALL, &|_| {}).unwrap();
        Some(Self { network, folder })
    }

    pub(crate) fn plan(&self) -> &Plan {
        self.network.plan()
    }

    /// A path in the folder that goes with the test.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Whether the machine is set up for these tests; says so when it is not.
pub(crate) fn is_set_up() -> bool {
    if !cfg!(feature = "mlx") {
        skipped("needs MLX and all programs; `cargo ci` sets them up and runs this");
        return false;
    }
    let programs = programs();
    for program in [
        "glassbloom",
        "glassbloom-auditor",
        "glassbloom-coordinator",
        "glassbloom-log",
        "glassbloom-provider",
        "glassbloom-web",
    ] {
        assert!(
            programs.join(program).is_file(),
            "no {program} in {}: run `cargo ci`, which builds the programs before their tests",
            programs.display()
        );
    }
    true
}

/// Where the programs lie. `GLASSBLOOM_PROGRAMS` names another folder, for programs built elsewhere.
fn programs() -> PathBuf {
    std::env::var_os("GLASSBLOOM_PROGRAMS")
        .map_or_else(|| build::programs().unwrap(), |folder| Path::new(&folder).to_owned())
}

/// A network on free ports below a folder.
pub(crate) fn plan(folder: &Path) -> Plan {
    Plan { root: repository(), programs: programs(), data: folder.join("data"), port_base: free_ports() }
}

/// The first of six consecutive free ports that no other test of this process was given.
pub(crate) fn free_ports() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Below the ports that systems hand out by themselves.
    let first = 20_000 + u16::try_from(std::process::id() % 600).unwrap() * 10;
    loop {
        let base = first + TAKEN.fetch_add(10, Ordering::Relaxed);
        if (base..base + 6).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return base;
        }
    }
}

/// How a program ended and what it printed.
pub(crate) struct Ran {
    line: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    err: String,
}

impl Ran {
    /// Fails unless the program ended with this exit code.
    pub(crate) fn expect(self, code: i32) -> Result<Self> {
        ensure!(self.code == Some(code), "{self}: not exit code {code}");
        Ok(self)
    }

    /// Fails unless this is in the output.
    pub(crate) fn says(self, text: &str) -> Result<Self> {
        ensure!(self.out.contains(text) || self.err.contains(text), "{self}: does not say {text:?}");
        Ok(self)
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ended with {:?}:\n{}{}", self.line, self.code, self.out, self.err)
    }
}

/// Runs a program to its end.
pub(crate) async fn run(command: Command) -> Result<Ran> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    let mut command = tokio::process::Command::from(command);
    let ended = command.kill_on_drop(true).stdin(std::process::Stdio::null()).output();
    let ended = timeout(PROGRAM_LIMIT, ended).await;
    let ended = ended.with_context(|| format!("{line} does not end"))?;
    let ended = ended.with_context(|| format!("{line} cannot be started"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { line, code: ended.status.code(), out: text(&ended.stdout), err: text(&ended.stderr) })
}

/// The auditor over both logs, with a memory that lasts as long as the network's folder.
pub(crate) async fn audit(plan: &Plan) -> Result<Ran> {
    let mut audit = plan.command("glassbloom-auditor");
    audit.args(["audit", "--log", &plan.url(Part::Log)]);
    audit.arg("--policy").arg(plan.policy()).arg("--state").arg(plan.data.join("audit"));
    run(audit).await
}

/// Named parts of one test: each is done, whatever happened to those before it.
#[derive(Default)]
pub(crate) struct Steps(Vec<String>);

impl Steps {
    /// Does one, within two minutes.
    pub(crate) async fn step(&mut self, name: &str, work: impl Future<Output = Result<()>>) {
        let start = Instant::now();
        let done = timeout(Duration::from_secs(120), work).await.context("does not end");
        match done.and_then(|done| done) {
            Ok(()) => eprintln!("{name}: ok, {:.1} s", start.elapsed().as_secs_f64()),
            Err(error) => {
                eprintln!("{name}: FAILED: {error:#}");
                self.0.push(format!("{name}: {error:#}"));
            }
        }
    }

    /// Fails when a step did.
    pub(crate) fn end(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n\n"));
    }
}
