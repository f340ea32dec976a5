//! The HTTP API: one table of routes, each with who may use it.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Path, Query, Request, State, WebSocketUpgrade},
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use glassbloom_spec::{
    api::{ChallengeAnswer, Challenges, MAX_SEALED_REQUEST, Providers, path},
    hash::Hash,
    id::UnixSeconds,
    openai::{Model, ModelList},
};
use serde::Deserialize;

use crate::{app::App, error::ApiError, plaintext, sealed, session::socket, store::ProviderToken};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Public,
    /// Whoever has a provider token.
    Provider,
    /// Whoever has an API key.
    User,
}

/// One route.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    handler: MethodRouter<Arc<App>>,
}

/// The identifier that a request is found by in traces and books.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Every route there is.
pub(crate) fn table() -> Vec<Route> {
    use Access::{Provider, Public, User};
    let route = |path, access, handler| Route { path, access, handler };
    vec![
        route(path::HEALTH, Public, get(health)),
        route(path::METRICS, Public, get(metrics)),
        route(CHALLENGES, Public, get(challenges)),
        route(RELEASES, Public, get(release)),
        route(path::CHAT, User, post(plaintext::chat)),
        route(path::MODELS, User, get(models)),
        route(MODEL, User, get(model)),
        route(path::PROVIDERS, User, get(providers)),
        route(path::SEALED, User, post(sealed::relay)),
        route(path::SESSION, Provider, get(session)),
    ]
}

/// The whole API.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for Route { path, access, handler } in table() {
        let handler = match access {
            Access::Public => handler,
            Access::Provider => handler.layer(middleware::from_fn_with_state(Arc::clone(app), provider_only)),
            Access::User => handler.layer(middleware::from_fn_with_state(Arc::clone(app), user_only)),
        };
        router = router.route(path, handler);
    }
    router
        .fallback(async |request: Request| ApiError::UnknownRoute(request.uri().path().to_owned()))
        .method_not_allowed_fallback(async |request: Request| ApiError::MethodNotAllowed {
            method: request.method().to_string(),
        })
        .layer(DefaultBodyLimit::max(MAX_SEALED_REQUEST))
        .layer(middleware::from_fn(with_request_id))
        .with_state(Arc::clone(app))
}

/// Gives every answer an `x-request-id`; one that the client sends is not taken over, as it could be anybody's.
async fn with_request_id(mut request: Request, next: Next) -> Response {
    let id = Hash::from_bytes(glassbloom_service::random()).to_string();
    let id = format!("req_{}", &id[..32]);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    let value = HeaderValue::try_from(id).expect("hexadecimal digits are a header value");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

async fn user_only(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let account = app.store.account(bearer(&request)?).await?.ok_or(ApiError::InvalidApiKey(WRONG_KEY))?;
    tracing::debug!(account = account.name, path = request.uri().path(), "request");
    request.extensions_mut().insert(account);
    Ok(next.run(request).await)
}

async fn provider_only(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let token = app.store.provider(bearer(&request)?).await?.ok_or(ApiError::InvalidApiKey(WRONG_TOKEN))?;
    request.extensions_mut().insert(token);
    Ok(next.run(request).await)
}

fn bearer(request: &Request) -> Result<&str, ApiError> {
    let value = request.headers().get(header::AUTHORIZATION).ok_or(ApiError::InvalidApiKey(NO_KEY))?;
    value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).ok_or(ApiError::InvalidApiKey(NO_KEY))
}

async fn health() -> &'static str {
    "ok\n"
}

async fn metrics(State(app): State<Arc<App>>) -> String {
    let size = app.registry.view().size().get();
    app.metrics.render(app.sessions.all().len(), size)
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let created = app.clock.now().seconds();
    let model = |alias| Model::new(alias, created, OWNER);
    axum::Json(ModelList::new(app.sessions.models().into_iter().map(model).collect())).into_response()
}

