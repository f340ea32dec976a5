//! The rows of the table, each measured several times on a fresh log; the median counts.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tokio::runtime::{Builder, Runtime};

use super::{
    entries::{ENTRY, Entries},
    in_process::{self, Grown},
    limits,
    load::{Client, Measured, Span, closed, open},
    peer::{self, Batching, Peer},
    report::{Line, median},
    servers::{LogService, Programs, SEGMENT, Server, WitnessKeys},
    site::Site,
    witness::{Submitter, prepare},
};

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// Durable adds per second through the library, 256 callers waiting
    AddInProcess,
    /// Durable adds per second over HTTP, 1,024 connections
    AddHttp,
    /// Durable and published at 500 a second offered: p50 and p99, without and with two witnesses
    #[value(name = "append-500")]
    Append500,
    /// The same at 2,000 a second
    #[value(name = "append-2000")]
    Append2000,
    /// One writer that waits each time: durable, published, and published with two witnesses
    Lonely,
    /// Reads of a full tile and of the checkpoint, 32 connections
    Read,
    /// Checkpoints that a witness cosigns durably, 16 logs at once
    Witness,
    /// Entries that fsck checks per second
    Fsck,
    /// Bytes on disk per entry
    Disk,
}

/// What to measure, where, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The programs.
    pub programs: Programs,
    /// An empty folder on the disk to measure; emptied again.
    pub data: PathBuf,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// Measurements of each number.
    pub repeats: u32,
    /// Entries of the log for fsck and the size on disk.
    pub entries: u64,
    /// The peer, when its program is at hand.
    pub peer: Option<Peer>,
}

/// Runs rows and hands out lines.
pub struct Bench<'a> {
    plan: Plan,
    entries: Arc<Entries>,
    folders: u32,
    grown: Option<Grown>,
    progress: &'a dyn Fn(&str),
    line: &'a mut dyn FnMut(&Line),
}

/// A number with its name, in the unit of its row.
type Other = (String, f64);

impl<'a> Bench<'a> {
    /// Measures as planned.
    pub fn new(plan: Plan, progress: &'a dyn Fn(&str), line: &'a mut dyn FnMut(&Line)) -> Self {
        // Any seed will do: every log begins empty.
        Self { plan, entries: Arc::new(Entries::new(0x67_6c61)), folders: 0, grown: None, progress, line }
    }

    /// Measures one row.
    ///
    /// # Errors
    /// When a program does not start, answers with an error, or stops.
    pub fn run(&mut self, row: Row) -> Result<()> {
        (self.progress)(&format!(
            "measuring {}",
            row.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
        ));
        match row {
            Row::AddInProcess => self.add_in_process(),
            Row::AddHttp => self.add_http(),
            Row::Append500 => self.append(500),
            Row::Append2000 => self.append(2000),
            Row::Lonely => self.lonely(),
            Row::Read => self.read(),
            Row::Witness => self.witness(),
            Row::Fsck => self.fsck(),
            Row::Disk => self.disk(),
        }
    }

    fn add_in_process(&mut self) -> Result<()> {
        let callers = 256;
        let value = self.repeat(|bench, data| {
            let adders = async {
                let log = in_process::open(&bench.plan.programs, &data.join("log")).await?;
                let adder = in_process::Adder { log, entries: Arc::clone(&bench.entries) };
                closed(vec![adder; callers as usize], bench.span()).await
            };
            Ok([server_runtime()?.block_on(adders)?.rate()])
        })?[0];
        let mut others = vec![target(25_000.0)];
        if let Some(peer) = self.plan.peer.clone() {
            let its =
                self.repeat(|bench, data| Ok([peer.in_process(data, callers, bench.plan.seconds)?]))?[0];
            others.push((peer::MEASURED.to_owned(), its));
        }
        others.push(("limit-sha256-one-core".to_owned(), limits::leaf_hashes(self.short())));
        others.push(("limit-disk-256-a-sync".to_owned(), 256.0 * self.synced_writes(256 * ENTRY)?));
        self.emit("add-in-process-256", value, "adds/s", others);
        Ok(())
    }

