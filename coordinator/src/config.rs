//! The configuration file and what is kept beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use glassbloom_service::durable;
use glassbloom_spec::{
    curve::{PublicKey, SigningKey},
    evidence::Anchor,
    leaf::{MAX_EPOCH, PolicyLeaf, Tier},
    policy::Policy,
};
use serde::{Deserialize, Serialize};

/// The configuration, `coordinator.toml` in the data folder. Relative paths are relative to the data folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network's name: its logs have the origins `NAME/registry` and `NAME/receipts`.
    pub name: String,
    /// Where to listen when `--listen` does not say.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Where the logs are.
    pub log: LogConfig,
    /// The rules that verdicts are given under; published as the `policy` leaf.
    #[serde(default)]
    pub rules: Rules,
    /// What the HTTP API offers.
    #[serde(default)]
    pub api: Api,
    /// How providers show that they are there.
    #[serde(default)]
    pub liveness: LivenessConfig,
    /// The models that providers may serve; published as `model` leaves and the `price-table` leaf.
    #[serde(default)]
    pub models: Vec<ModelConfig>,
    /// The data folder; not in the file.
    #[serde(skip)]
    pub data: PathBuf,
}

/// Where the logs are.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Base URL; the two logs are at `/registry` and `/receipts` below.
    pub url: String,
    /// File with the bearer token for appending; a file, so that the secret is in no configuration.
    pub token_file: PathBuf,
    /// The policy that says whose checkpoints count: the log's keys, the witnesses, the quorum and the release keys.
    pub policy_file: PathBuf,
}

/// The rules in force.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Tiers of evidence that may serve. Empty, the default, lets nobody serve: `self-signed` proves nothing of a
    /// machine, so whoever accepts it has to say so.
    pub tiers: Vec<String>,
    /// Longest life of an attestation from its beacon, in seconds. The default is a week.
    pub max_lifetime: u64,
    /// Makers of TPMs that count: each root's key as SHA-256 over its SubjectPublicKeyInfo.
    pub anchors: Vec<AnchorConfig>,
    /// Auditors who may vouch for evidence that the public does not see; base64 of compressed P-256 points.
    pub endorsers: Vec<PublicKey>,
    /// Applications (`TEAM.bundle`) that may use App Attest.
    pub apps: Vec<String>,
    /// How long a release must have been in the log before it serves, in seconds. The default is none.
    pub cool_off: u64,
    /// How old the lasting part of evidence may be, in seconds; 0, the default, for any age.
    pub max_enrolment: u64,
}

/// A root that evidence of TPMs may lead to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorConfig {
    /// `tpm-hw` or `tpm-soft`.
    pub tier: String,
    /// 64 hexadecimal digits.
    pub key: String,
    /// For people.
    pub name: String,
}

impl Rules {
    /// Rules that believe whom a policy file believes, and let nobody serve yet.
    pub fn believing(policy: &Policy) -> Self {
        let trust = policy.trust();
        let anchor = |anchor: &Anchor| AnchorConfig {
            tier: anchor.tier.to_string(),
            key: anchor.key.to_string(),
            name: anchor.name.clone(),
        };
        Self {
            anchors: trust.anchors.iter().map(anchor).collect(),
            endorsers: trust.endorsers.to_vec(),
            apps: trust.apps.to_vec(),
            ..Self::default()
        }
    }

