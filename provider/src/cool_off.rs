//! Shows how long this build's release has been in the registry, for rules that let none serve at once.

use std::{fs, io, path::PathBuf};

use anyhow::{Context, ensure};
use glassbloom_service::{durable, http_client};
use glassbloom_spec::{
    api::{ReleaseRecord, path},
    hash::Hash,
    leaf::{Payload, Release},
    proof::TlogProof,
    statement::Statement,
};

use crate::{config::Config, registry::Registry};

/// The proof that was kept for a build, made as early as this provider could.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn kept(config: &Config, build: &Hash) -> io::Result<Option<Vec<u8>>> {
    match fs::read(file(config, build)) {
        Ok(proof) => Ok(Some(proof)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fetches a proof that the build's release is in the registry now, verifies it and keeps it: its checkpoint dates it, so
/// that it is worth more the older it gets.
///
/// # Errors
/// When there is none, or it does not hold under the policy.
pub(crate) async fn fetch(config: &Config, registry: &mut Registry, build: &Hash) -> anyhow::Result<()> {
    if kept(config, build)?.is_some() {
        return Ok(());
    }
    let url = format!("{}{}", config.endpoint(), path::release(build));
    let response = http_client().get(&url).send().await?.error_for_status()?;
    let record: ReleaseRecord = response.json().await.context("the coordinator sent no release")?;
    let checkpoint = registry.accept(&config.policy, &record.checkpoint).await?;
    let statement = Statement::parse(&record.release.leaf)?;
    let release = Release::of(&statement)?;
    ensure!(
        release.build == *build && config.policy.trusts_release(&statement, &release),
        "the coordinator sent another release than this build's"
    );
    checkpoint.includes(record.release.leaf, record.release.index, &record.release.proof)?;
    let proof = TlogProof {
        extra: None,
        index: record.release.index,
        hashes: record.release.proof,
        checkpoint: record.checkpoint,
    };
    let file = file(config, build);
    durable::write(&file, &proof.encode()).with_context(|| file.display().to_string())
}

fn file(config: &Config, build: &Hash) -> PathBuf {
    config.data.join(format!("release-{build:.16}.tlog-proof"))
}
