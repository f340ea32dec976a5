//! Requests of known length.

use super::{BadMessage, Fields, MAX_REQUEST_CONTENT, fields::is_token};
use crate::seal::varint;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A token, such as `POST`.
    pub method: String,
    /// Such as `https`.
    pub scheme: String,
    /// The host, and a port after a colon; empty when there is no telling.
    pub authority: String,
    /// The path with the query, from the first slash.
    pub path: String,
    /// The header fields; `host` is not one of them.
    pub headers: Fields,
    /// The body.
    pub content: Vec<u8>,
}

impl Request {
    /// A `POST` of JSON, the shape of every request to a provider.
    pub fn post_json(path: &str, content: Vec<u8>) -> Self {
        Self {
            method: "POST".into(),
            scheme: "https".into(),
            authority: INNER_AUTHORITY.into(),
            path: path.into(),
            headers: Fields::new()
                .with("content-type", "application/json")
                .expect("a constant that is a valid field"),
            content,
        }
    }

    /// The encoding, without padding.
    ///
    /// # Errors
    /// When a part is malformed or too long.
    pub fn encode(&self) -> Result<Vec<u8>, BadMessage> {
        self.check()?;
        let mut out = Vec::with_capacity(self.content.len() + 256);
        varint::push(&mut out, KNOWN_LENGTH_REQUEST);
        let headers = self.headers.encode_lines();
        let control = [&self.method, &self.scheme, &self.authority, &self.path].map(String::as_bytes);
        for part in control.into_iter().chain([headers.as_slice(), &self.content, &[]]) {
            varint::push(&mut out, part.len());
            out.extend_from_slice(part);
        }
        Ok(out)
    }

    /// Parses a request of known length and any padding after it. As the RFC has it, an empty trailer section
    /// may be missing, and before it an empty content. `[RFC 9292 §3.8]`
    ///
    /// # Errors
    /// When it is cut, malformed or too long, and when it has trailers, for which a request has no use.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadMessage> {
        let mut rest = bytes;
        match take_int(&mut rest)? {
            KNOWN_LENGTH_REQUEST_U64 => {}
            other => return Err(BadMessage::Framing(other)),
        }
        let method = take_text(&mut rest, "method")?;
        let scheme = take_text(&mut rest, "scheme")?;
        let authority = take_text(&mut rest, "authority")?;
        let path = take_text(&mut rest, "path")?;

        let mut lines = take_part(&mut rest)?;
        let mut headers = Fields::new();
        while !lines.is_empty() {
            let name = take_part(&mut lines)?;
            let value = take_part(&mut lines)?;
            headers.push(name, value)?;
        }

        let content = if rest.is_empty() { &[] } else { take_part(&mut rest)? };
        if !rest.is_empty() && !take_part(&mut rest)?.is_empty() {
            return Err(BadMessage::Field("trailer".into()));
        }
        if rest.iter().any(|&byte| byte != 0) {
            return Err(BadMessage::Padding);
        }
        if content.len() > MAX_REQUEST_CONTENT {
            return Err(BadMessage::TooLong("content"));
        }
        let request = Self { method, scheme, authority, path, headers, content: content.to_vec() };
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), BadMessage> {
        let visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        let checks = [
            ("method", is_token(self.method.as_bytes())),
            ("scheme", self.scheme == "https" || self.scheme == "http"),
            ("authority", visible(&self.authority) && !self.authority.contains(['/', '?', '#', '@'])),
            ("path", visible(&self.path) && self.path.starts_with('/') && !self.path.contains('#')),
        ];
        for (name, good) in checks {
            if !good {
                return Err(BadMessage::Control(name));
            }
        }
        for (name, part) in [("method", &self.method), ("authority", &self.authority), ("path", &self.path)] {
            if part.len() > MAX_CONTROL_LEN {
                return Err(BadMessage::TooLong(name));
            }
        }
        if self.content.len() > MAX_REQUEST_CONTENT {
            return Err(BadMessage::TooLong("content"));
        }
        self.headers.check_content_length(self.content.len() as u64)
    }
}

fn take_int(rest: &mut &[u8]) -> Result<u64, BadMessage> {
    let (value, len) = varint::read(rest).ok_or(BadMessage::Truncated)?;
    *rest = &rest[len..];
    Ok(value)
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadMessage> {
    let len = usize::try_from(take_int(rest)?).map_err(|_| BadMessage::Truncated)?;
    let (part, after) = rest.split_at_checked(len).ok_or(BadMessage::Truncated)?;
    *rest = after;
    Ok(part)
}

fn take_text(rest: &mut &[u8], name: &'static str) -> Result<String, BadMessage> {
    String::from_utf8(take_part(rest)?.to_vec()).map_err(|_| BadMessage::Control(name))
}

/// No name in any network, so a request that falls out of its seal reaches nobody. `[RFC 6761 §6.4]`
const INNER_AUTHORITY: &str = "provider.invalid";
const KNOWN_LENGTH_REQUEST: usize = 0;
const KNOWN_LENGTH_REQUEST_U64: u64 = KNOWN_LENGTH_REQUEST as u64;
const MAX_CONTROL_LEN: usize = 4096;
