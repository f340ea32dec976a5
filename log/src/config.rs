//! `log.toml` and the files beside it.
//!
//! ```text
//! DATA/log.toml                 this configuration
//! DATA/policy                   whom to believe; witnesses and quorum of what is published
//! DATA/token                    bearer token of writers, readable by the owner alone
//! DATA/keys/LOG.ed25519|mldsa44 secret keys, one per line, readable by the owner alone
//! DATA/state/LOG.db             the head: never restore it from a backup
//! DATA/state/LOG.index.db       where each entry was first logged; rebuilt from the tiles when lost
//! DATA/state/LOG/               the journal of staged batches, and the lock
//! DATA/state/LOG/evidence/      proofs that LOG's key signed another tree: nothing is published until they are moved
//! DATA/public/LOG/              what the world may read; any static file server can serve it
//! ```
//! Outside `public`, the slash in the name of a log such as `receipts/2027` is a hyphen.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use glassbloom_spec::{hash::Hash, id::UnixMillis, policy::Policy};
use serde::{Deserialize, Serialize};

use crate::{
    Endpoint, LogKeys, Options,
    declared::{self, flat},
    keyfile,
    places::Places,
};

pub use crate::declared::{Date, LOGS, LogFile};

/// `log.toml`, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Host part of the origins `NAME/registry` and `NAME/receipts`. Never changes in the life of a log.
    pub name: String,
    /// Address to listen on. `--listen` overrides it.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Seconds that `append` waits for a published checkpoint before it answers with a promise.
    #[serde(default = "default_append_timeout")]
    pub append_timeout_seconds: u64,
    /// Seconds that the log gives itself in such a promise.
    #[serde(default = "default_promise")]
    pub promise_seconds: u64,
    /// Seconds after which an idle log has its checkpoint cosigned and published anew.
    #[serde(default = "default_refresh")]
    pub refresh_seconds: u64,
    /// Milliseconds a witness has to answer before the round goes on without it.
    #[serde(default = "default_witness_timeout")]
    pub witness_timeout_millis: u64,
    /// Seconds after which `/healthz` calls a checkpoint too old.
    #[serde(default = "default_max_age")]
    pub max_age_seconds: u64,
    /// MiB of entries that may wait per log before more are refused with 503.
    #[serde(default = "default_max_waiting")]
    pub max_waiting_mib: usize,
    /// The bucket of tiles and staged batches, such as `s3://BUCKET/PREFIX`; absent for `DATA/public` and `DATA/state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<String>,
    /// The head: a bucket, `postgres://USER@HOST/DATABASE`, or [`HEAD_FROM_VARIABLE`](crate::places::HEAD_FROM_VARIABLE);
    /// absent for SQLite in `DATA/state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The logs, when they are others than `registry` and `receipts` without an end; `split` writes them.
    #[serde(default = "default_logs", rename = "log", skip_serializing_if = "are_default_logs")]
    pub logs: Vec<LogFile>,
}

fn default_logs() -> Vec<LogFile> {
    declared::default_logs()
}

fn are_default_logs(logs: &[LogFile]) -> bool {
    declared::are_default(logs)
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8789))
}

const fn default_append_timeout() -> u64 {
    10
}

const fn default_promise() -> u64 {
    3600
}

const fn default_refresh() -> u64 {
    60
}

const fn default_witness_timeout() -> u64 {
    2000
}

const fn default_max_age() -> u64 {
    300
}

const fn default_max_waiting() -> usize {
    64
}

impl ConfigFile {
    /// The defaults for a service of this name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            listen: default_listen(),
            append_timeout_seconds: default_append_timeout(),
            promise_seconds: default_promise(),
            refresh_seconds: default_refresh(),
            witness_timeout_millis: default_witness_timeout(),
            max_age_seconds: default_max_age(),
            max_waiting_mib: default_max_waiting(),
            tiles: None,
            head: None,
            logs: declared::default_logs(),
        }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {}; run `glassbloom-log init` first", path.display()))?;
        let file: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        declared::check(&file.name, &file.logs).with_context(|| path.display().to_string())?;
        Ok(file)
    }
}

/// Everything `serve` needs, read and checked.
pub struct Config {
    /// Where everything is.
    pub layout: Layout,
    /// Address to listen on, for the caller who binds.
    pub listen: SocketAddr,
    /// How long `append` waits.
    pub append_timeout: Duration,
    /// When `/healthz` calls a checkpoint too old.
    pub max_age: Duration,
    /// How each log behaves.
    pub options: Options,
    /// Where tiles and heads are.
    pub places: Places,
    /// The policy as it is served.
    pub policy_text: String,
    /// The policy as it is applied.
    pub policy: Arc<Policy>,
    /// Writers must send the token with this SHA-256.
    pub token: Hash,
    /// The logs, in the order in which they are declared.
    pub logs: Vec<LogConfig>,
}

/// One log, its keys read.
pub struct LogConfig {
    /// The origin after the service's name, and the path it is served under.
    pub path: String,
    /// Its signing keys.
    pub keys: LogKeys,
    /// When it becomes read-only.
    pub closes: Option<UnixMillis>,
    /// The path of the log that goes on afterwards.
    pub successor: Option<String>,
    /// The path of the log that it goes on from.
    pub predecessor: Option<String>,
}

/// Paths below the data folder.
#[derive(Clone, Debug)]
pub struct Layout(PathBuf);

impl Layout {
    /// The layout below this folder.
    pub fn new(data: &Path) -> Self {
        Self(data.to_owned())
    }

    /// `log.toml`.
    pub fn config(&self) -> PathBuf {
        self.0.join("log.toml")
    }

