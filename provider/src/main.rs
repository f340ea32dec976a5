//! `glassbloom-provider`: answers sealed requests with a model on this machine.

use std::process::ExitCode;

use clap::Parser;
use glassbloom_provider::command::Command;

/// Prompts pass through many buffers; none of them leaves its content behind.
#[global_allocator]
static ALLOCATOR: glassbloom_hardware::wipe::Wiping = glassbloom_hardware::wipe::Wiping;

/// Answers sealed requests with a model on this machine, and signs a receipt for each.
#[derive(Parser)]
#[command(name = "glassbloom-provider", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    // Usage errors have the exit code 1 that every tool shares; clap's own is 2.
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() {
                glassbloom_service::ExitCode::Usage
            } else {
                glassbloom_service::ExitCode::Ok
            };
            // There is nobody to tell when even the terminal is gone.
            let _ = error.print();
            return code.into();
        }
    };
    glassbloom_service::tracing_init();
    match arguments.command.run() {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            glassbloom_service::ExitCode::Usage.into()
        }
    }
}
