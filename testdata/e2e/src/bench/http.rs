//! An HTTP/1.1 client that costs little: it shares two cores with the server that it measures.
//!
//! It keeps one connection, sends one request at a time and understands answers with a Content-Length, which both our
//! log and Go's server send for small bodies.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The largest answer that is read; a full entry bundle of large entries is not asked for.
const MAX_ANSWER: usize = 1 << 20;

/// A connection that is kept.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer; the body is valid until the next request.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    /// The whole body.
    pub body: &'a [u8],
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        Ok(Self { stream, buffer: Vec::with_capacity(2048) })
    }

    /// Sends a whole request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks or the answer is not HTTP/1.1 with a Content-Length.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await.context("sending a request")?;
        self.buffer.clear();
        let head = loop {
            let read = self.stream.read_buf(&mut self.buffer).await.context("reading an answer")?;
            ensure!(read > 0, "the server closed the connection");
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
            ensure!(self.buffer.len() < MAX_ANSWER, "an answer without an end of its header");
        };
        let end = head.length.checked_add(head.body).filter(|end| *end <= MAX_ANSWER);
        let end = end.context("an answer longer than is asked for")?;
        while self.buffer.len() < end {
            let read = self.stream.read_buf(&mut self.buffer).await.context("reading an answer")?;
            ensure!(read > 0, "the server closed the connection within an answer");
        }
        ensure!(self.buffer.len() == end, "the server sent more than one answer");
        Ok(Answer { status: head.status, body: &self.buffer[head.length..end] })
    }

    /// The same, where anything but 200 is an error.
    ///
    /// # Errors
    /// As [`Self::exchange`], and for every other status.
    pub async fn expect_ok(&mut self, request: &[u8]) -> Result<&[u8]> {
        let answer = self.exchange(request).await?;
        if answer.status != 200 {
            bail!("status {}: {}", answer.status, String::from_utf8_lossy(answer.body));
        }
        Ok(answer.body)
    }
}

/// A GET request.
pub fn get(address: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").into_bytes()
}

/// The header of a POST request whose body has this length.
pub fn post(address: SocketAddr, path: &str, token: Option<&str>, length: usize) -> Vec<u8> {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n{authorization}content-length: {length}\r\n\r\n")
        .into_bytes()
}

/// What the header of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Of the header itself.
    length: usize,
    body: usize,
}

impl Head {
    /// `None` while the header is not whole.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&bytes[..end]).context("the header of an answer is not text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let status = status.context("the answer is not HTTP/1.1")?;
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let body = length.and_then(|(_, value)| value.trim().parse().ok());
        Ok(Some(Self { status, length: end + 4, body: body.context("an answer without Content-Length")? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_when_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nContent-Length: 2\r\n\r\n17";
        for cut in 0..answer.len() - 2 {
            assert_eq!(Head::parse(&answer[..cut]).unwrap(), None, "cut at {cut}");
        }
        let head = Head { status: 200, length: answer.len() - 2, body: 2 };
        assert_eq!(Head::parse(answer).unwrap(), Some(head));
        for bad in
            ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 2\r\ncontent-length: 1\r\n\r\n"]
        {
            assert!(Head::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
