//! `glassbloom-log fsck`.

use std::{
    io::{IsTerminal, stderr},
    path::PathBuf,
    time::Duration,
};

use anyhow::bail;
use glassbloom_service::ExitCode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::target::{Resolved, Target, report, worse};
use crate::fsck::{Options, Report, check_with};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// File that remembers how far the check came: an interrupted check goes on, and a log that has grown is not read
    /// twice. For one log only.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Read everything again, whatever is remembered.
    #[arg(long)]
    from_genesis: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Resolved { policy, logs, .. } = match args.target.resolve().await? {
        Ok(resolved) => resolved,
        Err(error) => return Ok(report(&error)),
    };
    if args.state.is_some() && logs.len() > 1 {
        let first = logs[0].0.split_once('/').map_or("registry", |(_, path)| path);
        bail!("--state remembers one log; check them one by one, for example {}/{first}", args.target.target);
    }
    let options = Options { state: args.state.clone(), from_genesis: args.from_genesis };
    let mut code = ExitCode::Ok;
    for (origin, source) in logs {
        let progress = Progress::new(&origin, "entries");
        let checked =
            check_with(&source, &policy, &origin, &options, |done, all| progress.show(done, all)).await;
        progress.finish();
        code = worse(
            code,
            match checked {
                Err(error) => report(&error),
                Ok(found) => show(&origin, &found),
            },
        );
    }
    Ok(code)
}

fn show(origin: &str, found: &Report) -> ExitCode {
    let (size, root) = (found.checkpoint.size(), found.checkpoint.root());
    let earlier = found.resumed.as_ref().map_or(&[][..], |(_, findings)| findings);
    for finding in earlier {
        println!(
            "{origin}: found by an earlier run: {finding}\n  do: repair it, then check with --from-genesis"
        );
    }
    for finding in &found.findings {
        println!("{origin}: {finding}\n  do: {}", finding.action());
    }
    let from = match &found.resumed {
        Some((from, _)) => format!(" ({from} of them checked by an earlier run)"),
        None => String::new(),
    };
    if found.is_ok() {
        println!("{origin}: ok, {size} entries{from}, root {root}");
        return ExitCode::Ok;
    }
    let count = (found.findings.len() + earlier.len()) as u64 + found.more;
    println!("{origin}: {count} findings in {size} entries{from}");
    ExitCode::Rejected
}

/// A bar on a terminal, a line every few seconds elsewhere.
pub(super) struct Progress {
    name: String,
    what: &'static str,
    bar: Option<ProgressBar>,
    lines: std::cell::Cell<(Instant, Instant, Option<u64>)>,
}

const LINE_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    pub(super) fn new(name: &str, what: &'static str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{prefix} {bar:32} {human_pos} of {human_len} {msg}, {per_sec}, {eta} left",
            );
            bar.set_style(style.expect("the template is a constant and well-formed"));
            bar.set_prefix(name.to_owned());
            bar.set_message(what);
            bar
        });
        let now = Instant::now();
        Self { name: name.to_owned(), what, bar, lines: std::cell::Cell::new((now, now, None)) }
    }

    pub(super) fn show(&self, done: u64, all: u64) {
        if let Some(bar) = &self.bar {
            if bar.length() != Some(all) {
                bar.set_length(all);
                // What an earlier run did is no measure of this one's rate.
                bar.set_position(done);
                bar.reset_eta();
            }
            bar.set_position(done);
            return;
        }
        let (begin, last, first) = self.lines.get();
        let first = first.unwrap_or(done);
        let now = Instant::now();
        if now - last < LINE_EVERY {
            self.lines.set((begin, last, Some(first)));
            return;
        }
        self.lines.set((begin, now, Some(first)));
        let rate = (done - first) as f64 / (now - begin).as_secs_f64();
        let left = (all - done) as f64 / rate.max(1.0);
        eprintln!("{}: {done} of {all} {}, {rate:.0}/s, {left:.0} s left", self.name, self.what);
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
