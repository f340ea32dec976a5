//! `init`: the configuration and the signing key.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf, absolute},
};

use anyhow::Context;
use glassbloom_service::{ExitCode, durable};

use crate::{
    config::{Config, ConfigFile, DEFAULT_CAPACITY, FILE_NAME, KeyDevice, KeysFile},
    keys,
};

/// What to write; what is not given stays as it is in an existing configuration.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The data folder; made if missing
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The coordinator's address, for example http://127.0.0.1:8788
    #[arg(long, value_name = "URL")]
    coordinator: Option<String>,
    /// File with the token that the coordinator gave for this provider
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where the logs are served, for example http://127.0.0.1:8789
    #[arg(long, value_name = "URL")]
    log: Option<String>,
    /// The trust policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A model to serve, by its alias and its folder; may be repeated
    #[arg(long = "model", value_name = "ALIAS=DIR", value_parser = alias_and_folder)]
    models: Vec<(String, PathBuf)>,
    /// Requests answered at a time [default: 4]
    #[arg(long, value_name = "N")]
    capacity: Option<u32>,
    /// What holds the keys [default: software, which proves nothing about this machine]
    #[arg(long, value_name = "DEVICE")]
    keys: Option<KeyDevice>,
    /// The TPM, as device:/dev/tpmrm0 or swtpm:path=SOCKET
    #[arg(long, value_name = "TPM")]
    tpm: Option<String>,
    /// Certificates of the TPM's makers, issuer by issuer up to the root; may be repeated
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,
    /// An auditor's endorser, for example http://127.0.0.1:8799
    #[arg(long, value_name = "URL")]
    endorser: Option<String>,
    /// Address for GET /healthz; without it no port is open
    #[arg(long, value_name = "ADDRESS")]
    health: Option<SocketAddr>,
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let data = self.data.clone();
        durable::create_folder(&data).with_context(|| format!("{}", data.display()))?;
        let file = data.join(FILE_NAME);
        let earlier = if file.exists() { Some(ConfigFile::read(&data)?) } else { None };
        let config = self.merge(earlier)?;
        // Everything it names is checked before it is written, so that `serve` does not find out later.
        let device = keys::open(&Config::check(config.clone(), &data)?)?;
        let text = config.render();
        if std::fs::read_to_string(&file).ok().as_ref() != Some(&text) {
            durable::write(&file, text.as_bytes()).with_context(|| format!("{}", file.display()))?;
        }
        println!("configuration {}\nsigning {}", file.display(), device.signing().public_key());
        println!("keys {}", device.describe());
        println!("next: glassbloom-provider serve --data {}", data.display());
        Ok(ExitCode::Ok)
    }

    fn merge(self, earlier: Option<ConfigFile>) -> anyhow::Result<ConfigFile> {
        let missing = |flag: &str| format!("{flag} is needed the first time");
        let given = |path: Option<PathBuf>| {
            path.map(|path| absolute(&path).with_context(|| display(&path))).transpose()
        };
        let models: BTreeMap<_, _> = self
            .models
            .into_iter()
            .map(|(alias, folder)| Ok((alias, absolute(&folder).with_context(|| display(&folder))?)))
            .collect::<anyhow::Result<_>>()?;
        let old = |read: fn(&ConfigFile) -> &PathBuf| earlier.as_ref().map(|file| read(file).clone());
        Ok(ConfigFile {
            coordinator: self
                .coordinator
                .or_else(|| earlier.as_ref().map(|file| file.coordinator.clone()))
                .with_context(|| missing("--coordinator"))?,
            token_file: given(self.token_file)?
                .or_else(|| old(|file| &file.token_file))
                .with_context(|| missing("--token-file"))?,
            log: self
                .log
                .or_else(|| earlier.as_ref().map(|file| file.log.clone()))
                .with_context(|| missing("--log"))?,
            policy: given(self.policy)?
                .or_else(|| old(|file| &file.policy))
                .with_context(|| missing("--policy"))?,
            capacity: self
                .capacity
                .or_else(|| earlier.as_ref().map(|file| file.capacity))
                .unwrap_or(DEFAULT_CAPACITY),
            keys: {
                let earlier = earlier.as_ref().map(|file| file.keys.clone()).unwrap_or_default();
                let certificates = self
                    .certificates
                    .into_iter()
                    .map(|path| given(Some(path)).map(Option::unwrap_or_default));
                let certificates = certificates.collect::<anyhow::Result<Vec<_>>>()?;
                KeysFile {
                    device: self.keys.unwrap_or(earlier.device),
                    tpm: self.tpm.or(earlier.tpm),
                    certificates: if certificates.is_empty() { earlier.certificates } else { certificates },
                    endorser: self.endorser.or(earlier.endorser),
                }
            },
            health: self.health.or_else(|| earlier.as_ref().and_then(|file| file.health)),
            models: if models.is_empty() {
                earlier.map(|file| file.models).unwrap_or_default()
            } else {
                models
            },
        })
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

fn alias_and_folder(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((alias, folder)) if !alias.is_empty() && !folder.is_empty() => {
            Ok((alias.to_owned(), folder.into()))
        }
        _ => Err("expected ALIAS=DIR, for example bloom-tiny=./models/bloom-tiny".to_owned()),
    }
}