    /// The policy.
    pub fn policy(&self) -> PathBuf {
        self.0.join("policy")
    }

    /// The bearer token of writers.
    pub fn token(&self) -> PathBuf {
        self.0.join("token")
    }

    /// The folder of secret keys.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// The files of secret keys of a log, Ed25519 first.
    pub fn log_keys(&self, log: &str) -> [PathBuf; 2] {
        ["ed25519", "mldsa44"].map(|kind| self.keys().join(format!("{}.{kind}", flat(log))))
    }

    /// The file of keys that are about to come into force.
    pub fn next_keys(&self, log: &str) -> PathBuf {
        self.keys().join(format!("{}.next", flat(log)))
    }

    /// The folder of head databases and staged batches.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The head database of a log.
    pub fn database(&self, log: &str) -> PathBuf {
        self.state().join(format!("{}.db", flat(log)))
    }

    /// The leaf index of a log; it may be deleted while the log is stopped, and is then rebuilt.
    pub fn index(&self, log: &str) -> PathBuf {
        self.state().join(format!("{}.index.db", flat(log)))
    }

    /// The staged batches and the lock of a log.
    pub fn staging(&self, log: &str) -> PathBuf {
        self.state().join(flat(log))
    }

    /// The file that is there while an import into the log is under way.
    pub fn importing(&self, log: &str) -> PathBuf {
        self.staging(log).join("importing")
    }

    /// Where proofs lie that the key of a log signed a tree that the log does not have.
    pub fn evidence(&self, log: &str) -> PathBuf {
        self.staging(log).join("evidence")
    }

    /// The public folder of all logs.
    pub fn public(&self) -> PathBuf {
        self.0.join("public")
    }

    /// The public folder of a log.
    pub fn tiles(&self, log: &str) -> PathBuf {
        self.public().join(log)
    }
}

impl Config {
    /// Reads `file`, by default `DATA/log.toml`, and everything it stands for.
    pub fn load(data: &Path, file: Option<&Path>) -> anyhow::Result<Self> {
        let layout = Layout::new(data);
        let file = ConfigFile::read(file.unwrap_or(&layout.config()))?;
        let policy_text = read(&layout.policy())?;
        let policy = Policy::parse(&policy_text).with_context(|| layout.policy().display().to_string())?;
        let mut logs = Vec::new();
        for log in &file.logs {
            let keys = keyfile::read(&layout, &file.name, &log.path)?;
            let known = policy.log(keys.origin()).map(|log| log.keys.as_slice()).unwrap_or_default();
            if let Some(key) = keys.vkeys().find(|key| !known.contains(key)) {
                let policy = layout.policy();
                bail!("{} does not name the key {key}: nothing could be published", policy.display());
            }
            logs.push(LogConfig {
                path: log.path.clone(),
                keys,
                closes: log.closes.map(|date| UnixMillis::new(date.0.get() * 1000)),
                successor: log.successor.clone(),
                predecessor: declared::predecessor(&file.logs, &log.path).map(|log| log.path.clone()),
            });
        }
        let token = read(&layout.token())?;
        if file.refresh_seconds == 0 || file.witness_timeout_millis == 0 {
            bail!("{}: refresh_seconds and witness_timeout_millis must not be 0", layout.config().display());
        }
        Ok(Self {
            listen: file.listen,
            append_timeout: Duration::from_secs(file.append_timeout_seconds),
            max_age: Duration::from_secs(file.max_age_seconds),
            options: Options {
                max_waiting: file.max_waiting_mib << 20,
                refresh: Duration::from_secs(file.refresh_seconds),
                promise: Duration::from_secs(file.promise_seconds),
                witness_timeout: Duration::from_millis(file.witness_timeout_millis),
                ..Options::default()
            },
            places: Places::of(&file)?,
            policy: Arc::new(policy),
            policy_text,
            token: Hash::of(token.trim().as_bytes()),
            logs,
            layout,
        })
    }

    /// The witnesses of the policy that have an address, each with all its keys.
    pub fn witnesses(&self) -> Vec<Endpoint> {
        endpoints(&self.policy)
    }
}

/// The witnesses of a policy that have an address; keys at the same address belong to one witness.
pub fn endpoints(policy: &Policy) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for witness in policy.witnesses() {
        let Some(url) = &witness.url else { continue };
        match endpoints.iter_mut().find(|endpoint| endpoint.url == *url) {
            Some(endpoint) => endpoint.keys.push(witness.key.clone()),
            None => endpoints.push(Endpoint { url: url.clone(), keys: vec![witness.key.clone()] }),
        }
    }
    endpoints
}

pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path)
        .with_context(|| format!("cannot read {}; run `glassbloom-log init` first", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_strict_and_defaults_are_complete() {
        let defaults = ConfigFile::new("a.example");
        assert_eq!(toml::from_str::<ConfigFile>("name = 'a.example'").unwrap(), defaults);
        assert_eq!(toml::from_str::<ConfigFile>(&toml::to_string(&defaults).unwrap()).unwrap(), defaults);
        let error = toml::from_str::<ConfigFile>("name = 'a.example'\nrefresh = 3").unwrap_err();
        assert!(error.to_string().contains("refresh_seconds"), "{error}");
    }

    #[test]
    fn the_manual_names_every_option() {
        let manual = include_str!("../README.md");
        let given = Some("s3://bucket".to_owned());
        let all = ConfigFile { tiles: given.clone(), head: given, ..ConfigFile::new("a.example") };
        for line in toml::to_string(&all).unwrap().lines() {
            let option = line.split(' ').next().unwrap();
            assert!(manual.contains(&format!("| `{option}` |")), "{option} is missing from the README");
        }
    }
}
