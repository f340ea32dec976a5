//! `glassbloom`: the user's client.

use std::process::ExitCode;

use glassbloom_proxy::cli::Arguments;

#[tokio::main]
async fn main() -> ExitCode {
    glassbloom_service::tracing_init();
    match Arguments::parse_or_exit() {
        Ok(arguments) => arguments.run().await.into(),
        Err(code) => code.into(),
    }
}
