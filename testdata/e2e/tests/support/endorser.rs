//! An auditor who vouches for a software TPM, and that TPM.

use std::sync::Arc;

use futures_util::FutureExt;
use glassbloom_auditor::{endorser, witness::Rate};
use glassbloom_hardware::test_support::SoftTpm;
use glassbloom_provider::config::{KeyDevice, KeysFile};
use glassbloom_service::SystemClock;
use glassbloom_spec::{
    evidence::{Anchor, x509},
    hash::Hash,
    leaf::Tier,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{Hardware, Running};

/// The auditor with the TPM that it looks at.
pub struct Auditor {
    tpm: SoftTpm,
    root: Hash,
    url: String,
    key: String,
    running: Running,
    _folder: TempDir,
}

impl Auditor {
    /// Makes a TPM and an auditor who believes its maker; `None` where `swtpm` is not installed.
    pub async fn with_a_tpm() -> Option<Self> {
        let tpm = tokio::task::spawn_blocking(SoftTpm::start).await.unwrap()?;
        let root = key_of_pem(&std::fs::read_to_string(tpm.root()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let key = endorser::init(folder.path()).unwrap().to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = endorser::Config {
            data: folder.path().to_path_buf(),
            anchors: vec![Anchor { tier: Tier::TpmSoft, key: root, name: "a software TPM".to_owned() }],
            rate: Rate::default(),
        };
        let running =
            Running::spawn(|stop| endorser::serve(config, listener, Arc::new(SystemClock), stop).boxed());
        Some(Self { tpm, root, url, key, running, _folder: folder })
    }

    /// Providers with their keys in this TPM, and a policy that accepts this tier and believes this auditor.
    pub fn hardware(&self, tier: &str) -> Hardware {
        Hardware {
            keys: KeysFile {
                device: KeyDevice::Tpm,
                tpm: Some(self.tpm.tcti().to_string()),
                certificates: vec![self.tpm.issuer(), self.tpm.root()],
                endorser: Some(self.url.clone()),
            },
            policy: format!(
                "accept {tier}\nanchor {tier} {} A software TPM\nendorser {}\n",
                self.root, self.key
            ),
        }
    }

    /// Ends the auditor; the TPM stays on until this is dropped.
    pub async fn stop(self) -> SoftTpm {
        self.running.stop().await;
        self.tpm
    }
}

/// SHA-256 over the public key of a certificate in PEM: what a policy pins.
fn key_of_pem(pem: &str) -> Hash {
    use base64::{Engine, prelude::BASE64_STANDARD};

    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64_STANDARD.decode(body).unwrap();
    Hash::of(x509::Certificate::parse(&der).unwrap().spki())
}
