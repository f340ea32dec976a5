//! An explanation for terminals and for programs.

use core::fmt;

use glassbloom_spec::leaf::Tier;
use serde_json::{Value, json};

use super::{Explanation, Field, time};

impl Explanation {
    /// Who vouches for a field: nobody, where what the rest leans on does not hold.
    fn voucher(&self, field: &Field) -> &'static str {
        match field.by {
            Some(_) if !self.holds() => "nobody",
            Some(by) => by.name(),
            None => "-",
        }
    }

    /// "Valid at the time" and "expired since" are two things.
    fn ending(&self) -> Option<String> {
        let ends = self.ends?;
        let text = time::text(ends);
        Some(if ends >= self.now {
            format!("its certificates end {text}")
        } else if self.holds() {
            format!("valid at that time; expired since {text}")
        } else {
            format!("expired since {text}")
        })
    }

    /// The same for programs.
    pub fn to_json(&self) -> Value {
        let fields = self.fields.iter().map(
            |field| json!({ "name": field.name, "value": field.value, "vouched-by": self.voucher(field) }),
        );
        json!({
            "kind": self.kind,
            "at": self.at,
            "at-from": self.at_from,
            "state": self.report.state(),
            "holds": self.holds(),
            "tier": self.proves().map(Tier::name),
            "fields": fields.collect::<Vec<_>>(),
            "steps": self.report,
            "ends": self.ends,
            "expired-since": self.ends.filter(|ends| *ends < self.now),
            "does-not-prove": self.does_not_prove,
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.kind)?;
        writeln!(f, "verified as of {} ({})", time::text(self.at), self.at_from)?;
        writeln!(f, "\nwhat it says, and who vouches for it")?;
        let width = self.fields.iter().map(|field| field.name.chars().count()).max().unwrap_or(0);
        for field in &self.fields {
            writeln!(f, "  {:<8}  {:<width$}  {}", self.voucher(field), field.name, field.value)?;
        }
        writeln!(f, "\nchecks")?;
        for step in self.report.steps() {
            writeln!(f, "  {:<14}  {}: {}", step.state, step.name, step.detail)?;
        }
        writeln!(f)?;
        match self.proves() {
            Some(tier) => writeln!(f, "proves: {} ({tier})", tier.proves())?,
            None if self.report.failure().is_some() => writeln!(f, "rejected: it proves nothing")?,
            None if !self.holds() => writeln!(f, "not verified: what is missing is named above")?,
            None => {}
        }
        if let Some(ending) = self.ending() {
            writeln!(f, "{ending}")?;
        }
        writeln!(f, "does not prove: {}", self.does_not_prove)
    }
}
