//! Who may use what, and how errors look.

use axum::{
    body::Body,
    http::{Method, Request},
};
use tower::ServiceExt;

use super::net::{Net, release};
use crate::routes::{Access, router, table};

async fn status(net: &Net, method: &Method, path: &str, bearer: Option<&str>) -> u16 {
    let mut request = Request::builder().method(method).uri(
        path.replace("{*id}", "m").replace("{epoch}", "300").replace("{build}", &release().build.to_string()),
    );
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    router(&net.app).oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_but_four_needs_its_own_kind_of_key() {
    let net = Net::start().await;
    let (mut public, methods) = (Vec::new(), [Method::GET, Method::POST]);
    for route in table() {
        for method in &methods {
            let without = status(&net, method, route.path, None).await;
            if route.access == Access::Public {
                public.push(route.path);
                // No epoch has been logged yet.
                let none = without == 404 && route.path.contains("{epoch}");
                assert!(without == 200 || without == 405 || none, "{} {without}", route.path);
                continue;
            }
            for wrong in [None, Some(""), Some("gb-0"), Some("gbp-0")] {
                let status = status(&net, method, route.path, wrong).await;
                assert!(status == 401 || status == 405, "{method} {} {wrong:?}: {status}", route.path);
            }
            let (right, other) = match route.access {
                Access::Provider => (&net.token, &net.key),
                _ => (&net.key, &net.token),
            };
            let status_other = status(&net, method, route.path, Some(other)).await;
            assert!(status_other == 401 || status_other == 405, "{method} {}: {status_other}", route.path);
            assert_ne!(status(&net, method, route.path, Some(right)).await, 401, "{method} {}", route.path);
        }
    }
    public.dedup();
    assert_eq!(public, ["/healthz", "/metrics", "/v1/challenges/{epoch}", "/v1/releases/{build}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods_are_openai_errors_with_a_request_id() {
    let net = Net::start().await;
    let get = |path: &str| net.http.get(format!("{}{path}", net.url)).header("x-request-id", "mine");
    let response = get("/v1/nothing").send().await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(id.starts_with("req_") && id.len() == 36, "{id}");
    assert_eq!(Net::code(response, 404).await, "unknown_url");
    let response = get("/v1/sealed").bearer_auth(&net.key).send().await.unwrap();
    assert_eq!(Net::code(response, 405).await, "method_not_allowed");
    let (status, models) = net.get("/v1/models").await;
    assert_eq!(
        (status, models["object"].as_str(), models["data"].as_array().unwrap().len()),
        (200, Some("list"), 0)
    );
    assert_eq!(net.get("/v1/models/none").await.1["error"]["code"], "model_not_found");
    let bundle = net.get("/v1/providers/bundle?model=none").await;
    assert_eq!((bundle.0, bundle.1["error"]["code"].as_str()), (404, Some("model_not_found")));
    assert_eq!(net.get("/v1/providers/bundle").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_without_naming_anybody() {
    let net = Net::start().await;
    let page = net.http.get(format!("{}/metrics", net.url)).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("glassbloom_coordinator_providers 0"), "{page}");
    assert!(!page.contains(&net.key));
}
