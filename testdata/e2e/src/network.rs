//! The whole network as separate processes with real sockets: what `cargo up` starts, and what tests drive.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::tasks::wheel::sha256;

/// The alias of the model that the network serves.
pub const MODEL: &str = "bloom-tiny-1m";

/// One process of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Registry and receipts.
    Log,
    /// The first local witness.
    Witness1,
    /// The second local witness.
    Witness2,
    /// The coordinator.
    Coordinator,
    /// The provider.
    Provider,
    /// The explorer's static files.
    Explorer,
    /// The verifying proxy.
    Proxy,
}

impl Part {
    /// In the order in which they start; they stop in reverse.
    pub const ALL: [Self; 7] = [
        Self::Witness1,
        Self::Witness2,
        Self::Log,
        Self::Coordinator,
        Self::Provider,
        Self::Explorer,
        Self::Proxy,
    ];

    /// Its name in tables and log files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Explorer => "explorer",
            Self::Log => "log",
            Self::Provider => "provider",
            Self::Proxy => "proxy",
            Self::Witness1 => "witness-1",
            Self::Witness2 => "witness-2",
        }
    }

    /// Its port, counted from the port base. The provider listens nowhere: it connects to the coordinator.
    const fn offset(self) -> Option<u16> {
        match self {
            Self::Coordinator => Some(1),
            Self::Explorer => Some(3),
            Self::Log => Some(2),
            Self::Provider => None,
            Self::Proxy => Some(0),
            Self::Witness1 => Some(4),
            Self::Witness2 => Some(5),
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Coordinator => "glassbloom-coordinator",
            Self::Explorer => "glassbloom-web",
            Self::Log => "glassbloom-log",
            Self::Provider => "glassbloom-provider",
            Self::Proxy => "glassbloom",
            Self::Witness1 | Self::Witness2 => "glassbloom-auditor",
        }
    }
}

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The repository.
    pub root: PathBuf,
    /// Folder with the programs.
    pub programs: PathBuf,
    /// Folder that keeps all state.
    pub data: PathBuf,
    /// Port of the proxy; the others follow.
    pub port_base: u16,
}

