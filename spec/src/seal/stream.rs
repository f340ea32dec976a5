//! A streamed response: Binary HTTP and the sealed chunks under it, moving together.

use core::{fmt, str::FromStr};

use zeroize::Zeroizing;

use super::{
    bhttp::{BadMessage, Event, Fields, ResponseDecoder, ResponseEncoder},
    hpke::AeadError,
    ohttp::{OpenError, RESPONSE_NONCE_LEN, RequestContext, ResponseOpener, ResponseSealer},
};

/// A message that was not sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The context is used up.
    #[error(transparent)]
    Aead(#[from] AeadError),
    /// A part of the message has no place in Binary HTTP.
    #[error(transparent)]
    Message(#[from] BadMessage),
}

/// A sealed message that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsealed {
    /// What was sealed is no message; whoever holds the other key sent it so.
    #[error(transparent)]
    Message(#[from] BadMessage),
    /// The bytes do not open; anyone on the way can have changed them.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// To which multiple of bytes messages are filled up, so that sizes on the wire tell less of what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Not at all.
    Off,
    /// To a multiple of 64 bytes.
    #[default]
    To64,
    /// To a multiple of 512 bytes.
    To512,
}

impl Padding {
    /// The size, in bytes, that a message of `len` bytes is filled up to.
    pub const fn padded(self, len: usize) -> usize {
        match self {
            Self::Off => len,
            Self::To64 => len.next_multiple_of(64),
            Self::To512 => len.next_multiple_of(512),
        }
    }

    /// Fills up with the zero bytes that may follow a Binary HTTP message. `[RFC 9292 §3.8]`
    pub fn fill(self, message: &mut Vec<u8>) {
        message.resize(self.padded(message.len()), 0);
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::To64 => "64",
            Self::To512 => "512",
        })
    }
}

/// Not the name of a padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("padding is off, 64 or 512")]
pub struct UnknownPadding;

impl FromStr for Padding {
    type Err = UnknownPadding;

    fn from_str(text: &str) -> Result<Self, UnknownPadding> {
        match text {
            "off" => Ok(Self::Off),
            "64" => Ok(Self::To64),
            "512" => Ok(Self::To512),
            _ => Err(UnknownPadding),
        }
    }
}

/// Writes a response: the head, then contents, then the end with the trailers.
pub struct ResponseWriter {
    encoder: ResponseEncoder,
    sealer: ResponseSealer,
    padding: Padding,
}

impl ResponseWriter {
    /// Starts the response: the first bytes to send, and what writes the rest. `nonce` is 32 random bytes.
    ///
    /// # Errors
    /// When `status` is not a final status, or a field is not one of HTTP.
    pub fn start(
        request: RequestContext,
        nonce: [u8; RESPONSE_NONCE_LEN],
        status: u16,
        headers: &Fields,
        padding: Padding,
    ) -> Result<(Vec<u8>, Self), SealError> {
        let (head, encoder) = ResponseEncoder::start(status, headers)?;
        let mut sealer = request.respond(nonce);
        let sealed = sealer.chunk(&head)?;
        Ok((sealed, Self { encoder, sealer, padding }))
    }

    /// The bytes to send for one piece of content, such as one server-sent event: the other side gets it as one
    /// [`Event::Content`]. Content is not padded here, for only its author knows what it may be padded with:
    /// `openai::sse::pad` for events, blanks for JSON.
    ///
    /// # Errors
    /// After 2^64 chunks, and for content longer than `bhttp::MAX_CONTENT_CHUNK`.
    pub fn content(&mut self, content: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(self.sealer.chunk(&self.encoder.content(content)?)?)
    }

    /// The bytes that end the response: the last chunk holds the end of the content and the trailers, nothing else.
    ///
    /// # Errors
    /// When a trailer is no field of HTTP, or the announced content length was not kept.
    pub fn finish(self, trailers: &Fields) -> Result<Vec<u8>, SealError> {
        let mut end = self.encoder.end(trailers)?;
        self.padding.fill(&mut end);
        Ok(self.sealer.finish(&end)?)
    }
}

/// Reads a response as it arrives.
pub struct ResponseReader {
    opener: ResponseOpener,
    decoder: ResponseDecoder,
    /// The first fault inside the seal, repeated ever after.
    failed: Option<BadMessage>,
}

impl ResponseReader {
    pub(super) fn new(opener: ResponseOpener) -> Self {
        Self { opener, decoder: ResponseDecoder::default(), failed: None }
    }

    /// The secret from which both ends derive the salts of a receipt. The relay cannot.
    pub const fn receipt_secret(&self) -> &Zeroizing<[u8; 32]> {
        self.opener.receipt_secret()
    }

    /// Takes the bytes that arrived, in pieces of any size, and returns what they complete. Never
    /// [`Event::End`]: that comes from [`ResponseReader::finish`].
    ///
    /// # Errors
    /// When the bytes do not open, or are no response; the same again on every later call.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Unsealed> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        let chunks = self.opener.push(bytes)?;
        self.decode(&chunks).map_err(|error| self.failed.insert(error).clone().into())
    }

    fn decode(&mut self, chunks: &[Vec<u8>]) -> Result<Vec<Event>, BadMessage> {
        let mut events = Vec::new();
        for chunk in chunks {
            events.append(&mut self.decoder.push(chunk)?);
        }
        // Else a sender could end the message early and still go on with the transport.
        if events.iter().any(|event| matches!(event, Event::End { .. })) {
            return Err(BadMessage::EndBeforeLastChunk);
        }
        Ok(events)
    }

    /// What the last chunk completes, [`Event::End`] with the trailers at its end; call when the transport says
    /// that the response is over. Without it, the response was cut.
    ///
    /// # Errors
    /// [`OpenError::Truncated`] when the last chunk never came, and as [`ResponseReader::push`].
    pub fn finish(mut self) -> Result<Vec<Event>, Unsealed> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let events = self.decoder.push(&self.opener.finish()?)?;
        self.decoder.finish()?;
        Ok(events)
    }
}
