//! New keys for a log, and the end of old ones.
//!
//! A new key comes into force in this order, so that the next start finds a whole state wherever the process died: the
//! keys are kept aside in one file; the policy names them; they join the keys of the log; the file is removed. Run
//! again, a rotation that was cut off goes on with the same keys.

use std::fs;

use anyhow::{Context, bail};
use glassbloom_service::random;
use glassbloom_spec::note::{Algorithm, NoteSigner, VerifierKey};

use crate::{
    LogKeys,
    config::{ConfigFile, Layout},
    keyfile,
    places::{Places, Purpose},
    policyfile,
    store::StoredHead,
};

/// Finds a log that `log.toml` declares.
pub(crate) fn declared(layout: &Layout, log: &str) -> anyhow::Result<ConfigFile> {
    let file = ConfigFile::read(&layout.config())?;
    if !file.logs.iter().any(|known| known.path == log) {
        let known: Vec<&str> = file.logs.iter().map(|log| log.path.as_str()).collect();
        bail!("there is no log {log}; there are {}", known.join(", "));
    }
    Ok(file)
}

/// Puts new keys into force beside those that are: the given ones or, when none are, a fresh pair. Returns the new
/// public keys.
pub fn rotate(layout: &Layout, log: &str, given: Vec<NoteSigner>) -> anyhow::Result<Vec<VerifierKey>> {
    let origin = format!("{}/{log}", declared(layout, log)?.name);
    let aside = layout.next_keys(log);
    let waiting = vkeys(&keyfile::read_file(&aside)?);
    if waiting.is_empty() {
        let mut all = keyfile::read_all(layout, log)?;
        let known = vkeys(&all);
        all.extend(if given.is_empty() { fresh(&origin)? } else { given });
        // Refused before anything is written, when they are no keys of this log or known already.
        let all = LogKeys::new(all)?;
        if all.origin() != origin {
            bail!("these are keys of {}, not of {origin}", all.origin());
        }
        let new: Vec<&NoteSigner> =
            all.signers().iter().filter(|signer| !known.contains(signer.vkey())).collect();
        keyfile::write_file(&aside, &new)?;
    } else if !given.is_empty() && !given.iter().all(|key| waiting.contains(key.vkey())) {
        bail!("an earlier rotation has not ended; run `glassbloom-log keys rotate {log}` first");
    }
    let new = keyfile::read_file(&aside)?;
    let added = vkeys(&new);
    policyfile::name_keys(layout, &added, None)?;
    let mut all = keyfile::read_all(layout, log)?;
    let known = vkeys(&all);
    all.extend(new.into_iter().filter(|signer| !known.contains(signer.vkey())));
    keyfile::write(layout, log, &LogKeys::new(all)?)?;
    fs::remove_file(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
    Ok(added)
}

fn vkeys(signers: &[NoteSigner]) -> Vec<VerifierKey> {
    signers.iter().map(|signer| signer.vkey().clone()).collect()
}

fn fresh(origin: &str) -> anyhow::Result<Vec<NoteSigner>> {
    Ok(vec![NoteSigner::ed25519_log(origin, random())?, NoteSigner::mldsa44(origin, random())?])
}

/// Takes keys that were made elsewhere: as the first keys of a log that has no head yet, where a missing ML-DSA-44
/// key is made, or else as a rotation. Returns the keys that came into force.
pub async fn import(
    layout: &Layout,
    log: &str,
    mut given: Vec<NoteSigner>,
) -> anyhow::Result<Vec<VerifierKey>> {
    let Some(origin) = given.first().map(|key| key.vkey().name().to_owned()) else {
        bail!("there is no key in these files; a key is a line that begins with PRIVATE+KEY+");
    };
    if !origin.ends_with(&format!("/{log}")) {
        bail!("these are keys of {origin}; the keys of {log} are named NAME/{log}");
    }
    let config = layout.config();
    if config.try_exists().with_context(|| format!("cannot look at {}", config.display()))? {
        let file = declared(layout, log)?;
        let ours = format!("{}/{log}", file.name);
        // Before anything else: keys of another log must never take the place of these.
        if origin != ours {
            bail!("these are keys of {origin}, not of {ours}");
        }
        let heads = Places::of(&file)?.heads(layout, log, Purpose::Init).await?;
        if heads.load(&origin).await?.is_some() {
            return rotate(layout, log, given);
        }
    }
    if !keyfile::read_all(layout, log)?.is_empty() {
        bail!(
            "{log} has keys already, and no head yet: delete its files in {} first",
            layout.keys().display()
        );
    }
    if !given.iter().any(|key| key.vkey().algorithm() == Algorithm::MlDsa44) {
        given.push(NoteSigner::mldsa44(&origin, random())?);
    }
    let keys = LogKeys::new(given)?;
    glassbloom_service::durable::create_folder(&layout.keys())?;
    keyfile::write(layout, log, &keys)?;
    Ok(vkeys(keys.signers()))
}

/// Ends a key: it signs nothing any more. The log must not be running. Its line stays in the policy, because what it
/// signed must stay verifiable, unless `forget` says that nobody shall believe it again.
pub async fn retire(layout: &Layout, log: &str, id: &str, forget: bool) -> anyhow::Result<VerifierKey> {
    let file = declared(layout, log)?;
    let origin = format!("{}/{log}", file.name);
    let policy = policyfile::policy(layout)?;
    let is = |key: &VerifierKey| format!("{:08x}", u32::from_be_bytes(key.key_id())) == id;
    let (retired, kept): (Vec<_>, Vec<_>) =
        keyfile::read_all(layout, log)?.into_iter().partition(|signer| is(signer.vkey()));
    let known = policy.log(&origin).map_or(&[][..], |log| &log.keys);
    let Some(retired) = retired.first().map(|signer| signer.vkey().clone()) else {
        // The end of a retirement that was cut off after its keys were written.
        if let (Some(key), true) = (known.iter().find(|key| is(key)), forget) {
            policyfile::forget_key(layout, key)?;
            return Ok(key.clone());
        }
        bail!("{origin} has no key {id} in force; `glassbloom-log keys show` lists them");
    };
    let kept = LogKeys::new(kept)
        .with_context(|| format!("{id} cannot go; run `glassbloom-log keys rotate {log}` first"))?;
    if let Some(key) = kept.vkeys().find(|key| !known.contains(key)) {
        bail!("{} does not name the key {key} that would be left", layout.policy().display());
    }
    // Holds the lock of the log until the end.
    let places = Places::of(&file)?;
    let tiles = places.tiles(layout, log)?;
    if let Some(note) = tiles.published().await?
        && kept.open_head(&note).is_none()
    {
        bail!(
            "the published checkpoint is signed by {id} and by no key that stays: start the log once with the new \
             keys, so that it publishes under them, and see that its witnesses know them"
        );
    }
    let heads = places.heads(layout, log, Purpose::Serve).await?;
    let Some(stored) = heads.load(&origin).await? else { bail!("{origin} has no head") };
    if kept.open_head(&stored.note).is_none() {
        let all = keyfile::read(layout, &file.name, log)?;
        let Some(head) = all.open_head(&stored.note) else {
            bail!("the stored head of {origin} is not signed by a key of this log");
        };
        let next = StoredHead { note: kept.sign_head(&head), applied: stored.applied };
        heads.swap(&origin, &stored, &next).await?;
    }
    keyfile::write(layout, log, &kept)?;
    if forget {
        policyfile::forget_key(layout, &retired)?;
    }
    Ok(retired)
}
