//! `provider.toml`: what the operator decides. Secrets stay in files of their own.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf, absolute},
};

use glassbloom_spec::policy::Policy;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The configuration's name in the data folder.
pub const FILE_NAME: &str = "provider.toml";

/// The file as it is written. Relative paths start at the data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The coordinator that requests come through. It sees ciphertext only; still, a token must not travel in clear,
    /// so anything but this machine needs `https`.
    pub coordinator: String,
    /// File with the token that the coordinator gave for this provider, and nothing else.
    pub token_file: PathBuf,
    /// Where the logs are served; the registry is below it at `/registry`. Only what opens under the policy counts.
    pub log: String,
    /// The trust policy: which log, which witnesses, which coordinator. The provider serves nobody it would refuse.
    pub policy: PathBuf,
    /// Requests answered at a time. What comes beyond is refused at once, so that a client can go elsewhere.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
    /// Address for `GET /healthz`; none by default, because a provider needs no open port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<SocketAddr>,
    /// Where the keys live. Without it in memory and in a file, which proves nothing about this machine.
    #[serde(default, skip_serializing_if = "KeysFile::is_software")]
    pub keys: KeysFile,
    /// Model alias to its folder in Hugging Face layout. Every file in it is hashed before it serves.
    pub models: BTreeMap<String, PathBuf>,
}

/// Where the keys live, and who vouches for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysFile {
    /// What holds them.
    #[serde(default)]
    pub device: KeyDevice,
    /// The TPM: `device:/dev/tpmrm0`, which is the default, or a software TPM's socket, `swtpm:path=PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<String>,
    /// Certificates of the TPM's makers, issuer by issuer up to the root, in PEM or DER.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<PathBuf>,
    /// An auditor's endorser, which vouches for what the public cannot see: a TPM's attestation key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorser: Option<String>,
}

impl KeysFile {
    fn is_software(&self) -> bool {
        *self == Self::default()
    }
}

/// What holds the provider's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KeyDevice {
    /// Memory and a file: to try things out. Labelled `self-signed` wherever it shows.
    #[default]
    Software,
    /// A TPM 2.0.
    Tpm,
    /// A Mac's Secure Enclave, with App Attest.
    SecureEnclave,
}

const fn default_capacity() -> u32 {
    DEFAULT_CAPACITY
}

/// Requests answered at a time when the configuration does not say.
pub(crate) const DEFAULT_CAPACITY: u32 = 4;

impl ConfigFile {
    /// Reads the file of a data folder.
    ///
    /// # Errors
    /// When it is not there or not as this version writes it.
    pub fn read(data: &Path) -> Result<Self, ConfigError> {
        Self::read_from(data.join(FILE_NAME))
    }

    fn read_from(path: PathBuf) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(&path).map_err(|error| ConfigError::Read { path: path.clone(), error })?;
        toml::from_str(&text).map_err(|error| ConfigError::Toml { path, error: Box::new(error) })
    }

    /// The file's text, each line with its reason.
    pub fn render(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let path = |path: &Path| quoted(&path.to_string_lossy());
        let mut text = String::new();
        let mut line = |comment: &str, key: &str, value: &str| {
            writeln!(text, "# {comment}\n{key} = {value}").expect("a String takes all that is written");
        };
        line("The coordinator that requests come through.", "coordinator", &quoted(&self.coordinator));
        line("File with the token it gave for this provider.", "token_file", &path(&self.token_file));
        line("Where the logs are served; the registry is at /registry below.", "log", &quoted(&self.log));
        line("The trust policy; the provider serves nobody it would refuse.", "policy", &path(&self.policy));
        line(
            "Requests answered at a time; what comes beyond is refused at once.",
            "capacity",
            &self.capacity.to_string(),
        );
        match self.health {
            Some(address) => line("Address for GET /healthz.", "health", &quoted(&address.to_string())),
            None => text.push_str(
                "# Address for GET /healthz; without it no port is open.\n# health = \"127.0.0.1:8799\"\n",
            ),
        }
        if !self.keys.is_software() {
            text.push_str("\n# Where the keys live, and who vouches for them.\n");
            let keys = BTreeMap::from([("keys", &self.keys)]);
            text.push_str(&toml::to_string(&keys).expect("paths and text are TOML"));
        }
        text.push_str("\n# Alias = folder in Hugging Face layout; every file in it is hashed before it serves.\n[models]\n");
        for (alias, folder) in &self.models {
            writeln!(text, "{} = {}", quoted(alias), path(folder))
                .expect("a String takes all that is written");
        }
        text
    }
}

