//! `glassbloom-log export`.

use std::path::PathBuf;

use glassbloom_service::ExitCode;

use super::{
    fsck::Progress,
    target::{Resolved, Target, path_of, report, worse},
};
use crate::copy::export;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Folder for the copy; each log of a service gets a folder in it. Run again, an export goes on or catches up.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Resolved { policy, logs, one } = match args.target.resolve().await? {
        Ok(resolved) => resolved,
        Err(error) => return Ok(report(&error)),
    };
    let mut code = ExitCode::Ok;
    for (origin, source) in logs {
        let folder = if one { args.output.clone() } else { args.output.join(path_of(&origin)) };
        let progress = Progress::new(&origin, "entries");
        let copied = export(&source, &policy, &origin, &folder, |done, all| progress.show(done, all)).await;
        progress.finish();
        match copied {
            Err(error) => code = worse(code, report(&error)),
            Ok(checkpoint) => {
                let (shown, size) = (folder.display(), checkpoint.size());
                println!("{origin}: {size} entries in {shown}, root {}", checkpoint.root());
                println!("check it with: glassbloom-log fsck {shown}");
            }
        }
    }
    Ok(code)
}
