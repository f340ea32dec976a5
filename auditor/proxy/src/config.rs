//! `proxy.toml` and the files beside it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use glassbloom_service::durable;
use glassbloom_spec::policy::Policy;
use serde::{Deserialize, Serialize};

/// Name of the configuration file in the data folder.
pub const FILE: &str = "proxy.toml";

/// `proxy.toml`, as it is written. Paths are relative to the file's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Where applications reach the proxy. Keep it on loopback: requests arrive here in plain text.
    pub listen: SocketAddr,
    /// The coordinator's address. Never taken from a request.
    pub coordinator: String,
    /// The file with the coordinator's API key; applications present the same key.
    pub api_key_file: PathBuf,
    /// Whom to believe.
    pub policy: PathBuf,
    /// Whether bundles keep the text of requests and answers. Off: they can still prove text that you kept yourself.
    #[serde(default)]
    pub keep_text: bool,
}

/// A configuration that works: the files it names were read.
#[derive(Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The coordinator, without a slash at the end.
    pub coordinator: String,
    /// The key towards the coordinator and from applications.
    pub api_key: String,
    /// Whom to believe.
    pub policy: Policy,
    /// Whether bundles keep the text.
    pub keep_text: bool,
    /// Where the receipts are kept.
    pub database: PathBuf,
}

impl Config {
    /// Reads the configuration of a data folder.
    pub fn load(data: &Path) -> anyhow::Result<Self> {
        let file = data.join(FILE);
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read; `glassbloom init` writes it", file.display()))?;
        let raw: ConfigFile =
            toml::from_str(&text).with_context(|| format!("{} is not valid", file.display()))?;
        let key_file = data.join(&raw.api_key_file);
        let api_key = std::fs::read_to_string(&key_file)
            .with_context(|| format!("the API key cannot be read from {}", key_file.display()))?
            .trim()
            .to_owned();
        if api_key.is_empty() {
            bail!("{} is empty; ask the coordinator's operator for a key", key_file.display());
        }
        Ok(Self {
            listen: raw.listen,
            coordinator: raw.coordinator.trim_end_matches('/').to_owned(),
            api_key,
            policy: read_policy(&data.join(&raw.policy))?,
            keep_text: raw.keep_text,
            database: data.join("receipts.db"),
        })
    }
}

/// Reads a policy file.
pub fn read_policy(path: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the policy {} cannot be read", path.display()))?;
    Policy::parse(&text).with_context(|| format!("the policy {} is not valid", path.display()))
}

/// Writes `proxy.toml`, keeping what is there when it says the same.
pub fn init(data: &Path, file: &ConfigFile) -> anyhow::Result<()> {
    durable::create_folder(data)?;
    let text = toml::to_string(file)?;
    durable::write(&data.join(FILE), text.as_bytes())
        .with_context(|| format!("{} cannot be written", data.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_refused() {
        let text = "listen='127.0.0.1:1'\ncoordinator='c'\napi_key_file='k'\npolicy='p'\nverify=false\n";
        assert!(toml::from_str::<ConfigFile>(text).unwrap_err().to_string().contains("verify"));
    }
}