    fn add_http(&mut self) -> Result<()> {
        let connections = 1024;
        let load = |bench: &Self, site: &Site| {
            let measured = client_runtime()?.block_on(async {
                closed(site.adders(connections, &bench.entries).await?, bench.span()).await
            })?;
            Ok([measured.rate()])
        };
        let value = self.repeat(|bench, data| {
            let service = bench.plan.programs.log(data, 0)?;
            load(bench, &ours(&service))
        })?[0];
        let mut others = vec![target(12_000.0)];
        for (batching, name) in Batching::ALL {
            others.extend(self.peer(batching, &load)?.map(|[its]| (name.to_owned(), its)));
        }
        let [echo] = self.repeat(|bench, data| load(bench, &bare(&bench.plan.programs.echo(data)?)))?;
        others.push(("limit-bare-http".to_owned(), echo));
        others.push(("limit-disk-256-a-sync".to_owned(), 256.0 * self.synced_writes(256 * ENTRY)?));
        self.emit("add-http-1024", value, "adds/s", others);
        Ok(())
    }

    fn append(&mut self, rate: u32) -> Result<()> {
        // As many as may be in flight, not as many as are: an answer after 100 ms occupies a tenth of the rate.
        let connections = (rate as usize / 2).max(256);
        let load = |bench: &Self, site: &Site| {
            let measured = client_runtime()?.block_on(async {
                open(site.publishers(connections, &bench.entries).await?, rate, bench.span()).await
            })?;
            Ok([measured.millis(0.5), measured.millis(0.99)])
        };
        let names = ["p50", "p99"];
        let sync = 1000.0 / self.synced_writes(4096)?;
        let tuned = self.peer(Batching::Tuned, &load)?;
        for (witnesses, kind) in [(0, ""), (2, "-two-witnesses")] {
            let values = self.repeat(|bench, data| {
                let service = bench.plan.programs.log(data, witnesses)?;
                load(bench, &ours(&service))
            })?;
            for (at, target) in [(0, target(10.0)), (1, target(40.0))] {
                let mut others = vec![target];
                others.extend(tuned.map(|its| ("tessera-posix-tuned".to_owned(), its[at])));
                others.push(("limit-one-sync".to_owned(), sync));
                self.emit(&format!("append-{rate}{kind}-{}", names[at]), values[at], "ms", others);
            }
        }
        Ok(())
    }

