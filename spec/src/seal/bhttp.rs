//! Binary HTTP: requests of known length, and responses of indeterminate length as a stream. `[RFC 9292]`
//!
//! Strict where HTTP is lax: field names are lower-case tokens, values visible ASCII with blanks inside, and fields
//! about a connection are refused, since there is none. What comes out can be put on any HTTP version without
//! smuggling a line or a second message.

mod fields;
mod request;
mod response;

pub use fields::Fields;
pub use request::Request;
pub use response::{Event, ResponseDecoder, ResponseEncoder};

/// The most bytes of a request's content: 16 MiB.
pub const MAX_REQUEST_CONTENT: usize = 16 << 20;
/// The most bytes in one chunk of a response's content: 1 MiB.
pub const MAX_CONTENT_CHUNK: usize = 1 << 20;
/// The most bytes of names and values in one field section: 64 KiB, for a receipt is one field.
pub const MAX_FIELDS_LEN: usize = 64 << 10;
/// The most fields in one section.
pub const MAX_FIELDS: usize = 64;

/// Why bytes are no message, or a message cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// The method, scheme, authority or path of a request.
    #[error("the {0} of the request is malformed")]
    Control(&'static str),
    /// The content is not as long as its `content-length` field says.
    #[error("the content is not as long as its content-length field says")]
    ContentLength,
    /// The message ends, but more sealed chunks follow.
    #[error("the response ends before the last sealed chunk")]
    EndBeforeLastChunk,
    /// A field name or value that HTTP does not allow, or that is about a connection.
    #[error("field {0:?} is not allowed in a sealed message")]
    Field(String),
    /// Neither a request of known length nor a response of indeterminate length.
    #[error("not the expected kind of binary HTTP message: framing indicator {0}")]
    Framing(u64),
    /// Something other than zero bytes after the end of the message.
    #[error("the message is followed by bytes other than padding")]
    Padding,
    /// The status of a response is not between 200 and 599.
    #[error("{0} is not the status of a final response")]
    Status(u64),
    /// A part of the message is longer than this crate accepts.
    #[error("the {0} is too long")]
    TooLong(&'static str),
    /// The message ends in the middle.
    #[error("the message is cut")]
    Truncated,
}
