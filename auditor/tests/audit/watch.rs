//! What an owner is told of what is logged under their machine.

use std::process::Command;

use glassbloom_auditor::watch::{Config, Event, Subject, Watch, WatchError, What};
use glassbloom_service::{Clock, MockClock, SystemClock};
use glassbloom_spec::{
    curve::SigningKey,
    hash::Hash,
    id::{KeyId, UnixMillis, UnixSeconds},
    identity::ProviderId,
    leaf::{Beacon, ChallengeBatch, Revocation, Verdict},
    statement::key_id,
};
use glassbloom_testdata::mac;

use crate::{
    identity::{keys, world},
    support::{FakeLog, NOW, REGISTRY, World, coordinator_key, head, note, policy, policy_text},
};

struct Owner {
    log: FakeLog,
    world: World,
    folder: tempfile::TempDir,
    subject: Subject,
    mine: Vec<KeyId>,
}

fn key_of(key: &SigningKey) -> KeyId {
    key_id(&key.public_key())
}

impl Owner {
    async fn of(subject: Subject, mine: Vec<KeyId>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { log: FakeLog::start().await, world: world(), folder, subject, mine }
    }

    /// One look by a process of its own: nothing survives but the state folder.
    async fn look(&self) -> Result<Vec<Event>, WatchError> {
        let config = Config {
            log: Some(self.log.url.clone()),
            policy: policy(),
            state: self.folder.path().to_owned(),
            subject: self.subject,
            mine: self.mine.clone(),
        };
        let mut watch = Watch::open(config).await?;
        let events = watch.look(&MockClock::new(UnixMillis::new(NOW * 1000))).await?;
        watch.told().await?;
        Ok(events)
    }

    /// The names of what is told after publishing.
    async fn told(&self) -> Vec<String> {
        self.world.publish(&self.log);
        self.look().await.unwrap().iter().map(name).collect()
    }
}

