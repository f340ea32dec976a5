//! Trust policies: which logs, which witnesses, and how many of them must agree. `[c2sp.org/tlog-policy]`
//!
//! A Glassbloom policy is a tlog-policy with a few more lines: `coordinator`, `release`,
//! `release-threshold`, `accept`, `anchor`, `endorser`, `app` and `checkpoint-age`. [`Policy::open`] is the only way from bytes to a [`Checkpoint`].

mod open;
mod parse;

use core::fmt;

pub use self::{
    open::{Checkpoint, Inconsistency, InconsistencyReason, LogSigned, Logged, OpenError},
    parse::{PolicyError, PolicyProblem},
};
use crate::{
    curve::PublicKey,
    evidence::{Anchor, Trust},
    id::UnixSeconds,
    leaf::Release,
    note::VerifierKey,
    statement::Statement,
};

/// How old a checkpoint may be when the policy does not say, in seconds: a day.
pub const DEFAULT_CHECKPOINT_AGE: u64 = 24 * 60 * 60;

/// Whom to believe, as its holder wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Quorum,
    coordinators: Vec<PublicKey>,
    releases: Vec<PublicKey>,
    release_threshold: usize,
    accepted_tiers: Vec<String>,
    anchors: Vec<Anchor>,
    endorsers: Vec<PublicKey>,
    apps: Vec<String>,
    checkpoint_age: u64,
}

/// A known log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its origin, which is the name of each of its keys.
    pub origin: String,
    /// Its keys; one suffices to sign a checkpoint.
    pub keys: Vec<VerifierKey>,
    /// The prefix it is served under.
    pub url: Option<String>,
}

/// A known witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its name within the policy, which has no meaning outside.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// Its submission prefix.
    pub url: Option<String>,
}

/// Members of which a number must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    /// From 1 to the number of members.
    threshold: usize,
    members: Vec<Member>,
}

/// Indexes into the policy's witnesses or earlier groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// What must have cosigned; `None` is the predefined name `none`.
type Quorum = Option<Member>;

impl Policy {
    /// The logs, in the order of their first lines.
    pub fn logs(&self) -> &[Log] {
        &self.logs
    }

    /// The log with this origin.
    pub fn log(&self, origin: &str) -> Option<&Log> {
        self.logs.iter().find(|log| log.origin == origin)
    }

    /// The witnesses, in the order of their lines.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// The name of the witness or group that must have cosigned, or `none`.
    pub fn quorum(&self) -> &str {
        self.quorum.map_or("none", |member| self.member_name(member))
    }

    /// Where the log with this origin is served, when the policy says.
    pub fn log_url(&self, origin: &str) -> Option<&str> {
        self.log(origin)?.url.as_deref()
    }

    /// Where the witness with this name takes checkpoints, when the policy says.
    pub fn witness_url(&self, name: &str) -> Option<&str> {
        self.witnesses.iter().find(|witness| witness.name == name)?.url.as_deref()
    }

    /// The keys of the coordinators whose statements count.
    pub fn coordinators(&self) -> &[PublicKey] {
        &self.coordinators
    }

    /// The keys that may sign releases.
    pub fn releases(&self) -> &[PublicKey] {
        &self.releases
    }

    /// How many of the release keys must stand behind a release.
    pub const fn release_threshold(&self) -> usize {
        self.release_threshold
    }

    /// Whether enough release keys signed or approved this release.
    pub fn trusts_release(&self, statement: &Statement, release: &Release) -> bool {
        release.approved_by(statement, &self.releases) >= self.release_threshold
    }

