//! Brings the network up, in the order in which `cargo up` does.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Parser;
use futures_util::FutureExt;
use glassbloom_auditor::witness;
use glassbloom_log::init::Init;
use glassbloom_provider::{
    config::{ConfigFile, KeysFile},
    measure,
};
use glassbloom_service::{ExitCode, SystemClock};
use glassbloom_spec::{
    curve::{Signer, SigningKey},
    id::UnixSeconds,
    leaf::{Payload, Release},
    policy::Policy,
};
use tokio::net::TcpListener;

use super::{Hardware, MODEL, NAME, Options, Provider, Running, TestNet, engine::FakeEngine, until};

impl TestNet {
    /// Starts a network whose keys are in software, and waits until every provider serves.
    pub async fn start_with(options: Options) -> Self {
        Self::start_on(options, &Hardware::default()).await
    }

    /// Starts a network and waits until every provider serves.
    pub async fn start_on(options: Options, hardware: &Hardware) -> Self {
        let net = Self::start_and_go_on(options, hardware).await;
        until(async || {
            let offered = net.offered().await?;
            (offered.providers.len() == net.providers.len()).then_some(())
        })
        .await;
        net
    }

    /// Starts a network, and does not wait for its providers.
    pub async fn start_and_go_on(options: Options, hardware: &Hardware) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let logs = LogParts::start(folder.path(), &["witness1", "witness2"], "log", options).await;

        let release_key = SigningKey::from_seed(b"the release key of the test network");
        let model = at("model");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(model.join("model.safetensors"), b"no weights: the engine is a fake").unwrap();
        let build = tokio::task::spawn_blocking(measure::Build::of_this_process).await.unwrap().unwrap();
        let release = Release {
            version: "test".to_owned(),
            build: build.hash(),
            platform: measure::platform(),
            commit: "test".to_owned(),
            not_before: UnixSeconds::new(0),
            code: None,
            approvals: Vec::new(),
        };
        std::fs::write(at("release"), release.sign(&release_key).unwrap().bytes()).unwrap();
        let release = Signer::public_key(&release_key);
        let base = format!("{}release {release}\n{}checkpoint-age 10m\n", logs.policy, hardware.policy);
        std::fs::write(at("coordinator-policy"), &base).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let data = at("coordinator");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let arguments = [
            "glassbloom-coordinator".to_owned(),
            "init".to_owned(),
            format!("--data={}", text(&data)),
            format!("--name={NAME}"),
            format!("--log={}", logs.url),
            format!("--log-token-file={}", text(&at("log/token"))),
            format!("--policy={}", text(&at("coordinator-policy"))),
            format!("--model={MODEL}={}", text(&model)),
            format!("--price={MODEL}=3,5"),
            format!("--release={}", text(&at("release"))),
        ];
        let cli = glassbloom_coordinator::cli::Cli::try_parse_from(arguments).unwrap();
        assert_eq!(glassbloom_coordinator::cli::run(cli).await, ExitCode::Ok);
        let file = glassbloom_coordinator::config::Config::file(&data);
        let mut config = glassbloom_coordinator::config::Config::load(&file, &data).unwrap();
        config.rules.cool_off = options.cool_off;
        let key = glassbloom_coordinator::create_api_key(&config, "user", &SystemClock).await.unwrap();
        let mut tokens = Vec::new();
        for number in 0..options.providers {
            let name = format!("provider{number}");
            let token = glassbloom_coordinator::create_provider_token(&config, &name, &SystemClock);
            tokens.push(token.await.unwrap());
        }
        let coordinator = Running::spawn(|stop| {
            glassbloom_coordinator::serve(config, listener, Arc::new(SystemClock), stop).boxed()
        });

