//! Splits a log by period: from a date on another one goes on.
//!
//! The order: the keys of the next log, its lines in the policy, its empty head, and last, in one write, both logs in
//! `log.toml`. Cut off anywhere before that, nothing has changed for the logs that run; run again, it goes on with the
//! same keys.

use anyhow::{Context, bail};
use glassbloom_service::durable;
use glassbloom_spec::receipt::is_receipts;

use crate::{
    Log,
    config::{ConfigFile, Date, Layout, LogFile},
    declared,
    init::make_keys,
    places::{Places, Purpose},
    policyfile,
};

/// What to split.
#[derive(Clone, Debug)]
pub struct Split {
    /// The log that closes.
    pub log: String,
    /// When.
    pub at: Date,
    /// The log that goes on.
    pub next: String,
}

/// Declares the next log and the date; returns its public keys as vkeys.
pub async fn split(layout: &Layout, plan: &Split) -> anyhow::Result<Vec<String>> {
    let Split { log, at, next } = plan;
    if log.split('/').next() == Some("registry") {
        bail!("the registry is not split: whoever asks who is revoked replays the whole of it");
    }
    let mut file = ConfigFile::read(&layout.config())?;
    let done = LogFile { path: log.clone(), closes: Some(*at), successor: Some(next.clone()) };
    let Some(old) = file.logs.iter_mut().find(|known| known.path == *log) else {
        bail!("there is no log {log}");
    };
    if old.closes.is_some() && *old != done {
        bail!(
            "{log} closes already, and another log goes on; as long as it has not closed, that can be changed in {}",
            layout.config().display()
        );
    }
    let is_new = *old != done;
    *old = done;
    if is_new {
        if file.logs.iter().any(|known| known.path == *next) {
            bail!("{next} exists; the log that goes on is a new one");
        }
        file.logs.push(LogFile::new(next));
    }
    if is_receipts(&format!("{}/{log}", file.name)) != is_receipts(&format!("{}/{next}", file.name)) {
        bail!(
            "{next} cannot go on where {log} ends: a receipts log is named receipts/PERIOD, such as receipts/2027"
        );
    }
    declared::check(&file.name, &file.logs)?;

    let places = Places::of(&file)?;
    let heads = places.heads(layout, next, Purpose::Init).await?;
    let origin = format!("{}/{next}", file.name);
    let has_head = heads.load(&origin).await?.is_some();
    let keys = make_keys(layout, &file.name, next, !has_head)?;
    let vkeys: Vec<_> = keys.vkeys().cloned().collect();
    let policy = policyfile::policy(layout)?;
    let base = policy
        .log_url(&format!("{}/{log}", file.name))
        .and_then(|url| url.trim_end_matches('/').strip_suffix(&format!("/{log}")).map(str::to_owned));
    let url = base.map(|base| format!("{base}/{next}"));
    policyfile::name_keys(layout, &vkeys, url.as_deref())?;
    if !has_head {
        Log::create(&keys, &*places.tiles(layout, next)?, &*heads).await?;
    }
    if is_new {
        let path = layout.config();
        durable::write(&path, toml::to_string(&file)?.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(vkeys.iter().map(ToString::to_string).collect())
}
