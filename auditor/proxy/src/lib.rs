//! The user's client: an OpenAI-compatible server on localhost.
//!
//! A client is an auditor of one provider: it verifies a provider against the log that its own policy names, seals the
//! request to that provider alone, opens the answer, and lets the end through only when the receipt holds and is logged.
//!
//! # In scope
//! The proxy, its store of receipts, and the commands that show and verify them.
//!
//! # Out of scope
//! Trusting the coordinator: nothing here depends on its code or believes its word.

pub mod cli;
pub mod config;
pub mod exchange;
pub mod providers;
pub mod routes;
pub mod store;
pub mod trust;
pub mod upstream;

use std::sync::Arc;

use glassbloom_service::{Clock, Shutdown};
use tokio::net::TcpListener;

use crate::{
    config::Config, exchange::Exchanges, routes::Server, store::Store, trust::Trust, upstream::Upstream,
};

/// Serves until shutdown is requested. The caller binds the listener.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let store = Store::open(&config.database).await?;
    let upstream = Upstream::new(&config.coordinator, &config.api_key);
    let trust = Trust::new(config.policy, store.clone(), upstream.clone(), Arc::clone(&clock))?;
    let exchanges = Exchanges { trust: Arc::new(trust), upstream, store, clock, keep_text: config.keep_text };
    let server = Arc::new(Server { exchanges, api_key: config.api_key });
    tracing::info!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, routes::router(server)).with_graceful_shutdown(shutdown.requested_owned()).await?;
    Ok(())
}
