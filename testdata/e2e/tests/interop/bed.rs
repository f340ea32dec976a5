//! A log with a witness on free ports, and programs of others run to their end.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use futures_util::{StreamExt, stream};
use glassbloom_auditor::witness;
use glassbloom_log::config::Config;
use glassbloom_service::{Append, ExitCode, LogClient, Shutdown, SystemClock, http_client};
use glassbloom_spec::{api::Appended, note::Algorithm, policy::Policy};
use glassbloom_testdata::{repository, skipped};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::timeout};

/// The host part of the origins.
pub(crate) const NAME: &str = "interop.test";
const WITNESS: &str = "witness.interop.test";
/// No program that a test runs takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A running log service with one witness, and its folder.
pub(crate) struct Bed {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) policy: Policy,
    stop: Shutdown,
    folder: TempDir,
}

impl Bed {
    /// Starts the service; `more` is added to its policy.
    pub(crate) async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, witness_data) = (folder.path().join("log"), folder.path().join("witness"));
        let stop = Shutdown::new();
        let witness_at = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vkeys = witness::init(&witness_data, WITNESS).unwrap();
        let prefix = format!("http://{}", witness_at.local_addr().unwrap());
        let mut init = ["init", "--data", data.to_str().unwrap(), "--name", NAME].map(str::to_owned).to_vec();
        for vkey in &vkeys {
            init.extend(["--witness".to_owned(), format!("{vkey} {prefix}")]);
        }
        assert_eq!(log_command(&init).await, ExitCode::Ok);
        let text = std::fs::read_to_string(data.join("policy")).unwrap() + more;
        std::fs::write(data.join("policy"), &text).unwrap();
        let policy = Policy::parse(&text).unwrap();
        let logs = policy.logs().iter().flat_map(|log| log.keys.iter().cloned()).collect();
        let config = witness::Config { data: witness_data, logs, rate: witness::Rate::default() };
        let stopped = stop.clone();
        tokio::spawn(async move {
            witness::serve(config, witness_at, Arc::new(SystemClock), stopped)
                .await
                .expect("the witness runs");
        });
        let at = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", at.local_addr().unwrap());
        let config = Config::load(&data, None).unwrap();
        let stopped = stop.clone();
        tokio::spawn(async move {
            glassbloom_log::serve(config, at, Arc::new(SystemClock), stopped).await.expect("the log runs");
        });
        let token = std::fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
        Self { url, token, policy, stop, folder }
    }

    /// A path in the log's data folder.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("log").join(name)
    }

    /// A path in the folder that goes with the test.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A client of one of the logs.
    pub(crate) fn log(&self, log: &str) -> LogClient {
        LogClient::new(&format!("{}/{log}", self.url))
    }

    /// The key of a log with this algorithm.
    pub(crate) fn vkey(&self, log: &str, algorithm: Algorithm) -> String {
        let log = self.policy.log(&format!("{NAME}/{log}")).unwrap();
        log.keys.iter().find(|key| key.algorithm() == algorithm).unwrap().to_string()
    }

    /// Appends an entry and waits for its proof.
    pub(crate) async fn append(&self, log: &str, entry: &[u8]) -> Appended {
        match self.log(log).append(entry, &self.token).await.unwrap() {
            Append::Proven(appended) => appended,
            other => panic!("a log with a witness at hand is not late: {other:?}"),
        }
    }

    /// Adds these entries, in any order, and waits until all are published with one more at the end.
    pub(crate) async fn fill(&self, log: &str, count: u64) -> Appended {
        let (http, url) = (http_client(), format!("{}/{log}/add", self.url));
        stream::iter(0..count)
            .map(|n| http.post(&url).bearer_auth(&self.token).body(format!("entry {n}")).send())
            .buffer_unordered(64)
            .for_each(|reply| async { assert!(reply.unwrap().status().is_success()) })
            .await;
        self.append(log, b"the last").await
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

/// Runs `glassbloom-log` with these arguments.
pub(crate) async fn log_command<A: AsRef<OsStr>>(arguments: &[A]) -> ExitCode {
    let words = std::iter::once(OsStr::new("glassbloom-log")).chain(arguments.iter().map(AsRef::as_ref));
    let cli = glassbloom_log::cli::Cli::try_parse_from(words).unwrap();
    glassbloom_log::cli::run(cli).await.unwrap()
}

/// Runs `glassbloom-auditor` with these arguments.
pub(crate) async fn auditor_command<A: AsRef<OsStr>>(arguments: &[A]) -> ExitCode {
    let words = std::iter::once(OsStr::new("glassbloom-auditor")).chain(arguments.iter().map(AsRef::as_ref));
    let cli = glassbloom_auditor::cli::Cli::try_parse_from(words).unwrap();
    glassbloom_auditor::cli::run(cli).await
}

/// Runs a program to its end; what it printed when it succeeded.
pub(crate) async fn run(command: Command) -> Vec<u8> {
    let ended = try_run(command).await;
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{}:\n{out}{err}", ended.status);
    ended.stdout
}

/// Runs a program to its end, however that is.
pub(crate) async fn try_run(command: Command) -> Output {
    let program = command.get_program().to_owned();
    let mut command = tokio::process::Command::from(command);
    let ended = command.kill_on_drop(true).stdin(Stdio::null()).output();
    let ended = timeout(LIMIT, ended).await;
    ended.unwrap_or_else(|_| panic!("{} does not end", program.display())).unwrap()
}

/// Whether a program is on the path; says that the test is skipped when it is not.
pub(crate) fn is_there(program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are where an ordinary user's path does not lead.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(program)).any(|file| file.is_file());
    if !found {
        skipped(&format!("needs {program} (Debian package {package})"));
    }
    found
}

/// The interpreter that `cargo ci` makes, with what `requirements.txt` names; says that the test is skipped when it is
/// not there.
pub(crate) fn python() -> Option<PathBuf> {
    let python = glassbloom_e2e::tasks::python::interpreter(&repository());
    if !python.is_file() {
        skipped("needs target/venv: cargo ci makes it");
        return None;
    }
    Some(python)
}

/// A file of the folder with the programs that other software runs.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name)
}