async fn model(State(app): State<Arc<App>>, Path(alias): Path<String>) -> Result<Response, ApiError> {
    if !app.sessions.models().contains(&alias) {
        return Err(ApiError::ModelNotFound(alias));
    }
    Ok(axum::Json(Model::new(alias, app.clock.now().seconds(), OWNER)).into_response())
}

#[derive(Debug, Deserialize)]
struct BundleQuery {
    model: String,
    #[serde(default = "one")]
    n: usize,
}

const fn one() -> usize {
    1
}

/// All that a client needs to verify the providers of a model and to seal to them.
async fn providers(
    State(app): State<Arc<App>>,
    query: Result<Query<BundleQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(BundleQuery { model, n }) = query.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    app.refresh().await;
    let now = app.clock.now().seconds();
    let mut expires = now.get() + BUNDLE_FOR;
    let mut records = Vec::new();
    {
        let view = app.registry.view();
        for live in app.sessions.serving(&model, now) {
            if records.len() == n.clamp(1, MAX_PROVIDERS) {
                break;
            }
            if view.revoked(live.admitted.key_id).is_some() {
                continue;
            }
            if let Some(record) = view.record(&live.admitted.attestation, &model) {
                expires = expires.min(live.admitted.not_after.get());
                records.push(record);
            }
        }
    }
    if records.is_empty() {
        return Err(ApiError::ModelNotFound(model));
    }
    Ok(axum::Json(Providers { expires: expires.into(), providers: records }).into_response())
}

/// The logged batch of an epoch with the answers that its root is over.
async fn challenges(State(app): State<Arc<App>>, Path(epoch): Path<String>) -> Result<Response, ApiError> {
    let parsed: UnixSeconds = epoch
        .parse()
        .ok()
        .filter(|epoch: &UnixSeconds| i64::try_from(epoch.get()).is_ok())
        .ok_or_else(|| ApiError::BadRequest("an epoch is its first second since 1970".to_owned()))?;
    let Some((batch, answers)) = app.store.challenges(parsed).await? else {
        return Err(ApiError::NotFound(format!(
            "logged batch of challenges for the epoch from {epoch} s on"
        )));
    };
    let answers = answers.iter().map(ChallengeAnswer::from).collect();
    Ok(axum::Json(Challenges { batch, answers }).into_response())
}

/// The release of a build, under the oldest checkpoint kept with it.
async fn release(State(app): State<Arc<App>>, Path(build): Path<String>) -> Result<Response, ApiError> {
    let parsed: Hash =
        build.parse().map_err(|_| ApiError::BadRequest("a build is 64 hexadecimal digits".to_owned()))?;
    app.refresh().await;
    match app.release(&parsed).await? {
        Some(record) => Ok(axum::Json(record).into_response()),
        None => Err(ApiError::NotFound(format!("release of the build {build}"))),
    }
}

async fn session(
    State(app): State<Arc<App>>,
    Extension(token): Extension<ProviderToken>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    let upgrade = upgrade.max_message_size(socket::MAX_MESSAGE).max_frame_size(socket::MAX_MESSAGE);
    let tasks = app.tasks.clone();
    Ok(upgrade.on_upgrade(move |socket| tasks.track_future(socket::run(app, socket, token.name))))
}

const CHALLENGES: &str = "/v1/challenges/{epoch}";
const RELEASES: &str = "/v1/releases/{build}";
/// `GET`: one model; an alias may have slashes.
const MODEL: &str = "/v1/models/{*id}";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a bundle may be used, in seconds.
const BUNDLE_FOR: u64 = 300;
const OWNER: &str = "glassbloom";
const MAX_PROVIDERS: usize = 8;
const NO_KEY: &str = "this needs a key: send it as `Authorization: Bearer KEY`";
const WRONG_KEY: &str =
    "this API key does not work here; the operator makes one with `glassbloom-coordinator api-key create`";
const WRONG_TOKEN: &str = "this provider token does not work here; the operator makes one with `glassbloom-coordinator provider-token create`";
