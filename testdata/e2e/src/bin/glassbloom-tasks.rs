//! The task runner behind the cargo aliases.

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};
use glassbloom_e2e::tasks;

/// Builds, starts and tests the whole network.
#[derive(Parser)]
#[command(name = "cargo", bin_name = "cargo")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure how fast the log is, beside its targets, its peer and the limits of this machine
    #[command(disable_help_flag = true)]
    BenchLog {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Set everything up, then run every test
    Ci,
    /// Feed each parser what a fuzzer makes up, for a few seconds
    FuzzShort(tasks::fuzz::Fuzz),
    /// Set MLX up, so that `--features mlx` builds
    Mlx,
    /// Make the Python environment that comparisons with Python software run in
    Python,
    /// Build everything and start the whole network
    Up(tasks::up::Up),
    /// Build the explorer's static files into web/dist
    Web,
}

fn main() -> ExitCode {
    // `cargo up -- --once X` passes the dashes on; people write them as with `cargo run`.
    let mut words: Vec<_> = std::env::args_os().collect();
    if words.get(2).is_some_and(|word| word == "--") {
        words.remove(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders below the root");
    let progress = |line: &str| eprintln!("==> {line}");
    let done = match Arguments::parse_from(words).task {
        Task::BenchLog { arguments } => tasks::bench::log(root, &arguments, &progress),
        Task::Ci => tasks::ci::run(root, &progress),
        Task::FuzzShort(fuzz) => fuzz.run(root, &progress),
        Task::Mlx => tasks::mlx::set_up(root, &progress).map(|_| ()),
        Task::Python => tasks::python::venv(root, &progress).map(|_| ()),
        Task::Up(up) => up.run(root, &progress),
        Task::Web => tasks::build::binaries(root, false, &progress)
            .and_then(|()| tasks::build::explorer(root, &progress)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(10)
        }
    }
}
