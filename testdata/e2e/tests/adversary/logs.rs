//! A log that shows different histories, or damaged ones.

use std::path::{Path, PathBuf};

use clap::Parser;
use glassbloom_auditor::rules;
use glassbloom_log::fsck::{self, Source};
use glassbloom_service::{Append, ExitCode, LogClient};
use glassbloom_spec::{
    api::{Providers, frame::Frame},
    curve::SigningKey,
    hash::Hash,
    id::UnixSeconds,
    leaf::{Payload, Release},
    note::SignedNote,
    record::ProviderRecord,
    statement::Statement,
};

use tokio::runtime::Handle;

use crate::support::{NAME, Options, TestNet, evil::Evil, record_now, start::LogParts, until, within};

/// A leaf that changes nothing for anybody.
fn filler(key: &SigningKey, version: &str) -> Statement {
    let release = Release {
        version: version.to_owned(),
        build: Hash::of(version.as_bytes()),
        platform: "test".to_owned(),
        commit: "test".to_owned(),
        not_before: UnixSeconds::new(0),
        code: None,
        approvals: Vec::new(),
    };
    release.sign(key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn older_checkpoint_than_seen_is_refused() {
    within(async {
        let net = TestNet::start().await;
        let evil = Evil::before(&net.url).await;
        let old = net.offered().await.unwrap();
        net.append("registry", filler(&net.release_key, "newer").bytes()).await;
        until(async || {
            let offered = net.offered().await?;
            (offered.providers[0].checkpoint != old.providers[0].checkpoint).then_some(())
        })
        .await;
        let client = net.client(&evil.url).await;
        client.ask().await.is_answered();

        let replay = old.providers.clone();
        evil.on_providers(move |offered| offered.providers.clone_from(&replay));
        client.let_cache_expire();
        let words = "checkpoint fresh: the coordinator serves test.local/registry at size";
        client.ask().await.is_refused_at_once(502, "provider_not_verified", words);
        // It remembers, also over a restart.
        let client = client.restart(&evil.url, &net.policy_text).await;
        client.ask().await.is_refused_at_once(502, "provider_not_verified", words);

        // Whoever has seen nothing yet is protected by the checkpoint's age alone.
        let stranger = net.client(&evil.url).await;
        stranger.clock.advance_millis(11 * 60 * 1000);
        let words = "checkpoint fresh: 6";
        stranger.ask().await.is_refused_at_once(502, "provider_not_verified", words);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoint_without_its_signatures_is_refused() {
    within(async {
        let net = TestNet::start().await;
        let evil = Evil::before(&net.url).await;
        let client = net.client(&evil.url).await;
        // Two by the log, then one by each witness.
        for (dropped, words) in [(3..4, "witness quorum: "), (2..4, "witness quorum: "), (0..2, "log key: ")]
        {
            evil.on_providers(move |offered: &mut Providers| {
                for record in &mut offered.providers {
                    let mut note = SignedNote::parse(&record.checkpoint).unwrap();
                    assert_eq!(note.signatures.len(), 4);
                    note.signatures.drain(dropped.clone());
                    record.checkpoint = note.encode();
                }
            });
            client.ask().await.is_refused_at_once(502, "provider_not_verified", words);
        }
        evil.behave();
        client.ask().await.is_answered();
    })
    .await;
}

/// A second log with the keys of the first and of its witnesses, and another history.
struct Fork {
    parts: LogParts,
    record: ProviderRecord,
}

impl Fork {
    async fn of(net: &TestNet) -> Self {
        let folder = net.folder();
        copy(&folder.join("log/keys"), &folder.join("fork-log/keys"), |_| true);
        for witness in ["witness1", "witness2"] {
            let key = |name: &Path| name.ends_with("witness.key");
            copy(&folder.join(witness), &folder.join(format!("fork-{witness}")), key);
        }
        let names = ["fork-witness1", "fork-witness2"];
        let parts = LogParts::start(folder, &names, "fork-log", Options::default()).await;
        let registry = LogClient::new(&format!("{}/registry", parts.url));
        registry.append(filler(&net.release_key, "only here").bytes(), &parts.token).await.unwrap();
        let honest = net.checkpoint("registry").await;
        for entry in net.registry().entries(0..honest.size().get(), honest.size()).await.unwrap() {
            registry.append(&entry, &parts.token).await.unwrap();
        }
        // One entry was put before all others.
        let mut record = net.offered().await.unwrap().providers.remove(0);
        for leaf in [
            &mut record.attestation,
            &mut record.verdict,
            &mut record.policy,
            &mut record.prices,
            &mut record.model,
            &mut record.release,
        ] {
            leaf.index = (leaf.index.get() + 1).into();
        }
        let origin = format!("{NAME}/registry");
        let record = record_now(&registry, &origin, &net.policy(), &record).await;
        Self { parts, record }
    }
}

fn copy(from: &Path, to: &Path, wanted: impl Fn(&Path) -> bool) {
    std::fs::create_dir_all(to).unwrap();
    for entry in
        std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| wanted(path))
    {
        std::fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_fork_is_refused_and_reported() {
    within(async {
        let net = TestNet::start().await;
        let (relay, log) = (Evil::before(&net.url).await, Evil::before(&net.log_url).await);
        let policy = net.policy_through(&log.url);
        let client = net.client_with_policy(&relay.url, &policy).await;
        client.ask().await.is_answered();
        let report = net.audit(&log.url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");

        // From now on coordinator, log and witnesses act together.
        let fork = Fork::of(&net).await;
        log.redirect(&fork.parts.url);
        let record = fork.record.clone();
        relay.on_providers(move |offered| offered.providers = vec![record.clone()]);
        client.let_cache_expire();
        client.ask().await.is_refused_at_once(502, "provider_not_verified", "FORK: test.local/registry");
        let client = client.restart(&relay.url, &policy).await;
        client.ask().await.is_refused_at_once(502, "provider_not_verified", "FORK: test.local/registry");

        let report = net.audit(&log.url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Rejected, "{report}");
        let found = report.findings.iter().find(|finding| finding.rule == rules::FORK.id);
        let evidence = found.unwrap_or_else(|| panic!("no fork in {report}")).evidence.as_ref().unwrap();
        assert!(evidence.is_file(), "the two notes that prove it are kept");
        // The next run says so again.
        assert_eq!(net.audit(&log.url, "audit").await.exit_code(), ExitCode::Rejected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_was_shown_a_fork_from_the_start_leaves_evidence_in_the_log() {
    within(async {
        let net = TestNet::start().await;
        let (relay, log) = (Evil::before(&net.url).await, Evil::before(&net.log_url).await);
        let fork = Fork::of(&net).await;
        log.redirect(&fork.parts.url);
        let record = fork.record.clone();
        relay.on_providers(move |offered| offered.providers = vec![record.clone()]);
        // All whom this user believes lie in unison, so nothing can be noticed here and now.
        let victim = net.client_with_policy(&relay.url, &net.policy_through(&log.url)).await;
        victim.ask().await.is_answered();
        // But the receipt repeats the registry that the user relied on, for everybody to see.
        let report = net.audit(&net.log_url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Rejected, "{report}");
        let found = report.findings.iter().find(|finding| finding.rule == rules::RECEIPT_REGISTRY.id);
        assert_eq!(found.unwrap().index, Some(0.into()), "{report}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_log_fork_is_refused() {
    within(async {
        let net = TestNet::start().await;
        let (relay, log) = (Evil::before(&net.url).await, Evil::before(&net.log_url).await);
        let client = net.client_with_policy(&relay.url, &net.policy_through(&log.url)).await;
        client.ask().await.is_answered();
        client.ask().await.is_answered();
        let fork = Fork::of(&net).await;
        let (receipts, token) =
            (LogClient::new(&format!("{}/receipts", fork.parts.url)), fork.parts.token.clone());
        for version in ["one", "two", "three"] {
            receipts.append(filler(&net.release_key, version).bytes(), &token).await.unwrap();
        }
        log.redirect(&fork.parts.url);
        // The receipt is logged, with a quorum of cosignatures, in a history that nobody else is shown.
        let honest = LogClient::new(&format!("{}/receipts", net.log_url));
        let policy = net.policy();
        relay.on_frames(move |frames| {
            let logged_elsewhere = async {
                let note = honest.checkpoint_bytes().await.unwrap();
                let size = policy.open(Some(&format!("{NAME}/receipts")), &note).unwrap().size();
                let receipt = honest.entries(size.get() - 1..size.get(), size).await.unwrap().remove(0);
                match receipts.append(&receipt, &token).await.unwrap() {
                    Append::Proven(appended) => appended.proof,
                    Append::Promised(late) => panic!("{late:?}"),
                }
            };
            let proof = tokio::task::block_in_place(|| Handle::current().block_on(logged_elsewhere));
            *frames.last_mut().unwrap() = Frame::Proof(proof.into_bytes());
        });
        client.ask().await.is_refused("provider_not_verified", "FORK: test.local/receipts");
        client.ask_whole().await.is_refused("provider_not_verified", "FORK: test.local/receipts");
    })
    .await;
}

/// The newest entry bundle of a log on disk.
fn newest_bundle(net: &TestNet, log: &str, size: u64) -> PathBuf {
    net.folder().join("log/public").join(log).join(format!("tile/entries/000.p/{size}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_leaf_byte_on_disk_is_found() {
    within(async {
        let net = TestNet::start().await;
        let client = net.client(&net.url).await;
        for _ in 0..3 {
            client.ask().await.is_answered();
        }
        let data = net.folder().join("log");
        let command = ["glassbloom-log", "fsck", data.to_str().unwrap()];
        let fsck = async || {
            glassbloom_log::cli::run(glassbloom_log::cli::Cli::try_parse_from(command).unwrap())
                .await
                .unwrap()
        };
        assert_eq!(fsck().await, ExitCode::Ok);
        for (log, index) in [("registry", 2_usize), ("receipts", 1)] {
            let size = net.checkpoint(log).await.size();
            let file = newest_bundle(&net, log, size.get());
            let honest = std::fs::read(&file).unwrap();
            let entries =
                LogClient::new(&format!("{}/{log}", net.log_url)).entries(0..size.get(), size).await.unwrap();
            // Two bytes of length, then the entry; its last byte belongs to the signature.
            let at = entries[..=index].iter().map(|entry| entry.len() + 2).sum::<usize>() - 1;
            let mut altered = honest.clone();
            altered[at] ^= 1;
            std::fs::write(&file, altered).unwrap();

            let report = net.audit(&net.log_url, &format!("audit-{log}")).await;
            assert_eq!(report.exit_code(), ExitCode::Rejected, "{report}");
            let expected = Some((index as u64).into());
            assert!(report.findings.iter().any(|found| found.index == expected), "{report}");
            assert!(report.to_string().contains(&format!("index     {index}")), "{report}");

            assert_eq!(fsck().await, ExitCode::Rejected);
            let source = Source::Folder(data.join("public").join(log));
            let origin = format!("{NAME}/{log}");
            let checked = fsck::check(&source, &net.policy(), &origin, |_, _| ()).await.unwrap();
            let expected = fsck::Finding::Entry { index: index as u64 };
            assert!(checked.findings.contains(&expected), "{:?}", checked.findings);

            std::fs::write(&file, honest).unwrap();
            assert_eq!(fsck().await, ExitCode::Ok);
        }
        let report = net.audit(&net.log_url, "audit-registry").await;
        assert_eq!(report.exit_code(), ExitCode::Ok, "once it is put right, so is the next audit: {report}");
    })
    .await;
}
