//! A log that vanishes, and what a mirror keeps of it.

use std::{sync::Arc, time::Duration};

use glassbloom_auditor::mirror::{self, Config, Mirror};
use glassbloom_log::fsck;
use glassbloom_service::{ExitCode, Shutdown, SystemClock, http_client};
use glassbloom_spec::hash::Hash;
use tokio::net::TcpListener;

use crate::support::{NAME, Options, TestNet, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_log_is_checked_and_audited_over_its_mirror() {
    within(async {
        let mut net = TestNet::start_with(Options::default()).await;
        let client = net.client(&net.url).await;
        client.ask().await.is_answered();
        let data = net.folder().join("mirror");
        mirror::init(&data, "mirror.test/m1").unwrap();
        // From the addresses in the policy itself.
        let config = Config { data: data.clone(), policy: net.policy(), log: None, submissions: false };
        let mirror = Mirror::open(config, Arc::new(SystemClock)).unwrap();
        for copy in mirror.copies() {
            assert!(copy.sync().await.unwrap().size.get() > 0, "{}", copy.origin());
        }
        net.log.take().unwrap().stop().await;
        assert!(
            http_client().get(format!("{}/healthz", net.log_url)).send().await.is_err(),
            "the log is gone"
        );

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let serving = mirror::serve(mirror, listener, Duration::from_secs(60), shutdown.clone());
        let serving = tokio::spawn(serving);
        for log in ["registry", "receipts"] {
            let origin = format!("{NAME}/{log}");
            let hash = Hash::of(origin.as_bytes()).to_string();
            for source in [
                fsck::Source::Folder(data.join("public").join(&hash)),
                fsck::Source::Http(http_client(), format!("{url}/{hash}")),
                fsck::Source::Http(http_client(), format!("{url}/{log}")),
            ] {
                let report = fsck::check(&source, &net.policy(), &origin, |_, _| ()).await.unwrap();
                assert_eq!(report.findings, [], "{origin}");
            }
        }
        let report = net.audit(&url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
        shutdown.trigger();
        serving.await.unwrap().unwrap();
    })
    .await;
}
