//! Checking a log from outside: what is named, what is remembered, and what of that is believed.

use std::{fs, path::Path};

use glassbloom_log::fsck::{Finding, FsckError, Options, Report, Source, check_with};
use glassbloom_service::ExitCode;

use crate::support::{ORIGIN, folder::write_log, keys, policy};

fn entries(count: u64, salt: &str) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("{salt} {n:06}").into_bytes()).collect()
}

async fn fsck(log: &Path, state: Option<&Path>, from_genesis: bool) -> Result<Report, FsckError> {
    let options = Options { state: state.map(Path::to_owned), from_genesis };
    let source = Source::Folder(log.to_owned());
    check_with(&source, &policy(&[], 0), ORIGIN, &options, |done, all| assert!(done <= all)).await
}

fn flip(file: &Path, byte: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[byte] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_of_a_log_is_named_when_it_is_damaged_or_gone() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path();
    // A second tile of level 1 and one of level 2, and a partial one on every level.
    write_log(log, &keys(), &entries(256 * 256 + 256 + 7, "entry"));
    let found = fsck(log, None, false).await.unwrap();
    assert!(found.is_ok(), "{:?}", found.findings);
    for path in
        ["tile/0/000", "tile/0/256", "tile/0/257.p/7", "tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"]
    {
        let tile = Finding::Tile { path: path.parse().unwrap() };
        flip(&log.join(path), 5);
        assert_eq!(fsck(log, None, false).await.unwrap().findings, std::slice::from_ref(&tile), "{path}");
        flip(&log.join(path), 5);

        let whole = fs::read(log.join(path)).unwrap();
        fs::write(log.join(path), &whole[1..]).unwrap();
        assert_eq!(fsck(log, None, false).await.unwrap().findings, [tile], "{path} cut");
        fs::remove_file(log.join(path)).unwrap();
        let gone = Finding::Missing { path: path.parse().unwrap() };
        assert_eq!(fsck(log, None, false).await.unwrap().findings, [gone], "{path}");
        fs::write(log.join(path), whole).unwrap();
    }
    for (path, first) in
        [("tile/entries/000", 0), ("tile/entries/256", 256 * 256), ("tile/entries/257.p/7", 65792)]
    {
        // An entry has 12 bytes, after two of length.
        flip(&log.join(path), 14 * 3 + 5);
        let found = fsck(log, None, false).await.unwrap();
        assert_eq!(found.findings, [Finding::Entry { index: first + 3 }], "{path}");
        assert!(found.findings[0].to_string().contains("tile/entries/"));
        flip(&log.join(path), 14 * 3 + 5);
        let whole = fs::read(log.join(path)).unwrap();
        fs::remove_file(log.join(path)).unwrap();
        let gone = Finding::Missing { path: path.parse().unwrap() };
        assert_eq!(fsck(log, None, false).await.unwrap().findings, [gone], "{path}");
        fs::write(log.join(path), whole).unwrap();
    }
    // Where a bundle and its tile agree and the signed tree does not, nothing less than the root says so.
    write_log(&log.join("other"), &keys(), &entries(256, "other"));
    for path in ["tile/entries/000", "tile/0/000"] {
        fs::copy(log.join("other").join(path), log.join(path)).unwrap();
    }
    let found = fsck(log, None, false).await.unwrap();
    assert!(matches!(found.findings.last(), Some(Finding::Root { .. })), "{:?}", found.findings);
    assert!(found.findings.iter().all(|finding| !finding.action().is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_check_goes_on_and_a_grown_log_is_not_read_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (log, state) = (folder.path().join("log"), folder.path().join("state"));
    let all = entries(256 * 300, "entry");
    write_log(&log, &keys(), &all[..256 * 200 + 9]);
    // A folder in the place of a bundle cannot be read: the disk fails there.
    let bundle = log.join("tile/entries/180");
    let whole = fs::read(&bundle).unwrap();
    fs::remove_file(&bundle).unwrap();
    fs::create_dir(&bundle).unwrap();
    let error = fsck(&log, Some(&state), false).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unreachable, "{error}");
    fs::remove_dir(&bundle).unwrap();
    fs::write(&bundle, whole).unwrap();

    let found = fsck(&log, Some(&state), false).await.unwrap();
    assert!(found.is_ok());
    let (from, _) = found.resumed.unwrap();
    assert!((256..=180 * 256).contains(&from.get()), "{from}");

    write_log(&log, &keys(), &all);
    let found = fsck(&log, Some(&state), false).await.unwrap();
    assert_eq!((found.is_ok(), found.resumed.unwrap().0.get()), (true, 256 * 200));

    // What was checked is not read again, unless asked.
    flip(&log.join("tile/entries/007"), 40);
    assert!(fsck(&log, Some(&state), false).await.unwrap().is_ok());
    let found = fsck(&log, Some(&state), true).await.unwrap();
    assert_eq!(found.findings.len(), 1);
    // And what was found is not forgotten.
    let found = fsck(&log, Some(&state), false).await.unwrap();
    assert!(!found.is_ok() && found.findings.is_empty());
    assert!(found.resumed.unwrap().1[0].contains("tile/entries/007"));
    flip(&log.join("tile/entries/007"), 40);
    assert!(fsck(&log, Some(&state), true).await.unwrap().is_ok());
    assert!(fsck(&log, Some(&state), false).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_state_is_used_only_for_a_prefix_of_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let (log, state) = (folder.path().join("log"), folder.path().join("state"));
    write_log(&log, &keys(), &entries(700, "entry"));
    assert!(fsck(&log, Some(&state), false).await.unwrap().is_ok());
    let good = fs::read(&state).unwrap();

    for byte in 0..good.len() {
        let mut bytes = good.clone();
        bytes[byte] ^= 1 << (byte % 8);
        fs::write(&state, bytes).unwrap();
        let error = fsck(&log, Some(&state), false).await.unwrap_err();
        let refused = matches!(error, FsckError::StateMalformed { .. } | FsckError::StateWrong { .. });
        assert!(refused, "byte {byte}: {error}");
    }

    fs::write(&state, &good).unwrap();
    let refused = async |what: &str| {
        let error = fsck(&log, Some(&state), false).await.unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Rejected, "{what}: {error}");
        assert!(error.to_string().contains("--from-genesis"), "{what}: {error}");
    };
    // A log that went back, one of another history, and one that differs only after what was checked.
    write_log(&log, &keys(), &entries(600, "entry"));
    refused("went back").await;
    write_log(&log, &keys(), &entries(900, "other"));
    refused("another history").await;
    let mut forked = entries(512, "entry");
    forked.extend(entries(400, "other"));
    write_log(&log, &keys(), &forked);
    refused("forked at the end").await;
    write_log(&log, &keys(), &entries(900, "entry"));
    assert!(fsck(&log, Some(&state), false).await.unwrap().is_ok());
}