    /// Whom this policy believes about hardware, beyond the vendors that are pinned.
    pub fn trust(&self) -> Trust<'_> {
        Trust { anchors: &self.anchors, apps: &self.apps, endorsers: &self.endorsers }
    }

    /// The tiers of evidence that are good enough. Empty means that the policy names none.
    pub fn accepted_tiers(&self) -> &[String] {
        &self.accepted_tiers
    }

    /// How old a checkpoint may be, in seconds.
    pub const fn checkpoint_age(&self) -> u64 {
        self.checkpoint_age
    }

    fn member_name(&self, member: Member) -> &str {
        match member {
            Member::Witness(at) => &self.witnesses[at].name,
            Member::Group(at) => &self.groups[at].name,
        }
    }

    /// The newest time such that the quorum holds among the cosignatures made at that time or later; `None` when it
    /// does not hold at all. `times` has the newest cosignature of each witness.
    fn quorum_time(&self, times: &[Option<UnixSeconds>]) -> Option<UnixSeconds> {
        let Some(quorum) = self.quorum else { return Some(UnixSeconds::new(0)) };
        member_time(quorum, times, &self.group_times(times))
    }

    /// The same for every group; groups refer to earlier ones only, so one pass in order does it.
    fn group_times(&self, times: &[Option<UnixSeconds>]) -> Vec<Option<UnixSeconds>> {
        let mut groups = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let mut agreed: Vec<_> =
                group.members.iter().filter_map(|&m| member_time(m, times, &groups)).collect();
            agreed.sort_unstable_by(|a, b| b.cmp(a));
            groups.push(agreed.get(group.threshold - 1).copied());
        }
        groups
    }

    /// How many direct members of the quorum agree, how many must, and which of its witnesses have not cosigned.
    fn shortfall(&self, times: &[Option<UnixSeconds>]) -> (usize, usize, Vec<String>) {
        let groups = self.group_times(times);
        let (have, need) = match self.quorum {
            None => (0, 0),
            Some(Member::Witness(at)) => (usize::from(times[at].is_some()), 1),
            Some(Member::Group(at)) => {
                let group = &self.groups[at];
                let agreed = group.members.iter().filter(|&&m| member_time(m, times, &groups).is_some());
                (agreed.count(), group.threshold)
            }
        };
        let (mut missing, mut open) = (Vec::new(), Vec::from_iter(self.quorum));
        while let Some(member) = open.pop() {
            match member {
                Member::Witness(at) if times[at].is_none() => missing.push(self.witnesses[at].name.clone()),
                Member::Witness(_) => {}
                Member::Group(at) => open.extend(self.groups[at].members.iter().rev()),
            }
        }
        (have, need, missing)
    }
}

fn member_time(
    member: Member,
    witnesses: &[Option<UnixSeconds>],
    groups: &[Option<UnixSeconds>],
) -> Option<UnixSeconds> {
    match member {
        Member::Witness(at) => witnesses[at],
        Member::Group(at) => groups[at],
    }
}

impl fmt::Display for Policy {
    /// Writes the policy without its comments, one line per statement.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |url: &Option<String>| url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        for log in &self.logs {
            for key in &log.keys {
                writeln!(f, "log {key}{}", url(&log.url))?;
            }
        }
        for witness in &self.witnesses {
            writeln!(f, "witness {} {}{}", witness.name, witness.key, url(&witness.url))?;
        }
        for group in &self.groups {
            let names: Vec<_> = group.members.iter().map(|&m| self.member_name(m)).collect();
            writeln!(f, "group {} {} {}", group.name, group.threshold, names.join(" "))?;
        }
        writeln!(f, "quorum {}", self.quorum())?;
        for key in &self.coordinators {
            writeln!(f, "coordinator {key}")?;
        }
        for key in &self.releases {
            writeln!(f, "release {key}")?;
        }
        if self.release_threshold != 1 {
            writeln!(f, "release-threshold {}", self.release_threshold)?;
        }
        for anchor in &self.anchors {
            writeln!(f, "anchor {} {} {}", anchor.tier, anchor.key, anchor.name)?;
        }
        for key in &self.endorsers {
            writeln!(f, "endorser {key}")?;
        }
        for app in &self.apps {
            writeln!(f, "app {app}")?;
        }
        if !self.accepted_tiers.is_empty() {
            writeln!(f, "accept {}", self.accepted_tiers.join(" "))?;
        }
        writeln!(f, "checkpoint-age {}s", self.checkpoint_age)
    }
}
