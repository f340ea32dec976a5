//! A log behind HTTP, ours or a peer's, and the clients that load it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    entries::{ENTRY, Entries},
    http::{Connection, get, post},
    load::Client,
};

/// Where a log is, and how one learns that an entry is published.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its address.
    pub address: SocketAddr,
    /// Path of the log, without a slash at its end.
    pub prefix: String,
    /// Bearer token of writers.
    pub token: Option<String>,
    /// Whether `append` answers under a published checkpoint; else the checkpoint is polled.
    pub appends: bool,
}

impl Site {
    /// This many connections that add entries and wait for their indices.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub async fn adders(&self, count: usize, entries: &Arc<Entries>) -> Result<Vec<Adder>> {
        self.writers("add", count, entries).await
    }

    async fn writers(&self, verb: &str, count: usize, entries: &Arc<Entries>) -> Result<Vec<Adder>> {
        let mut request =
            post(self.address, &format!("{}/{verb}", self.prefix), self.token.as_deref(), ENTRY);
        let head = request.len();
        request.resize(head + ENTRY, 0);
        let mut adders = Vec::new();
        for _ in 0..count {
            let (request, entries) = (request.clone(), Arc::clone(entries));
            adders.push(Adder { connection: Connection::open(self.address).await?, entries, request, head });
        }
        Ok(adders)
    }

    /// This many connections that add entries and wait until each is published.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub async fn publishers(&self, count: usize, entries: &Arc<Entries>) -> Result<Vec<Publisher>> {
        if self.appends {
            let adders = self.writers("append", count, entries).await?;
            return Ok(adders.into_iter().map(|adder| Publisher { adder, poller: None }).collect());
        }
        let poller = Arc::new(Poller::start(self).await?);
        let adders = self.adders(count, entries).await?;
        Ok(adders.into_iter().map(|adder| Publisher { adder, poller: Some(Arc::clone(&poller)) }).collect())
    }

    /// This many connections that read one file below the log.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub async fn readers(&self, count: usize, file: &str) -> Result<Vec<Reader>> {
        let request = get(self.address, &format!("{}/{file}", self.prefix));
        let mut readers = Vec::new();
        for _ in 0..count {
            readers
                .push(Reader { connection: Connection::open(self.address).await?, request: request.clone() });
        }
        Ok(readers)
    }
}

/// Adds entries.
#[derive(Debug)]
pub struct Adder {
    connection: Connection,
    entries: Arc<Entries>,
    request: Vec<u8>,
    /// Length of the request's header.
    head: usize,
}

impl Adder {
    async fn send(&mut self) -> Result<&[u8]> {
        let body = self.request[self.head..].as_mut_array().context("the body has the length of an entry")?;
        self.entries.fill(body);
        self.connection.expect_ok(&self.request).await
    }

    async fn index(&mut self) -> Result<u64> {
        let body = self.send().await?;
        let index = std::str::from_utf8(body).ok().and_then(|text| text.trim().parse().ok());
        index.with_context(|| format!("not an index: {}", String::from_utf8_lossy(body)))
    }
}

impl Client for Adder {
    async fn call(&mut self) -> Result<()> {
        self.index().await.map(|_| ())
    }
}

/// Adds entries and waits until they are published.
#[derive(Debug)]
pub struct Publisher {
    adder: Adder,
    poller: Option<Arc<Poller>>,
}

impl Client for Publisher {
    async fn call(&mut self) -> Result<()> {
        let Some(poller) = &self.poller else {
            let body = self.adder.send().await?;
            let proved = body.windows(TLOG_PROOF.len()).any(|window| window == TLOG_PROOF);
            ensure!(proved, "no proof in {}", String::from_utf8_lossy(body));
            return Ok(());
        };
        let mut size = poller.size.clone();
        let index = self.adder.index().await?;
        size.wait_for(|size| *size > index).await.context("the checkpoint is no longer polled")?;
        Ok(())
    }
}

const TLOG_PROOF: &[u8] = b"c2sp.org/tlog-proof@v1";

/// Reads the checkpoint every few milliseconds, which adds half of that to a median.
#[derive(Debug)]
struct Poller {
    size: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Poller {
    async fn start(site: &Site) -> Result<Self> {
        let mut connection = Connection::open(site.address).await?;
        let request = get(site.address, &format!("{}/checkpoint", site.prefix));
        let (sender, size) = watch::channel(0);
        let task = tokio::spawn(async move {
            // Before the first checkpoint there is a 404.
            while let Ok(answer) = connection.exchange(&request).await {
                let text = std::str::from_utf8(answer.body).unwrap_or_default();
                if let Some(size) = text.lines().nth(1).and_then(|line| line.parse().ok()) {
                    sender.send_replace(size);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Ok(Self { size, task })
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one file again and again.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    request: Vec<u8>,
}

impl Client for Reader {
    async fn call(&mut self) -> Result<()> {
        ensure!(!self.connection.expect_ok(&self.request).await?.is_empty(), "an empty file");
        Ok(())
    }
}