fn name(event: &Event) -> String {
    serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a3_a_new_key_under_a_device_raises_an_alert() {
    let (owner, relay) = (keys("owner", Some("mac")), keys("relay", Some("mac")));
    let device = Subject::Device(mac::device("mac"));
    let mut watch = Owner::of(device, vec![key_of(&owner.signing)]).await;
    assert!(watch.told().await.is_empty(), "nothing under this machine yet");
    owner.log(&owner.attest(&watch.world), &mut watch.world);
    assert_eq!(watch.told().await, ["attestation"]);
    assert!(watch.told().await.is_empty(), "told once");

    // The coordinator has a customer's Mac vouch for a key of its own.
    let stolen = relay.attest(&watch.world);
    let leaf = relay.log(&stolen, &mut watch.world);
    watch.world.publish(&watch.log);
    let events = watch.look().await.unwrap();
    assert_eq!(events.iter().map(name).collect::<Vec<_>>(), ["attestation", "alert"]);
    assert_eq!((events[1].key, events[1].attestation), (key_of(&relay.signing), leaf));
    assert!(matches!(&events[1].what, What::Alert { why } if why.contains("not one of yours")));
    assert!(watch.told().await.is_empty(), "a restart repeats no alert");
    // Nor does a renewal, and a Mac of somebody else is nobody's business.
    let (renewed, other) = (relay.attest(&watch.world), keys("other", Some("another")));
    relay.log(&renewed, &mut watch.world);
    other.log(&other.attest(&watch.world), &mut watch.world);
    assert_eq!(watch.told().await, ["attestation"]);
}

#[tokio::test]
async fn a_provider_hears_what_is_said_about_it() {
    let (old, new, stranger) = (keys("old", None), keys("new", None), keys("stranger", None));
    let mut world = world();
    let first = old.log(&old.attest(&world), &mut world);
    let mut watch = Owner::of(Subject::Provider(ProviderId(first)), Vec::new()).await;
    watch.world = world;
    assert_eq!(watch.told().await, ["attestation"]);

    let rotated = new.after(&watch.world, first, Some(&old.signing));
    let leaf = new.log(&rotated, &mut watch.world);
    let verdict = Verdict { attestation: leaf, ..watch.world.verdict(Some("self-signed"), &[]) };
    watch.world.log(&verdict, &coordinator_key());
    let beacon = Beacon { checkpoint: note(&head(REGISTRY, &watch.world.registry), NOW) };
    let missing = vec![(leaf, "silent".to_owned())];
    let epoch = UnixSeconds::new(NOW / 300 * 300);
    watch.world.log(&ChallengeBatch::new(epoch, 300, beacon, &[], missing), &coordinator_key());
    let revocation = Revocation { key: key_of(&old.signing), ..watch.world.revocation(3) };
    watch.world.log(&revocation, &coordinator_key());
    assert_eq!(watch.told().await, ["rotation", "verdict", "missing", "revocation"]);

    // Somebody claims to be its next key.
    let claimed = stranger.after(&watch.world, leaf, None);
    stranger.log(&claimed, &mut watch.world);
    assert_eq!(watch.told().await, ["discontinuity", "alert"]);
}

#[tokio::test]
async fn a_key_that_appears_elsewhere_is_an_alert_even_if_it_is_mine() {
    let (here, there) = (keys("mine", Some("mac")), keys("mine", Some("another")));
    let key = key_of(&here.signing);
    for subject in [Subject::Key(key), Subject::Device(mac::device("mac"))] {
        let mut watch = Owner::of(subject, vec![key]).await;
        here.log(&here.attest(&watch.world), &mut watch.world);
        assert_eq!(watch.told().await, ["attestation"]);
        there.log(&there.attest(&watch.world), &mut watch.world);
        assert_eq!(watch.told().await, ["attestation", "alert", "alert"], "{subject}: both its keys");
    }
}

#[tokio::test]
async fn a_log_that_shows_another_history_is_told_apart_from_news() {
    let device = Subject::Device(mac::device("mac"));
    let mut watch = Owner::of(device, Vec::new()).await;
    assert!(watch.told().await.is_empty());
    watch.world.registry.pop();
    let owner = keys("owner", Some("mac"));
    owner.log(&owner.attest(&watch.world), &mut watch.world);
    watch.world.publish(&watch.log);
    let Err(WatchError::Forked { evidence, .. }) = watch.look().await else { panic!("not a fork") };
    assert!(evidence.exists());

    // Old news is no news.
    let watch = Owner::of(device, Vec::new()).await;
    watch.world.publish(&watch.log);
    let old = note(&head(REGISTRY, &watch.world.registry), NOW - 3601);
    watch.log.put("/registry/checkpoint", Some(old));
    assert!(matches!(watch.look().await, Err(WatchError::Aged { age: 3601, allowed: 3600 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_ends_with_ten_after_an_alert_and_does_not_repeat_it() {
    let relay = keys("relay", Some("mac"));
    let mut world = world();
    relay.log(&relay.attest(&world), &mut world);
    let log = FakeLog::start().await;
    log.publish(REGISTRY, &world.registry, SystemClock.now().seconds().get());
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy");
    std::fs::write(&policy, policy_text()).unwrap();
    let run = |extra: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_glassbloom-auditor"))
            .args(["watch", "--once", "--log", &log.url, "--policy"])
            .arg(&policy)
            .arg("--state")
            .arg(folder.path().join("state"))
            .args(extra)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let device = mac::device("mac").to_string();
    let mine = key_of(&relay.signing).to_string();
    let of_another = Hash::of(b"another").to_string();
    let (code, lines) = run(&["--device", &device, "--mine", &of_another]);
    assert_eq!((code, lines.lines().count()), (Some(10), 2), "{lines}");
    let alert: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((alert["event"].as_str(), alert["key"].as_str()), (Some("alert"), Some(mine.as_str())));
    assert_eq!(run(&["--device", &device, "--mine", &of_another]), (Some(0), String::new()));
    let (code, lines) = run(&["--key", &mine]);
    assert_eq!((code, lines.lines().count()), (Some(0), 1), "{lines}");
    assert_eq!(run(&[]).0, Some(1), "a watch is over something");
}
