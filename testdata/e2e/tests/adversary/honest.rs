//! The network when everybody behaves: what the refusals of all other tests are compared with.

use glassbloom_service::ExitCode;

use crate::support::{TestNet, client, within};

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_network_answers_and_audits() {
    within(async {
        let net = TestNet::start().await;
        let client = net.client(&net.url).await;
        client.ask().await.is_answered();
        client.ask_whole().await.is_answered();
        let report = net.audit(&net.log_url, "audit").await;
        assert_eq!(report.exit_code(), ExitCode::Ok, "{report}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_text_endpoint_says_who_sealed() {
    within(async {
        let net = TestNet::start().await;
        for stream in [true, false] {
            let said = client::chat(&net.url, &net.key, stream).await;
            said.is_answered();
            assert_eq!(said.headers["glassbloom-sealed-by"], "coordinator");
            assert_eq!(said.receipt.unwrap()["sealed_by"], "coordinator");
        }
        let said = net.client(&net.url).await.ask_whole().await;
        assert!(!said.headers.contains_key("glassbloom-sealed-by"));
        assert_eq!(said.receipt.unwrap()["sealed_by"], "user");
    })
    .await;
}
