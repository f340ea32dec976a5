//! Both logs at a glance.

use glassbloom_spec::{
    checkpoint::Checkpoint,
    id::{LeafIndex, UnixMillis, UnixSeconds},
    statement::Statement,
};

use super::{
    Site, Trouble, identity,
    pin::{self, Continuity, Fork},
    site::{SiteLog, not_opened},
};
use crate::{
    check::{Outcome, State, Step, sentence},
    describe,
    reader::Fetch,
    registry::{Authority, Registry},
    route::{LogName, Route},
    time,
};

/// How many of a log's newest entries are shown.
pub const RECENT: u64 = 8;

/// What the overview shows.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The logs, in the order in which they are shown.
    pub logs: Vec<LogCard>,
    /// The providers in the registry, newest first.
    pub providers: Vec<ProviderLine>,
    /// When this was loaded.
    pub now: UnixMillis,
}

/// One log.
#[derive(Clone, Debug)]
pub struct LogCard {
    /// Which one.
    pub name: LogName,
    /// Its state, or why there is none to show.
    pub view: Result<LogView, Trouble>,
}

/// A log whose checkpoint could be fetched.
#[derive(Clone, Debug)]
pub struct LogView {
    /// Its checkpoint under the policy.
    pub checkpoint: Checkpoint,
    /// The names of the witnesses that the policy knows.
    pub witnesses: Vec<String>,
    /// What was checked.
    pub outcome: Outcome,
    /// How it compares with what this browser saw last.
    pub continuity: Continuity,
    /// The newest entries, newest first.
    pub recent: Vec<EntryLine>,
}

/// One entry in a list.
#[derive(Clone, Debug)]
pub struct EntryLine {
    /// Where it stands.
    pub index: LeafIndex,
    /// Its kind, or that it is no statement.
    pub kind: String,
    /// One line about it.
    pub summary: String,
    /// Whether it is included and its signature holds.
    pub outcome: Outcome,
}

/// One provider in a list.
#[derive(Clone, Debug)]
pub struct ProviderLine {
    /// Its page.
    pub route: Route,
    /// Names it.
    pub name: String,
    /// How its claims are backed.
    pub tier: String,
    /// What the coordinator judged, and whether it is revoked.
    pub status: String,
    /// When its first attestation was witnessed.
    pub since: UnixSeconds,
    /// The build that it says runs.
    pub build: String,
    /// What its evidence leaves open.
    pub not_proven: &'static str,
}

impl Overview {
    /// Every fork that was found; one is enough for an alarm.
    pub fn forks(&self) -> Vec<&Fork> {
        self.logs.iter().filter_map(|log| log.view.as_ref().ok()?.continuity.fork()).collect()
    }

    /// The notes to keep as seen last, by origin.
    pub fn to_keep(&self) -> Vec<(String, Vec<u8>)> {
        let views = self.logs.iter().filter_map(|log| log.view.as_ref().ok());
        views.filter_map(|view| view.continuity.keep(&view.checkpoint)).collect()
    }
}

/// Loads the overview. `kept` gives the note that was seen last of an origin.
pub async fn load<F: Fetch + Clone>(
    site: &Site<F>,
    kept: impl Fn(&str) -> Option<String>,
    now: UnixMillis,
) -> Overview {
    let mut logs = Vec::new();
    let mut registry = None;
    for name in LogName::ALL {
        let view = load_log(site, name, &kept, now, &mut registry).await;
        logs.push(LogCard { name, view });
    }
    let providers =
        registry.as_ref().map(|registry| identity::lines(site.policy(), registry)).unwrap_or_default();
    Overview { logs, providers, now }
}

async fn load_log<F: Fetch + Clone>(
    site: &Site<F>,
    name: LogName,
    kept: &impl Fn(&str) -> Option<String>,
    now: UnixMillis,
    registry: &mut Option<Registry>,
) -> Result<LogView, Trouble> {
    let log = site.log(name)?;
    let (note, opened) = site.checkpoint(&log).await.map_err(|error| Trouble::unreachable(&error))?;
    let checkpoint = opened.map_err(|error| not_opened(&error))?;
    let mut steps = checkpoint_steps(site, &checkpoint, now);
    steps[0] = steps[0].clone().with_bytes(&note);
    if name == LogName::Registry {
        let replayed = site.replay(&log, &checkpoint).await;
        steps.push(match &replayed {
            Ok(_) => Step::verified(
                "Every entry hashed again",
                format!("{} entries give the signed root.", checkpoint.size()),
            ),
            Err(trouble) => Step::failed("Every entry hashed again", trouble.cause.clone()),
        });
        *registry = replayed.ok();
    }
    let continuity = pin::compare(site.policy(), kept(&log.origin).as_deref(), &log, &checkpoint).await;
    steps.push(continuity.step());
    let recent = recent(site, &log, &checkpoint, registry.as_ref()).await?;
    let witnesses = site.policy().witnesses().iter().map(|witness| witness.name.clone()).collect();
    let holds = match continuity {
        Continuity::FirstSeen => "Signed by the log, seen by witnesses, and kept to compare next time.",
        _ => "Signed by the log, seen by witnesses, and an extension of what you saw before.",
    };
    let outcome = Outcome::of(steps, holds);
    Ok(LogView { checkpoint, witnesses, outcome, continuity, recent })
}