        let mut net = Self {
            log_url: logs.url,
            url,
            key,
            log_token: logs.token,
            policy_text: String::new(),
            release_key,
            witnesses: logs.witnesses.into_iter().map(Some).collect(),
            log: Some(logs.log),
            coordinator: Some(coordinator),
            providers: Vec::new(),
            folder,
        };
        let own = Signer::public_key(&net.coordinator_key());
        net.policy_text = format!("{base}coordinator {own}\n");
        std::fs::write(net.folder().join("policy"), &net.policy_text).unwrap();
        for token in tokens {
            net.add_provider(&token, options.capacity, &hardware.keys);
        }
        net
    }

    fn add_provider(&mut self, token: &str, capacity: u32, keys: &KeysFile) {
        let (data, config) = self.provider_folder(token, capacity, keys);
        let mut provider = Provider { engine: FakeEngine::default(), data, config, running: None };
        provider.start();
        self.providers.push(provider);
    }

    /// A folder with all that a provider needs, and the token in it.
    pub async fn prepare_provider(&mut self, name: &str, keys: &KeysFile) -> (PathBuf, String) {
        let token = self.new_token(name).await;
        let (data, config) = self.provider_folder(&token, Options::default().capacity, keys);
        std::fs::write(data.join(glassbloom_provider::config::FILE_NAME), config.render()).unwrap();
        (data, token)
    }

    fn provider_folder(&self, token: &str, capacity: u32, keys: &KeysFile) -> (PathBuf, ConfigFile) {
        let data = self.folder().join(format!("provider{}", self.providers.len()));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("token"), token).unwrap();
        let file = ConfigFile {
            coordinator: self.url.clone(),
            token_file: "token".into(),
            log: self.log_url.clone(),
            policy: "../policy".into(),
            capacity,
            health: None,
            keys: keys.clone(),
            models: [(MODEL.to_owned(), PathBuf::from("../model"))].into(),
        };
        (data, file)
    }

    /// Adds a provider to a network that runs, and does not wait for it.
    pub async fn join(&mut self, name: &str, keys: &KeysFile) {
        let token = self.new_token(name).await;
        self.add_provider(&token, Options::default().capacity, keys);
    }

    async fn new_token(&self, name: &str) -> String {
        let data = self.folder().join("coordinator");
        let file = glassbloom_coordinator::config::Config::file(&data);
        let config = glassbloom_coordinator::config::Config::load(&file, &data).unwrap();
        glassbloom_coordinator::create_provider_token(&config, name, &SystemClock).await.unwrap()
    }
}

impl Provider {
    /// Starts it with what is in its folder.
    pub fn start(&mut self) {
        let config = glassbloom_provider::Config::check(self.config.clone(), &self.data).unwrap();
        let engine = self.engine.clone();
        self.running = Some(Running::spawn(|stop| {
            glassbloom_provider::serve(config, Arc::new(engine), Arc::new(SystemClock), stop).boxed()
        }));
    }
}

/// A log and its witnesses.
pub struct LogParts {
    /// Where the log is.
    pub url: String,
    /// What its writers need.
    pub token: String,
    /// The policy it publishes by.
    pub policy: String,
    /// The log.
    pub log: Running,
    /// Its witnesses.
    pub witnesses: Vec<Running>,
}

impl LogParts {
    /// Starts witnesses and log in these folders, with the keys that are there already.
    pub async fn start(folder: &Path, witnesses: &[&str], log: &str, options: Options) -> Self {
        let mut bound = Vec::new();
        let mut lines = Vec::new();
        for name in witnesses {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // A fork's witness has the name and the key of the honest one.
            let vkeys =
                witness::init(&folder.join(name), &format!("{}.{NAME}", name.trim_start_matches("fork-")));
            lines.push(format!("{} http://{}", vkeys.unwrap()[0], listener.local_addr().unwrap()));
            bound.push((folder.join(name), listener));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let data = folder.join(log);
        let init = Init {
            data: data.clone(),
            name: NAME.to_owned(),
            listen: None,
            url: Some(url.clone()),
            tiles: None,
            head: None,
            quorum: Some(lines.len()),
            witnesses: lines,
        };
        glassbloom_log::init::init(&init).await.unwrap();
        let policy = std::fs::read_to_string(data.join("policy")).unwrap();
        let parsed = Policy::parse(&policy).unwrap();
        let logs: Vec<_> = parsed.logs().iter().flat_map(|log| log.keys.iter().cloned()).collect();
        let witnesses = bound
            .into_iter()
            .map(|(data, listener)| {
                let config = witness::Config { data, logs: logs.clone(), rate: witness::Rate::default() };
                Running::spawn(|stop| witness::serve(config, listener, Arc::new(SystemClock), stop).boxed())
            })
            .collect();
        let mut config = glassbloom_log::config::Config::load(&data, None).unwrap();
        config.append_timeout = options.append_timeout;
        let log = Running::spawn(|stop| {
            glassbloom_log::serve(config, listener, Arc::new(SystemClock), stop).boxed()
        });
        let token = std::fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
        Self { url, token, policy, log, witnesses }
    }
}
