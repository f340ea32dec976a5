//! Every system call that touches the disk failing, one occurrence at a time.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use glassbloom_testdata::skipped;

use crate::program::{Process, add, copy, new_log, program, publishes, recovers};

/// The system calls, as strace names them, and the errors that each meets.
const CALLS: [(&str, &[&str]); 9] = [
    ("openat", &["EIO"]),
    ("write", &["EIO", "ENOSPC"]),
    ("pwrite64", &["EIO", "ENOSPC"]),
    ("fsync", &["EIO"]),
    ("fdatasync", &["EIO"]),
    ("rename,renameat,renameat2", &["EIO"]),
    ("close", &["EIO"]),
    ("mkdir,mkdirat", &["EIO"]),
    ("unlink,unlinkat", &["EIO"]),
];
/// At most so many occurrences of one call with one error are run, evenly spread.
const MOST: usize = 20;
/// Cases that run at once.
const PARALLEL: usize = 2;
/// How long an add or a publication is waited for while a call fails.
const SHORT: Duration = Duration::from_secs(2);

struct Case {
    call: &'static str,
    error: &'static str,
    occurrence: usize,
}

/// Entries that are in the log before: the next ones fill a tile, so that partial ones are deleted.
const BEFORE: u64 = 254;
/// Entries that are added while a call fails.
const ADDED: u64 = 4;

/// Adds entries from `first` on and waits for their publication; what was acknowledged.
async fn use_it(url: &str, data: &Path, first: u64, count: u64) -> BTreeMap<String, u64> {
    let mut acknowledged = BTreeMap::new();
    for n in first..first + count {
        let entry = format!("entry {n}");
        match add(url, data, &entry, SHORT).await {
            Ok(index) => acknowledged.insert(entry, index),
            Err(_) => break,
        };
    }
    if acknowledged.len() as u64 == count {
        publishes(url, acknowledged.values().max().unwrap() + 1, SHORT).await;
    }
    acknowledged
}

/// How often each system call occurs in the thread that makes most of them: strace counts by thread.
async fn count(program: &Path, template: &Path, folder: &Path) -> BTreeMap<&'static str, usize> {
    let (data, trace) = (folder.join("clean"), folder.join("trace"));
    copy(template, &data);
    let all: Vec<&str> = CALLS.iter().map(|(call, _)| *call).collect();
    let before = ["strace", "-f", "-qq", "-o", trace.to_str().unwrap(), "-e"].map(str::to_owned);
    let before = [before.to_vec(), vec![format!("trace={}", all.join(","))]].concat();
    let process = Process::start(&before, program, &data);
    let url = process.url.clone().unwrap_or_else(|| panic!("{}", process.said()));
    assert_eq!(use_it(&url, &data, BEFORE, ADDED).await.len() as u64, ADDED, "{}", process.said());
    drop(process);
    let mut by_thread: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        let mut words = line.split_whitespace();
        let thread = words.next().unwrap_or_default().to_owned();
        let name = words.next().and_then(|word| word.split_once('(')).map_or("", |(name, _)| name);
        if let Some((call, _)) = CALLS.iter().find(|(call, _)| call.split(',').any(|one| one == name)) {
            *by_thread.entry((call, thread)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((call, _), count) in by_thread {
        let call = CALLS.iter().find(|(name, _)| *name == call).unwrap().0;
        let entry = most.entry(call).or_default();
        *entry = count.max(*entry);
    }
    most
}

/// What became of a case, in a word; an error is a broken promise.
async fn check(program: &Path, template: &Path, folder: &Path, case: &Case) -> Result<&'static str, String> {
    let Case { call, error, occurrence } = case;
    let data = folder.join(format!("{}-{error}-{occurrence}", call.split(',').next().unwrap()));
    copy(template, &data);
    let inject = format!("inject={call}:error={error}:when={occurrence}");
    let before = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"].map(str::to_owned);
    let before = [before.to_vec(), vec![format!("trace={call}"), "-e".into(), inject]].concat();
    let mut process = Process::start(&before, program, &data);
    let mut acknowledged = BTreeMap::new();
    if let Some(url) = process.url.clone() {
        acknowledged = use_it(&url, &data, BEFORE, ADDED).await;
    }
    // It goes on, or ends by itself and says why.
    let outcome = if process.url.is_some() && acknowledged.len() as u64 == ADDED {
        "went on"
    } else {
        match process.ended_within(SHORT) {
            None => "stood still",
            Some(status) => {
                let said = process.said();
                // The stream that it speaks to may be the one that fails.
                if status.success() || (said.trim().is_empty() && *call != "write") {
                    return Err(format!("ended with {status} and said {said:?}"));
                }
                "stopped"
            }
        }
    };
    drop(process);
    recovers(program, &data, &acknowledged).await?;
    std::fs::remove_dir_all(&data).unwrap();
    Ok(outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failing_system_call_is_survived() {
    let Some(program) = program() else { return };
    if Command::new("strace").arg("--version").output().is_err() {
        return skipped("needs strace: apt-get install strace");
    }
    let folder = tempfile::tempdir().unwrap();
    let template = new_log(&program);
    // With entries in the log, and batches that are replayed at the start.
    let process = Process::start(&[], &program, template.path());
    let before = use_it(process.url.as_ref().unwrap(), template.path(), 0, BEFORE).await;
    assert_eq!(before.len() as u64, BEFORE);
    drop(process);

    let begin = Instant::now();
    let counts = count(&program, template.path(), folder.path()).await;
    let mut cases = Vec::new();
    for (call, errors) in CALLS {
        let occurs = counts.get(call).copied().unwrap_or_default();
        for error in errors {
            let runs = occurs.min(MOST);
            cases.extend((0..runs).map(|n| Case { call, error, occurrence: 1 + n * occurs / runs }));
            println!("{call} {error}: {runs} of {occurs} occurrences");
        }
    }
    assert!(cases.len() > 60, "only {} cases: {counts:?}", cases.len());
    assert_eq!(counts.len(), CALLS.len(), "every call occurs: {counts:?}");
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::<(&str, &str), usize>::new());
    let work = || async {
        while let Some(case) = cases.get(next.fetch_add(1, SeqCst)) {
            let Case { call, error, occurrence } = case;
            match check(&program, template.path(), folder.path(), case).await {
                Ok(outcome) => *outcomes.lock().unwrap().entry((call, outcome)).or_default() += 1,
                Err(why) => panic!("{call} fails with {error} at occurrence {occurrence}: {why}"),
            }
        }
    };
    futures_util::future::join_all((0..PARALLEL).map(|_| work())).await;
    for ((call, outcome), count) in outcomes.into_inner().unwrap() {
        println!("{call}: {outcome} {count} times");
    }
    println!("{} cases in {:?}", cases.len(), begin.elapsed());
}