/// A bearer token; has no `Debug`, so that it is not printed by accident.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token, without the white space around it.
    ///
    /// # Errors
    /// When it is empty or cannot stand in an HTTP header.
    pub fn new(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Token);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, for the one header that carries it.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

/// A model to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedModel {
    /// Its name in requests.
    pub alias: String,
    /// Its files.
    pub folder: PathBuf,
}

/// A configuration that was checked.
#[derive(Clone)]
pub struct Config {
    /// Where keys, status and the last checkpoint are kept.
    pub data: PathBuf,
    /// The coordinator's base URL.
    pub coordinator: Url,
    /// Proves to the coordinator which provider this is.
    pub token: Token,
    /// The log's base URL.
    pub log: Url,
    /// Whom this provider believes.
    pub policy: Policy,
    /// Requests answered at a time.
    pub capacity: u32,
    /// Address for `GET /healthz`.
    pub health: Option<SocketAddr>,
    /// Where the keys live.
    pub keys: KeysFile,
    /// The endorser's base URL.
    pub endorser: Option<Url>,
    /// What is served.
    pub models: Vec<ServedModel>,
}

impl Config {
    /// Reads and checks the configuration of a data folder, with the files it names.
    ///
    /// # Errors
    /// With the file at fault and what to do about it.
    pub fn load(data: &Path) -> Result<Self, ConfigError> {
        Self::check(ConfigFile::read(data)?, data)
    }

    /// Reads and checks a configuration file that lies elsewhere; relative paths in it still start at `data`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(file: &Path, data: &Path) -> Result<Self, ConfigError> {
        Self::check(ConfigFile::read_from(file.to_path_buf())?, data)
    }

    /// Checks a configuration whose relative paths start at `data`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn check(file: ConfigFile, data: &Path) -> Result<Self, ConfigError> {
        let read = |path: &Path| {
            let path = data.join(path);
            fs::read_to_string(&path).map_err(|error| ConfigError::Read { path, error })
        };
        if file.capacity == 0 || file.capacity > 1024 {
            return Err(ConfigError::Capacity(file.capacity));
        }
        if file.models.is_empty() {
            return Err(ConfigError::NoModel);
        }
        let models = file.models.into_iter().map(|(alias, folder)| {
            let folder = absolute(data.join(folder))
                .map_err(|error| ConfigError::Read { path: data.to_path_buf(), error })?;
            Ok(ServedModel { alias, folder })
        });
        let policy = read(&file.policy)?;
        let config = Self {
            data: data.to_path_buf(),
            coordinator: base_url(&file.coordinator)?,
            token: Token::new(&Zeroizing::new(read(&file.token_file)?))?,
            log: base_url(&file.log)?,
            policy: Policy::parse(&policy)
                .map_err(|error| ConfigError::Policy { path: data.join(&file.policy), error })?,
            capacity: file.capacity,
            health: file.health,
            endorser: file.keys.endorser.as_deref().map(base_url).transpose()?,
            keys: KeysFile {
                certificates: file.keys.certificates.iter().map(|path| data.join(path)).collect(),
                ..file.keys
            },
            models: models.collect::<Result<_, ConfigError>>()?,
        };
        if config.coordinator.scheme() == "http" && !is_this_machine(&config.coordinator) {
            return Err(ConfigError::TokenInClear(config.coordinator.to_string()));
        }
        Ok(config)
    }
}

impl Config {
    /// The coordinator's address as attestations name it: without a slash at the end.
    pub fn endpoint(&self) -> &str {
        self.coordinator.as_str().trim_end_matches('/')
    }
}

