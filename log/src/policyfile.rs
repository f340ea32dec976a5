//! Changes single lines of the policy file and leaves all others, comments included, as they are.

use std::fs;

use anyhow::Context;
use glassbloom_service::durable;
use glassbloom_spec::{note::VerifierKey, policy::Policy};

use crate::config::{Layout, read};

/// Names these keys of logs in the policy, each under its address, where it does not do so yet.
pub(crate) fn name_keys(layout: &Layout, keys: &[VerifierKey], url: Option<&str>) -> anyhow::Result<()> {
    change(layout, |text, policy| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for key in keys {
            let log = policy.log(key.name());
            if log.is_some_and(|log| log.keys.contains(key)) {
                continue;
            }
            let url = log.and_then(|log| log.url.as_deref()).or(url);
            let line = format!("log {key}{}", url.map(|url| format!(" {url}")).unwrap_or_default());
            // After the last log, so that logs stay together.
            let last = lines.iter().rposition(|line| line.starts_with("log "));
            lines.insert(last.map_or(0, |last| last + 1), line);
        }
        lines
    })
}

/// Takes the line of a log's key out of the policy.
pub(crate) fn forget_key(layout: &Layout, key: &VerifierKey) -> anyhow::Result<()> {
    let key = key.to_string();
    change(layout, |text, _| {
        let names = |line: &&str| {
            let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
            words.next() == Some("log") && words.next() == Some(&key)
        };
        text.lines().filter(|line| !names(line)).map(str::to_owned).collect()
    })
}

fn change(layout: &Layout, edit: impl FnOnce(&str, &Policy) -> Vec<String>) -> anyhow::Result<()> {
    let path = layout.policy();
    let old = read(&path)?;
    let policy = Policy::parse(&old).with_context(|| path.display().to_string())?;
    let new: String = edit(&old, &policy).iter().map(|line| format!("{line}\n")).collect();
    if new == old {
        return Ok(());
    }
    Policy::parse(&new).context("the policy that would follow")?;
    durable::write(&path, new.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the policy.
pub(crate) fn policy(layout: &Layout) -> anyhow::Result<Policy> {
    let path = layout.policy();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Policy::parse(&text).with_context(|| path.display().to_string())
}
