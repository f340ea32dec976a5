//! A software TPM with its own maker, for tests of this crate and of others.
//!
//! The maker is a root that signed an issuer that signed the TPM's certificate, all made for this one TPM.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use glassbloom_spec::{evidence::x509::Certificate, hash::Hash};
use tempfile::TempDir;

use crate::tpm::{Tcti, TpmConfig, read_certificates};

/// A running software TPM. Ends with the value, and with the process that holds it however that ends.
pub struct SoftTpm {
    folder: TempDir,
    running: Option<Child>,
}

impl SoftTpm {
    /// Makes a TPM and starts it; `None`, with a line that says so, where `swtpm` is not installed.
    ///
    /// # Panics
    /// When it is installed and does not work, and when it is missing though `GLASSBLOOM_REQUIRE_ALL` is set.
    pub fn start() -> Option<Self> {
        for tool in ["swtpm", "swtpm_setup"] {
            if !is_installed(tool) {
                assert!(
                    env::var_os("GLASSBLOOM_REQUIRE_ALL").is_none_or(|v| v != "1"),
                    "{tool} is not installed: apt-get install swtpm swtpm-tools"
                );
                eprintln!("skipped: {tool} is not installed: apt-get install swtpm swtpm-tools");
                return None;
            }
        }
        let folder = tempfile::Builder::new().prefix("soft-tpm-").tempdir().expect("a temporary folder");
        make(folder.path()).expect("swtpm_setup makes a TPM");
        let mut tpm = Self { folder, running: None };
        tpm.power_on();
        Some(tpm)
    }

    /// Where it answers.
    pub fn tcti(&self) -> Tcti {
        Tcti::Socket(self.socket())
    }

    /// The certificate of the root of its maker, in PEM: what a policy pins.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("ca/swtpm-localca-rootca-cert.pem")
    }

    /// The certificate between the TPM's and the root, in PEM: what a provider is configured with.
    pub fn issuer(&self) -> PathBuf {
        self.folder.path().join("ca/issuercert.pem")
    }

    /// The root as a policy pins it: SHA-256 over its public key (SubjectPublicKeyInfo).
    ///
    /// # Panics
    /// When its file is no certificate.
    pub fn root_key(&self) -> Hash {
        let chain = read_certificates(&self.root()).expect("swtpm_setup wrote it");
        Hash::of(Certificate::parse(&chain[0]).expect("a certificate").spki())
    }

    /// How a provider uses it, with its keys in that folder.
    pub fn config(&self, folder: impl Into<PathBuf>) -> TpmConfig {
        TpmConfig {
            tcti: self.tcti(),
            certificates: vec![self.issuer(), self.root()],
            ..TpmConfig::new(folder)
        }
    }

    /// Switches it off and on, as when the machine is restarted.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.power_off();
        self.power_on();
    }

    /// Switches it off.
    pub fn power_off(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.stdin.take());
            // It has been asked to end, and there is nothing to do about one that does not.
            let _ = running.wait();
        }
    }

    fn power_on(&mut self) {
        let (state, socket) = (self.folder.path().join("state"), self.socket());
        let control = socket.with_extension("ctrl");
        for stale in [&socket, &control] {
            // There is none at first.
            let _ = fs::remove_file(stale);
        }
        // The shell ends the TPM once its own input ends, which it does with this process at the latest.
        let script = "swtpm \"$@\" >&2 & read -r line; kill $!; wait";
        let running = Command::new("sh")
            .args(["-c", script, "sh", "socket", "--tpm2", "--flags", "startup-clear", "--tpmstate"])
            .arg(format!("dir={}", state.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", control.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.folder.path().join("log")).expect("a log file"))
            .spawn();
        self.running = Some(running.expect("a shell"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.tcti().connect().is_err() {
            assert!(Instant::now() < deadline, "swtpm does not start: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for SoftTpm {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// Has `swtpm_setup` make a TPM's state and its maker.
fn make(folder: &Path) -> io::Result<()> {
    let path = |name: &str| folder.join(name).display().to_string();
    for name in ["state", "ca"] {
        fs::create_dir(folder.join(name))?;
    }
    let options = "--platform-manufacturer Example\n--platform-version 1\n--platform-model Test\n";
    fs::write(folder.join("ca.options"), options)?;
    let ca = format!(
        "statedir = {0}\nsigningkey = {0}/signkey.pem\nissuercert = {0}/issuercert.pem\ncertserial = {0}/certserial\n",
        path("ca")
    );
    fs::write(folder.join("ca.conf"), ca)?;
    let tool = find("swtpm_localca").ok_or_else(|| io::Error::other("swtpm_localca is not installed"))?;
    let setup = format!(
        "create_certs_tool = {}\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
        tool.display(),
        path("ca.conf"),
        path("ca.options"),
    );
    fs::write(folder.join("setup.conf"), setup)?;
    let made = Command::new("swtpm_setup")
        .args(["--tpm2", "--create-ek-cert", "--tpmstate", &path("state"), "--config", &path("setup.conf")])
        .output()?;
    if made.status.success() {
        return Ok(());
    }
    let said = [made.stdout, made.stderr].concat();
    Err(io::Error::other(String::from_utf8_lossy(&said).into_owned()))
}

fn is_installed(tool: &str) -> bool {
    find(tool).is_some()
}

fn find(tool: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(tool)).find(|path| path.is_file())
}
