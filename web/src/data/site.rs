//! Which logs this page reads, and under which policy.

use glassbloom_spec::{
    checkpoint::Checkpoint,
    hash::Hash,
    policy::{Log, OpenError, Policy},
};

use super::Trouble;
use crate::{
    check::sentence,
    reader::{Fetch, FetchError, LogReader},
    registry::{MAX_REPLAYED, Registry},
    route::LogName,
};

/// Where the policy came from; whoever chose it chose whom to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// The host of this page sent it.
    ThisSite,
    /// The visitor chose it in this browser.
    Visitor,
    /// The address of the page named it.
    Address(String),
}

/// Choices in the address of the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// `log=`: the address under which both logs are served.
    pub log: Option<String>,
    /// `policy=`: the address of a policy file.
    pub policy: Option<String>,
    /// A policy that the visitor keeps in this browser.
    pub own_policy: Option<String>,
}

#[derive(Default, serde::Deserialize)]
struct Config {
    log: Option<String>,
}

/// Logs and policy of this visit.
#[derive(Clone, Debug)]
pub struct Site<F> {
    fetch: F,
    base: Option<String>,
    policy: Policy,
    policy_text: String,
    policy_source: PolicySource,
}

/// A log of the policy, ready to be read.
#[derive(Clone, Debug)]
pub struct SiteLog<F> {
    /// Its origin.
    pub origin: String,
    /// Reads it.
    pub reader: LogReader<F>,
}

impl<F: Fetch + Clone> Site<F> {
    /// Finds out what to read and whom to believe.
    ///
    /// # Errors
    /// When there is no policy, or it cannot be followed.
    pub async fn load(fetch: F, choices: Choices) -> Result<Self, Trouble> {
        let config = match fetch.get("config.json").await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            // Any static host will do: without the file, the policy says where its logs are.
            Err(_) => Config::default(),
        };
        let (policy_text, policy_source) = match (choices.policy, choices.own_policy) {
            (Some(address), _) => {
                let bytes = fetch.get(&address).await.map_err(|error| no_policy(&error))?;
                (String::from_utf8_lossy(&bytes).into_owned(), PolicySource::Address(address))
            }
            (None, Some(text)) => (text, PolicySource::Visitor),
            (None, None) => {
                let bytes = fetch.get("policy").await.map_err(|error| no_policy(&error))?;
                (String::from_utf8_lossy(&bytes).into_owned(), PolicySource::ThisSite)
            }
        };
        let policy = Policy::parse(&policy_text).map_err(|error| Trouble {
            title: "The policy cannot be followed".to_owned(),
            cause: sentence(&error.to_string()),
            next: "Correct the policy file, or choose another with `?policy=URL` or on the page `#/policy`."
                .to_owned(),
        })?;
        Ok(Self { fetch, base: choices.log.or(config.log), policy, policy_text, policy_source })
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The policy as it was written.
    pub fn policy_text(&self) -> &str {
        &self.policy_text
    }

    /// Where the policy came from.
    pub const fn policy_source(&self) -> &PolicySource {
        &self.policy_source
    }

    /// The log with this name.
    ///
    /// # Errors
    /// When the policy names no such log, or nobody says where it is served.
    pub fn log(&self, name: LogName) -> Result<SiteLog<F>, Trouble> {
        let ends = format!("/{name}");
        let log: &Log =
            self.policy.logs().iter().find(|log| log.origin.ends_with(&ends)).ok_or_else(|| Trouble {
                title: format!("No {name} log in the policy"),
                cause: format!("The policy names no log whose origin ends with {ends}."),
                next: "Use the policy of the network you want to look at.".to_owned(),
            })?;
        let address = match (&self.base, &log.url) {
            (Some(base), _) => format!("{}/{name}", base.trim_end_matches('/')),
            (None, Some(url)) => url.clone(),
            (None, None) => {
                return Err(Trouble {
                    title: format!("Nobody says where the {name} log is"),
                    cause: "Neither config.json nor the policy has its address.".to_owned(),
                    next: "Add `?log=URL` to the address of this page.".to_owned(),
                });
            }
        };
        Ok(SiteLog { origin: log.origin.clone(), reader: LogReader::new(self.fetch.clone(), &address) })
    }

    /// The newest checkpoint of a log under the policy, with its bytes.
    ///
    /// # Errors
    /// The inner error is the policy's judgement; the outer one says that there is nothing to judge.
    pub async fn checkpoint(
        &self,
        log: &SiteLog<F>,
    ) -> Result<(Vec<u8>, Result<Checkpoint, OpenError>), FetchError> {
        let note = log.reader.checkpoint().await?;
        let opened = self.policy.open(Some(&log.origin), &note);
        Ok((note, opened))
    }

    /// The whole registry, replayed.
    ///
    /// # Errors
    /// In words: what is missing or wrong.
    pub async fn registry(&self) -> Result<(Checkpoint, Registry), Trouble> {
        let log = self.log(LogName::Registry)?;
        let (_, opened) = self.checkpoint(&log).await.map_err(|error| Trouble::unreachable(&error))?;
        let checkpoint = opened.map_err(|error| not_opened(&error))?;
        let registry = self.replay(&log, &checkpoint).await?;
        Ok((checkpoint, registry))
    }

    /// The registry under a checkpoint that was opened before.
    ///
    /// # Errors
    /// In words: what is missing or wrong.
    pub async fn replay(&self, log: &SiteLog<F>, checkpoint: &Checkpoint) -> Result<Registry, Trouble> {
        let size = checkpoint.size();
        if size.get() > MAX_REPLAYED {
            return Err(Trouble {
                title: "The registry is too large for a page".to_owned(),
                cause: format!("It has {size} entries; a page replays at most {MAX_REPLAYED}."),
                next: "Run `glassbloom-auditor audit`, which replays registries of any size.".to_owned(),
            });
        }
        let entries = log.reader.entries(0..size.get(), size).await.map_err(|error| Trouble::read(&error))?;
        let entries = entries.into_iter().map(|(_, entry)| entry).collect();
        Registry::replay(&self.policy, checkpoint, entries).map_err(|error| Trouble {
            title: "The registry is not what was signed".to_owned(),
            cause: sentence(&error.to_string()),
            next: "Its entries do not hash to the root in the checkpoint. Keep this and tell others: \
                   `glassbloom-auditor audit` names the entry."
                .to_owned(),
        })
    }
}

/// A checkpoint that the policy refuses.
pub fn not_opened(error: &OpenError) -> Trouble {
    Trouble {
        title: "The log's checkpoint does not count".to_owned(),
        cause: sentence(&error.to_string()),
        next:
            "Nothing under such a checkpoint can be verified. If the policy is the right one for this log, \
               tell whoever runs the log, and others."
                .to_owned(),
    }
}

fn no_policy(error: &FetchError) -> Trouble {
    Trouble {
        title: "There is no policy to verify with".to_owned(),
        cause: sentence(&error.to_string()),
        next: "Add `?policy=URL` to the address of this page, or choose your own policy file on the page `#/policy`.".to_owned(),
    }
}

/// Names a policy: SHA-256 over its text.
pub fn policy_digest(text: &str) -> Hash {
    Hash::of(text.as_bytes())
}
