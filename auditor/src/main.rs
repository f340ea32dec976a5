//! The `glassbloom-auditor` command.

use std::process::ExitCode;

use clap::Parser;
use glassbloom_auditor::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing more can be done when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() {
                glassbloom_service::ExitCode::Usage
            } else {
                glassbloom_service::ExitCode::Ok
            }
            .into();
        }
    };
    glassbloom_service::tracing_init();
    glassbloom_auditor::cli::run(cli).await.into()
}