    fn lonely(&mut self) -> Result<()> {
        let publish = |bench: &Self, site: &Site| {
            let measured = client_runtime()?
                .block_on(async { closed(site.publishers(1, &bench.entries).await?, bench.span()).await })?;
            Ok([measured.millis(0.5)])
        };
        let sync = 1000.0 / self.synced_writes(4096)?;
        let mut peers = Vec::new();
        for (batching, name) in Batching::ALL {
            peers.extend(self.peer(batching, &publish)?.map(|[its]| (name.to_owned(), its)));
        }
        let [added] = self.repeat(|bench, data| {
            let service = bench.plan.programs.log(data, 0)?;
            let measured = client_runtime()?.block_on(async {
                closed(ours(&service).adders(1, &bench.entries).await?, bench.span()).await
            })?;
            Ok([measured.millis(0.5)])
        })?;
        self.emit("add-lonely-p50", added, "ms", vec![("limit-one-sync".to_owned(), sync)]);
        for (witnesses, kind) in [(0, ""), (2, "-two-witnesses")] {
            let [value] = self.repeat(|bench, data| {
                let service = bench.plan.programs.log(data, witnesses)?;
                publish(bench, &ours(&service))
            })?;
            let mut others = vec![target(8.0)];
            others.extend(peers.clone());
            others.push(("limit-one-sync".to_owned(), sync));
            self.emit(&format!("append-lonely{kind}-p50"), value, "ms", others);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let connections = 32;
        for (file, row, goal) in
            [("tile/0/000", "read-tile-32", 25_000.0), ("checkpoint", "read-checkpoint-32", 40_000.0)]
        {
            let read = |bench: &Self, site: &Site| -> Result<Measured> {
                client_runtime()?
                    .block_on(async { closed(site.readers(connections, file).await?, bench.span()).await })
            };
            let fill_and_read = |bench: &Self, site: &Site| {
                client_runtime()?.block_on(fill(site, &bench.entries))?;
                Ok([read(bench, site)?.rate()])
            };
            let [value] = self.repeat(|bench, data| {
                let service = bench.plan.programs.log(data, 0)?;
                fill_and_read(bench, &ours(&service))
            })?;
            let mut others = vec![target(goal)];
            let its = self.peer(Batching::Tuned, &fill_and_read)?;
            others.extend(its.map(|[its]| (peer::MEASURED.to_owned(), its)));
            let [echo] = self
                .repeat(|bench, data| Ok([read(bench, &bare(&bench.plan.programs.echo(data)?))?.rate()]))?;
            others.push(("limit-bare-http".to_owned(), echo));
            self.emit(row, value, "reads/s", others);
        }
        Ok(())
    }

    fn witness(&mut self) -> Result<()> {
        let logs = 16_u32;
        let span = self.span();
        // More than two cores can sign, because a witness must not run out of them.
        let each = (15_000.0 / f64::from(logs) * (span.measure + span.warm_up).as_secs_f64()).ceil() as u64;
        let prepared = (0..logs)
            .map(|log| prepare(&format!("bench.example/log-{log}"), each))
            .collect::<Result<Vec<_>>>()?;
        let vkeys: Vec<String> = prepared.iter().map(|log| log.vkey.clone()).collect();
        let [echo] = self.repeat(|bench, data| {
            let server = bench.plan.programs.echo(data)?;
            let site = bare(&server);
            let measured = client_runtime()?.block_on(async {
                closed(site.adders(logs as usize, &bench.entries).await?, bench.span()).await
            })?;
            Ok([measured.rate()])
        })?;
        for (keys, row) in [
            (WitnessKeys::Ed25519, "witness-add-checkpoint-16"),
            (WitnessKeys::Both, "witness-add-checkpoint-16-mldsa44"),
        ] {
            let [value] = self.repeat(|bench, data| {
                let server = bench.plan.programs.witness(data, keys, &vkeys)?;
                let measured = client_runtime()?.block_on(async {
                    let mut submitters = Vec::new();
                    for log in &prepared {
                        submitters.push(Submitter::open(server.address, log.bodies.clone()).await?);
                    }
                    closed(submitters, bench.span()).await
                })?;
                Ok([measured.rate()])
            })?;
            let mut others = vec![target(4_500.0)];
            if keys == WitnessKeys::Both {
                let signatures = cores()? * limits::mldsa44_signatures(self.short())?;
                others.push(("limit-mldsa44-all-cores".to_owned(), signatures));
            }
            others.push(("limit-bare-http".to_owned(), echo));
            others.push(("limit-16-a-sync".to_owned(), f64::from(logs) * self.synced_writes(4096)?));
            self.emit(row, value, "cosigned/s", others);
        }
        Ok(())
    }

    fn fsck(&mut self) -> Result<()> {
        let grown = self.grown()?;
        let public = grown.data.join("public").join(SEGMENT);
        let mut rates = Vec::new();
        for _ in 0..self.plan.repeats {
            rates.push(grown.entries as f64 / self.plan.programs.fsck(&public)?);
        }
        let others = vec![
            target(1_000_000.0),
            ("limit-sha256-all-cores".to_owned(), cores()? * limits::leaf_hashes(self.short())),
        ];
        self.emit("fsck", median(rates), "entries/s", others);
        Ok(())
    }

    fn disk(&mut self) -> Result<()> {
        let grown = self.grown()?;
        let folders = [grown.data.join("public").join(SEGMENT), grown.data.join("state")];
        let bytes = folders.iter().map(|folder| in_process::bytes_on_disk(folder)).sum::<Result<u64>>()?;
        let kib = bytes as f64 / grown.entries as f64 / 1024.0;
        // The entry, its length, its leaf hash, and one hash in 256 for each level above.
        let format = (ENTRY as f64 + 2.0 + 32.0 * 256.0 / 255.0) / 1024.0;
        let others = vec![target(1.1), ("limit-format".to_owned(), format)];
        self.emit("disk-per-entry", kib, "KiB", others);
        Ok(())
    }

    /// The log for fsck and the size on disk, made once.
    fn grown(&mut self) -> Result<Grown> {
        if let Some(grown) = &self.grown {
            return Ok(grown.clone());
        }
        (self.progress)(&format!("adding {} entries", self.plan.entries));
        let data = self.plan.data.join("grown");
        let made = in_process::grow(&self.plan.programs, &data, self.plan.entries, Arc::clone(&self.entries));
        let grown = server_runtime()?.block_on(made)?;
        self.grown = Some(grown.clone());
        Ok(grown)
    }

    /// Loads the peer like ours, if there is one.
    fn peer<const N: usize>(
        &mut self,
        batching: Batching,
        load: &dyn Fn(&Self, &Site) -> Result<[f64; N]>,
    ) -> Result<Option<[f64; N]>> {
        let Some(peer) = self.plan.peer.clone() else { return Ok(None) };
        (self.progress)(&format!("measuring the peer, {batching:?} batching"));
        let values = self.repeat(|bench, data| {
            let server = peer.start(data, batching)?;
            let site = Site { address: server.address, prefix: String::new(), token: None, appends: false };
            load(bench, &site)
        });
        values.map(Some)
    }

    /// The median of each number over the repeats, each of which has an empty folder.
    fn repeat<const N: usize>(
        &mut self,
        measure: impl Fn(&Self, &Path) -> Result<[f64; N]>,
    ) -> Result<[f64; N]> {
        let mut all: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
        for _ in 0..self.plan.repeats {
            self.folders += 1;
            let data = self.plan.data.join(self.folders.to_string());
            fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
            let values = measure(self, &data)?;
            fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))?;
            values.into_iter().zip(&mut all).for_each(|(value, all)| all.push(value));
        }
        Ok(all.map(median))
    }

    fn emit(&mut self, row: &str, value: f64, unit: &'static str, mut others: Vec<Other>) {
        if !others.iter().any(|(name, _)| name.starts_with(peer::MEASURED)) {
            let recorded = peer::recorded(row).map(|its| (peer::RECORDED.to_owned(), its));
            others.extend(recorded);
        }
        for (other, its_value) in others {
            (self.line)(&Line { row: row.to_owned(), value, unit, other, its_value });
        }
    }

    fn span(&self) -> Span {
        Span::of(Duration::from_secs_f64(self.plan.seconds))
    }

    /// For limits, which are steady.
    fn short(&self) -> Duration {
        Duration::from_secs_f64(self.plan.seconds / 8.0)
    }

    fn synced_writes(&self, size: usize) -> Result<f64> {
        limits::synced_writes(&self.plan.data, size, self.short())
    }
}