/// A configuration that cannot be used; each says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Out of range.
    #[error("capacity = {0}: must be from 1 to 1024")]
    Capacity(u32),
    /// No model at all.
    #[error(
        "no model is configured: add `ALIAS = \"FOLDER\"` under [models], or run `glassbloom-provider init` with --model"
    )]
    NoModel,
    /// The policy file is wrong.
    #[error("{}: {error}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: glassbloom_spec::policy::PolicyError,
    },
    /// A file cannot be read.
    #[error("{}: {error}; `glassbloom-provider init` makes the configuration", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, or not these fields.
    #[error("{}: {error}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: Box<toml::de::Error>,
    },
    /// The token file holds no token.
    #[error(
        "the token file must hold one token of printable ASCII characters; ask the coordinator's operator for a new one"
    )]
    Token,
    /// The token would be readable on the way.
    #[error("{0} is not this machine: the token would travel in clear; use https")]
    TokenInClear(String),
    /// Not an HTTP address.
    #[error("{0:?} is not an address like http://127.0.0.1:8788 or https://host")]
    Url(String),
}

fn base_url(text: &str) -> Result<Url, ConfigError> {
    let bad = || ConfigError::Url(text.to_owned());
    let url = Url::parse(text.trim_end_matches('/')).map_err(|_| bad())?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain { Ok(url) } else { Err(bad()) }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> ConfigFile {
        ConfigFile {
            coordinator: "http://127.0.0.1:8788".into(),
            token_file: "token".into(),
            log: "http://127.0.0.1:8789/".into(),
            policy: "policy".into(),
            capacity: 4,
            health: None,
            keys: KeysFile::default(),
            models: BTreeMap::from([("bloom \"tiny\"".into(), "/models/bloom".into())]),
        }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "gbp_secret\n").unwrap();
        fs::write(folder.path().join("policy"), "quorum none\n").unwrap();
        folder
    }

    #[test]
    fn what_is_rendered_reads_back() {
        for health in [None, Some("127.0.0.1:1".parse().unwrap())] {
            let file = ConfigFile { health, ..file() };
            assert_eq!(toml::from_str::<ConfigFile>(&file.render()).unwrap(), file);
        }
        let keys = KeysFile {
            device: KeyDevice::Tpm,
            tpm: Some("device:/dev/tpmrm0".into()),
            certificates: vec!["issuer.pem".into(), "root.pem".into()],
            endorser: Some("http://127.0.0.1:8799".into()),
        };
        let file = ConfigFile { keys, ..file() };
        assert_eq!(toml::from_str::<ConfigFile>(&file.render()).unwrap(), file);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = format!("capcity = 3\n{}", file().render());
        assert!(toml::from_str::<ConfigFile>(&text).unwrap_err().to_string().contains("capcity"));
    }

    #[test]
    fn the_sample_of_the_readme_is_one() {
        let readme = include_str!("../README.md");
        let (_, sample) = readme.split_once("```toml\n").unwrap();
        let (sample, _) = sample.split_once("```").unwrap();
        toml::from_str::<ConfigFile>(sample).unwrap();
    }

    #[test]
    fn checks_what_it_names() {
        let folder = folder();
        let config = Config::check(file(), folder.path()).unwrap();
        assert_eq!(config.token.secret(), "gbp_secret");
        assert_eq!(config.models[0].folder, Path::new("/models/bloom"));
        assert!(matches!(
            Config::check(ConfigFile { capacity: 0, ..file() }, folder.path()),
            Err(ConfigError::Capacity(0))
        ));
        assert!(matches!(
            Config::check(ConfigFile { models: BTreeMap::new(), ..file() }, folder.path()),
            Err(ConfigError::NoModel)
        ));
        for bad in ["", "127.0.0.1:1", "ftp://x", "http://h/?a", "http://u@h"] {
            let file = ConfigFile { log: bad.into(), ..file() };
            assert!(matches!(Config::check(file, folder.path()), Err(ConfigError::Url(_))), "{bad}");
        }
        fs::write(folder.path().join("token"), " \n").unwrap();
        assert!(matches!(Config::check(file(), folder.path()), Err(ConfigError::Token)));
    }

    #[test]
    fn a_token_does_not_travel_in_clear() {
        let folder = folder();
        for (coordinator, allowed) in [
            ("http://localhost:1", true),
            ("http://[::1]:1", true),
            ("https://example.org", true),
            ("http://example.org", false),
            ("http://10.0.0.1", false),
        ] {
            let result =
                Config::check(ConfigFile { coordinator: coordinator.into(), ..file() }, folder.path());
            assert_eq!(result.is_ok(), allowed, "{coordinator}");
        }
    }
}
