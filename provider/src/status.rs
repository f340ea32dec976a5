//! What the daemon is doing, in a file that `glassbloom-provider status` reads.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use glassbloom_service::{Clock, ExitCode, durable};
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, UnixMillis},
};
use serde::{Deserialize, Serialize};

/// The status file's name in the data folder.
pub const FILE_NAME: &str = "status.json";

/// Where the daemon stands with the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Admitted: requests come in.
    Connected,
    /// No session; it tries again by itself.
    Disconnected,
    /// The coordinator, or this provider's own policy, does not let it serve.
    Refused,
    /// Not connected yet.
    Starting,
    /// Ended in good order.
    Stopped,
    /// Connected, and gets no requests until it answers a challenge.
    Suspended,
}

impl State {
    /// The name in files and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Starting => "starting",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
        }
    }
}

/// An attestation that the registry has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationStatus {
    /// Its leaf hash.
    pub leaf: Hash,
    /// Where it stands in the registry.
    pub index: LeafIndex,
}

/// What the daemon is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where it stands.
    pub state: State,
    /// Since when it has stood there.
    pub since: UnixMillis,
    /// Why it stands there, for people.
    pub detail: String,
    /// What the last refusal said, also when it has been overcome.
    pub last_refusal: Option<String>,
    /// Why a challenge was last not answered, or what the coordinator said of an answer that it did not get.
    #[serde(default)]
    pub last_challenge_failure: Option<String>,
    /// The attestation that serves now, or served last.
    pub attestation: Option<AttestationStatus>,
    /// Aliases of the models served.
    pub models: Vec<String>,
    /// The process that wrote this.
    pub process: u32,
}

impl Status {
    /// Reads the status file of a data folder.
    ///
    /// # Errors
    /// When there is none, or another program wrote it.
    pub fn read(data: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(data.join(FILE_NAME))?)?)
    }

    /// The exit code that tells a script the same.
    pub const fn exit_code(&self) -> ExitCode {
        match self.state {
            State::Connected => ExitCode::Ok,
            State::Refused | State::Suspended => ExitCode::Rejected,
            State::Disconnected | State::Starting | State::Stopped => ExitCode::Unreachable,
        }
    }
}

/// Keeps the status file up to date; clones write one file.
#[derive(Clone)]
pub struct Reporter(Arc<Inner>);

struct Inner {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    status: Mutex<Status>,
}

impl Reporter {
    /// A reporter for a data folder. What an earlier run wrote of refusal and attestation is kept.
    pub fn new(data: &Path, models: Vec<String>, clock: Arc<dyn Clock>) -> Self {
        let earlier = Status::read(data).ok();
        let status = Status {
            state: State::Starting,
            since: clock.now(),
            detail: "loading".to_owned(),
            last_refusal: earlier.as_ref().and_then(|status| status.last_refusal.clone()),
            last_challenge_failure: earlier.as_ref().and_then(|status| status.last_challenge_failure.clone()),
            attestation: earlier.and_then(|status| status.attestation),
            models,
            process: std::process::id(),
        };
        let reporter =
            Self(Arc::new(Inner { path: data.join(FILE_NAME), clock, status: Mutex::new(status) }));
        reporter.change(|_| {});
        reporter
    }

