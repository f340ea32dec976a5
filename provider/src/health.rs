//! `GET /healthz`, for those who watch the daemon; there is no port unless the configuration names one.

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use glassbloom_service::{Problem, Shutdown};
use glassbloom_spec::api::path;
use tokio::net::TcpListener;

use crate::{
    config::Config,
    status::{self, Reporter},
};

/// The health page, bound to its address or to none.
pub(crate) struct Health {
    listener: Option<TcpListener>,
    reporter: Reporter,
}

impl Health {
    pub(crate) async fn bind(config: &Config, reporter: Reporter) -> anyhow::Result<Self> {
        let listener = match config.health {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address)
                    .await
                    .with_context(|| format!("health = {address} cannot be used; choose another address"))?;
                tracing::info!("listening on http://{}", listener.local_addr()?);
                Some(listener)
            }
        };
        Ok(Self { listener, reporter })
    }

    pub(crate) async fn serve(self, shutdown: Shutdown) {
        let Some(listener) = self.listener else { return };
        let router = Router::new().route(path::HEALTH, get(health)).with_state(self.reporter);
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.requested_owned()).await;
        if let Err(error) = served {
            tracing::warn!(%error, "the health page ended");
        }
    }
}

async fn health(State(reporter): State<Reporter>) -> Response {
    let status = reporter.status();
    if status.state == status::State::Connected {
        return "ok\n".into_response();
    }
    let detail = format!("{}: {}", status.state.name(), status.detail);
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-serving", detail).into_response()
}
