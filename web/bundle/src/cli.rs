//! The command line.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use glassbloom_service::ExitCode as Exit;

use crate::{
    build,
    serve::{self, Site},
};

/// The explorer: build its static files, or serve them.
#[derive(Debug, Parser)]
#[command(name = "glassbloom-web", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile the explorer to WebAssembly and write its static files
    Build {
        /// Folder for the files
        #[arg(long, default_value = "web/dist", value_name = "DIR")]
        out: PathBuf,
    },
    /// Serve the files with the headers a public host should send
    Serve(ServeArgs),
}

#[derive(Args, Debug)]
struct ServeArgs {
    /// Folder with the files that `build` wrote
    #[arg(long, default_value = "web/dist", value_name = "DIR")]
    dir: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8790", value_name = "ADDR")]
    listen: SocketAddr,
    /// Address of the log, as the visitor's browser reaches it
    #[arg(long, default_value = "http://127.0.0.1:8789", value_name = "URL")]
    log: String,
    /// Policy file that visitors verify with, unless they bring their own
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Another address that pages may read, for `?log=` and `?policy=`; can be repeated
    #[arg(long, value_name = "URL")]
    also: Vec<String>,
}

impl Cli {
    /// Does what was asked for, and says why when it cannot.
    pub fn run(self) -> ExitCode {
        let (result, failed) = match self.command {
            Command::Build { out } => (build::build(&out).map(|_| ()), Exit::Rejected),
            Command::Serve(args) => (args.run(), Exit::Usage),
        };
        match result {
            Ok(()) => Exit::Ok.into(),
            Err(error) => {
                eprintln!("glassbloom-web: {error:#}");
                failed.into()
            }
        }
    }
}

impl ServeArgs {
    fn run(self) -> anyhow::Result<()> {
        glassbloom_service::tracing_init();
        let site = Site::load(self.dir, &self.log, &self.policy, &self.also)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let listener = serve::bind(self.listen).await?;
            serve::serve(listener, site, glassbloom_service::on_signals()).await
        })
    }
}
