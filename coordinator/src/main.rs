//! The coordinator's program; everything is in the library.

use clap::Parser;
use glassbloom_coordinator::cli::{Cli, run};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        // clap's own code for a wrong command line is 2; ours is 1 for every tool.
        std::process::exit(i32::from(error.use_stderr()))
    });
    run(cli).await.into()
}
