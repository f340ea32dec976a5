//! What an audit found: a rule that does not hold, where, and what to do.

use core::fmt;
use std::path::PathBuf;

use glassbloom_spec::{hash::Hash, id::LeafIndex};
use serde::Serialize;

use crate::rules::{self, Rule, Severity};

/// One broken rule at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of the rule, such as `GB-LOG-001`.
    pub rule: &'static str,
    /// Origin of the log.
    pub origin: String,
    /// The entry, when the finding is about one.
    pub index: Option<LeafIndex>,
    /// Its leaf hash.
    pub leaf: Option<Hash>,
    /// What is wrong, with the values that show it.
    pub detail: String,
    /// What the reader should do.
    pub action: &'static str,
    /// A file that proves the finding by itself.
    pub evidence: Option<PathBuf>,
}

impl Finding {
    /// A finding about a log as a whole.
    pub fn about_log(rule: &Rule, origin: &str, detail: impl Into<String>) -> Self {
        Self {
            rule: rule.id,
            origin: origin.to_owned(),
            index: None,
            leaf: None,
            detail: detail.into(),
            action: rule.action,
            evidence: None,
        }
    }

    /// A finding about one entry.
    pub fn about_entry(
        rule: &Rule,
        origin: &str,
        index: LeafIndex,
        leaf: Hash,
        detail: impl Into<String>,
    ) -> Self {
        Self { index: Some(index), leaf: Some(leaf), ..Self::about_log(rule, origin, detail) }
    }

    /// What it means; a violation where this version does not know the rule.
    pub fn severity(&self) -> Severity {
        rules::find(self.rule).map_or(Severity::Violation, |rule| rule.severity)
    }

    /// Names the file that proves it.
    #[must_use]
    pub fn with_evidence(mut self, path: PathBuf) -> Self {
        self.evidence = Some(path);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = rules::find(self.rule).map_or("", |rule| rule.title);
        write!(f, "{} {title}\n  log       {}\n", self.rule, self.origin)?;
        if let Some(index) = self.index {
            writeln!(f, "  index     {index}")?;
        }
        if let Some(leaf) = self.leaf {
            writeln!(f, "  leaf hash {leaf}")?;
        }
        writeln!(f, "  found     {}", self.detail)?;
        if let Some(path) = &self.evidence {
            writeln!(f, "  evidence  {}", path.display())?;
        }
        write!(f, "  do        {}", self.action)
    }
}