/// What opening a checkpoint under the policy has shown.
pub fn checkpoint_steps<F: Fetch + Clone>(
    site: &Site<F>,
    checkpoint: &Checkpoint,
    now: UnixMillis,
) -> Vec<Step> {
    let policy = site.policy();
    let mut steps = vec![Step::verified(
        "Signed by the log",
        format!("A key that the policy names for {} signed it.", checkpoint.origin()),
    )];
    let names: Vec<_> = checkpoint.cosignatures().iter().map(|(name, _)| name.as_str()).collect();
    if policy.quorum() == "none" {
        steps.push(Step::not_verifiable(
            "Seen by witnesses",
            "The policy asks for no witness, so the log alone is believed.",
        ));
        return steps;
    }
    steps.push(Step::verified(
        "Seen by witnesses",
        format!("Cosigned by {}: the quorum {} is met.", names.join(", "), policy.quorum()),
    ));
    let age = now.seconds().get().saturating_sub(checkpoint.cosigned_at().get());
    let allowed = time::span(policy.checkpoint_age());
    steps.push(if age <= policy.checkpoint_age() {
        Step::verified(
            "Fresh",
            format!("Witnessed {}; the policy allows {allowed}.", time::ago(checkpoint.cosigned_at(), now)),
        )
    } else {
        Step::failed(
            "Fresh",
            format!(
                "Witnessed {}, but the policy allows {allowed}: the log may be withholding entries.",
                time::ago(checkpoint.cosigned_at(), now)
            ),
        )
    });
    steps
}

async fn recent<F: Fetch + Clone>(
    site: &Site<F>,
    log: &SiteLog<F>,
    checkpoint: &Checkpoint,
    registry: Option<&Registry>,
) -> Result<Vec<EntryLine>, Trouble> {
    let size = checkpoint.size();
    let range = size.get().saturating_sub(RECENT)..size.get();
    let entries = log.reader.entries(range, size).await.map_err(|error| Trouble::read(&error))?;
    let mut lines = Vec::new();
    for (index, entry) in entries.into_iter().rev() {
        let proof = log.reader.inclusion(index, size).await.map_err(|error| Trouble::read(&error))?;
        let statement = Statement::parse(&entry);
        let included = checkpoint.includes(entry, index, &proof);
        let mut steps = vec![Step::of(
            "Included in the log",
            &included,
            format!("Its hash leads to the root of {size} entries."),
        )];
        let (kind, summary) = match &statement {
            Ok(statement) => {
                steps.push(signature_step(site, statement, registry));
                (statement.kind().to_string(), describe::summary(statement))
            }
            Err(error) => {
                steps.push(Step::not_verifiable("Signed", sentence(&error.to_string())));
                ("unknown".to_owned(), "Bytes that are no statement this page knows".to_owned())
            }
        };
        lines.push(EntryLine {
            index,
            kind,
            summary,
            outcome: Outcome::of(steps, "Included in the log and signed by a known key."),
        });
    }
    Ok(lines)
}

/// Whether the signature is by a key that may make such a statement.
pub fn signature_step<F: Fetch + Clone>(
    site: &Site<F>,
    statement: &Statement,
    registry: Option<&Registry>,
) -> Step {
    const NAME: &str = "Signed by the right key";
    let nothing = Registry::default();
    match registry.unwrap_or(&nothing).authority(site.policy(), statement) {
        Authority::Coordinator => Step::verified(NAME, "Signed by a coordinator that the policy names."),
        Authority::Release => Step::verified(NAME, "Signed by a release key that the policy names."),
        Authority::Provider(leaf) => {
            Step::verified(NAME, format!("Signed by the key in attestation {}.", describe::short(&leaf)))
        }
        Authority::Forged(error) => Step::failed(NAME, sentence(&error)),
        Authority::Unknown => Step::not_verifiable(
            NAME,
            format!(
                "Neither the policy nor the registry has key {}.",
                describe::short(&statement.key_id().0)
            ),
        ),
    }
}

/// The newest time at which a witness cosigned, for a list of witnesses.
pub fn cosigned(view: &LogView, witness: &str) -> Option<UnixSeconds> {
    view.checkpoint.cosignatures().iter().find(|(name, _)| name == witness).map(|(_, time)| *time)
}

/// The worst state of both logs.
pub fn state(overview: &Overview) -> State {
    let states = overview
        .logs
        .iter()
        .map(|log| log.view.as_ref().map_or(State::NotVerifiable, |view| view.outcome.state));
    states.min().unwrap_or(State::NotVerifiable)
}
