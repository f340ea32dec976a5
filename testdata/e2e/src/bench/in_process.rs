//! The log as a library, on a real disk, without HTTP.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use glassbloom_log::{Log, config::Config};
use glassbloom_service::SystemClock;
use tokio::task::JoinSet;

use super::{
    entries::Entries,
    load::Client,
    servers::{Programs, SEGMENT},
};

/// Makes a log without witnesses below `data`, or opens the one that is there, as `glassbloom-log serve` does.
///
/// # Errors
/// When the log does not open.
pub async fn open(programs: &Programs, data: &Path) -> Result<Log> {
    programs.init(data)?;
    let mut config = Config::load(data, None)?;
    let at = config.logs.iter().position(|log| log.path == SEGMENT).context("a service has logs")?;
    let log = config.logs.remove(at);
    glassbloom_log::open(&config, log, Arc::new(SystemClock)).await
}

/// A caller of [`Log::add`].
#[derive(Clone)]
pub struct Adder {
    /// The log.
    pub log: Log,
    /// What it adds.
    pub entries: Arc<Entries>,
}

impl Client for Adder {
    async fn call(&mut self) -> Result<()> {
        let entry = Bytes::copy_from_slice(&self.entries.next());
        self.log.add(entry).await?;
        Ok(())
    }
}

/// A log with entries in it, closed again: what fsck and the size on disk are measured on.
#[derive(Clone, Debug)]
pub struct Grown {
    /// The data folder.
    pub data: PathBuf,
    /// Entries.
    pub entries: u64,
}

/// Adds this many entries, 256 at a time, and waits until they are published.
///
/// # Errors
/// When the log fails or publishes nothing for a minute.
pub async fn grow(programs: &Programs, data: &Path, entries: u64, source: Arc<Entries>) -> Result<Grown> {
    let log = open(programs, data).await?;
    let clients = 256;
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let mut adder = Adder { log: log.clone(), entries: Arc::clone(&source) };
        let share = entries / clients + u64::from(client < entries % clients);
        tasks.spawn(async move {
            for _ in 0..share {
                adder.call().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a client panicked")??;
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while log.published().is_none_or(|published| published.head.size.get() < entries) {
        ensure!(Instant::now() < deadline, "the log did not publish its {entries} entries within a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    log.stop().await?;
    Ok(Grown { data: data.to_owned(), entries })
}

/// Bytes that a folder takes on disk, in whole blocks.
///
/// # Errors
/// When it cannot be read.
pub fn bytes_on_disk(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let data = entry.metadata().with_context(|| format!("reading {}", entry.path().display()))?;
            bytes += std::os::unix::fs::MetadataExt::blocks(&data) * 512;
            if data.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes)
}
