//! A network in one process: a real log, a witness, and this coordinator, on sockets.

use std::{path::PathBuf, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use bytes::Bytes;
use glassbloom_log::init::{Init, init};
use glassbloom_service::{Clock, LogClient, Shutdown, SystemClock, http_client};
use glassbloom_spec::{
    api::{self, Providers},
    checkpoint::TreeHead,
    curve::SigningKey,
    hash::Hash,
    id::UnixSeconds,
    leaf::{Payload, Release},
    note::{NoteSigner, SignedNote},
    policy::{Checkpoint, Policy},
    record::ProviderRecord,
    verify::{Continuity, Known, Report, RevocationState, VerifiedProvider},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    app::App,
    config::{Api, Config, LivenessConfig, LogConfig, ModelConfig, Rules},
    store::ByHand,
};

pub(super) const MODEL: &str = "bloom-test";

pub(super) struct Net {
    _folder: TempDir,
    pub(super) app: Arc<App>,
    pub(super) url: String,
    pub(super) key: String,
    pub(super) token: String,
    pub(super) http: reqwest::Client,
    stop: Shutdown,
    task: Option<JoinHandle<anyhow::Result<()>>>,
    log_stop: Shutdown,
    clock: Arc<dyn Clock>,
}

impl Net {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts everything, with a configuration that the test may change.
    pub(super) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(Arc::new(SystemClock), change).await
    }

    /// The same with a coordinator that goes by this clock. The log and its witness go by the system's.
    pub(super) async fn start_at(clock: Arc<dyn Clock>, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (log_url, log_stop) = start_log(folder.path().join("log")).await;
        let log = folder.path().join("log");
        let policy = folder.path().join("policy");
        let text = std::fs::read_to_string(log.join("policy")).unwrap();
        std::fs::write(&policy, format!("{text}\nrelease {}\n", release_key().public_key())).unwrap();
        let model = folder.path().join("model");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(model.join("model.safetensors"), b"weights").unwrap();
        let data = folder.path().join("coordinator");
        std::fs::create_dir_all(data.join("releases")).unwrap();
        let release = release().sign(&release_key()).unwrap();
        std::fs::write(data.join("releases/one"), release.bytes()).unwrap();
        Config::create_key(&data).unwrap();
        let mut config = Config {
            name: "test.local".to_owned(),
            listen: String::new(),
            log: LogConfig { url: log_url, token_file: log.join("token"), policy_file: policy },
            rules: Rules { tiers: vec!["self-signed".to_owned()], ..Rules::default() },
            api: Api { plaintext: true },
            liveness: LivenessConfig::default(),
            models: vec![ModelConfig {
                alias: MODEL.to_owned(),
                folder: model,
                quantisation: "none".to_owned(),
                licence: "MIT".to_owned(),
                source: "here".to_owned(),
                prompt_price: 3,
                completion_price: 5,
            }],
            data,
        };
        change(&mut config);
        let stop = Shutdown::new();
        let app = Arc::new(App::open(config, Arc::clone(&clock), stop.clone()).await.unwrap());
        let mut net = Self {
            _folder: folder,
            key: app.store.create_api_key("user", by(&app), SystemClock.now()).await.unwrap(),
            token: app.store.create_provider_token("mac", by(&app), SystemClock.now()).await.unwrap(),
            app,
            url: String::new(),
            http: http_client(),
            stop,
            task: None,
            log_stop,
            clock,
        };
        net.run().await;
        net
    }

    async fn run(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.url = format!("http://{}", listener.local_addr().unwrap());
        self.task = Some(tokio::spawn(crate::run(Arc::clone(&self.app), listener)));
        while self.http.get(format!("{}/healthz", self.url)).send().await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.get(api::path::HEALTH).await.0, 200);
    }

    /// Stops the coordinator and starts another one with the same configuration and, if asked, an empty database.
    pub(super) async fn restart(&mut self, wipe: bool) {
        self.stop.trigger();
        self.task.take().unwrap().await.unwrap().unwrap();
        if wipe {
            std::fs::remove_file(self.app.config.database()).unwrap();
        }
        self.stop = Shutdown::new();
        let config = self.app.config.clone();
        self.app = Arc::new(App::open(config, Arc::clone(&self.clock), self.stop.clone()).await.unwrap());
        if wipe {
            let by = by(&self.app);
            self.key = self.app.store.create_api_key("user", by, SystemClock.now()).await.unwrap();
            self.token = self.app.store.create_provider_token("mac", by, SystemClock.now()).await.unwrap();
        }
        self.run().await;
    }

    /// What a client believes: with this coordinator's key.
    pub(super) fn policy(&self) -> Policy {
        crate::app::policy(&self.app.config, &self.app.signer).unwrap()
    }

    pub(super) async fn checkpoint(&self, log: &str) -> Checkpoint {
        let client = LogClient::new(&format!("{}/{log}", self.app.config.log.url));
        let origin = format!("test.local/{log}");
        self.policy().open(Some(&origin), &client.checkpoint_bytes().await.unwrap()).unwrap()
    }

    /// Status and JSON of a `GET` with the user's key.
    pub(super) async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let response =
            self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    pub(super) async fn bundle(&self) -> Providers {
        let (status, value) = self.get(&format!("{}?model={MODEL}&n=3", api::path::PROVIDERS)).await;
        assert_eq!(status, 200, "{value}");
        serde_json::from_value(value).unwrap()
    }

    /// Fetches the bundle and verifies its first provider as a client would.
    pub(super) async fn verified(&self) -> VerifiedProvider {
        self.verify(&self.bundle().await.providers[0])
    }

    /// The same for the provider with this attestation.
    pub(super) async fn verified_as(&self, attestation: Hash) -> VerifiedProvider {
        let providers = self.bundle().await.providers;
        let record = providers.iter().find(|record| Hash::leaf(&record.attestation.leaf) == attestation);
        self.verify(record.unwrap())
    }

    fn verify(&self, record: &ProviderRecord) -> VerifiedProvider {
        let known = Known {
            now: SystemClock.now(),
            continuity: Continuity::FirstSeen,
            revocation: RevocationState::NotChecked,
        };
        self.policy().verify(record, MODEL, &known, &mut Report::new()).unwrap()
    }

    pub(super) async fn post_sealed(&self, attestation: Hash, sealed: Vec<u8>) -> reqwest::Response {
        self.sealed_request(attestation, sealed).send().await.unwrap()
    }

    pub(super) fn sealed_request(&self, attestation: Hash, sealed: Vec<u8>) -> reqwest::RequestBuilder {
        self.http
            .post(format!("{}{}", self.url, api::path::SEALED))
            .bearer_auth(&self.key)
            .header("content-type", api::MEDIA_SEALED_REQUEST)
            .header(api::header::ATTESTATION, attestation.to_string())
            .header(api::header::MODEL, MODEL)
            .body(sealed)
    }

    /// Code of an OpenAI error with this status.
    pub(super) async fn code(response: reqwest::Response, status: u16) -> String {
        assert_eq!(response.status().as_u16(), status);
        let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(body["error"].as_object().unwrap().len(), 4, "{body}");
        body["error"]["code"].as_str().unwrap().to_owned()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.trigger();
        self.log_stop.trigger();
    }
}

