//! The load generator behind `cargo bench-log`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use glassbloom_e2e::{
    bench::{Bench, Plan, Row, limits, peer::Peer, servers::Programs},
    tasks::build,
};

/// Measures the log; one tab-separated line for each comparison on standard output.
#[derive(Parser)]
#[command(name = "cargo bench-log", bin_name = "cargo bench-log")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A server that does nothing, to measure what HTTP costs
    #[command(hide = true)]
    Echo {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Columns: row, value, unit, what it is compared with, its value, ratio
    Log(Options),
}

#[derive(clap::Args)]
struct Options {
    /// Rows to measure [default: all]
    #[arg(long, value_name = "NAME", num_args = 1..)]
    rows: Vec<Row>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Measurements of each number; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Entries of the log for fsck and the size on disk
    #[arg(long, default_value_t = 500_000)]
    entries: u64,
    /// Folder on the disk to measure; what is made in it is removed again
    #[arg(long, default_value = "target/bench-log", value_name = "DIR")]
    data: PathBuf,
    /// Tessera's POSIX server, to be measured in the same run
    #[arg(long, env = "GLASSBLOOM_BENCH_TESSERA", value_name = "PROGRAM")]
    peer: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Echo { listen } => echo(listen),
        Command::Log(options) => log(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(10)
        }
    }
}

fn echo(listen: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime")?;
    runtime.block_on(limits::echo(listen))
}

fn log(options: Options) -> Result<()> {
    let Options { rows, seconds, repeats, entries, data, peer } = options;
    std::fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
    // A folder of its own, so that nothing of the caller's is removed, also when two run at once.
    let data = data.join(std::process::id().to_string());
    let plan = Plan {
        programs: Programs { folder: build::programs()? },
        data: data.clone(),
        seconds,
        repeats,
        entries,
        peer: peer.map(Peer),
    };
    std::fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
    let progress = |line: &str| eprintln!("==> {line}");
    let mut line = |line: &_| println!("{line}");
    let mut bench = Bench::new(plan, &progress, &mut line);
    let rows = if rows.is_empty() { Row::value_variants().to_vec() } else { rows };
    let measured = rows.into_iter().try_for_each(|row| bench.run(row));
    std::fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display())).and(measured)
}
