//! The program as an operator meets it.

#![expect(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use glassbloom_provider::config::{Config, ConfigFile};
use glassbloom_spec::{
    curve::PublicKey,
    leaf::{Payload, Release},
    statement::Statement,
};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glassbloom-provider")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "gbp_secret_token").unwrap();
    fs::write(folder.path().join("policy"), "quorum none\n").unwrap();
    fs::create_dir(folder.path().join("model")).unwrap();
    folder
}

fn init(folder: &Path, more: &[&str]) -> Output {
    let at = |name: &str| folder.join(name).display().to_string();
    let model = format!("bloom={}", at("model"));
    let (data, token, policy) = (at("data"), at("token"), at("policy"));
    let defaults = [
        ("--data", data.as_str()),
        ("--token-file", &token),
        ("--policy", &policy),
        ("--model", &model),
        ("--coordinator", "http://127.0.0.1:1"),
        ("--log", "http://127.0.0.1:2"),
    ];
    let mut arguments = vec!["init"];
    for (flag, value) in defaults.into_iter().filter(|(flag, _)| !more.contains(flag)) {
        arguments.extend([flag, value]);
    }
    arguments.extend(more);
    run(&arguments)
}

#[test]
fn init_makes_a_configuration_once_and_changes_what_is_given() {
    let folder = folder();
    let made = init(folder.path(), &[]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let data = folder.path().join("data");
    let config = Config::load(&data).unwrap();
    assert_eq!((config.capacity, config.models[0].alias.as_str()), (4, "bloom"));
    let (file, key) =
        (fs::read(data.join("provider.toml")).unwrap(), fs::read(data.join("signing.key")).unwrap());
    assert_eq!(init(folder.path(), &[]).stdout, made.stdout);
    assert_eq!(fs::read(data.join("provider.toml")).unwrap(), file);

    let path = data.display().to_string();
    let changed = run(&["init", "--data", &path, "--capacity", "2"]);
    assert!(changed.status.success(), "{}", text(&changed.stderr));
    assert_eq!(ConfigFile::read(&data).unwrap().capacity, 2);
    assert_eq!(ConfigFile::read(&data).unwrap().coordinator, "http://127.0.0.1:1");
    assert_eq!(fs::read(data.join("signing.key")).unwrap(), key);

    let keys = text(&run(&["keys", "--data", &path]).stdout);
    assert!(keys.starts_with("signing ") && keys.contains("\nkey-id "), "{keys}");
    assert!(text(&made.stdout).contains(keys.lines().next().unwrap()));
    for output in [made, changed] {
        assert!(!text(&output.stdout).contains("gbp_secret") && !text(&output.stderr).contains("gbp_secret"));
    }
}

#[test]
fn init_says_what_is_wrong_and_writes_nothing() {
    let folder = folder();
    for (more, words) in [
        (&["--coordinator", "http://example.org"][..], "https"),
        (&["--capacity", "0"], "capacity"),
        (&["--model", "nofolder"], "ALIAS=DIR"),
        (&["--wibble"], "--wibble"),
    ] {
        let refused = init(folder.path(), more);
        assert_eq!(refused.status.code(), Some(1), "{more:?}");
        let error = text(&refused.stderr);
        assert!(error.contains(words), "{more:?}: {error}");
        assert!(!folder.path().join("data/provider.toml").exists());
    }
    let missing = run(&["init", "--data", &folder.path().join("new").display().to_string()]);
    assert!(text(&missing.stderr).contains("--coordinator is needed"), "{}", text(&missing.stderr));
}

#[test]
fn a_release_names_this_very_program() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (key, out) = (path("release.key"), path("release.cose"));
    let arguments = ["release", "--key", &key, "--out", &out, "--commit", "abc", "--version", "9.9"];
    let signed = run(&arguments);
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    let line = text(&signed.stdout);
    let public: PublicKey = line.trim_end().strip_prefix("release ").unwrap().parse().unwrap();
    let statement = Statement::parse(&fs::read(&out).unwrap()).unwrap();
    statement.verify(&public).unwrap();
    let release = Release::of(&statement).unwrap();
    assert_eq!((release.version.as_str(), release.commit.as_str()), ("9.9", "abc"));
    assert!(run(&arguments).status.success(), "the key exists now");
    let again = Release::of(&Statement::parse(&fs::read(&out).unwrap()).unwrap()).unwrap();
    assert_eq!(again.build, release.build);
}

#[test]
fn status_before_the_first_start_says_how_to_start() {
    let folder = folder();
    let status = run(&["status", "--data", &folder.path().display().to_string()]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stderr).contains("serve --data"), "{}", text(&status.stderr));
}

#[cfg(not(feature = "mlx"))]
#[test]
fn without_an_engine_nothing_is_served() {
    let folder = folder();
    init(folder.path(), &[]);
    let served = run(&["serve", "--data", &folder.path().join("data").display().to_string()]);
    assert_eq!(served.status.code(), Some(1));
    assert!(text(&served.stderr).contains("this build has no engine"), "{}", text(&served.stderr));
}

#[test]
fn help_is_no_error() {
    let help = run(&["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("serve"));
    assert_eq!(run(&[]).status.code(), Some(1));
}

#[cfg(not(feature = "mlx"))]
#[test]
fn models_run_as_in_python() {
    glassbloom_testdata::skipped("comparing answers with mlx-lm needs MLX; `cargo ci` sets it up");
}