impl Plan {
    /// The address of a part.
    ///
    /// # Panics
    /// For the provider, which has none.
    pub fn address(&self, part: Part) -> SocketAddr {
        let offset = part.offset().expect("the provider listens nowhere");
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port_base + offset))
    }

    /// The address of a part as a URL.
    pub fn url(&self, part: Part) -> String {
        format!("http://{}", self.address(part))
    }

    /// The policy file of clients.
    pub fn policy(&self) -> PathBuf {
        self.data.join("policy")
    }

    /// The API key that applications and the proxy use.
    pub fn api_key(&self) -> Result<String> {
        let file = self.data.join("api-key");
        Ok(fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?
            .trim()
            .to_owned())
    }

    /// A command of one of the network's programs.
    pub fn command(&self, program: &str) -> Command {
        Command::new(self.programs.join(program))
    }

    /// Refuses ports that are in use, naming them.
    pub fn check_ports(&self) -> Result<()> {
        for part in Part::ALL.into_iter().filter(|part| part.offset().is_some()) {
            let address = self.address(part);
            if let Err(error) = TcpListener::bind(address) {
                bail!(
                    "port {} for the {} cannot be used: {error}\nstop what uses it (another `cargo up`?), or choose other ports: cargo up -- --port-base {}",
                    address.port(),
                    part.name(),
                    if self.port_base > 64_000 { self.port_base - 1000 } else { self.port_base + 1000 },
                );
            }
        }
        Ok(())
    }

    /// Makes keys, tokens, configurations and the policy, keeping those that are there.
    ///
    /// Nothing runs while it works and nothing runs afterwards.
    pub fn prepare(&self, progress: &dyn Fn(&str)) -> Result<()> {
        fs::create_dir_all(self.data.join("logs"))
            .with_context(|| format!("making {}", self.data.display()))?;
        progress("making keys and configurations");
        let data = |name: &str| self.data.join(name);
        let mut log_init = self.command("glassbloom-log");
        log_init.arg("init").arg("--data").arg(data("log")).args([
            "--name",
            "glassbloom.local",
            "--quorum",
            "2",
        ]);
        log_init.args(["--listen", &self.address(Part::Log).to_string(), "--url", &self.url(Part::Log)]);
        for part in [Part::Witness1, Part::Witness2] {
            let mut init = self.command("glassbloom-auditor");
            init.args(["witness", "init", "--name", &format!("{}.glassbloom.local", part.name())])
                .arg("--data")
                .arg(data(part.name()));
            let vkeys = output(&mut init)?;
            // The first is Ed25519, which every deployed verifier reads; one key per witness keeps the policy short.
            let vkey = vkeys.lines().next().context("the witness has no key")?;
            log_init.arg("--witness").arg(format!("{vkey} {}", self.url(part)));
        }
        output(&mut log_init)?;
        for part in [Part::Witness1, Part::Witness2] {
            let mut add = self.command("glassbloom-auditor");
            add.args(["witness", "add-log"])
                .arg("--data")
                .arg(data(part.name()))
                .arg("--policy")
                .arg(data("log").join("policy"));
            output(&mut add)?;
        }
        let log_policy =
            fs::read_to_string(data("log").join("policy")).context("reading the log's policy")?;
        let release = self.release()?;
        // What this demonstration accepts, said in its policy: keys in software prove no hardware.
        let base = format!("{log_policy}release {release}\naccept self-signed\ncheckpoint-age 10m\n");
        // The coordinator's own policy needs no coordinator line, and its key is not known before it has run once.
        fs::write(data("coordinator-policy"), &base).context("writing the coordinator's policy")?;
        let mut init = self.command("glassbloom-coordinator");
        init.arg("init").arg("--data").arg(data("coordinator")).args(["--log", &self.url(Part::Log)]);
        init.arg("--log-token-file")
            .arg(data("log").join("token"))
            .arg("--policy")
            .arg(data("coordinator-policy"));
        init.arg("--model").arg(format!("{MODEL}={}", self.model().display()));
        init.args([
            "--price",
            &format!("{MODEL}=50000,200000"),
            "--listen",
            &self.address(Part::Coordinator).to_string(),
        ]);
        init.arg("--release").arg(self.release_file()?);
        let printed = output(&mut init)?;
        let line = printed
            .lines()
            .find(|line| line.starts_with("coordinator "))
            .context("the coordinator printed no key")?;
        fs::write(self.policy(), format!("{base}{line}\n")).context("writing the policy")?;
        self.secret("api-key", &["api-key", "create", "--name", "demo"])?;
        self.secret("provider-token", &["provider-token", "create", "--name", "local"])?;

        let mut init = self.command("glassbloom-provider");
        init.arg("init")
            .arg("--data")
            .arg(data("provider"))
            .args(["--coordinator", &self.url(Part::Coordinator)]);
        init.arg("--token-file").arg(data("provider-token")).args(["--log", &self.url(Part::Log)]);
        init.arg("--policy")
            .arg(self.policy())
            .arg("--model")
            .arg(format!("{MODEL}={}", self.model().display()));
        output(&mut init)?;

        let mut init = self.command("glassbloom");
        init.arg("--data").arg(data("proxy")).args(["init", "--coordinator", &self.url(Part::Coordinator)]);
        init.arg("--api-key-file").arg(data("api-key")).arg("--policy").arg(self.policy());
        init.args(["--listen", &self.address(Part::Proxy).to_string()]);
        output(&mut init)?;
        Ok(())
    }

    fn model(&self) -> PathBuf {
        self.root.join("testdata/model").join(MODEL)
    }

    /// Where the release statement of this very build is kept.
    fn release_file(&self) -> Result<PathBuf> {
        let build = sha256(&self.programs.join("glassbloom-provider"))?;
        Ok(self.data.join("release").join(format!("{}.release", &build[..16])))
    }

    /// Signs a release of this build, once, with a key of this demonstration; gives the public key.
    fn release(&self) -> Result<String> {
        let (file, kept) = (self.release_file()?, self.data.join("release/public-key"));
        if file.exists() && kept.exists() {
            return fs::read_to_string(&kept).context("reading the release key");
        }
        fs::create_dir_all(self.data.join("release")).context("making the release folder")?;
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.root).args(["rev-parse", "HEAD"]);
        let commit =
            output(&mut git).map_or_else(|_| "unknown".to_owned(), |commit| commit.trim().to_owned());
        let build = file.file_stem().unwrap_or_default().to_string_lossy();
        let version = format!("{}-dev.{}", env!("CARGO_PKG_VERSION"), &build[..8]);
        let mut sign = self.command("glassbloom-provider");
        sign.arg("release")
            .arg("--key")
            .arg(self.data.join("release/release.key"))
            .arg("--out")
            .arg(&file)
            .args(["--commit", &commit])
            // A version is one build, also where every change is another one.
            .args(["--version", &version]);
        let printed = output(&mut sign)?;
        let key = printed
            .lines()
            .find_map(|line| line.strip_prefix("release "))
            .context("the provider printed no release key")?;
        fs::write(&kept, key).context("keeping the release key")?;
        Ok(key.to_owned())
    }

    /// Keeps what a coordinator command prints in a file that only the owner can read.
    fn secret(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let file = self.data.join(name);
        if file.exists() {
            return Ok(());
        }
        let mut create = self.command("glassbloom-coordinator");
        create.args(arguments).arg("--data").arg(self.data.join("coordinator"));
        let printed = output(&mut create)?;
        let mut options = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create(true).truncate(true), 0o600);
        let mut open = options.open(&file).with_context(|| format!("writing {}", file.display()))?;
        open.write_all(printed.trim().as_bytes()).with_context(|| format!("writing {}", file.display()))
    }

    fn serve(&self, part: Part) -> Command {
        let mut command = self.command(part.program());
        let data = self.data.join(part.name());
        match part {
            Part::Coordinator | Part::Log => {
                command.args(["serve", "--listen", &self.address(part).to_string()]).arg("--data").arg(data)
            }
            Part::Explorer => command
                .args(["serve", "--listen", &self.address(part).to_string(), "--log", &self.url(Part::Log)])
                .arg("--dir")
                .arg(self.root.join("web/dist"))
                .arg("--policy")
                .arg(self.policy()),
            Part::Provider => command.args(["serve", "--data"]).arg(data),
            Part::Proxy => command.arg("--data").arg(data).arg("proxy"),
            Part::Witness1 | Part::Witness2 => command
                .args(["witness", "serve", "--listen", &self.address(part).to_string()])
                .arg("--data")
                .arg(data),
        };
        command
    }
}

