//! `glassbloom-web`: builds and serves the explorer.

use clap::Parser;
use glassbloom_bundle::cli::Cli;

fn main() -> std::process::ExitCode {
    Cli::parse().run()
}
