//! The static server, over a real socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;

use glassbloom_bundle::serve::{Site, bind, serve};
use glassbloom_service::{Shutdown, http_client};

fn site(dir: &std::path::Path) -> Site {
    std::fs::write(dir.join("index.html"), "<!doctype html><title>x</title>").unwrap();
    std::fs::write(dir.join("app_bg.wasm"), b"\0asm").unwrap();
    let policy = dir.join("policy.txt");
    writeln!(std::fs::File::create(&policy).unwrap(), "log example.org/registry").unwrap();
    Site::load(dir.to_owned(), "http://127.0.0.1:8789/", &policy, &["https://log.example".to_owned()])
        .unwrap()
}

#[tokio::test]
async fn sends_files_configuration_and_strict_headers_and_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::new();
    let server = tokio::spawn(serve(listener, site, shutdown.clone()));

    let client = http_client();
    let get = |path: &str| client.get(format!("{base}{path}")).send();

    let page = get("/").await.unwrap();
    assert_eq!(page.status(), 200);
    let csp = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(csp.contains("script-src 'self' 'wasm-unsafe-eval';"), "{csp}");
    assert!(csp.contains("connect-src 'self' http://127.0.0.1:8789 https://log.example;"), "{csp}");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert_eq!(get("/app_bg.wasm").await.unwrap().headers()["content-type"], "application/wasm");
    assert_eq!(
        get("/config.json").await.unwrap().text().await.unwrap(),
        r#"{"log":"http://127.0.0.1:8789"}"#
    );
    assert_eq!(get("/policy").await.unwrap().text().await.unwrap(), "log example.org/registry\n");
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
    assert_eq!(get("/../Cargo.toml").await.unwrap().status(), 404);

    shutdown.trigger();
    server.await.unwrap().unwrap();
}

#[test]
fn a_missing_site_names_the_next_command() {
    let dir = tempfile::tempdir().unwrap();
    let error =
        Site::load(dir.path().to_owned(), "http://127.0.0.1:1", &dir.path().join("p"), &[]).unwrap_err();
    assert!(error.to_string().contains("glassbloom-web build"), "{error}");
}

#[test]
fn an_address_that_no_browser_reaches_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "").unwrap();
    std::fs::write(dir.path().join("policy"), "").unwrap();
    let error = Site::load(dir.path().to_owned(), "ftp://x", &dir.path().join("policy"), &[]).unwrap_err();
    assert!(error.to_string().contains("http://127.0.0.1:8789"), "{error}");
}
