//! Runs both logs and their HTTP interface in one process.

use std::{future::IntoFuture, sync::Arc};

use anyhow::Context;
use futures_util::future::{join_all, select_all};
use glassbloom_service::{Clock, Shutdown};
use tokio::net::TcpListener;

use crate::{
    HttpTransport, Log, Parts,
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
    config: Config,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let witnesses = config.witnesses();
    let Config { layout, append_timeout, max_age, options, places, policy_text, policy, token, keys, .. } =
        config;
    let mut logs = Vec::new();
    for (segment, keys) in LOGS.iter().zip(keys) {
        let origin = keys.origin().to_owned();
        let tiles = places.tiles(&layout, segment)?;
        let heads = places.heads(&layout, segment, Purpose::Serve).await?;
        let leaves = Arc::new(SqliteLeaves::open(&layout.index(segment)).await?);
        let policy = Arc::clone(&policy);
        let transport = Arc::new(HttpTransport::new());
        let parts =
            Parts { keys, policy, tiles, heads, leaves, transport, evidence: layout.evidence(segment) };
        let log = Log::open(parts, witnesses.clone(), options, Arc::clone(&clock))
            .await
            .with_context(|| format!("cannot open {origin}"))?;
        tracing::info!(origin, size = %log.size(), witnesses = witnesses.len(), "log open");
        logs.push(((*segment).to_owned(), log));
    }
    let handles: Vec<Log> = logs.iter().map(|(_, log)| log.clone()).collect();
    let address = listener.local_addr()?;
    let service = Service { logs, token, policy: policy_text, append_timeout, max_age };
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
