//! The secret keys of a log on disk: one private key per line, of each algorithm in a file of its own.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context, bail};
use glassbloom_service::durable;
use glassbloom_spec::note::{Algorithm, NoteSigner};
use zeroize::Zeroizing;

use crate::{LogKeys, config::Layout};

/// The file that keys of an algorithm are in.
fn file(layout: &Layout, log: &str, algorithm: Algorithm) -> std::path::PathBuf {
    let [ed25519, mldsa44] = layout.log_keys(log);
    if algorithm == Algorithm::Ed25519 { ed25519 } else { mldsa44 }
}

/// Reads private keys, one per line; none when there is no file.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<Vec<NoteSigner>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => Zeroizing::new(read.with_context(|| format!("cannot read {}", path.display()))?),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // The line itself is a secret, so the error says no more than where it is.
    lines
        .enumerate()
        .map(|(at, line)| line.parse().with_context(|| format!("{}, key {}", path.display(), at + 1)))
        .collect()
}

/// Replaces the keys in a file.
pub(crate) fn write_file(path: &Path, keys: &[&NoteSigner]) -> anyhow::Result<()> {
    let mut text = Zeroizing::new(String::new());
    for key in keys {
        text.push_str(&key.to_private_string());
        text.push('\n');
    }
    durable::write_secret(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes all keys of a log. The Ed25519 keys last: their file says that the keys are there.
pub(crate) fn write(layout: &Layout, log: &str, keys: &LogKeys) -> anyhow::Result<()> {
    for algorithm in [Algorithm::MlDsa44, Algorithm::Ed25519] {
        let signers = keys.signers().iter().filter(|signer| signer.vkey().algorithm() == algorithm);
        let signers: Vec<&NoteSigner> = signers.collect();
        write_file(&file(layout, log, algorithm), &signers)?;
    }
    Ok(())
}

/// Reads what keys there are of a log, maybe none.
pub(crate) fn read_all(layout: &Layout, log: &str) -> anyhow::Result<Vec<NoteSigner>> {
    let [ed25519, mldsa44] = layout.log_keys(log);
    let mut signers = read_file(&ed25519)?;
    signers.extend(read_file(&mldsa44)?);
    Ok(signers)
}

/// Reads all keys of a log, which has some.
pub(crate) fn read(layout: &Layout, name: &str, log: &str) -> anyhow::Result<LogKeys> {
    let [ed25519, mldsa44] = layout.log_keys(log);
    let signers = read_all(layout, log)?;
    if signers.is_empty() {
        bail!("{} has no key of {name}/{log}; run `glassbloom-log init` first", ed25519.display());
    }
    let shown = || format!("{} or {}", ed25519.display(), mldsa44.display());
    let keys = LogKeys::new(signers).with_context(shown)?;
    let origin = format!("{name}/{log}");
    if keys.origin() != origin {
        bail!(
            "{} holds keys of {}, not of {origin}; the name of a log never changes",
            ed25519.display(),
            keys.origin()
        );
    }
    Ok(keys)
}
