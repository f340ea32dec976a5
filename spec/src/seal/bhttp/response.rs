//! Responses of indeterminate length, written and read as a stream.

use super::{BadMessage, Fields, MAX_CONTENT_CHUNK, MAX_FIELDS_LEN};
use crate::seal::varint;

/// Writes a response. Each call returns the bytes of one part.
pub struct ResponseEncoder {
    headers: Fields,
    /// Bytes of content so far.
    len: u64,
}

impl ResponseEncoder {
    /// The bytes of the head, and what writes the rest.
    ///
    /// # Errors
    /// When `status` is not between 200 and 599.
    pub fn start(status: u16, headers: &Fields) -> Result<(Vec<u8>, Self), BadMessage> {
        check_status(status.into())?;
        let mut out = Vec::new();
        varint::push(&mut out, INDETERMINATE_RESPONSE);
        varint::push(&mut out, status.into());
        push_section(&mut out, headers);
        Ok((out, Self { headers: headers.clone(), len: 0 }))
    }

    /// The bytes of one chunk of content, which the decoder returns as one event. Nothing for nothing, because
    /// an empty chunk would end the content.
    ///
    /// # Errors
    /// When it is longer than [`MAX_CONTENT_CHUNK`].
    pub fn content(&mut self, content: &[u8]) -> Result<Vec<u8>, BadMessage> {
        if content.is_empty() {
            return Ok(Vec::new());
        }
        if content.len() > MAX_CONTENT_CHUNK {
            return Err(BadMessage::TooLong("content chunk"));
        }
        self.len += content.len() as u64;
        let mut out = Vec::with_capacity(content.len() + 4);
        varint::push(&mut out, content.len());
        out.extend_from_slice(content);
        Ok(out)
    }

    /// The bytes that end the content, and the trailers.
    ///
    /// # Errors
    /// When the header announced another content length.
    pub fn end(self, trailers: &Fields) -> Result<Vec<u8>, BadMessage> {
        self.headers.check_content_length(self.len)?;
        let mut out = Vec::new();
        varint::push(&mut out, TERMINATOR);
        push_section(&mut out, trailers);
        Ok(out)
    }
}

fn push_section(out: &mut Vec<u8>, fields: &Fields) {
    out.extend(fields.encode_lines());
    varint::push(out, TERMINATOR);
}

fn check_status(status: u64) -> Result<u16, BadMessage> {
    // Informational responses are refused: nothing here sends or awaits them.
    u16::try_from(status).ok().filter(|s| (200..600).contains(s)).ok_or(BadMessage::Status(status))
}

/// A part of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The head; comes first.
    Head {
        /// Between 200 and 599.
        status: u16,
        /// The header fields.
        headers: Fields,
    },
    /// One chunk of content as the other side wrote it; never empty.
    Content(Vec<u8>),
    /// The end; comes last.
    End {
        /// The trailer fields.
        trailers: Fields,
    },
}

/// Reads a response that arrives in pieces of any size.
#[derive(Default)]
pub struct ResponseDecoder {
    buffer: Vec<u8>,
    state: State,
    headers: Fields,
    len: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Content,
    Trailers,
    Done,
}

impl ResponseDecoder {
    /// Takes the bytes that arrived and returns the parts that they complete.
    ///
    /// # Errors
    /// When the bytes are no response; the decoder is of no use afterwards.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, BadMessage> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut cursor = Cursor { rest: &self.buffer };
        loop {
            let before = cursor;
            let step = match self.state {
                State::Head => cursor.head()?.map(|(status, headers)| {
                    self.state = State::Content;
                    self.headers = headers.clone();
                    Event::Head { status, headers }
                }),
                State::Content => match cursor.content()? {
                    Some([]) => {
                        self.state = State::Trailers;
                        self.headers.check_content_length(self.len)?;
                        continue;
                    }
                    Some(content) => {
                        self.len += content.len() as u64;
                        Some(Event::Content(content.to_vec()))
                    }
                    None => None,
                },
                State::Trailers => cursor.fields()?.map(|trailers| {
                    self.state = State::Done;
                    Event::End { trailers }
                }),
                State::Done if cursor.rest.iter().any(|&byte| byte != 0) => return Err(BadMessage::Padding),
                State::Done => {
                    cursor.rest = &[];
                    None
                }
            };
            match step {
                Some(event) => events.push(event),
                None => {
                    if self.state != State::Done {
                        cursor = before;
                    }
                    break;
                }
            }
        }
        let taken = self.buffer.len() - cursor.rest.len();
        self.buffer.drain(..taken);
        Ok(events)
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// When the end has not been read. The abbreviations of the RFC are not accepted: a response without an end
    /// has no receipt.
    pub fn finish(self) -> Result<(), BadMessage> {
        if self.state == State::Done { Ok(()) } else { Err(BadMessage::Truncated) }
    }
}

/// Reads whole parts off the front; `None` where more bytes are needed.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn int(&mut self) -> Option<u64> {
        let (value, len) = varint::read(self.rest)?;
        self.rest = &self.rest[len..];
        Some(value)
    }

    /// A length and as many bytes, at most `max`.
    fn part(&mut self, max: usize, what: &'static str) -> Result<Option<&'a [u8]>, BadMessage> {
        let Some(len) = self.int() else { return Ok(None) };
        let len = usize::try_from(len).ok().filter(|&len| len <= max).ok_or(BadMessage::TooLong(what))?;
        let Some((part, rest)) = self.rest.split_at_checked(len) else { return Ok(None) };
        self.rest = rest;
        Ok(Some(part))
    }

    fn head(&mut self) -> Result<Option<(u16, Fields)>, BadMessage> {
        let Some(framing) = self.int() else { return Ok(None) };
        if framing != INDETERMINATE_RESPONSE as u64 {
            return Err(BadMessage::Framing(framing));
        }
        let Some(status) = self.int() else { return Ok(None) };
        let status = check_status(status)?;
        Ok(self.fields()?.map(|headers| (status, headers)))
    }

    fn content(&mut self) -> Result<Option<&'a [u8]>, BadMessage> {
        self.part(MAX_CONTENT_CHUNK, "content chunk")
    }

    fn fields(&mut self) -> Result<Option<Fields>, BadMessage> {
        let mut fields = Fields::new();
        loop {
            let Some(name) = self.part(MAX_FIELDS_LEN, "field name")? else { return Ok(None) };
            if name.is_empty() {
                return Ok(Some(fields));
            }
            let Some(value) = self.part(MAX_FIELDS_LEN, "field value")? else { return Ok(None) };
            fields.push(name, value)?;
        }
    }
}

const INDETERMINATE_RESPONSE: usize = 3;
/// A length of 0 where a name or a chunk would begin.
const TERMINATOR: usize = 0;
