//! A full disk: a small file system of memory where the machine allows a user to mount one, otherwise a limit on the
//! size of files.

use std::{collections::BTreeMap, path::Path, process::Command};

use crate::program::{LIMIT, Process, add, new_log, program, recovers};

/// 16 MiB are taken from the start by the journals of both logs. Runs the rest of the words with `DATA` copied to a disk of
/// 24 MiB, and copies it back at the end.
const SMALL_DISK: &str = r#"
data="$1"; shift
mkdir "$data.small" && mount -t tmpfs -o size=24m tmpfs "$data.small" && cp -a "$data/." "$data.small/" || exit 99
words=(); for word in "$@"; do [ "$word" = "$data" ] && word="$data.small"; words+=("$word"); done
"${words[@]}"; code=$?
# A write-ahead log that was left from before would be played over the database that is copied back.
rm -rf "$data/state" && cp -a "$data.small/." "$data/" || exit 99
exit $code
"#;

/// A process of the log on a disk that is soon full, and what that is.
fn on_small_disk(program: &Path, data: &Path) -> (Process, &'static str) {
    let mount = ["unshare", "--user", "--map-root-user", "--mount"].map(str::to_owned).to_vec();
    let works =
        Command::new(&mount[0]).args(&mount[1..]).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    if works.is_ok_and(|works| works.status.success()) {
        let shell = words(&["bash", "-c", SMALL_DISK, "bash", data.to_str().unwrap()]);
        return (Process::start(&[mount, shell].concat(), program, data), "a tmpfs of 24 MiB");
    }
    // The signal that goes with it is ignored, so that writes fail as on a full disk.
    let shell = words(&["bash", "-c", r#"trap "" XFSZ; ulimit -f 6144; exec "$@""#, "bash"]);
    (Process::start(&shell, program, data), "RLIMIT_FSIZE of 6 MiB")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_log_and_loses_nothing_acknowledged() {
    let Some(program) = program() else { return };
    let folder = new_log(&program);
    let data = folder.path().to_owned();
    let (mut process, disk) = on_small_disk(&program, &data);
    let url = process.url.clone().unwrap_or_else(|| panic!("{disk}: {}", process.said()));
    // Under the mount: the token is the same in both places.
    let mut acknowledged = BTreeMap::new();
    let refused = loop {
        let n = acknowledged.len();
        assert!(n < 2_000, "{disk} is never full");
        let entry = format!("{n} {}", "x".repeat(60_000));
        match add(&url, &data, &entry, LIMIT).await {
            Ok(index) => acknowledged.insert(entry, index),
            Err(why) => break why,
        };
    };
    assert!(acknowledged.len() > 5, "{disk}: {refused}");
    // It stops and says why, rather than go on without knowing what is on the disk.
    let status =
        process.ended_within(LIMIT).unwrap_or_else(|| panic!("{disk}: it goes on: {}", process.said()));
    let said = process.said();
    assert_eq!(status.code(), Some(1), "{disk}: {said}");
    let words = ["No space left on device", "File too large", "disk is full", "disk I/O error"];
    assert!(words.iter().any(|words| said.contains(words)), "{disk}: {said}");
    // With room again everything is there.
    let size = recovers(&program, &data, &acknowledged).await.unwrap();
    println!("{disk}: {} acknowledged before it was full, then {size}; {refused}", acknowledged.len());
}
