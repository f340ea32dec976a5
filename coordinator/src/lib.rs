//! The Glassbloom coordinator: connects clients and providers, and is trusted by neither.
//!
//! # In scope
//! Provider sessions, verdicts, the bundle that clients verify, the relay of sealed requests, accounts and books, and
//! a plain-text endpoint that seals on the caller's behalf and says so.
//!
//! # Out of scope
//! Reading what is sealed (it has no key), and being believed: every claim it makes is an entry of a log that others
//! check. It keeps nothing that cannot be rebuilt from the logs, but accounts and books.

mod app;
mod bootstrap;
pub mod cli;
pub mod config;
mod error;
mod liveness;
mod logs;
mod metrics;
mod operator;
mod plaintext;
mod routes;
mod sealed;
mod session;
mod settle;
mod store;
#[cfg(test)]
mod tests;
mod view;

use std::{sync::Arc, time::Duration};

use glassbloom_service::{Clock, Shutdown};
use tokio::{net::TcpListener, time::timeout};

use crate::{
    app::App,
    config::Config,
    store::{ByHand, Store},
};

/// Serves until shutdown is requested, and then until what is under way has ended.
///
/// Returns once the registry says what this coordinator goes by and every receipt that a provider handed over is
/// logged.
///
/// # Errors
/// When the key, policy, token or database cannot be read, or the logs cannot be used.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    run(Arc::new(App::open(config, clock, shutdown).await?), listener).await
}

async fn run(app: Arc<App>, listener: TcpListener) -> anyhow::Result<()> {
    app.publish().await?;
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let watch = tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.watch().await }
    });
    let challenges = tokio::spawn({
        let app = Arc::clone(&app);
        async move { liveness::watch(&app).await }
    });
    let stop = app.shutdown.clone().requested_owned();
    axum::serve(listener, routes::router(&app)).with_graceful_shutdown(stop).await?;
    watch.await?;
    challenges.await?;
    app.tasks.close();
    if timeout(STOP_WITHIN, app.tasks.wait()).await.is_err() {
        tracing::warn!("stopped with receipts that the log has not taken");
    }
    app.store.close().await;
    Ok(())
}

/// Makes an API key for the account of this name, and the account where there is none. Nobody can see the key again. The
/// registry says that one was made, and not whose it is, as soon as the coordinator serves.
///
/// # Errors
/// When the database cannot be opened or written.
pub async fn create_api_key(config: &Config, account: &str, clock: &dyn Clock) -> anyhow::Result<String> {
    let store = Store::open(&config.database()).await?;
    let signer = Config::read_key(&config.data)?;
    let by = ByHand { signer: &signer, reason: DEFAULT_REASON };
    let key = store.create_api_key(account, by, clock.now()).await?;
    store.close().await;
    Ok(key)
}

/// Makes the token of a provider; an older one of the same name stops working. The registry says that one was made, and not
/// whose it is, as soon as the coordinator serves.
///
/// # Errors
/// When the database cannot be opened or written.
pub async fn create_provider_token(config: &Config, name: &str, clock: &dyn Clock) -> anyhow::Result<String> {
    let store = Store::open(&config.database()).await?;
    let signer = Config::read_key(&config.data)?;
    let by = ByHand { signer: &signer, reason: DEFAULT_REASON };
    let token = store.create_provider_token(name, by, clock.now()).await?;
    store.close().await;
    Ok(token)
}

/// Why somebody made a key or token, when nobody said.
pub(crate) const DEFAULT_REASON: &str = "made at the command line";
/// A log that is late gets this long to take the last receipts.
const STOP_WITHIN: Duration = Duration::from_secs(20);
