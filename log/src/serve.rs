//! Runs both logs and their HTTP interface in one process.

use std::{future::IntoFuture, sync::Arc};

use anyhow::Context;
use axum::serve::ListenerExt;
use futures_util::future::{join_all, select_all};
use glassbloom_service::{Clock, Shutdown};
use tokio::net::TcpListener;

use crate::{
    HttpTransport, Log, LogKeys, Parts,
    config::{Config, LOGS},
    places::Purpose,
    routes::{Service, router},
    store::SqliteLeaves,
};

/// Serves until `shutdown` is requested or a log fails. Requests in flight at shutdown are answered first.
///
/// # Errors
/// When a log cannot be opened, or stopped because its state is no longer certain: start again, and `Log::open` finds
/// out. Everything that was acknowledged is safe.
pub async fn serve(
    mut config: Config,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let keys = std::mem::take(&mut config.keys);
    let mut logs = Vec::new();
    for (segment, keys) in LOGS.iter().zip(keys) {
        logs.push(((*segment).to_owned(), open(&config, segment, keys, Arc::clone(&clock)).await?));
    }
    let Config { append_timeout, max_age, policy_text, token, .. } = config;
    let handles: Vec<Log> = logs.iter().map(|(_, log)| log.clone()).collect();
    let address = listener.local_addr()?;
    let service = Service { logs, token, policy: policy_text, append_timeout, max_age };
    // A reply goes out when it is written, not when the last one was acknowledged. Where that fails it is only slower.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let server =
        axum::serve(listener, router(service)).with_graceful_shutdown(shutdown.clone().requested_owned());
    tracing::info!("listening on http://{address}");

    let ended = select_all(handles.iter().map(|log| Box::pin(log.stopped())));
    let served = tokio::select! {
        served = server.into_future() => served.context("serving HTTP"),
        (result, at, _) = ended => {
            shutdown.trigger();
            result.with_context(|| format!("{} stopped", handles[at].origin()))
        }
    };
    let stopped = join_all(handles.iter().map(Log::stop)).await;
    served?;
    stopped.into_iter().collect::<Result<(), _>>()?;
    tracing::info!("stopped; everything acknowledged is on disk");
    Ok(())
}

/// Opens one of the logs of a service, as [`serve`] does, for callers that use it without HTTP.
///
/// # Errors
/// When it cannot be opened, for instance because another process has it.
pub async fn open(
    config: &Config,
    segment: &str,
    keys: LogKeys,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Log> {
    let layout = &config.layout;
    let origin = keys.origin().to_owned();
    let tiles = config.places.tiles(layout, segment)?;
    let heads = config.places.heads(layout, segment, Purpose::Serve).await?;
    let leaves = Arc::new(SqliteLeaves::open(&layout.index(segment)).await?);
    let policy = Arc::clone(&config.policy);
    let transport = Arc::new(HttpTransport::new());
    let parts = Parts { keys, policy, tiles, heads, leaves, transport, evidence: layout.evidence(segment) };
    let witnesses = config.witnesses();
    let count = witnesses.len();
    let log = Log::open(parts, witnesses, config.options, clock)
        .await
        .with_context(|| format!("cannot open {origin}"))?;
    tracing::info!(origin, size = %log.size(), witnesses = count, "log open");
    Ok(log)
}