fn by(app: &App) -> ByHand<'_> {
    ByHand { signer: &app.signer, reason: "a test" }
}

pub(super) fn release_key() -> SigningKey {
    SigningKey::from_seed(&[42; 32])
}

pub(super) fn release() -> Release {
    Release {
        version: "1.0.0".to_owned(),
        build: Hash::of(b"build"),
        platform: "test".to_owned(),
        commit: "0".to_owned(),
        not_before: UnixSeconds::new(0),
        code: None,
        approvals: Vec::new(),
    }
}

async fn start_log(data: PathBuf) -> (String, Shutdown) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let args = Init {
        data: data.clone(),
        name: "test.local".to_owned(),
        listen: None,
        url: Some(url.clone()),
        witnesses: vec![start_witness().await],
        tiles: None,
        head: None,
        quorum: Some(1),
    };
    init(&args).await.unwrap();
    let config = glassbloom_log::config::Config::load(&data, None).unwrap();
    let stop = Shutdown::new();
    tokio::spawn(glassbloom_log::serve(config, listener, Arc::new(SystemClock), stop.clone()));
    (url, stop)
}

/// A witness that believes everything: enough for what is tested here.
async fn start_witness() -> String {
    async fn cosign(State(signer): State<Arc<NoteSigner>>, body: Bytes) -> (StatusCode, String) {
        let text = std::str::from_utf8(&body).unwrap();
        let (_, note) = text.split_once("\n\n").unwrap();
        let note = SignedNote::parse(note.as_bytes()).unwrap();
        let head = TreeHead::parse(&note.text).unwrap();
        let line = signer.cosign(&head, SystemClock.now().seconds()).unwrap();
        (StatusCode::OK, format!("{line}\n"))
    }
    let signer = Arc::new(NoteSigner::ed25519_witness("witness.test", [9; 32]).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let vkey = format!("{} http://{}", signer.vkey(), listener.local_addr().unwrap());
    let router = Router::new().route("/add-checkpoint", post(cosign)).with_state(signer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    vkey
}
