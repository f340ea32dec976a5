//! The OpenAI-compatible surface.

use glassbloom_spec::{
    openai::{
        ChatChunk, ChatCompletion, ChatRequest, Error, MAX_BODY, MAX_MESSAGES, MAX_STOPS, MAX_TOKENS,
        MAX_TOOLS, ModelList, SseParser,
        sse::{MAX_EVENT, SseEvent, pad},
    },
    seal::Padding,
};

use crate::{api::survives, cut};

/// A request that is taken means the same once it is passed on.
pub fn chat_request(data: &[u8]) -> bool {
    let Ok(request) = ChatRequest::parse(data) else { return false };
    assert!(data.len() <= MAX_BODY);
    assert!((1..=MAX_MESSAGES).contains(&request.messages.len()));
    assert!(request.tools.len() <= MAX_TOOLS && request.sampling.stop.len() <= MAX_STOPS);
    assert!(request.sampling.max_tokens.is_none_or(|tokens| (1..=MAX_TOKENS).contains(&tokens)));
    assert!((0.0..=2.0).contains(&request.sampling.temperature()));
    assert!((0.0..=1.0).contains(&request.sampling.top_p()));
    let passed_on = ChatRequest::parse(&request.to_json()).unwrap();
    assert_eq!(passed_on, request);
    assert_eq!(passed_on.sampling.encode(), request.sampling.encode());
    true
}

/// Whole answers, chunks, lists of models and errors of other servers: read, written and read again, the same.
pub fn reply(data: &[u8]) -> bool {
    let mut accepted = survives::<ChatCompletion>(data);
    accepted |= survives::<ChatChunk>(data);
    accepted |= survives::<ModelList>(data);
    if let Some(error) = Error::from_response(502, data) {
        assert_eq!(Error::from_response(502, &error.to_json()), Some(error));
        accepted = true;
    }
    accepted
}

/// Events read the same however they arrive, and padding adds none.
pub fn event_stream(data: &[u8]) -> bool {
    let (front, back) = cut(data);
    let (whole, in_two) = (read(&[data]), read(&[front, back]));
    assert_eq!(whole, in_two);
    let Some((events, ended)) = whole else { return false };
    assert!(events.iter().all(|event| event.data.len() <= MAX_EVENT));
    if ended && data.len() < MAX_EVENT / 2 {
        for padding in [Padding::To64, Padding::To512] {
            let padded = pad(data.to_vec(), padding);
            assert!(padded.starts_with(&data[..data.len().saturating_sub(1)]));
            if data.ends_with(b"\n\n") {
                assert_eq!(padded.len(), padding.padded(padded.len()));
            }
            assert_eq!(read(&[&padded]), Some((events.clone(), true)));
        }
    }
    ended
}

fn read(pieces: &[&[u8]]) -> Option<(Vec<SseEvent>, bool)> {
    let (mut parser, mut events) = (SseParser::default(), Vec::new());
    for piece in pieces {
        events.extend(parser.push(piece).ok()?);
    }
    Some((events, parser.finish().is_ok()))
}
