//! Keys of a log over its life: made elsewhere, joined by new ones, ended; also cut off between any two steps.

use std::{fs, path::Path, process::Command};

use glassbloom_log::{
    Log,
    config::{Config, Layout},
    init::{Init, init},
    places::Purpose,
    rotation::{import, retire, rotate},
};
use glassbloom_spec::note::{NoteSigner, SignedNote};

use crate::support::{Bench, ORIGIN, arguments, published};

/// Starts the registry of a data folder as `serve` does, has it publish, and returns who signed.
async fn publish(data: &Path, entry: &str) -> Vec<[u8; 4]> {
    let config = Config::load(data, None).unwrap();
    let layout = &config.layout;
    let tiles = config.places.tiles(layout, "registry").unwrap();
    let heads = config.places.heads(layout, "registry", Purpose::Serve).await.unwrap();
    let mut bench = Bench::on(tiles, heads);
    bench.policy = config.policy.clone();
    let keys = config.logs.into_iter().find(|log| log.path == "registry").unwrap().keys;
    let log: Log = bench.open_with(keys).await.unwrap();
    log.add(entry.to_owned().into_bytes().into()).await.unwrap();
    published(&log, log.size()).await;
    log.stop().await.unwrap();
    let note = fs::read(data.join("public/registry/checkpoint")).unwrap();
    SignedNote::parse(&note).unwrap().signatures.iter().map(|line| line.key_id).collect()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn hex(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_sign_beside_old_ones_and_then_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    init(&arguments(data)).await.unwrap();
    let layout = Layout::new(data);
    let old = publish(data, "one").await;
    assert_eq!(old.len(), 2);

    let error = retire(&layout, "registry", &hex(old[0]), false).await.unwrap_err();
    assert!(format!("{error:#}").contains("keys rotate"), "the only key cannot go: {error:#}");
    let new = rotate(&layout, "registry", vec![]).unwrap();
    assert_eq!(new.len(), 2);
    for file in layout.log_keys("registry") {
        assert_eq!(mode(&file), 0o600);
    }
    // Nothing is published under the new keys yet, so the old ones cannot go.
    let error = retire(&layout, "registry", &hex(old[0]), false).await;
    assert!(error.is_ok(), "the ML-DSA key that stays has signed what is published");
    let both = publish(data, "two").await;
    assert_eq!(both.len(), 3);
    retire(&layout, "registry", &hex(old[1]), true).await.unwrap();
    let policy = fs::read_to_string(data.join("policy")).unwrap();
    assert!(policy.contains(&hex(old[0])) && !policy.contains(&hex(old[1])), "{policy}");
    let alone = publish(data, "three").await;
    assert_eq!(alone, new.iter().map(|key| key.key_id()).collect::<Vec<_>>());
    // Changing addresses keeps the key that signed once.
    init(&Init { url: Some("https://log.example".into()), ..arguments(data) }).await.unwrap();
    let policy = fs::read_to_string(data.join("policy")).unwrap();
    assert_eq!(policy.matches("log test.example/registry+").count(), 3, "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_successor_has_published_nothing_stays() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let layout = Layout::new(data);
    let go = "PRIVATE+KEY+test.example/registry+";
    let key = NoteSigner::ed25519_log(ORIGIN, [5; 32]).unwrap();
    assert!(key.to_private_string().starts_with(go));
    // A key of another implementation, before the log has a head: a missing ML-DSA-44 key is made.
    let taken = import(&layout, "registry", vec![key]).await.unwrap();
    assert_eq!(taken.len(), 2);
    init(&arguments(data)).await.unwrap();
    let old = publish(data, "one").await;
    assert_eq!(old, taken.iter().map(|key| key.key_id()).collect::<Vec<_>>());

    let other = NoteSigner::ed25519_log("other.example/registry", [6; 32]).unwrap();
    assert!(import(&layout, "registry", vec![other]).await.is_err(), "another log's key");
    let again = NoteSigner::ed25519_log(ORIGIN, [5; 32]).unwrap();
    assert!(import(&layout, "registry", vec![again]).await.is_err(), "the same key twice");
    let second = NoteSigner::ed25519_log(ORIGIN, [7; 32]).unwrap();
    import(&layout, "registry", vec![second]).await.unwrap();
    retire(&layout, "registry", &hex(old[1]), false).await.unwrap();
    let error = retire(&layout, "registry", &hex(old[0]), false).await.unwrap_err();
    assert!(error.to_string().contains("start the log once"), "{error:#}");
    publish(data, "two").await;
    retire(&layout, "registry", &hex(old[0]), false).await.unwrap();
    assert_eq!(publish(data, "three").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_cut_off_goes_on_with_the_same_keys() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    init(&arguments(data)).await.unwrap();
    let layout = Layout::new(data);
    publish(data, "one").await;
    let files =
        [layout.policy(), layout.log_keys("registry")[1].clone(), layout.log_keys("registry")[0].clone()];
    let before: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let new = rotate(&layout, "registry", vec![]).unwrap();
    let after: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    // The state after each of its writes: the keys are aside, then the policy, then one key file, then the other.
    let lines = |text: &[u8]| -> Vec<String> {
        String::from_utf8(text.to_vec()).unwrap().lines().map(str::to_owned).collect()
    };
    let aside: Vec<String> = [2, 1].iter().flat_map(|&file| lines(&after[file]).pop()).collect();
    for done in 0..=files.len() {
        for (at, file) in files.iter().enumerate() {
            fs::write(file, if at < done { &after[at] } else { &before[at] }).unwrap();
        }
        fs::write(layout.next_keys("registry"), format!("{}\n", aside.join("\n"))).unwrap();
        publish(data, &format!("cut {done}")).await;
        assert_eq!(rotate(&layout, "registry", vec![]).unwrap(), new, "cut after {done}");
        for (at, file) in files.iter().enumerate() {
            assert_eq!(fs::read(file).unwrap(), after[at], "cut after {done}: {}", file.display());
        }
        assert!(!layout.next_keys("registry").exists());
    }
    assert_eq!(publish(data, "two").await.len(), 4);
}

#[test]
fn the_command_tells_the_operator_that_witnesses_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_glassbloom-log")).args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["init", "--data", data, "--name", "test.example"]).0, 0);
    let (code, shown) = run(&["keys", "show", "--data", data]);
    assert_eq!((code, shown.lines().count()), (0, 4));
    let (code, said) = run(&["keys", "rotate", "receipts", "--data", data]);
    assert_eq!(code, 0);
    assert!(said.contains("1. give these keys to the operators of your witnesses"), "{said}");
    assert_eq!(run(&["keys", "--data", data]).1.lines().count(), 6);
    assert_eq!(run(&["keys", "rotate", "nothing", "--data", data]).0, 1);
    assert_eq!(run(&["keys", "retire", "receipts", "00000000", "--data", data]).0, 1);
}