    /// Where the daemon stands.
    pub fn status(&self) -> Status {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a new state and why.
    pub(crate) fn set(&self, state: State, detail: impl Into<String>) {
        let detail = detail.into();
        self.change(|status| {
            if state == State::Refused {
                status.last_refusal = Some(detail.clone());
            }
            status.state = state;
            status.detail = detail;
        });
    }

    /// Notes that an attestation serves.
    pub(crate) fn connected(&self, attestation: AttestationStatus) {
        self.change(|status| {
            status.state = State::Connected;
            status.detail = SERVING.to_owned();
            status.attestation = Some(attestation);
        });
    }

    /// Notes why a challenge was not answered.
    pub(crate) fn challenge_failed(&self, why: impl Into<String>) {
        self.change(|status| status.last_challenge_failure = Some(why.into()));
    }

    /// Notes what the coordinator tells the operator.
    pub(crate) fn notice(&self, code: &str, message: String) {
        self.change(|status| match (code, status.state) {
            ("suspended", State::Connected | State::Suspended) => {
                status.state = State::Suspended;
                status.detail.clone_from(&message);
                status.last_challenge_failure = Some(message);
            }
            ("resumed", State::Suspended) => {
                status.state = State::Connected;
                status.detail = SERVING.to_owned();
            }
            ("challenge-missed", _) => status.last_challenge_failure = Some(message),
            // Words from a coordinator that knows more than this version, and nothing to act on.
            _ => {}
        });
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.0.status.lock().unwrap_or_else(PoisonError::into_inner);
        let before = status.state;
        change(&mut status);
        if status.state != before {
            status.since = self.0.clock.now();
        }
        let bytes = serde_json::to_vec_pretty(&*status).expect("text and numbers are JSON");
        // Written under the lock, so that the file ends up as the newest status. A full disk must not stop answers.
        if let Err(error) = durable::write(&self.0.path, &bytes) {
            tracing::warn!(%error, "the status file cannot be written");
        }
    }
}

const SERVING: &str = "admitted; requests come in";

#[cfg(test)]
mod tests {
    use glassbloom_service::MockClock;

    use super::*;

    #[test]
    fn the_file_says_what_happened() {
        let folder = tempfile::tempdir().unwrap();
        let clock = MockClock::new(UnixMillis::new(1_000));
        let reporter = Reporter::new(folder.path(), vec!["m".into()], Arc::new(clock.clone()));
        assert_eq!(Status::read(folder.path()).unwrap().state, State::Starting);
        clock.advance_millis(5);
        reporter.set(State::Refused, "no such build");
        clock.advance_millis(5);
        reporter.set(State::Refused, "no such build");
        let refused = Status::read(folder.path()).unwrap();
        assert_eq!((refused.since.get(), refused.exit_code()), (1_005, ExitCode::Rejected));
        reporter.connected(AttestationStatus { leaf: Hash::of(b""), index: 3.into() });
        let connected = Status::read(folder.path()).unwrap();
        assert_eq!(connected.exit_code(), ExitCode::Ok);
        assert_eq!(connected.last_refusal.as_deref(), Some("no such build"));
        let next = Reporter::new(folder.path(), Vec::new(), Arc::new(clock)).status();
        assert_eq!(next.last_refusal.as_deref(), Some("no such build"));
        assert_eq!(next.attestation.unwrap().index.get(), 3);
    }

    #[test]
    fn missed_challenges_are_told_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let clock = MockClock::new(UnixMillis::new(1_000));
        let reporter = Reporter::new(folder.path(), Vec::new(), Arc::new(clock));
        reporter.notice("suspended", "too early to be suspended".into());
        assert_eq!(reporter.status().state, State::Starting, "only who serves can be suspended");
        reporter.connected(AttestationStatus { leaf: Hash::of(b""), index: 3.into() });
        reporter.notice("challenge-missed", "one missed".into());
        reporter.notice("news", "nothing".into());
        let status = Status::read(folder.path()).unwrap();
        assert_eq!(
            (status.state, status.last_challenge_failure.as_deref()),
            (State::Connected, Some("one missed"))
        );
        reporter.notice("suspended", "three missed".into());
        let status = Status::read(folder.path()).unwrap();
        assert_eq!((status.state, status.exit_code()), (State::Suspended, ExitCode::Rejected));
        assert_eq!(status.detail, "three missed");
        reporter.notice("resumed", String::new());
        let status = Status::read(folder.path()).unwrap();
        assert_eq!(
            (status.state, status.last_challenge_failure.as_deref()),
            (State::Connected, Some("three missed"))
        );
    }
}
