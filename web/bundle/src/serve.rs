//! A static server for the explorer, with the headers that keep the page from talking to anyone but the log.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use axum::{Json, Router, extract::State, response::IntoResponse, routing::get};
use glassbloom_service::Shutdown;
use http::{HeaderName, HeaderValue, header};
use tokio::net::TcpListener;
use tower_http::{compression::CompressionLayer, services::ServeDir, set_header::SetResponseHeaderLayer};

/// What is served.
#[derive(Clone, Debug)]
pub struct Site {
    dir: PathBuf,
    log: String,
    policy: Arc<str>,
    security_policy: HeaderValue,
}

impl Site {
    /// Reads the policy and checks that the site is there.
    ///
    /// # Errors
    /// When a file is missing or an address is not one that a browser can reach.
    pub fn load(dir: PathBuf, log: &str, policy: &Path, also: &[String]) -> anyhow::Result<Self> {
        ensure!(
            dir.join("index.html").is_file(),
            "no explorer in {}: build it with `glassbloom-web build --out {}`",
            dir.display(),
            dir.display()
        );
        let policy = std::fs::read_to_string(policy).with_context(|| {
            format!("cannot read the policy file {}: pass its path with --policy", policy.display())
        })?;
        let mut connect = vec![origin(log)?];
        for address in also {
            connect.push(origin(address)?);
        }
        Ok(Self {
            dir,
            log: log.trim_end_matches('/').to_owned(),
            policy: policy.into(),
            security_policy: content_security_policy(&connect)?,
        })
    }
}

/// Everything from here, WebAssembly allowed, data from the log, and nothing else.
fn content_security_policy(connect: &[String]) -> anyhow::Result<HeaderValue> {
    let policy = format!(
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' {}; img-src 'self' data:; \
         object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        connect.join(" ")
    );
    HeaderValue::from_str(&policy).context("an address has characters that no header can carry")
}

/// Scheme, host and port of an address.
fn origin(address: &str) -> anyhow::Result<String> {
    let uri: http::Uri = address.parse().with_context(|| format!("{address:?} is not an address"))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme @ ("http" | "https")), Some(authority)) => Ok(format!("{scheme}://{authority}")),
        _ => anyhow::bail!("{address:?} is not an address such as http://127.0.0.1:8789"),
    }
}

/// Opens the port.
///
/// # Errors
/// When the port is taken.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}: stop what uses port {}, or choose another with --listen",
            address.port()
        )
    })
}

/// Serves until asked to stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, site: Site, shutdown: Shutdown) -> anyhow::Result<()> {
    tracing::info!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router(site)).with_graceful_shutdown(shutdown.requested_owned()).await?;
    Ok(())
}

/// The routes.
pub fn router(site: Site) -> Router {
    let header = |name: HeaderName, value: HeaderValue| SetResponseHeaderLayer::overriding(name, value);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/config.json", get(config))
        .route("/policy", get(policy))
        .fallback_service(ServeDir::new(&site.dir))
        .layer(CompressionLayer::new())
        .layer(header(header::CONTENT_SECURITY_POLICY, site.security_policy.clone()))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .layer(header(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")))
        .layer(header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .with_state(site)
}

async fn config(State(site): State<Site>) -> impl IntoResponse {
    Json(serde_json::json!({ "log": site.log }))
}

async fn policy(State(site): State<Site>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], site.policy.to_string())
}
