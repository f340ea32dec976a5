//! Tool calls in a model's answer, in the form that Qwen and Hermes models write them:
//! `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

use serde_json::{Map, Value};

use super::output::overlap;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A part of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Call { name: String, arguments: String },
}

/// Finds the calls in an answer that comes in pieces.
///
/// White space around calls belongs to their notation and is dropped. What looks like a call but cannot be
/// read stays text.
#[derive(Default)]
pub(crate) struct Scanner {
    /// Text that is not given out yet: after [`OPEN`] when `inside`, else what could become it.
    held: String,
    inside: bool,
    /// Whether a call was the last thing that came.
    after_call: bool,
}

impl Scanner {
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held += text;
        let mut pieces = Vec::new();
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some(at) = self.held.find(tag) else { break };
            let rest = self.held.split_off(at + tag.len());
            self.held.truncate(at);
            let found = std::mem::replace(&mut self.held, rest);
            if self.inside {
                pieces.push(read(&found).unwrap_or_else(|| Piece::Text(format!("{OPEN}{found}{CLOSE}"))));
                self.after_call = matches!(pieces.last(), Some(Piece::Call { .. }));
            } else {
                self.give(found.trim_end(), &mut pieces);
            }
            self.inside = !self.inside;
        }
        if !self.inside {
            let tag = overlap(&self.held, OPEN);
            let free = self.held[..self.held.len() - tag].trim_end().len();
            let held = self.held.split_off(free);
            let free = std::mem::replace(&mut self.held, held);
            self.give(&free, &mut pieces);
        }
        pieces
    }

    /// What is left when the answer has ended.
    pub(crate) fn finish(mut self) -> Vec<Piece> {
        let held = std::mem::take(&mut self.held);
        let mut pieces = Vec::new();
        if self.inside {
            // Some models end without closing their last call.
            pieces.push(read(&held).unwrap_or_else(|| Piece::Text(format!("{OPEN}{held}"))));
        } else {
            self.give(&held, &mut pieces);
        }
        pieces
    }

    fn give(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        let text = if self.after_call { text.trim_start() } else { text };
        if !text.is_empty() {
            self.after_call = false;
            pieces.push(Piece::Text(text.to_owned()));
        }
    }
}

fn read(text: &str) -> Option<Piece> {
    let mut call: Map<String, Value> = serde_json::from_str(text).ok()?;
    let Some(Value::String(name)) = call.remove("name") else { return None };
    let arguments = match call.remove("arguments").or_else(|| call.remove("parameters")) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        // Some models write the arguments as text, like the API does.
        Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
        Some(_) => return None,
    };
    let arguments = Value::Object(arguments).to_string();
    Some(Piece::Call { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan<'a>(chunks: impl IntoIterator<Item = &'a str>) -> Vec<Piece> {
        let mut scanner = Scanner::default();
        let mut pieces: Vec<Piece> = Vec::new();
        for chunk in chunks {
            pieces.extend(scanner.push(chunk));
        }
        pieces.extend(scanner.finish());
        // Texts in a row are one text.
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (Some(Piece::Text(last)), Piece::Text(text)) => *last += &text,
                (_, piece) => joined.push(piece),
            }
        }
        joined
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn call(name: &str, arguments: &str) -> Piece {
        Piece::Call { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    /// The same pieces whether it comes whole or byte by byte.
    fn both(answer: &str) -> Vec<Piece> {
        let whole = scan([answer]);
        let ends: Vec<usize> = answer.char_indices().map(|(at, _)| at).chain([answer.len()]).collect();
        assert_eq!(scan(ends.windows(2).map(|pair| &answer[pair[0]..pair[1]])), whole);
        whole
    }

    #[test]
    fn finds_calls_between_texts() {
        assert_eq!(
            both(
                "I look.\n\n<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\": [1, \"é\"]}}\n</tool_call>\n<tool_call>{\"name\": \"b\"}</tool_call>\nDone. "
            ),
            [text("I look."), call("a", "{\"x\":[1,\"é\"]}"), call("b", "{}"), text("Done. ")]
        );
        assert_eq!(
            both("<tool_call>{\"name\": \"a\", \"arguments\": \"{\\\"x\\\": 1}\"}</tool_call>"),
            [call("a", "{\"x\":1}")]
        );
    }

    #[test]
    fn text_stays_as_it_is() {
        for answer in ["1 < 2 and <tool> is no call\n \n<tool_cal", "  \n", "a <"] {
            assert_eq!(both(answer), [text(answer)]);
        }
        assert_eq!(both(""), []);
    }

    #[test]
    fn what_cannot_be_read_stays_text() {
        for answer in [
            "<tool_call>get_weather(Oslo)</tool_call>",
            "<tool_call>{\"name\": 7}</tool_call>",
            "<tool_call>{\"name\": \"a\", \"arguments\": [1]}</tool_call>",
            "<tool_call>{\"name\": \"a\", \"argum",
        ] {
            assert_eq!(both(answer), [text(answer)]);
        }
    }

    #[test]
    fn an_unclosed_call_counts() {
        assert_eq!(both("<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n"), [call("a", "{}")]);
    }
}
