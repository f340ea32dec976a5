//! `release`: a signed statement that this very build may serve.

use std::path::PathBuf;

use anyhow::Context;
use glassbloom_service::{Clock, ExitCode, SystemClock, durable};
use glassbloom_spec::{
    curve::Signer,
    leaf::{self, Payload},
};

use crate::{
    keys,
    measure::{self, Build},
};

/// How to sign the release.
#[derive(Debug, clap::Args)]
pub struct Release {
    /// The release key; made if missing
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to write the statement
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The source commit that this program was built from
    #[arg(long)]
    commit: String,
    /// The version, for people
    #[arg(long = "version", value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    release_version: String,
}

impl Release {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let key = keys::load_or_create(&self.key)?;
        let build = Build::of_this_process().context("this program cannot be measured")?;
        let statement = leaf::Release {
            version: self.release_version,
            build: build.hash(),
            platform: measure::platform(),
            commit: self.commit,
            not_before: SystemClock.now().seconds(),
            code: None,
            approvals: Vec::new(),
        }
        .sign(&key)?;
        durable::write(&self.out, statement.bytes()).with_context(|| format!("{}", self.out.display()))?;
        // As a line of a policy file, so that it can be pasted there.
        println!("release {}", Signer::public_key(&key));
        Ok(ExitCode::Ok)
    }
}
