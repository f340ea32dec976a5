//! Changes by hand that no other statement explains: said in the registry, with the people who approve them.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Args;
use glassbloom_service::{Shutdown, SystemClock};
use glassbloom_spec::{
    curve::PublicKey,
    hash::Hash,
    id::LeafIndex,
    leaf::{OperatorAction, Payload, SignedBy},
};

use crate::{
    app::App,
    config::{Config, read_key_file},
};

/// What was changed, as it will stand in the registry.
#[derive(Clone, Debug, Args)]
pub(crate) struct Change {
    /// What was done, in a few words; public.
    #[arg(long)]
    pub(crate) what: String,
    /// What it touched; public.
    #[arg(long)]
    pub(crate) scope: String,
    /// The change itself, for example the SQL that ran. The registry gets its SHA-256; keep the file, and put something
    /// into it that nobody can guess when it must stay secret.
    #[arg(long, value_name = "FILE")]
    pub(crate) change: PathBuf,
    /// Why; public.
    #[arg(long)]
    pub(crate) reason: String,
}

impl Change {
    fn action(&self) -> anyhow::Result<OperatorAction> {
        let change = std::fs::read(&self.change)
            .with_context(|| format!("the change {} cannot be read", self.change.display()))?;
        Ok(OperatorAction {
            what: self.what.clone(),
            scope: self.scope.clone(),
            change: Hash::of(&change),
            reason: self.reason.clone(),
            approvals: Vec::new(),
        })
    }
}

/// Somebody's approval, as `glassbloom-coordinator approve` prints it.
#[derive(Clone, Debug)]
pub(crate) struct Approval(SignedBy);

impl FromStr for Approval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(key, signature)| {
            let signature = BASE64_STANDARD.decode(signature).ok()?;
            Some(Self((key.parse().ok()?, signature.try_into().ok()?)))
        });
        parsed
            .ok_or_else(|| "expected KEY:SIGNATURE, as `glassbloom-coordinator approve` prints it".to_owned())
    }
}

/// Signs that the holder of this key approves the change.
pub(crate) fn approve(change: &Change, key: &std::path::Path) -> anyhow::Result<String> {
    let key = read_key_file(key)?;
    let signature = key.sign(&change.action()?.approval_message());
    Ok(format!("{}:{}", key.public_key(), BASE64_STANDARD.encode(signature)))
}

/// Logs the change with its approvals.
pub(crate) async fn log(
    config: Config,
    change: &Change,
    approvals: &[Approval],
) -> anyhow::Result<(LeafIndex, Hash)> {
    let mut action = change.action()?;
    action.approvals = approvals.iter().map(|Approval(by)| *by).collect();
    action.approvals.sort_by_key(|(key, _)| *key);
    let twice = action.approvals.windows(2).find(|pair| pair[0].0 == pair[1].0);
    ensure!(
        twice.is_none(),
        "{} approves twice; one person is one approval",
        twice.map_or(String::new(), key)
    );
    if let Some(key) = action.false_approvals().next() {
        anyhow::bail!(
            "the approval of {key} is not for this change: what, scope, reason and file must be the same to the byte"
        );
    }
    let app = App::open(config, Arc::new(SystemClock), Shutdown::new()).await?;
    let statement = action.sign(&app.signer)?;
    OperatorAction::of(&statement)
        .context("what, scope and reason must be one line of at most 1024 bytes")?;
    app.registry.sync().await?;
    ensure!(!app.registry.view().has(&statement), "this very change is in the registry already");
    let index = app.registry.append(&statement).await?;
    app.store.close().await;
    Ok((index, statement.leaf_hash()))
}

fn key(pair: &[SignedBy]) -> String {
    pair.first().map_or_else(String::new, |(key, _): &(PublicKey, _)| key.to_string())
}
