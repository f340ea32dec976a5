//! Server-sent events: writing, padding and reading. `[WHATWG HTML §9.2]`

use serde::Serialize;

use super::Error;
use crate::seal::Padding;

/// The event that ends a chat stream. A stream that failed has none.
pub const DONE: &[u8] = b"data: [DONE]\n\n";
/// A comment that keeps connections open while a model is busy.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";
/// The media type of an event stream.
pub const MEDIA_TYPE: &str = "text/event-stream; charset=utf-8";
/// The most bytes of one event that [`SseParser`] waits for: 1 MiB.
pub const MAX_EVENT: usize = 1 << 20;

/// One event with JSON as its data.
///
/// # Panics
/// When `data` has no JSON form: only types of this module are meant to be passed.
pub fn sse_data(data: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_string(data).expect("strings, numbers and lists of them have a JSON form");
    format!("data: {json}\n\n").into_bytes()
}

/// The event that tells of an error in the middle of a stream; after it, the stream is closed without [`DONE`].
pub fn sse_error(error: &Error) -> Vec<u8> {
    sse_data(&error.to_value())
}

/// Fills an event up to the padding's next multiple with a comment, which every reader skips.
pub fn pad(mut event: Vec<u8>, padding: Padding) -> Vec<u8> {
    let mut target = padding.padded(event.len());
    // The shortest comment is a colon and a line break.
    if target == event.len() + 1 {
        target = padding.padded(event.len() + 2);
    }
    let missing = target - event.len();
    if missing > 0 && event.ends_with(b"\n\n") {
        event.pop();
        event.push(b':');
        event.resize(target - 2, b' ');
        event.extend_from_slice(b"\n\n");
    }
    event
}

/// Fills JSON up to the padding's next multiple with blanks, which every reader skips.
pub fn pad_json(mut body: Vec<u8>, padding: Padding) -> Vec<u8> {
    body.resize(padding.padded(body.len()), b' ');
    body
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field, where there is one.
    pub event: Option<String>,
    /// The `data` fields, joined by line breaks.
    pub data: String,
}

impl SseEvent {
    /// Whether this is the event that ends a chat stream.
    pub fn is_done(&self) -> bool {
        self.data == "[DONE]"
    }
}

/// Bytes that are no event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStream {
    /// An event is longer than [`MAX_EVENT`].
    #[error("an event of the stream is longer than {MAX_EVENT} bytes")]
    TooLong,
    /// The stream ended in the middle of an event.
    #[error("the stream ended in the middle of an event")]
    Truncated,
    /// A line is not UTF-8.
    #[error("the stream is not UTF-8")]
    Utf8,
}

/// Cuts arriving bytes into events. Takes any line ending; skips comments and the fields `id` and `retry`.
#[derive(Default)]
pub struct SseParser {
    /// The line that is not finished yet.
    line: Vec<u8>,
    /// The last byte was a carriage return, so a line feed now belongs to it.
    after_return: bool,
    started: bool,
    event: Option<String>,
    data: Option<String>,
}

impl SseParser {
    /// Takes the bytes that arrived, in pieces of any size, and returns the events that they complete.
    ///
    /// # Errors
    /// [`BadStream::TooLong`], [`BadStream::Utf8`]; the parser is of no use afterwards.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, BadStream> {
        let mut events = Vec::new();
        for &byte in bytes {
            let second_half = core::mem::take(&mut self.after_return) && byte == b'\n';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    events.extend(self.end_line()?);
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_EVENT {
                return Err(BadStream::TooLong);
            }
        }
        Ok(events)
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// [`BadStream::Truncated`] when an event was begun and not ended.
    pub fn finish(self) -> Result<(), BadStream> {
        let whole = self.line.is_empty() && self.data.is_none() && self.event.is_none();
        if whole { Ok(()) } else { Err(BadStream::Truncated) }
    }

    fn end_line(&mut self) -> Result<Option<SseEvent>, BadStream> {
        let line = String::from_utf8(core::mem::take(&mut self.line)).map_err(|_| BadStream::Utf8)?;
        let mut line = line.as_str();
        if !core::mem::replace(&mut self.started, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let event = self.event.take();
            return Ok(self.data.take().map(|data| SseEvent { event, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.into()),
            },
            "event" => self.event = Some(value.into()),
            // The empty field name is that of a comment; others are not used here, and readers skip what they do
            // not know.
            _ => {}
        }
        Ok(None)
    }
}