    /// The rules as the policy leaf has them.
    ///
    /// # Errors
    /// When a root is not one of a TPM's maker with the hash of a key.
    pub fn leaf(&self, plaintext_api: bool) -> anyhow::Result<PolicyLeaf> {
        let anchor = |anchor: &AnchorConfig| {
            let tier = anchor.tier.parse().ok().filter(|tier| matches!(tier, Tier::TpmHw | Tier::TpmSoft));
            let tier = tier.with_context(|| {
                format!("rules.anchors: tier {:?} is not tpm-hw or tpm-soft", anchor.tier)
            })?;
            let key = anchor.key.parse().with_context(|| {
                format!("rules.anchors: {:?} is not the SHA-256 of a root's public key", anchor.key)
            })?;
            Ok(Anchor { tier, key, name: anchor.name.clone() })
        };
        Ok(PolicyLeaf {
            tiers: self.tiers.clone(),
            max_lifetime: self.max_lifetime,
            plaintext_api,
            anchors: self.anchors.iter().map(anchor).collect::<anyhow::Result<_>>()?,
            endorsers: self.endorsers.clone(),
            apps: self.apps.clone(),
            cool_off: self.cool_off,
            max_enrolment: self.max_enrolment,
        })
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            tiers: Vec::new(),
            max_lifetime: 7 * 24 * 60 * 60,
            anchors: Vec::new(),
            endorsers: Vec::new(),
            apps: Vec::new(),
            cool_off: 0,
            max_enrolment: 0,
        }
    }
}

/// What the HTTP API offers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Whether `/v1/chat/completions` takes plain text and seals it here. Whoever uses it lets the coordinator read
    /// prompts; with `false` only sealed requests are served.
    pub plaintext: bool,
}

impl Default for Api {
    fn default() -> Self {
        Self { plaintext: true }
    }
}

/// How providers show that they are there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LivenessConfig {
    /// Length of an epoch: each provider is challenged once in each, and one leaf says who answered. Epochs begin at
    /// multiples of it. From 1 to 3600; the default is five minutes.
    pub seconds: u64,
}

impl Default for LivenessConfig {
    fn default() -> Self {
        Self { seconds: 300 }
    }
}

/// A model that providers may serve.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The name in requests.
    pub alias: String,
    /// Folder in Hugging Face layout; hashed at every start.
    pub folder: PathBuf,
    /// How the weights are stored, for people.
    #[serde(default = "unknown")]
    pub quantisation: String,
    /// SPDX expression, or `NOASSERTION`.
    #[serde(default = "no_assertion")]
    pub licence: String,
    /// Where the files come from, or `NOASSERTION`.
    #[serde(default = "no_assertion")]
    pub source: String,
    /// Price of a prompt token, in pico-dollars (10^-12 USD): 1000000 is a dollar per million tokens.
    #[serde(default)]
    pub prompt_price: u64,
    /// Price of an answer's token, in pico-dollars.
    #[serde(default)]
    pub completion_price: u64,
}

impl Config {
    /// Parses the text of a configuration for this data folder.
    ///
    /// # Errors
    /// When a field is unknown, missing or out of range; the message names it.
    pub fn parse(text: &str, data: &Path) -> anyhow::Result<Self> {
        let mut config: Self = toml::from_str(text)?;
        ensure!(!config.name.is_empty(), "name must not be empty");
        for tier in &config.rules.tiers {
            tier.parse::<Tier>().context("rules.tiers")?;
        }
        ensure!(
            (1..=MAX_EPOCH).contains(&config.liveness.seconds),
            "liveness.seconds must be from 1 to {MAX_EPOCH}"
        );
        for (at, model) in config.models.iter().enumerate() {
            let repeated = config.models[..at].iter().any(|other| other.alias == model.alias);
            ensure!(
                !model.alias.is_empty() && !repeated,
                "models: the alias {:?} is empty or repeated",
                model.alias
            );
        }
        config.log.url.truncate(config.log.url.trim_end_matches('/').len());
        config.data = data.to_owned();
        Ok(config)
    }

