//! The programs that are measured, each a process of its own on loopback.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::network::output;

/// The segment of the log that is measured; the other one idles.
pub const SEGMENT: &str = "registry";

/// A running server; dropping it kills it. Its state is thrown away, so it needs no time to end well.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a program and waits until it listens on `address`. Its output goes to `log`.
    ///
    /// # Errors
    /// With its last words, when it ends instead.
    pub fn start(mut command: Command, address: SocketAddr, log: &Path) -> Result<Self> {
        let program = Path::new(command.get_program()).display().to_string();
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let second = file.try_clone().context("a second handle of a log file")?;
        let child = command.stdin(Stdio::null()).stdout(second).stderr(file).spawn();
        let child = child.with_context(|| format!("starting {program}"))?;
        let mut server = Self { address, child };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait().context("waiting for a server")?;
            if ended.is_some() || Instant::now() > deadline {
                let words = fs::read_to_string(log).unwrap_or_default();
                bail!("{program} does not listen on {address}; its words:\n{words}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port on loopback.
///
/// # Errors
/// When the machine has none.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
    listener.local_addr().context("finding a free port")
}

/// The programs of this repository, and a folder for their state.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Where `glassbloom-log` and its siblings are.
    pub folder: PathBuf,
}

/// With what a witness signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessKeys {
    /// Ed25519 and ML-DSA-44, which is what `witness init` makes.
    Both,
    /// Ed25519 alone, as most witnesses do.
    Ed25519,
}

/// A log service with its witnesses.
#[derive(Debug)]
pub struct LogService {
    /// The service.
    pub server: Server,
    /// Bearer token of writers.
    pub token: String,
    _witnesses: Vec<Server>,
}

impl Programs {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        // What a program says about each request would be measured with it.
        command.env("GLASSBLOOM_LOG", "warn");
        command
    }

    /// Makes a log without witnesses in `data`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn init(&self, data: &Path) -> Result<()> {
        let mut init = self.command("glassbloom-log");
        output(init.args(["init", "--name", "bench.example", "--data"]).arg(data)).map(|_| ())
    }

    /// Makes a log service below `data` with this many local witnesses, of which all must cosign, and starts it.
    ///
    /// # Errors
    /// When a program does not start.
    pub fn log(&self, data: &Path, witnesses: usize) -> Result<LogService> {
        let (log, address) = (data.join("log"), free_address()?);
        let mut init = self.command("glassbloom-log");
        init.args(["init", "--name", "bench.example", "--listen", &address.to_string(), "--data"]).arg(&log);
        let mut made = Vec::new();
        for number in 1..=witnesses {
            let (folder, address) = (data.join(format!("witness-{number}")), free_address()?);
            let name = format!("witness-{number}.example");
            for vkey in self.witness_init(&folder, &name, WitnessKeys::Both)?.lines() {
                init.arg("--witness").arg(format!("{vkey} http://{address}"));
            }
            made.push((folder, address));
        }
        init.args(["--quorum", &witnesses.to_string()]);
        output(&mut init)?;
        let policy = log.join("policy");
        let witnesses = made.into_iter().map(|(folder, address)| {
            let mut serve = self.command("glassbloom-auditor");
            serve.args(["witness", "serve", "--listen", &address.to_string(), "--data"]).arg(&folder);
            serve.arg("--policy").arg(&policy);
            Server::start(serve, address, &folder.with_extension("log"))
        });
        let witnesses = witnesses.collect::<Result<Vec<_>>>()?;
        let mut serve = self.command("glassbloom-log");
        serve.args(["serve", "--listen", &address.to_string(), "--data"]).arg(&log);
        let server = Server::start(serve, address, &data.join("log.log"))?;
        let token = log.join("token");
        let token = fs::read_to_string(&token).with_context(|| format!("reading {}", token.display()))?;
        Ok(LogService { server, token: token.trim().to_owned(), _witnesses: witnesses })
    }

    /// Makes a witness and gives its vkeys, one a line.
    fn witness_init(&self, folder: &Path, name: &str, keys: WitnessKeys) -> Result<String> {
        let mut init = self.command("glassbloom-auditor");
        init.args(["witness", "init", "--name", name, "--data"]).arg(folder);
        if keys == WitnessKeys::Ed25519 {
            init.arg("--only-ed25519");
        }
        output(&mut init)
    }

    /// A witness that follows these logs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn witness(&self, data: &Path, keys: WitnessKeys, vkeys: &[String]) -> Result<Server> {
        let (folder, address) = (data.join("witness"), free_address()?);
        self.witness_init(&folder, "witness.example", keys)?;
        let mut serve = self.command("glassbloom-auditor");
        serve.args(["witness", "serve", "--listen", &address.to_string(), "--data"]).arg(&folder);
        vkeys.iter().for_each(|vkey| {
            serve.args(["--vkey", vkey]);
        });
        Server::start(serve, address, &data.join("witness.log"))
    }

    /// The bare server that shows what loopback and HTTP cost by themselves.
    ///
    /// # Errors
    /// When it does not start.
    pub fn echo(&self, data: &Path) -> Result<Server> {
        let address = free_address()?;
        let mut serve = self.command("glassbloom-bench");
        serve.args(["echo", "--listen", &address.to_string()]);
        Server::start(serve, address, &data.join("echo.log"))
    }

    /// Seconds that `glassbloom-log fsck` takes over the log at `target`.
    ///
    /// # Errors
    /// When it finds anything, because then the log under test lost something.
    pub fn fsck(&self, target: &Path) -> Result<f64> {
        let mut fsck = self.command("glassbloom-log");
        fsck.arg("fsck").arg(target);
        let begin = Instant::now();
        output(&mut fsck)?;
        Ok(begin.elapsed().as_secs_f64())
    }
}
