//! One request to stop, seen by every task.

use tokio_util::sync::CancellationToken;

/// Tells tasks that the process is to stop; clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every holder of a clone to stop.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether stopping was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until stopping is asked for. Cancel-safe.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Like [`requested`](Self::requested), owning its part: for axum's graceful shutdown.
    pub async fn requested_owned(self) {
        self.0.cancelled().await;
    }

    /// Runs the future unless stopping is asked for first.
    pub async fn unless_requested<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.0.run_until_cancelled(future).await
    }

    /// The token beneath, for libraries that take one.
    pub fn token(&self) -> &CancellationToken {
        &self.0
    }
}

/// A [`Shutdown`] that SIGINT and SIGTERM trigger.
///
/// # Panics
/// Outside a tokio runtime.
pub fn on_signals() -> Shutdown {
    let shutdown = Shutdown::new();
    let trigger = shutdown.clone();
    tokio::spawn(async move {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate()).expect("signal handlers can be installed");
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        trigger.trigger();
    });
    shutdown
}
