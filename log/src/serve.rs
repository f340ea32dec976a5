//! Runs both logs and their HTTP interface in one process.

use std::{future::IntoFuture, sync::Arc};

use anyhow::{Context, bail};
use axum::serve::ListenerExt;
use futures_util::future::{join_all, select_all};
use glassbloom_service::{Clock, Shutdown};
use glassbloom_spec::succession::Succession;
use tokio::net::TcpListener;

use crate::{
    Error, HttpTransport, Life, Log, LogKeys, Parts, Successor,
    config::{Config, LogConfig},
    import::is_under_way,
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
    let mut logs = Vec::new();
    let mut handovers = Vec::new();
    for log in std::mem::take(&mut config.logs) {
        let path = log.path.clone();
        handovers.extend(log.successor.clone().map(|next| (path.clone(), next)));
        logs.push((path, open(&config, log, Arc::clone(&clock)).await?));
    }
    let Config { append_timeout, max_age, policy_text, token, .. } = config;
    let handles: Vec<Log> = logs.iter().map(|(_, log)| log.clone()).collect();
    let find = |path: &str| logs.iter().find(|(segment, _)| segment == path).map(|(_, log)| log.clone());
    let handovers = handovers.iter().filter_map(|(old, new)| Some(hand_over(find(old)?, find(new)?)));
    let handovers: Vec<_> = handovers.map(tokio::spawn).collect();
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
    // They wait for logs, which have all stopped.
    join_all(handovers).await;
    served?;
    stopped.into_iter().collect::<Result<(), _>>()?;
    tracing::info!("stopped; everything acknowledged is on disk");
    Ok(())
}

/// Opens one of the logs of a service, as [`serve`] does, for callers that use it without HTTP.
///
/// # Errors
/// When it cannot be opened, for instance because another process has it.
pub async fn open(config: &Config, log: LogConfig, clock: Arc<dyn Clock>) -> anyhow::Result<Log> {
    let LogConfig { path: segment, keys, closes, successor, predecessor } = log;
    let life = Life {
        predecessor: predecessor.as_ref().map(|path| origin_of(&keys, &segment, path)),
        closes,
        successor: successor.as_ref().map(|path| Successor {
            origin: origin_of(&keys, &segment, path),
            // From `SEGMENT/append` up to the root of the service.
            reference: format!("{}{path}", "../".repeat(segment.split('/').count())),
        }),
    };
    let layout = &config.layout;
    let origin = keys.origin().to_owned();
    if is_under_way(&layout.importing(&segment))? {
        bail!("an import into {origin} has not ended: run `glassbloom-log import` again, or with --restart");
    }
    let tiles = config.places.tiles(layout, &segment)?;
    let heads = config.places.heads(layout, &segment, Purpose::Serve).await?;
    let leaves = Arc::new(SqliteLeaves::open(&layout.index(&segment)).await?);
    let policy = Arc::clone(&config.policy);
    let transport = Arc::new(HttpTransport::new());
    let parts = Parts { keys, policy, tiles, heads, leaves, transport, evidence: layout.evidence(&segment) };
    let witnesses = config.witnesses();
    let count = witnesses.len();
    let log = Log::open_with(parts, witnesses, config.options, life, clock)
        .await
        .with_context(|| format!("cannot open {origin}"))?;
    tracing::info!(origin, size = %log.size(), witnesses = count, "log open");
    Ok(log)
}

fn origin_of(keys: &LogKeys, segment: &str, path: &str) -> String {
    let name = keys.origin().strip_suffix(segment).unwrap_or_default();
    format!("{name}{path}")
}

/// Waits for the end of a log and begins the next one with it. After a crash in between the next start does it again.
async fn hand_over(old: Log, new: Log) {
    let begun = async {
        let last = old.ended().await?;
        let first = Succession::new(&last.note).map_err(|error| Error::Corrupt {
            origin: old.origin().to_owned(),
            what: format!("its final checkpoint cannot be handed over: {error}"),
        })?;
        new.begin(&first).await
    };
    match begun.await {
        Ok(true) => tracing::info!(old = old.origin(), new = new.origin(), "the next log has begun"),
        // Stopped first; or done before.
        Ok(false) | Err(Error::Halted) => {}
        Err(error) => tracing::error!(new = new.origin(), "the next log could not begin: {error}"),
    }
}