    /// Reads a configuration file; the data folder is the one it lies in unless another is given.
    ///
    /// # Errors
    /// When it cannot be read or parsed, with what to do.
    pub fn load(file: &Path, data: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| {
            format!("{} cannot be read; run `glassbloom-coordinator init` first", file.display())
        })?;
        Self::parse(&text, data).with_context(|| format!("{}", file.display()))
    }

    /// Writes the file.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let text = toml::to_string_pretty(self)?;
        durable::write(&Self::file(&self.data), text.as_bytes())?;
        Ok(())
    }

    /// Where the configuration of a data folder is.
    pub fn file(data: &Path) -> PathBuf {
        data.join("coordinator.toml")
    }

    /// The registry's origin.
    pub fn registry_origin(&self) -> String {
        format!("{}/registry", self.name)
    }

    /// The receipts log's origin.
    pub fn receipts_origin(&self) -> String {
        format!("{}/receipts", self.name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data.join("coordinator.db")
    }

    pub(crate) fn releases(&self) -> PathBuf {
        self.data.join("releases")
    }

    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.data.join(path)
    }

    /// The statement key of this data folder, made where there is none yet.
    pub(crate) fn create_key(data: &Path) -> anyhow::Result<SigningKey> {
        let file = data.join(KEY_FILE);
        if !file.exists() {
            let seed: [u8; 32] = glassbloom_service::random();
            let key = SigningKey::from_seed(&seed);
            let text = format!("{}\n", glassbloom_spec::hash::Hash::from_bytes(*key.to_bytes()));
            durable::write_secret(&file, text.as_bytes())?;
        }
        Self::read_key(data)
    }

    /// The statement key of this data folder.
    pub(crate) fn read_key(data: &Path) -> anyhow::Result<SigningKey> {
        let file = data.join(KEY_FILE);
        ensure!(file.exists(), "{} cannot be read; run `glassbloom-coordinator init` first", file.display());
        read_key_file(&file)
    }
}

/// A key in a file: 64 hexadecimal digits and a line feed.
pub(crate) fn read_key_file(file: &Path) -> anyhow::Result<SigningKey> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the key {} cannot be read", file.display()))?;
    let scalar: glassbloom_spec::hash::Hash = text
        .trim_end()
        .parse()
        .ok()
        .with_context(|| format!("{} is not a key: 64 hexadecimal digits", file.display()))?;
    SigningKey::from_bytes(*scalar.as_bytes()).with_context(|| format!("{}", file.display()))
}

fn default_listen() -> String {
    "127.0.0.1:8788".to_owned()
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn no_assertion() -> String {
    "NOASSERTION".to_owned()
}

const KEY_FILE: &str = "coordinator.key";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_in_the_readme_is_a_configuration() {
        let readme = include_str!("../README.md");
        let sample = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let config = Config::parse(sample, Path::new("/data")).unwrap();
        assert_eq!(config.registry_origin(), "glassbloom.local/registry");
        assert_eq!(config.rules.tiers, ["self-signed"]);
        assert_eq!(config.rules.leaf(true).unwrap().anchors.len(), 1);
        let again = Config::parse(&toml::to_string_pretty(&config).unwrap(), Path::new("/data")).unwrap();
        assert_eq!(format!("{again:?}"), format!("{config:?}"));
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let good = "name = \"n\"\n[log]\nurl = \"http://x/\"\ntoken_file = \"t\"\npolicy_file = \"p\"\n";
        let config = Config::parse(good, Path::new("/data")).unwrap();
        assert_eq!(config.log.url, "http://x");
        assert!(config.rules.tiers.is_empty(), "nobody may serve unless a tier is named");
        assert!(Config::parse(&format!("{good}[api]\nplain = true\n"), Path::new("/data")).is_err());
        assert!(
            Config::parse(&format!("{good}[rules]\ntiers = [\"golden\"]\n"), Path::new("/data")).is_err()
        );
        for seconds in [0, 3601] {
            assert!(
                Config::parse(&format!("{good}[liveness]\nseconds = {seconds}\n"), Path::new("/data"))
                    .is_err()
            );
        }
        let twice = "[[models]]\nalias = \"m\"\nfolder = \"f\"\n";
        assert!(Config::parse(&format!("{good}{twice}{twice}"), Path::new("/data")).is_err());
    }

    #[test]
    fn the_key_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let one = Config::create_key(folder.path()).unwrap().public_key();
        assert_eq!(Config::create_key(folder.path()).unwrap().public_key(), one);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
