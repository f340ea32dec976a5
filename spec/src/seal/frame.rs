//! The framing of sealed chunks: lengths as QUIC variable-length integers, 0 before the last chunk, which runs to
//! the end. `[draft-ietf-ohai-chunked-ohttp-08, Request Format, Response Format]`

use core::ops::Range;

use super::{hpke::TAG_LEN, ohttp::OpenError, varint};

/// The most plaintext in one chunk, in bytes: what every implementation must accept, and what ours send and accept.
pub const MAX_CHUNK: usize = 1 << 14;

/// A sealed chunk.
pub(super) enum Frame {
    Chunk(Vec<u8>),
    Last(Vec<u8>),
}

/// Appends a chunk with its length.
pub(super) fn push_frame(out: &mut Vec<u8>, frame: Frame) {
    let (length, mut sealed) = match frame {
        Frame::Chunk(sealed) => (sealed.len(), sealed),
        Frame::Last(sealed) => (0, sealed),
    };
    varint::push(out, length);
    out.append(&mut sealed);
}

/// Cuts arriving bytes into a head of fixed length and sealed chunks.
pub(super) struct Unframer {
    /// Bytes that arrived and are not yet taken, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    head_len: usize,
    head_taken: bool,
    /// The zero length came: all that follows is the last chunk.
    in_last: bool,
    /// The first error, repeated ever after.
    failed: Option<OpenError>,
}

impl Unframer {
    pub(super) const fn new(head_len: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, head_len, head_taken: false, in_last: false, failed: None }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The head, once, when all of it is there.
    pub(super) fn head(&mut self) -> Option<Vec<u8>> {
        if self.head_taken || self.buffer.len() - self.start < self.head_len {
            return None;
        }
        self.head_taken = true;
        let head = self.buffer[self.start..self.start + self.head_len].to_vec();
        self.start += self.head_len;
        Some(head)
    }

    /// Opens the chunks that are there in full, but for the last.
    pub(super) fn open_chunks(
        &mut self,
        mut open: impl FnMut(&[u8]) -> Result<Vec<u8>, OpenError>,
    ) -> Result<Vec<Vec<u8>>, OpenError> {
        let mut opened = Vec::new();
        loop {
            match self.next_range() {
                Ok(None) => return Ok(opened),
                Ok(Some(range)) => match open(&self.buffer[range]) {
                    // An empty chunk that is not the last counts as one that does not open.
                    Ok(plaintext) if plaintext.is_empty() => return Err(self.fail(OpenError::Forged)),
                    Ok(plaintext) => opened.push(plaintext),
                    Err(error) => return Err(self.fail(error)),
                },
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Where the next chunk lies that is there in full.
    fn next_range(&mut self) -> Result<Option<Range<usize>>, OpenError> {
        let rest = &self.buffer[self.start..];
        if self.in_last {
            return self.check_last();
        }
        let Some((length, prefix)) = varint::read(rest) else { return Ok(None) };
        if length == 0 {
            self.in_last = true;
            self.start += prefix;
            return self.check_last();
        }
        let length = usize::try_from(length).ok().filter(|&n| n <= MAX_CHUNK + TAG_LEN);
        let length = length.ok_or(OpenError::TooLong)?;
        if rest.len() < prefix + length {
            return Ok(None);
        }
        let from = self.start + prefix;
        self.start = from + length;
        Ok(Some(from..self.start))
    }

    /// The last chunk is opened at the end of the bytes only, but a longer one than allowed is not waited for.
    const fn check_last(&self) -> Result<Option<Range<usize>>, OpenError> {
        if self.buffer.len() - self.start > MAX_CHUNK + TAG_LEN { Err(OpenError::TooLong) } else { Ok(None) }
    }

    /// The last chunk, still sealed, at the end of the bytes.
    pub(super) fn last(&mut self) -> Result<Vec<u8>, OpenError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if !self.in_last => Err(OpenError::Truncated),
            None => Ok(self.buffer.split_off(self.start)),
        }
    }

    /// Remembers that the message is bad, and drops what is buffered of it.
    pub(super) fn fail(&mut self, error: OpenError) -> OpenError {
        self.buffer.clear();
        self.start = 0;
        self.failed.insert(error).clone()
    }
}
