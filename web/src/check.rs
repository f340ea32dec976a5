//! Three states, never two: what was checked here and holds, what was checked and does not, and what could not be
//! checked.

use glassbloom_spec::verify::Report;
pub use glassbloom_spec::verify::State;

/// As in the attribute `data-state`.
pub const fn state_name(state: State) -> &'static str {
    match state {
        State::Failed => "failed",
        State::NotVerifiable => "not-verifiable",
        State::Verified => "verified",
    }
}

/// For people.
pub const fn state_label(state: State) -> &'static str {
    match state {
        State::Failed => "Failed",
        State::NotVerifiable => "Not verifiable",
        State::Verified => "Verified",
    }
}

/// One named check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is checked, as a short statement.
    pub name: String,
    /// How it ended.
    pub state: State,
    /// What was found, and why it counts or does not.
    pub detail: String,
    /// The bytes that were checked, to look at.
    pub bytes: Vec<u8>,
}

impl Step {
    /// A step that holds.
    pub fn verified(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, State::Verified, detail)
    }

    /// A step that does not hold.
    pub fn failed(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, State::Failed, detail)
    }

    /// A step that could not be done.
    pub fn not_verifiable(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, State::NotVerifiable, detail)
    }

    /// A step that holds with the first text, or failed with the error's.
    pub fn of<T, E: core::fmt::Display>(
        name: impl Into<String>,
        result: &Result<T, E>,
        holds: impl Into<String>,
    ) -> Self {
        match result {
            Ok(_) => Self::verified(name, holds),
            Err(error) => Self::failed(name, sentence(&error.to_string())),
        }
    }

    /// The same with the bytes that were checked.
    #[must_use]
    pub fn with_bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes = bytes.to_vec();
        self
    }

    fn new(name: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        Self { name: name.into(), state, detail: detail.into(), bytes: Vec::new() }
    }
}

/// What several checks come to, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The worst of the steps: one that failed, else one that could not be done.
    pub state: State,
    /// One sentence.
    pub why: String,
    /// The checks, in the order in which they were made.
    pub steps: Vec<Step>,
}

impl Outcome {
    /// Judges the steps. Nothing checked is nothing verified.
    pub fn of(steps: Vec<Step>, holds: impl Into<String>) -> Self {
        let first = |state| steps.iter().find(|step| step.state == state);
        let (state, why) = match (first(State::Failed), first(State::NotVerifiable)) {
            (Some(step), _) | (None, Some(step)) => (step.state, format!("{}: {}", step.name, step.detail)),
            (None, None) if steps.is_empty() => (State::NotVerifiable, "Nothing was checked.".to_owned()),
            (None, None) => (State::Verified, holds.into()),
        };
        Self { state, why, steps }
    }
}

/// The steps of a report of the spec's, in words for this page.
pub fn steps_of(report: &Report) -> Vec<Step> {
    let step = |step: &glassbloom_spec::verify::Step| {
        Step::new(sentence(&step.name).trim_end_matches('.'), step.state, sentence(&step.detail))
    };
    report.steps().iter().map(step).collect()
}

/// An error's text as a sentence: first letter large unless it begins with an address, full stop at the end.
pub fn sentence(text: &str) -> String {
    if text.split(' ').next().is_some_and(|word| word.contains(['/', ':'])) {
        return format!("{}.", text.trim_end_matches('.'));
    }
    let mut letters = text.trim_end_matches('.').chars();
    let first: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_step_decides() {
        let (good, bad, open) =
            (Step::verified("a", "A."), Step::failed("b", "B."), Step::not_verifiable("c", "C."));
        let state =
            |steps: &[&Step]| Outcome::of(steps.iter().map(|step| (*step).clone()).collect(), "fine").state;
        assert_eq!(state(&[]), State::NotVerifiable);
        assert_eq!(state(&[&good]), State::Verified);
        assert_eq!(state(&[&good, &open]), State::NotVerifiable);
        assert_eq!(state(&[&good, &open, &bad]), State::Failed);
        assert_eq!(Outcome::of(vec![open, bad], "fine").why, "b: B.");
    }

    #[test]
    fn errors_read_as_sentences() {
        assert_eq!(sentence("the root differs"), "The root differs.");
        assert_eq!(sentence("http://log.test is gone."), "http://log.test is gone.");
        assert_eq!(sentence(""), ".");
    }
}
