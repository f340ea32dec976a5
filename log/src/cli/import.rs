//! `glassbloom-log import`.

use std::{fs, io::ErrorKind, path::PathBuf};

use anyhow::{Context, bail};
use glassbloom_service::ExitCode;
use glassbloom_spec::{id::TreeSize, note::VerifierKey, policy::Policy};

use super::{
    fsck::Progress,
    target::{Resolved, Target, report},
};
use crate::{
    config::{Config, LogConfig},
    import::{ImportError, Target as Into, end, import},
    places::Purpose,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Target,
    /// The key that signs the source's checkpoint, in place of a policy.
    #[arg(long, value_name = "VKEY", conflicts_with = "policy")]
    vkey: Option<String>,
    /// The data folder of the service that has the log to fill; it must not be running.
    #[arg(long, default_value = "data/log")]
    data: PathBuf,
    /// The log to fill: a new one, without entries.
    #[arg(long, value_name = "LOG")]
    log: String,
    /// Throw away what an unfinished import left in the log.
    #[arg(long)]
    restart: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.data, None)?;
    let Some(LogConfig { keys, .. }) = config.logs.iter().find(|log| log.path == args.log) else {
        let known: Vec<&str> = config.logs.iter().map(|log| log.path.as_str()).collect();
        bail!("there is no log {}; --log takes one of {}", args.log, known.join(", "));
    };
    let policy = match (&args.vkey, &args.source.policy) {
        (Some(key), _) => {
            let key: VerifierKey = key.parse().context("--vkey")?;
            Some(Policy::parse(&format!("log {key}\nquorum none\n"))?)
        }
        // The policy that the source serves proves only that the source agrees with itself.
        (None, None) => bail!("whose log is it? Name its policy with --policy, or its key with --vkey"),
        (None, Some(_)) => None,
    };
    let Resolved { policy, logs, .. } = match args.source.resolve_with(policy).await? {
        Ok(resolved) => resolved,
        Err(error) => return Ok(report(&error)),
    };
    let [(origin, source)] = &logs[..] else {
        bail!("{} has several logs; name one of them", args.source.target);
    };
    let layout = &config.layout;
    let heads = config.places.heads(layout, &args.log, Purpose::Serve).await?;
    let mut tiles = config.places.tiles(layout, &args.log)?;
    if args.restart {
        let stored = heads.load(keys.origin()).await?;
        let size = stored.and_then(|stored| keys.open_head(&stored.note)).map(|head| head.size);
        if size != Some(TreeSize::new(0)) {
            bail!("{} is no unfinished import: it has entries, and is not touched", args.log);
        }
        let Some(folder) = config.places.tile_folder(layout, &args.log) else {
            bail!(
                "the tiles of {} are in a bucket: delete its tile/ there, then run without --restart",
                args.log
            );
        };
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
            }
            _ => {}
        }
        end(&layout.importing(&args.log))?;
        drop(tiles);
        tiles = config.places.tiles(layout, &args.log)?;
    }
    let marker = layout.importing(&args.log);
    let target = Into { keys, tiles, heads: &*heads, marker: &marker };
    let progress = Progress::new(origin, "entries");
    let imported = import(&target, source, &policy, origin, |done, all| progress.show(done, all)).await;
    progress.finish();
    match imported {
        Ok(checkpoint) => {
            let (size, ours) = (checkpoint.size(), keys.origin());
            println!("{ours}: {size} entries of {origin}, root {}", checkpoint.root());
            println!("next: glassbloom-log serve --data {}", args.data.display());
            Ok(ExitCode::Ok)
        }
        Err(ImportError::Source(error)) => Ok(report(&error)),
        Err(error) => Err(error.into()),
    }
}
