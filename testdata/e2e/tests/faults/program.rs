//! `glassbloom-log` as a process, and what its users see of it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc::Receiver},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use glassbloom_e2e::tasks::build;
use glassbloom_service::http_client;
use glassbloom_testdata::skipped;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// The longest that a healthy log takes for anything here, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The program; says so when it is not built.
pub(crate) fn program() -> Option<PathBuf> {
    let folder = std::env::var_os("GLASSBLOOM_PROGRAMS")
        .map_or_else(|| build::programs().unwrap(), |folder| Path::new(&folder).to_owned());
    let program = folder.join("glassbloom-log");
    if !program.is_file() {
        skipped("needs the program: `cargo build -p glassbloom-log`");
        return None;
    }
    Some(program)
}

/// Runs the program to its end.
pub(crate) fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// A data folder with keys and empty logs.
pub(crate) fn new_log(program: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let init = run(program, &["init", "--data", data, "--name", "test.example"]);
    assert!(init.status.success(), "{init:?}");
    folder
}

/// Copies a data folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

/// A serving process; killed without warning when dropped.
pub(crate) struct Process {
    child: Child,
    listening: Receiver<String>,
    /// Where it listens; `None` when it ended before.
    pub(crate) url: Option<String>,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `glassbloom-log serve` behind the words of `before`, and waits until it listens or has ended.
    pub(crate) fn start(before: &[String], program: &Path, data: &Path) -> Self {
        let mut process = Self::start_only(before, program, data);
        process.url = process.listening.recv_timeout(LIMIT).ok();
        process
    }

    /// The same without waiting.
    pub(crate) fn start_only(before: &[String], program: &Path, data: &Path) -> Self {
        let mut words = before.to_vec();
        words.push(program.to_str().unwrap().to_owned());
        words.extend(["serve", "--listen", "127.0.0.1:0", "--data"].map(str::to_owned));
        words.push(data.to_str().unwrap().to_owned());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env("GLASSBLOOM_LOG", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let (sender, listening) = std::sync::mpsc::channel();
        let reader = {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    line.clear();
                    if let Some((_, url)) = text.split_once("listening on ") {
                        let _ = sender.send(url.trim().to_owned());
                    }
                    said.lock().unwrap().push_str(&text);
                }
            })
        };
        Self { child, listening, url: None, said, reader: Some(reader) }
    }

    /// What it wrote to standard error so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits for its end; `None` when it goes on.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                if let Some(reader) = self.reader.take() {
                    reader.join().unwrap();
                }
                return Some(status);
            }
            if begin.elapsed() > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The program itself; a tracer or a shell around it ends when it has, and not before.
        for innermost in innermost(self.child.id()) {
            let _ = kill(Pid::from_raw(innermost.cast_signed()), Signal::SIGKILL);
        }
        if self.ended_within(LIMIT).is_none() {
            let _ = self.child.kill();
            self.child.wait().unwrap();
        }
    }
}

/// The processes below one that have none below them; the process itself when it has none.
fn innermost(process: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    if children.is_empty() { vec![process] } else { children.into_iter().flat_map(innermost).collect() }
}

/// The index that `receipts` gives to an entry; why not otherwise.
pub(crate) async fn add(url: &str, data: &Path, entry: &str, limit: Duration) -> Result<u64, String> {
    let token = fs::read_to_string(data.join("token")).map_err(|e| e.to_string())?;
    let request = http_client()
        .post(format!("{url}/receipts/add"))
        .bearer_auth(token.trim())
        .body(entry.to_owned())
        .timeout(limit);
    let response = request.send().await.map_err(|e| e.to_string())?;
    let status = response.status();
    let text = response.text().await.map_err(|e| e.to_string())?;
    if status.is_success() { text.parse().map_err(|_| text) } else { Err(format!("{status}: {text}")) }
}

/// The size that `receipts` has published.
pub(crate) async fn published(url: &str) -> Option<u64> {
    let request = http_client().get(format!("{url}/receipts/checkpoint")).timeout(Duration::from_secs(2));
    let note = request.send().await.ok()?.text().await.ok()?;
    note.lines().nth(1)?.parse().ok()
}

/// Whether at least this size is published in time.
pub(crate) async fn publishes(url: &str, size: u64, limit: Duration) -> bool {
    let begin = Instant::now();
    while published(url).await.is_none_or(|published| published < size) {
        if begin.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

/// Starts the log without faults and checks that everything acknowledged is where it was said to be, that the log goes
/// on, and that the whole tree is whole. Returns the size.
pub(crate) async fn recovers(
    program: &Path,
    data: &Path,
    acknowledged: &BTreeMap<String, u64>,
) -> Result<u64, String> {
    let process = Process::start(&[], program, data);
    let Some(url) = &process.url else { return Err(format!("does not start again: {}", process.said())) };
    for (entry, index) in acknowledged {
        let again = add(url, data, entry, LIMIT).await?;
        if again != *index {
            return Err(format!("{entry} was acknowledged as {index} and is {again}"));
        }
    }
    let last = add(url, data, "one more", LIMIT).await?;
    let size = acknowledged.values().max().map_or(0, |index| index + 1).max(last + 1);
    if !publishes(url, size, LIMIT).await {
        return Err(format!("size {size} is not published: {}", process.said()));
    }
    drop(process);
    let fsck = run(program, &["fsck", data.to_str().unwrap()]);
    if fsck.status.success() { Ok(size) } else { Err(format!("fsck: {fsck:?}")) }
}
