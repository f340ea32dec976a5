//! From a model's text to events: stop texts end it, tool calls are taken out of it.

use super::Event;
use super::tools::{Piece, Scanner};

/// The answer of one job.
pub(crate) struct Output {
    stop: Vec<String>,
    /// The end of the text so far, which could become a stop text.
    held: String,
    /// Nothing when no tools were offered: then a call is text like any other.
    calls: Option<Scanner>,
    called: bool,
    stopped: bool,
}

impl Output {
    pub(crate) fn new(stop: &[String], tools: bool) -> Self {
        Self {
            stop: stop.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            held: String::new(),
            calls: tools.then(Scanner::default),
            called: false,
            stopped: false,
        }
    }

    /// The events of more text. Nothing may be pushed once it [`stopped`](Self::stopped).
    pub(crate) fn push(&mut self, text: &str) -> Vec<Event> {
        self.held += text;
        let first = self.stop.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        let free = match first {
            Some(at) => {
                self.stopped = true;
                let free = self.held[..at].to_owned();
                self.held.clear();
                free
            }
            None => {
                let held = self.stop.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
                let held = self.held.split_off(self.held.len() - held);
                std::mem::replace(&mut self.held, held)
            }
        };
        self.events(&free)
    }

    /// Whether a stop text came.
    pub(crate) const fn stopped(&self) -> bool {
        self.stopped
    }

    /// The events that were held back, and whether a tool was called.
    pub(crate) fn finish(mut self) -> (Vec<Event>, bool) {
        let held = std::mem::take(&mut self.held);
        let mut events = self.events(&held);
        if let Some(calls) = self.calls.take() {
            let last = calls.finish();
            events.extend(self.name(last));
        }
        (events, self.called)
    }

    fn events(&mut self, text: &str) -> Vec<Event> {
        if text.is_empty() {
            return Vec::new();
        }
        let pieces = match &mut self.calls {
            Some(calls) => calls.push(text),
            None => vec![Piece::Text(text.to_owned())],
        };
        self.name(pieces)
    }

    fn name(&mut self, pieces: Vec<Piece>) -> Vec<Event> {
        pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => Event::Text(text),
                Piece::Call { name, arguments } => {
                    self.called = true;
                    let id = u128::from_le_bytes(glassbloom_service::random::<16>());
                    Event::ToolCall { id: format!("call_{id:032x}"), name, arguments }
                }
            })
            .collect()
    }
}

/// How many bytes at the end of `text` are the beginning, but not the whole, of `pattern`.
pub(crate) fn overlap(text: &str, pattern: &str) -> usize {
    (1..pattern.len())
        .rev()
        .find(|&length| pattern.is_char_boundary(length) && text.ends_with(&pattern[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(events: &[Event]) -> String {
        events
            .iter()
            .map(|event| match event {
                Event::Text(text) => text.as_str(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn stops_across_pieces() {
        for (pieces, expected, stopped) in [
            (&["Hello EN", "D there"][..], "Hello ", true),
            (&["Hello EN", "NEND"], "Hello ENN", true),
            (&["Hello EN"], "Hello EN", false),
            (&["a\n", "\nb"], "a", true),
            (&["a\n", "b"], "a\nb", false),
            (&["é", "…"], "é", true),
        ] {
            let mut output = Output::new(&["END".into(), "\n\n".into(), "…".into(), String::new()], false);
            let mut events = Vec::new();
            for piece in pieces {
                events.extend(output.push(piece));
            }
            assert_eq!(output.stopped(), stopped);
            events.extend(output.finish().0);
            assert_eq!(text(&events), expected);
        }
    }

    #[test]
    fn holds_back_no_more_than_it_must() {
        let mut output = Output::new(&["END".into()], false);
        assert_eq!(output.push("to the E"), [Event::Text("to the ".into())]);
        assert_eq!(output.push("x"), [Event::Text("Ex".into())]);
    }

    #[test]
    fn calls_have_their_own_ids() {
        let call = "<tool_call>{\"name\": \"a\"}</tool_call>";
        let mut output = Output::new(&[], true);
        let events = output.push(&format!("{call}{call}"));
        let [Event::ToolCall { id: first, .. }, Event::ToolCall { id: second, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_ne!(first, second);
        assert!(output.finish().1);
    }

    #[test]
    fn without_tools_a_call_is_text() {
        let call = "<tool_call>{\"name\": \"a\"}</tool_call>";
        let mut output = Output::new(&[], false);
        assert_eq!(output.push(call), [Event::Text(call.into())]);
        assert_eq!(output.finish(), (Vec::new(), false));
    }
}
