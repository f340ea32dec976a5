//! What an audit tells people and programs.

use core::fmt;
use std::collections::BTreeMap;

use glassbloom_service::ExitCode;
use glassbloom_spec::{
    hash::Hash,
    id::{TreeSize, UnixSeconds},
};
use serde::Serialize;

use crate::{finding::Finding, rules::Severity};

/// The outcome of one audit.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Logs that could be opened, registry first.
    pub logs: Vec<LogReport>,
    /// Origins of logs that have not published anything yet, as far as this auditor has ever seen.
    pub unpublished: Vec<String>,
    /// Rules that do not hold, from this run and, for entries, from earlier ones.
    pub findings: Vec<Finding>,
    /// What people should see although it proves nothing against anybody: the audit does not fail for it.
    pub notices: Vec<Finding>,
    /// What kept the audit from going further.
    pub problems: Vec<Problem>,
}

/// One log as it was found.
#[derive(Clone, Debug, Serialize)]
pub struct LogReport {
    /// Its origin.
    pub origin: String,
    /// Entries in the checkpoint.
    pub size: TreeSize,
    /// Its root.
    pub root: Hash,
    /// Entries that this run replayed.
    pub new_entries: u64,
    /// When the quorum had cosigned.
    pub cosigned_at: UnixSeconds,
    /// Seconds since then.
    pub age: u64,
    /// Witnesses of the policy that cosigned.
    pub cosigned_by: Vec<String>,
}

/// Something that is no finding about the log's content, but means that the audit says less than it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// What happened and what to do.
    pub detail: String,
}

/// Kinds of problems; each has an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// What a log serves cannot be parsed.
    Malformed,
    /// The checkpoint is too old, goes back, or too few witnesses cosigned it.
    Stale,
    /// A log does not answer.
    Unreachable,
}

impl Report {
    /// The exit code: findings weigh most, then the first problem.
    pub fn exit_code(&self) -> ExitCode {
        if !self.findings.is_empty() {
            return ExitCode::Rejected;
        }
        match self.problems.first().map(|problem| problem.kind) {
            None => ExitCode::Ok,
            Some(ProblemKind::Malformed) => ExitCode::Malformed,
            Some(ProblemKind::Stale) => ExitCode::Stale,
            Some(ProblemKind::Unreachable) => ExitCode::Unreachable,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for log in &self.logs {
            let entries = if log.new_entries == 1 { "entry" } else { "entries" };
            let by = if log.cosigned_by.is_empty() {
                "no witness is asked for by the policy".to_owned()
            } else {
                format!("cosigned {} s ago by {}", log.age, log.cosigned_by.join(", "))
            };
            writeln!(f, "{}  size {}  {} new {entries}  {by}", log.origin, log.size, log.new_entries)?;
        }
        for origin in &self.unpublished {
            writeln!(f, "{origin}  has published nothing yet: there is nothing to check")?;
        }
        let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
        for finding in self.findings.iter().chain(&self.notices) {
            let shown = shown.entry(finding.rule).or_default();
            *shown += 1;
            if *shown <= SHOWN {
                let notice = if finding.severity() == Severity::Notice { "notice: " } else { "" };
                writeln!(
                    f,
                    "\n{notice}{finding}\n  explained `glassbloom-auditor explain {}`",
                    finding.rule
                )?;
            }
        }
        for (rule, count) in shown.into_iter().filter(|(_, count)| *count > SHOWN) {
            writeln!(f, "\n{rule}: {} more; `--json` lists them all", count - SHOWN)?;
        }
        for problem in &self.problems {
            writeln!(f, "\nproblem: {}", problem.detail)?;
        }
        let notices = match self.notices.len() {
            0 => String::new(),
            1 => ", 1 notice".to_owned(),
            count => format!(", {count} notices"),
        };
        match (self.findings.len(), self.problems.is_empty()) {
            (0, true) => writeln!(f, "every entry follows from the log: no findings{notices}"),
            (0, false) => writeln!(f, "\nno findings{notices}, but the audit is not complete"),
            (1, _) => writeln!(f, "\n1 finding{notices}"),
            (count, _) => writeln!(f, "\n{count} findings{notices}"),
        }
    }
}

/// Findings per rule that a person is shown; a log that is wrong throughout would fill the terminal.
const SHOWN: usize = 20;