fn cores() -> Result<f64> {
    Ok(std::thread::available_parallelism().context("counting cores")?.get() as f64)
}

fn target(value: f64) -> Other {
    ("target".to_owned(), value)
}

fn ours(service: &LogService) -> Site {
    Site {
        address: service.server.address,
        prefix: format!("/{SEGMENT}"),
        token: Some(service.token.clone()),
        appends: true,
    }
}

fn bare(server: &Server) -> Site {
    Site { address: server.address, prefix: String::new(), token: None, appends: true }
}

/// Fills the first tile and waits until it is published.
async fn fill(site: &Site, entries: &Arc<Entries>) -> Result<()> {
    let mut publishers = site.publishers(32, entries).await?;
    for _ in 0..8 {
        let calls = publishers.iter_mut().map(Client::call).collect::<Vec<_>>();
        for call in calls {
            call.await?;
        }
    }
    match site.readers(1, "tile/0/000").await?.first_mut() {
        Some(reader) => reader.call().await,
        None => bail!("no reader"),
    }
}

/// The load generator's own: one thread, so that a server keeps a core.
fn client_runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("starting a runtime")
}

/// As the programs have.
fn server_runtime() -> Result<Runtime> {
    Builder::new_multi_thread().enable_all().build().context("starting a runtime")
}