/// A running network. Dropping it stops it.
pub struct Network {
    plan: Plan,
    running: Vec<(Part, Child)>,
}

impl Network {
    /// Starts these parts in order and waits until each works.
    pub fn start(plan: Plan, parts: &[Part], progress: &dyn Fn(&str)) -> Result<Self> {
        let mut network = Self { plan, running: Vec::new() };
        for part in Part::ALL.into_iter().filter(|part| parts.contains(part)) {
            progress(&format!("starting the {}", part.name()));
            network.spawn(part)?;
        }
        Ok(network)
    }

    /// What was started.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Starts a part that is not running and waits until it works.
    pub fn spawn(&mut self, part: Part) -> Result<()> {
        let path = self.log_file(part);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        // In a process group of its own, so that Ctrl-C reaches only the runner, which stops the parts in order.
        let child = std::os::unix::process::CommandExt::process_group(&mut self.plan.serve(part), 0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("a second handle of the log file")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", part.program()))?;
        self.running.push((part, child));
        self.wait_until_it_works(part)
    }

    /// Kills a part at once, as a power cut would.
    pub fn kill(&mut self, part: Part) -> Result<()> {
        let place = self
            .running
            .iter()
            .position(|(running, _)| *running == part)
            .context("the part is not running")?;
        let (_, mut child) = self.running.remove(place);
        child.kill().context("killing a part")?;
        child.wait().context("waiting for a killed part")?;
        Ok(())
    }

    /// Asks a part to stop and waits for it.
    pub fn stop(&mut self, part: Part) -> Result<()> {
        let place = self
            .running
            .iter()
            .position(|(running, _)| *running == part)
            .context("the part is not running")?;
        let (_, child) = self.running.remove(place);
        end(part, child)
    }

    /// A part that ended by itself, if one did.
    pub fn ended(&mut self) -> Option<Part> {
        self.running.iter_mut().find_map(|(part, child)| child.try_wait().ok().flatten().map(|_| *part))
    }

    /// Stops every part in reverse order.
    pub fn stop_all(mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some((part, child)) = self.running.pop() {
            result = result.and(end(part, child));
        }
        result
    }

    /// The last lines that a part wrote.
    pub fn tail(&self, part: Part) -> String {
        let text = fs::read(self.log_file(part)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn log_file(&self, part: Part) -> PathBuf {
        self.plan.data.join("logs").join(format!("{}.log", part.name()))
    }

    fn wait_until_it_works(&mut self, part: Part) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            if let Some(ended) = self.ended() {
                bail!(
                    "the {} ended; its last words, from {}:\n{}",
                    ended.name(),
                    self.log_file(ended).display(),
                    self.tail(ended)
                );
            }
            let works = match part {
                Part::Provider => self.serves_the_model(),
                Part::Explorer => {
                    answers(self.plan.address(part), "/", None).is_some_and(|(status, _)| status == 200)
                }
                // A log is healthy once its first checkpoint is cosigned, which takes no longer than the other parts.
                Part::Log => answers(self.plan.address(part), "/healthz", None).is_some(),
                Part::Witness1 | Part::Witness2 => TcpStream::connect(self.plan.address(part)).is_ok(),
                Part::Coordinator | Part::Proxy => answers(self.plan.address(part), "/healthz", None)
                    .is_some_and(|(status, _)| status == 200),
            };
            if works {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the {} does not work after 90 s; its last words, from {}:\n{}",
                    part.name(),
                    self.log_file(part).display(),
                    self.tail(part)
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether the coordinator lists the model, which it does while a provider that may serve it is connected.
    fn serves_the_model(&self) -> bool {
        let Ok(key) = self.plan.api_key() else { return false };
        let answer = answers(
            self.plan.address(Part::Coordinator),
            &format!("/v1/providers/bundle?model={MODEL}&n=1"),
            Some(&key),
        );
        answer.is_some_and(|(status, _)| status == 200)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        while let Some((part, child)) = self.running.pop() {
            // Nothing more can be done for a part that does not end.
            let _ = end(part, child);
        }
    }
}

/// Asks a process to end, and makes it after ten seconds.
fn end(part: Part, mut child: Child) -> Result<()> {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended already.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match child.try_wait().with_context(|| format!("waiting for the {}", part.name()))? {
            Some(_) => return Ok(()),
            None if Instant::now() > deadline => {
                child.kill().with_context(|| format!("killing the {}", part.name()))?;
                child.wait().with_context(|| format!("waiting for the {}", part.name()))?;
                bail!("the {} did not stop within ten seconds and was killed", part.name());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A GET without a library: status and body, or `None` when nobody answers.
pub fn answers(address: SocketAddr, path: &str, key: Option<&str>) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let authorization = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n{authorization}connection: close\r\n\r\n")
        .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Runs a command to its end and gives what it printed; its error output goes into the error.
pub fn output(command: &mut Command) -> Result<String> {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let run = command.stdin(Stdio::null()).output().with_context(|| format!("starting {program}"))?;
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    ensure!(run.status.success(), "{program} failed ({}):\n{}{}", run.status, out, err);
    Ok(out.into_owned())
}
