//! The task runner behind the cargo aliases.

use std::path::Path;

use clap::{Parser, Subcommand};
use glassbloom_e2e::tasks;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Set MLX up, so that `--features mlx` builds.
    Mlx,
    /// Make the Python environment that comparisons with Python software run in.
    Python,
}

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let progress = |line: &str| eprintln!("{line}");
    match Arguments::parse().task {
        Task::Mlx => {
            let made = tasks::mlx::set_up(&root, &progress)?;
            eprintln!("MLX {} is in {}", tasks::mlx::MLX_VERSION, made.lib.display());
        }
        Task::Python => {
            let python = tasks::python::venv(&root, &progress)?;
            eprintln!("Python is {}", python.display());
        }
    }
    Ok(())
}
