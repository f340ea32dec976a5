//! Sealed requests and responses: round trips, and everything that someone on the way could do to them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::sync::Arc;

use glassbloom_spec::{
    curve::{EcdhSecret, PublicKey},
    seal::{
        KeyConfig, OpenError, Padding, RECEIPT_TRAILER, RequestContext, ResponseReader, ResponseWriter,
        Unsealed,
        bhttp::{BadMessage, Event, Fields, Request, ResponseEncoder},
        hpke,
        ohttp::{MAX_CHUNK, RequestOpener, RequestSealer, ResponseOpener},
        open_request, seal_request,
    },
};
use proptest::prelude::*;

fn key() -> Arc<EcdhSecret> {
    Arc::new(hpke::derive_key_pair(&[42; 32]))
}

fn config() -> KeyConfig {
    KeyConfig::new(9, PublicKey::from_sec1(&key().public_key()).unwrap())
}

fn request() -> Request {
    Request::post_json("/v1/chat/completions", br#"{"model":"m","messages":[]}"#.to_vec())
}

fn sealed() -> (Vec<u8>, ResponseReader) {
    seal_request(&config(), &request(), Padding::To64, &[5; 32]).unwrap()
}

fn context(sealed: &[u8]) -> RequestContext {
    open_request(&config(), key(), sealed).unwrap().1
}

/// A response to `sealed` with three events; the pieces as they would be sent.
fn response(sealed: &[u8]) -> Vec<Vec<u8>> {
    let headers = Fields::new().with("content-type", "text/event-stream").unwrap();
    let (head, mut writer) =
        ResponseWriter::start(context(sealed), [7; 32], 200, &headers, Padding::To64).unwrap();
    let mut pieces = vec![head];
    for event in ["data: 1\n\n", "data: 2\n\n", "data: [DONE]\n\n"] {
        pieces.push(writer.content(event.as_bytes()).unwrap());
    }
    let trailers = Fields::new().with(RECEIPT_TRAILER, "cmVjZWlwdA==").unwrap();
    pieces.push(writer.finish(&trailers).unwrap());
    pieces
}

fn read(mut reader: ResponseReader, bytes: &[u8], step: usize) -> Result<Vec<Event>, Unsealed> {
    let mut events = Vec::new();
    for piece in bytes.chunks(step) {
        events.extend(reader.push(piece)?);
    }
    events.extend(reader.finish()?);
    Ok(events)
}

#[test]
fn request_and_streamed_response_arrive() {
    let (bytes, mut reader) = sealed();
    assert_eq!(bytes[0], 9, "the key number is the first byte");
    let (opened, context) = open_request(&config(), key(), &bytes).unwrap();
    assert_eq!(opened, request());
    assert_eq!(context.receipt_secret(), reader.receipt_secret());
    assert_eq!(context.encapsulated_key(), &bytes[7..72]);

    let pieces = response(&bytes);
    let head = reader.push(&pieces[0]).unwrap();
    assert!(matches!(&head[..], [Event::Head { status: 200, headers }]
        if headers.get("content-type") == Some("text/event-stream")));
    for (piece, event) in pieces[1..4].iter().zip(["data: 1\n\n", "data: 2\n\n", "data: [DONE]\n\n"]) {
        assert_eq!(
            reader.push(piece).unwrap(),
            [Event::Content(event.into())],
            "each event is there at once"
        );
    }
    assert_eq!(reader.push(&pieces[4]).unwrap(), []);
    let end = reader.finish().unwrap();
    assert!(
        matches!(&end[..], [Event::End { trailers }] if trailers.get(RECEIPT_TRAILER) == Some("cmVjZWlwdA=="))
    );
}

#[test]
fn receipt_secrets_differ_between_requests() {
    let (_, one) = seal_request(&config(), &request(), Padding::Off, &[1; 32]).unwrap();
    let (_, two) = seal_request(&config(), &request(), Padding::Off, &[2; 32]).unwrap();
    assert_ne!(one.receipt_secret(), two.receipt_secret());
}

#[test]
fn pieces_of_any_size_give_the_same_events() {
    let (bytes, reader) = sealed();
    let response = response(&bytes).concat();
    let whole = read(reader, &response, response.len()).unwrap();
    for step in [1, 2, 3, 7, 64] {
        assert_eq!(read(sealed().1, &response, step).unwrap(), whole);
    }
    let mut opener = RequestOpener::new(config(), key());
    let mut plaintext: Vec<u8> = bytes.iter().flat_map(|b| opener.push(&[*b]).unwrap().concat()).collect();
    plaintext.extend(opener.finish().unwrap().0);
    assert_eq!(Request::parse(&plaintext).unwrap(), request());
}

#[test]
fn any_flipped_bit_in_a_request_is_refused() {
    let (bytes, _) = sealed();
    for bit in 0..8 * bytes.len() {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let error =
            open_request(&config(), key(), &bad).err().unwrap_or_else(|| panic!("bit {bit} is not covered"));
        assert!(matches!(error, Unsealed::Open(_)), "bit {bit}: {error}");
    }
}

#[test]
fn any_flipped_bit_in_a_response_is_refused() {
    let (bytes, _) = sealed();
    let response = response(&bytes).concat();
    for bit in 0..8 * response.len() {
        let mut bad = response.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let error = read(sealed().1, &bad, 50).err().unwrap_or_else(|| panic!("bit {bit} is not covered"));
        assert!(matches!(error, Unsealed::Open(_)), "bit {bit}: {error}");
    }
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    let (bytes, _) = sealed();
    for len in 0..bytes.len() {
        let error = open_request(&config(), key(), &bytes[..len]).err().unwrap();
        assert!(
            matches!(error, Unsealed::Open(OpenError::Truncated | OpenError::Forged)),
            "request of {len} bytes: {error}"
        );
    }
    let pieces = response(&bytes);
    let last_starts = pieces[..4].concat().len();
    let response = pieces.concat();
    for len in 0..response.len() {
        let error = read(sealed().1, &response[..len], 33).unwrap_err();
        let expected = if len <= last_starts { OpenError::Truncated } else { OpenError::Forged };
        assert_eq!(error, Unsealed::Open(expected), "response of {len} bytes");
    }
}

#[test]
fn data_after_the_end_is_refused() {
    let (mut bytes, _) = sealed();
    let response = [response(&bytes).concat(), b"\0".to_vec()].concat();
    assert_eq!(read(sealed().1, &response, 1000), Err(OpenError::Forged.into()));
    bytes.push(0);
    assert_eq!(open_request(&config(), key(), &bytes).err().unwrap(), OpenError::Forged.into());
    bytes.resize(bytes.len() + MAX_CHUNK, 0);
    assert_eq!(open_request(&config(), key(), &bytes).err().unwrap(), OpenError::TooLong.into());
}

#[test]
fn chunks_moved_repeated_or_left_out_are_refused() {
    let (bytes, _) = sealed();
    let pieces = response(&bytes);
    let orders: [&[usize]; 6] =
        [&[0, 2, 1, 3, 4], &[0, 1, 1, 2, 3, 4], &[0, 1, 3, 4], &[0, 1, 2, 4], &[0, 4], &[1, 2, 3, 4]];
    for order in orders {
        let bad: Vec<u8> = order.iter().flat_map(|&n| pieces[n].clone()).collect();
        assert!(matches!(read(sealed().1, &bad, 1000), Err(Unsealed::Open(_))), "{order:?}");
    }
}

#[test]
fn the_last_chunk_cannot_pass_for_another_nor_another_for_it() {
    let (bytes, _) = sealed();
    let pieces = response(&bytes);
    // Relabel event 3 as the last chunk: its length becomes 0.
    let forged = [&pieces[0][..], &pieces[1], &pieces[2], &[0], &pieces[3][1..]].concat();
    assert_eq!(read(sealed().1, &forged, 1000), Err(OpenError::Forged.into()));
    // Relabel the last chunk as one in the middle, to go on after it.
    let mut forged = pieces[..4].concat();
    let last = &pieces[4][1..];
    forged.extend([0x40, u8::try_from(last.len()).unwrap()]);
    forged.extend(last);
    assert_eq!(read(sealed().1, &forged, 1000), Err(OpenError::Forged.into()));
}

#[test]
fn a_response_to_another_request_is_refused() {
    let (bytes, _) = sealed();
    let response = response(&bytes).concat();
    let (_, other) = seal_request(&config(), &request(), Padding::To64, &[6; 32]).unwrap();
    assert_eq!(read(other, &response, 1000), Err(OpenError::Forged.into()));
}

#[test]
fn a_request_to_another_key_is_refused() {
    let (bytes, _) = sealed();
    let renamed = KeyConfig::new(8, *config().public_key());
    assert!(matches!(
        open_request(&renamed, key(), &bytes).err().unwrap(),
        Unsealed::Open(OpenError::AnotherKey(header)) if header == "09001000010002"
    ));
    let other = Arc::new(hpke::derive_key_pair(&[43; 32]));
    let config = KeyConfig::new(9, PublicKey::from_sec1(&other.public_key()).unwrap());
    assert_eq!(open_request(&config, other, &bytes).err().unwrap(), OpenError::Forged.into());
}

#[test]
fn an_error_is_final() {
    let (bytes, mut reader) = sealed();
    let mut pieces = response(&bytes);
    pieces[1][5] ^= 1;
    reader.push(&pieces[0]).unwrap();
    assert_eq!(reader.push(&pieces[1]), Err(OpenError::Forged.into()));
    assert_eq!(reader.push(&pieces[2]), Err(OpenError::Forged.into()));
    assert_eq!(reader.finish(), Err(OpenError::Forged.into()));
}

/// Seals raw plaintexts as a provider that breaks the rules inside the seal would.
fn seal_raw(sealed: &[u8], chunks: &[&[u8]], last: &[u8]) -> Vec<u8> {
    let mut sealer = context(sealed).respond([7; 32]);
    let mut out: Vec<u8> = chunks.iter().flat_map(|chunk| sealer.chunk(chunk).unwrap()).collect();
    out.extend(sealer.finish(last).unwrap());
    out
}

#[test]
fn the_end_of_the_response_belongs_in_the_last_chunk() {
    let (bytes, reader) = sealed();
    let (mut head, encoder) = ResponseEncoder::start(200, &Fields::new()).unwrap();
    head.extend(encoder.end(&Fields::new()).unwrap());
    let early = seal_raw(&bytes, &[&head], b"");
    let mut again = sealed().1;
    assert_eq!(read(reader, &early, 1000), Err(BadMessage::EndBeforeLastChunk.into()));
    assert_eq!(again.push(&early), Err(BadMessage::EndBeforeLastChunk.into()));
    assert_eq!(again.push(b""), Err(BadMessage::EndBeforeLastChunk.into()), "an error is final");
    assert_eq!(again.finish(), Err(BadMessage::EndBeforeLastChunk.into()));
    let never = seal_raw(&bytes, &[&head[..head.len() - 1]], b"");
    assert_eq!(read(sealed().1, &never, 1000), Err(BadMessage::Truncated.into()));
    assert_eq!(read(sealed().1, &seal_raw(&bytes, &[], b""), 1000), Err(BadMessage::Truncated.into()));
    let followed = seal_raw(&bytes, &[], &[&head[..], &[0, 0, 1]].concat());
    assert_eq!(read(sealed().1, &followed, 1000), Err(BadMessage::Padding.into()));
}

#[test]
fn an_empty_chunk_before_the_last_counts_as_forged() {
    let (bytes, _) = sealed();
    let (_, mut sender) = {
        let info = [b"message/bhttp chunked request\0".as_slice(), &bytes[..7]].concat();
        hpke::setup_sender(&key().public_key(), &info, &[5; 32]).unwrap()
    };
    let empty = sender.seal(b"", b"").unwrap();
    let last = sender.seal(b"final", b"").unwrap();
    let forged = [&bytes[..72], &[16], &empty, &[0], &last].concat();
    assert_eq!(open_request(&config(), key(), &forged).err().unwrap(), OpenError::Forged.into());
}

#[test]
fn chunks_longer_than_the_limit_are_refused_before_they_arrive() {
    let (bytes, _) = sealed();
    let mut opener = RequestOpener::new(config(), key());
    opener.push(&bytes[..72]).unwrap();
    let length = u32::try_from(MAX_CHUNK + 17).unwrap() | 0x8000_0000;
    assert_eq!(opener.push(&length.to_be_bytes()), Err(OpenError::TooLong));
}

#[test]
fn padding_hides_small_differences_in_length() {
    let length = |content: &str, padding| {
        let request = Request::post_json("/v1/chat/completions", content.into());
        seal_request(&config(), &request, padding, &[5; 32]).unwrap().0.len()
    };
    assert_eq!(length("short", Padding::To64), length("a bit longer", Padding::To64));
    assert_eq!(length("short", Padding::To512), length(&"x".repeat(300), Padding::To512));
    assert_ne!(length("short", Padding::Off), length("a bit longer", Padding::Off));
    for padding in [Padding::Off, Padding::To64, Padding::To512] {
        assert_eq!(padding.to_string().parse(), Ok(padding));
    }
    assert!("1024".parse::<Padding>().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn messages_of_any_length_arrive_in_chunks_within_the_limit(
        len in 0..3 * MAX_CHUNK, fill: u8, early in 0..MAX_CHUNK, step in 1..40_000usize,
    ) {
        let message = vec![fill; len];
        let (front, back) = message.split_at(early.min(len));
        let mut sealer = RequestSealer::new(&config(), &[fill; 32]);
        let mut bytes = sealer.chunk(front).unwrap();
        let (rest, reader): (Vec<u8>, ResponseOpener) = sealer.finish(back).unwrap();
        bytes.extend(rest);

        let mut opener = RequestOpener::new(config(), key());
        let mut opened = Vec::new();
        for piece in bytes.chunks(step) {
            for chunk in opener.push(piece).unwrap() {
                prop_assert!(chunk.len() <= MAX_CHUNK);
                opened.extend(chunk);
            }
        }
        let (last, context) = opener.finish().unwrap();
        opened.extend(last);
        prop_assert_eq!(&opened, &message);

        let mut reader = reader;
        let sealed = context.respond([fill; 32]).finish(&message).unwrap();
        let mut answer = reader.push(&sealed).unwrap().concat();
        answer.extend(reader.finish().unwrap());
        prop_assert_eq!(answer, message);
    }

    #[test]
    fn any_bytes_after_any_good_start_are_refused(cut in 0..200usize, noise: Vec<u8>) {
        let (bytes, _) = sealed();
        let mut bad = bytes[..cut.min(bytes.len() - 1)].to_vec();
        bad.extend(noise);
        prop_assert!(bad == bytes || open_request(&config(), key(), &bad).is_err());
    }
}
