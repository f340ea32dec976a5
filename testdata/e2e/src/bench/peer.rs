//! Tessera's POSIX server in the same run, when its program is given, and else the numbers recorded for it elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use glassbloom_spec::{hash::Hash, note::NoteSigner};

use super::servers::{Server, free_address};
use crate::network::output;

/// Name of a peer that is measured in this run.
pub const MEASURED: &str = "tessera-posix";
/// Name of a peer's number that was measured on another machine.
pub const RECORDED: &str = "tessera-recorded";

/// What Tessera 1811ae1 (POSIX) reached on two cores of another machine; the witness is Google's, in memory.
const NUMBERS: [(&str, f64); 13] = [
    ("add-in-process-256", 11_600.0),
    ("add-http-1024", 5_000.0),
    ("append-500-p50", 76.0),
    ("append-500-p99", 145.0),
    ("append-2000-p50", 70.0),
    ("append-2000-p99", 125.0),
    ("append-lonely-p50", 1_020.0),
    ("read-tile-32", 10_000.0),
    ("read-checkpoint-32", 22_500.0),
    ("witness-add-checkpoint-16", 4_500.0),
    ("fsck", 150_000.0),
    ("disk-per-entry", 1.45),
    ("add-lonely-p50", 1_020.0),
];

/// The recorded number for a row; rows with witnesses have none.
pub fn recorded(row: &str) -> Option<f64> {
    NUMBERS.iter().find(|(name, _)| *name == row).map(|(_, value)| *value)
}

/// How the peer forms batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// Its conformance server's: 256 entries or a second; a checkpoint every second.
    Default,
    /// For latency: 256 entries or 20 ms; a checkpoint every 100 ms, which is the shortest it allows.
    Tuned,
}

impl Batching {
    /// Both, with the name each has in the table.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Default, "tessera-posix-default"), (Self::Tuned, "tessera-posix-tuned")];
}

/// A program with the flags of Tessera's POSIX conformance server, `-storage_dir`, `-listen` and `-private_key`, and
/// these of its options as flags: `-batch_size`, `-batch_age`, `-checkpoint_interval`. With `-in_process N` and
/// `-seconds S` it loads itself with N callers instead and prints adds per second.
#[derive(Clone, Debug)]
pub struct Peer(pub PathBuf);

impl Peer {
    fn command(&self, data: &Path, batching: Batching) -> Result<Command> {
        let storage = data.join("tessera");
        fs::create_dir_all(&storage).with_context(|| format!("making {}", storage.display()))?;
        let key = data.join("tessera.key");
        let signer =
            NoteSigner::ed25519_log("peer.example/log", *Hash::of(b"a key for a measurement").as_bytes())?;
        fs::write(&key, signer.to_private_string().as_bytes())
            .with_context(|| format!("writing {}", key.display()))?;
        let mut command = Command::new(&self.0);
        command.arg("-storage_dir").arg(&storage).arg("-private_key").arg(&key);
        if batching == Batching::Tuned {
            command.args(["-batch_size=256", "-batch_age=20ms", "-checkpoint_interval=100ms"]);
        }
        Ok(command)
    }

    /// Starts the server.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn start(&self, data: &Path, batching: Batching) -> Result<Server> {
        let address = free_address()?;
        let mut command = self.command(data, batching)?;
        command.args(["-listen", &address.to_string()]);
        Server::start(command, address, &data.join("tessera.log"))
    }

    /// Adds per second of this many callers in its own process.
    ///
    /// # Errors
    /// When it prints anything but a number.
    pub fn in_process(&self, data: &Path, callers: u32, seconds: f64) -> Result<f64> {
        let mut command = self.command(data, Batching::Default)?;
        command.arg(format!("-in_process={callers}")).arg(format!("-seconds={seconds}"));
        let printed = output(&mut command)?;
        printed.trim().parse().with_context(|| format!("the peer printed {printed:?}, not adds per second"))
    }
}
