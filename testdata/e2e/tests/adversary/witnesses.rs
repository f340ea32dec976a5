//! Witnesses that are gone.

use std::time::Duration;

use glassbloom_service::{ExitCode, http_client};
use glassbloom_spec::{api::PromisedEntry, note::SignedNote};

use crate::support::{Options, TestNet, evil::Evil, within};

#[tokio::test(flavor = "multi_thread")]
async fn not_enough_witnesses() {
    within(async {
        let options = Options { append_timeout: Duration::from_millis(500), ..Options::default() };
        let mut net = TestNet::start_with(options).await;
        let client = net.client(&net.url).await;
        client.ask().await.is_answered();
        let published = net.checkpoint("receipts").await;
        net.witnesses[1].take().unwrap().stop().await;

        // The log takes the entry, cannot prove it yet, and promises to.
        let response = http_client()
            .post(format!("{}/registry/append", net.log_url))
            .bearer_auth(&net.log_token)
            .body("an entry")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 202);
        let late: PromisedEntry = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        let promised = net.policy().open_promise(None, late.promise.as_bytes()).unwrap();
        assert!(promised.is_about(b"an entry") && promised.promise().index == late.index);

        // The user gets no end to an answer whose receipt is not proven to be logged.
        client.ask().await.is_refused("log_late", "the log only promised to publish it");
        let kept = client.promises().await;
        assert_eq!(kept.len(), 1);
        let promised = net.policy().open_promise(None, &kept[0].promise).unwrap();
        assert!(promised.is_about(&kept[0].receipt), "what the user keeps holds the log to its word");
        assert_eq!(net.checkpoint("receipts").await.size(), published.size(), "nothing was published");

        // What is published still holds; a checkpoint without its quorum does not.
        let evil = Evil::before(&net.log_url).await;
        let report = net.audit(&evil.url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
        evil.on_answer(|asked, answer| {
            if asked.path.ends_with("/checkpoint") {
                let mut note = SignedNote::parse(&answer.body).unwrap();
                note.signatures.pop();
                answer.body = note.encode().into();
            }
        });
        let report = net.audit(&evil.url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Stale, "{report}");
    })
    .await;
}
