//! The binary itself: killed under load, refused twice on one folder, and its exit codes.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use glassbloom_service::http_client;

const BINARY: &str = env!("CARGO_BIN_EXE_glassbloom-log");

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

fn code(arguments: &[&str]) -> i32 {
    run(arguments).status.code().unwrap()
}

/// A serving process; killed without warning when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Process {
    pub(crate) fn start(data: &Path) -> Self {
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("GLASSBLOOM_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ").map(|(_, url)| url.trim().to_owned()))
            .expect("it says where it listens");
        // Read on, or the process would stand still when the pipe is full.
        std::thread::spawn(move || lines.count());
        Self { child, url }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn add(http: &reqwest::Client, url: &str, token: &str, entry: String) -> Option<u64> {
    let sent = http.post(format!("{url}/receipts/add")).bearer_auth(token).body(entry).send().await.ok()?;
    sent.error_for_status().ok()?.text().await.ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    assert_eq!(code(&["init", "--data", data, "--name", "test.example"]), 0);
    let token = std::fs::read_to_string(folder.path().join("token")).unwrap().trim().to_owned();
    let http = http_client();
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    for round in 0..4_u64 {
        let process = Process::start(folder.path());
        let enough = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (http, url) = (http.clone(), process.url.clone());
                let (token, enough) = (token.clone(), Arc::clone(&enough));
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    for n in 0.. {
                        let entry = format!("{round} {writer} {n}");
                        let Some(index) = add(&http, &url, &token, entry.clone()).await else { return mine };
                        mine.push((entry, index));
                        enough.fetch_add(1, Ordering::Relaxed);
                    }
                    mine
                })
            })
            .collect();
        while enough.load(Ordering::Relaxed) < 150 + 77 * round {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(process);
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
    }
    let process = Process::start(folder.path());
    for (entry, index) in &acknowledged {
        assert_eq!(add(&http, &process.url, &token, entry.clone()).await, Some(*index), "{entry}");
    }
    let published = async {
        while !http_client()
            .get(format!("{}/healthz", process.url))
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::support::LIMIT, published).await.unwrap();
    let fsck = run(&["fsck", &process.url]);
    assert!(fsck.status.success(), "{fsck:?}");
    let url = process.url.clone();
    drop(process);
    let fsck = run(&["fsck", data]);
    assert!(fsck.status.success(), "{fsck:?}");
    assert_eq!(code(&["fsck", &url]), 40, "nobody listens there any more");
}

#[test]
fn exit_codes_and_second_process() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let say = |output: Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&["--help"]), 0);
    assert_eq!(code(&["frobnicate"]), 1);
    let error = run(&["serve", "--data", data]);
    assert_eq!(error.status.code(), Some(1));
    assert!(say(error).contains("glassbloom-log init"));
    assert_eq!(code(&["init", "--data", data, "--name", "test.example"]), 0);
    let other = run(&["init", "--data", data, "--name", "other.example"]);
    assert!(say(other).contains("never changes"));
    let unwilling = run(&["init", "--data", data, "--name", "test.example", "--quorum", "1"]);
    assert!(say(unwilling).contains("--quorum 1 needs as many witnesses"));
    let keys = String::from_utf8(run(&["keys", "--data", data]).stdout).unwrap();
    assert_eq!(keys.lines().filter(|line| line.starts_with("test.example/registry+")).count(), 2);
    assert_eq!(code(&["fsck", data]), 40, "nothing was published");

    let process = Process::start(folder.path());
    let second = run(&["serve", "--listen", "127.0.0.1:0", "--data", data]);
    assert_eq!(second.status.code(), Some(1));
    let second = say(second);
    assert!(second.contains("another process serves this log"), "{second}");
    let address = process.url.strip_prefix("http://").unwrap();
    let taken = say(run(&["serve", "--listen", address, "--data", data]));
    assert!(taken.contains(address) && taken.contains("--listen"), "{taken}");
    let empty = |log: &str| folder.path().join("public").join(log).join("checkpoint").exists();
    while !(empty("registry") && empty("receipts")) {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(process);
    assert_eq!(code(&["status", data]), 0, "the empty logs are published");

    // The heads are gone, what was published is not: such a log must not begin again.
    let database = folder.path().join("state/registry.db");
    std::fs::remove_file(&database).unwrap();
    assert_eq!(code(&["serve", "--listen", "127.0.0.1:0", "--data", data]), 1);
    let again = run(&["init", "--data", data, "--name", "test.example"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
}
