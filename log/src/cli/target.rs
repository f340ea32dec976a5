//! Finds the logs that an argument of the command line stands for.

use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use glassbloom_service::{ExitCode, http_client};
use glassbloom_spec::{checkpoint::TreeHead, note::SignedNote, policy::Policy};

use crate::{
    config::read,
    fsck::{FsckError, Source},
    store::{Bucket, Retries},
};

#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// Address of a log service or of one log, a data or public folder, or a bucket: s3://BUCKET/PREFIX/public/LOG.
    pub(super) target: String,
    /// Whom to believe [default: the policy beside the log, which proves only that the log agrees with itself].
    #[arg(long)]
    pub(super) policy: Option<std::path::PathBuf>,
}

/// Whom to believe, and where each log is.
pub(super) struct Resolved {
    pub(super) policy: Policy,
    pub(super) logs: Vec<(String, Source)>,
    /// Whether the target is one log, not a service.
    pub(super) one: bool,
}

impl Target {
    fn below(&self, path: &str) -> anyhow::Result<Source> {
        let base = self.target.trim_end_matches('/').to_owned();
        if ["s3://", "gs://", "az://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Ok(Source::Bucket(Bucket::open(&base.parse()?, Retries::Transient)?.below(path)));
        }
        let folder = Path::new(&base);
        Ok(match (base.contains("://"), path) {
            (true, "") => Source::Http(http_client(), base),
            (true, path) => Source::Http(http_client(), format!("{base}/{path}")),
            (false, path) if folder.join("public").is_dir() => {
                Source::Folder(folder.join("public").join(path))
            }
            (false, path) => Source::Folder(folder.join(path)),
        })
    }

    /// One log, or all of a service. The inner error is one that the source is to blame for.
    pub(super) async fn resolve(&self) -> anyhow::Result<Result<Resolved, FsckError>> {
        self.resolve_with(None).await
    }

    /// The same, under this policy if there is one.
    pub(super) async fn resolve_with(
        &self,
        policy: Option<Policy>,
    ) -> anyhow::Result<Result<Resolved, FsckError>> {
        let policy = match policy {
            Some(policy) => policy,
            None => match self.named_policy().await? {
                Ok(policy) => policy,
                Err(error) => return Ok(Err(error)),
            },
        };
        // A target that has a checkpoint is one log, whichever it says it is.
        let alone = match self.below("")?.get("checkpoint").await {
            Ok(note) => note.and_then(|note| TreeHead::parse(&SignedNote::parse(&note).ok()?.text).ok()),
            Err(error) => return Ok(Err(error)),
        };
        let one = alone.is_some();
        let logs = match alone {
            Some(head) => vec![(head.origin, self.below("")?)],
            None => policy
                .logs()
                .iter()
                .map(|log| Ok((log.origin.clone(), self.below(path_of(&log.origin))?)))
                .collect::<anyhow::Result<_>>()?,
        };
        Ok(Ok(Resolved { policy, logs, one }))
    }

    async fn named_policy(&self) -> anyhow::Result<Result<Policy, FsckError>> {
        let http = self.target.contains("://");
        let policy = match (&self.policy, http) {
            (Some(path), _) => read(path)?,
            (None, false) => {
                let folder = Path::new(&self.target);
                let beside = ["", "..", "../..", "../../.."].map(|up| folder.join(up).join("policy"));
                let Some(path) = beside.iter().find(|path| path.is_file()) else {
                    bail!("no policy beside {}; name one with --policy", self.target);
                };
                read(path)?
            }
            (None, true) => match served_policy(&self.below("")?).await {
                Ok(Some(text)) => {
                    String::from_utf8(text.to_vec()).context("the policy that the log serves")?
                }
                Ok(None) => bail!("{} serves no policy; name one with --policy", self.target),
                Err(error) => return Ok(Err(error)),
            },
        };
        Ok(Ok(Policy::parse(&policy).context("the policy")?))
    }
}

/// Where the policy of a service may be, seen from one of its logs, whose path has one part or two.
const ABOVE: [&str; 3] = ["", "../", "../../"];

/// The policy at the address or, as a service has one for all its logs, above it.
async fn served_policy(source: &Source) -> Result<Option<Bytes>, FsckError> {
    for up in ABOVE {
        match source.get(&format!("{up}policy")).await? {
            // Only addresses of the web have something above them.
            None if matches!(source, Source::Http(..)) => {}
            found => return Ok(found),
        }
    }
    Ok(None)
}

/// Where a service serves a log: its origin without the name of the service.
pub(super) fn path_of(origin: &str) -> &str {
    origin.split_once('/').map_or(origin, |(_, path)| path)
}

/// Says on standard error what is wrong.
pub(super) fn report(error: &FsckError) -> ExitCode {
    eprintln!("error: {error}");
    error.exit_code()
}

/// The first that is not ok, findings before all others.
pub(super) const fn worse(one: ExitCode, other: ExitCode) -> ExitCode {
    match (one, other) {
        (ExitCode::Ok, other) | (_, other @ ExitCode::Rejected) => other,
        (one, _) => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_of_a_service_is_looked_for_above_its_logs() {
        let at = |base: &str, up: &str| {
            reqwest::Url::parse(&format!("{base}/{up}policy")).unwrap().path().to_owned()
        };
        assert_eq!(
            ABOVE.map(|up| at("http://log.example/receipts", up)),
            ["/receipts/policy", "/policy", "/policy"]
        );
        assert_eq!(ABOVE.map(|up| at("http://log.example/receipts/2027", up))[2], "/policy");
    }
}
