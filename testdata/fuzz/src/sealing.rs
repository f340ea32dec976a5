//! Sealed requests and answers, outside and inside the seal.

use std::sync::{Arc, LazyLock};

use glassbloom_spec::{
    envelope::{self, ClientExchange, Ended, Opened},
    seal::{
        KeyConfig, bhttp,
        ohttp::{MAX_CHUNK, RequestSealer},
        open_request,
    },
    verify::VerifiedProvider,
};
use glassbloom_testdata::world::resume;

use crate::{WORLD, cut};

static PROVIDER: LazyLock<VerifiedProvider> = LazyLock::new(|| WORLD.provider());

/// A key configuration has one spelling.
pub fn key_config(data: &[u8]) -> bool {
    let Ok(config) = KeyConfig::parse(data) else { return false };
    assert_eq!(config.encode(), data);
    true
}

/// A request is the same once it is written and read again, and says nothing that HTTP/1.1 could take for two.
pub fn http_request(data: &[u8]) -> bool {
    let Ok(request) = bhttp::Request::parse(data) else { return false };
    assert!(request.content.len() <= bhttp::MAX_REQUEST_CONTENT);
    let control = [&request.method, &request.scheme, &request.authority, &request.path];
    assert!(control.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_graphic())));
    check_fields(&request.headers);
    let encoded = request.encode().unwrap();
    assert_eq!(bhttp::Request::parse(&encoded).unwrap(), request);
    assert!(encoded.len() <= data.len() + 2, "the shortest form, and an end that may have been left out");
    true
}

fn check_fields(fields: &bhttp::Fields) {
    assert!(fields.len() <= bhttp::MAX_FIELDS);
    assert!(
        fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= bhttp::MAX_FIELDS_LEN
    );
    for (name, value) in fields.iter() {
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
        assert!(!name.contains(':') && !value.contains(['\r', '\n', '\0']));
        assert_eq!(value.trim_matches([' ', '\t']), value);
    }
}

/// A response reads the same however it is cut, and in one piece once it is written again.
pub fn http_response(data: &[u8]) -> bool {
    let events = read_response(&[data]);
    let (front, back) = cut(data);
    let in_two = read_response(&[front, back]);
    assert_eq!(events.as_ref().ok(), in_two.as_ref().ok());
    let bytes: Vec<&[u8]> = data.chunks(1).take(512).chain([data.get(512..).unwrap_or_default()]).collect();
    assert_eq!(events.as_ref().ok(), read_response(&bytes).as_ref().ok());
    let Ok(events) = events else { return false };
    let [bhttp::Event::Head { status, headers }, content @ .., bhttp::Event::End { trailers }] =
        events.as_slice()
    else {
        panic!("a whole response has a head and an end: {events:?}")
    };
    check_fields(headers);
    check_fields(trailers);
    let (mut written, mut encoder) = bhttp::ResponseEncoder::start(*status, headers).unwrap();
    for event in content {
        let bhttp::Event::Content(content) = event else { panic!("{event:?} in the middle") };
        assert!((1..=bhttp::MAX_CONTENT_CHUNK).contains(&content.len()));
        written.extend(encoder.content(content).unwrap());
    }
    written.extend(encoder.end(trailers).unwrap());
    assert_eq!(read_response(&[&written]).unwrap(), events);
    true
}

fn read_response(pieces: &[&[u8]]) -> Result<Vec<bhttp::Event>, bhttp::BadMessage> {
    let mut decoder = bhttp::ResponseDecoder::default();
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(decoder.push(piece)?);
    }
    decoder.finish()?;
    Ok(events)
}

/// Nothing opens but what was sealed to the key.
pub fn sealed_request(data: &[u8]) -> bool {
    let attestation = PROVIDER.attestation_hash();
    let opened =
        envelope::open(Arc::clone(&WORLD.keys.sealing) as _, &WORLD.keys.key_config(), attestation, data);
    let Ok((opened, _)) = opened else { return false };
    assert!(WORLD.exchanges.iter().any(|exchange| exchange.body == opened.body));
    assert_eq!(opened.registry, PROVIDER.registry());
    true
}

/// Whatever a client seals, the provider reads a chat request for its own attestation or refuses.
pub fn inner_request(data: &[u8]) -> bool {
    let config = WORLD.keys.key_config();
    let (sealed, _) = RequestSealer::new(&config, &[7; 32]).finish(data).unwrap();
    assert!(sealed.len() <= data.len() + 72 + (data.len() / MAX_CHUNK + 1) * 20);
    let key = Arc::clone(&WORLD.keys.sealing) as _;
    let inside = open_request(&config, Arc::clone(&key), &sealed).map(|(request, _)| request);
    assert_eq!(inside.ok(), bhttp::Request::parse(data).ok());
    let opened = envelope::open(key, &config, PROVIDER.attestation_hash(), &sealed);
    let Ok((opened, _)) = opened else { return false };
    assert!(opened.attempt > 0);
    assert_eq!(opened.body, bhttp::Request::parse(data).unwrap().content);
    true
}

/// Nobody on the way can make an answer of bytes, or another one, whichever way they arrive.
pub fn sealed_answer(data: &[u8]) -> bool {
    let (front, back) = cut(data);
    let whole = read_answer(&[data]);
    assert_eq!(whole, read_answer(&[front, back]));
    let Some((chunks, answered)) = whole else { return false };
    assert!(answered, "only the provider can refuse");
    assert_eq!(chunks, WORLD.exchanges[0].chunks);
    true
}

/// Even the holder of the sealing key cannot end an answer well without the receipt that was signed for it.
pub fn inner_answer(data: &[u8]) -> bool {
    let config = WORLD.keys.key_config();
    let sealed_request = &WORLD.exchanges[0].sealed_request;
    let (_, context) = open_request(&config, Arc::clone(&WORLD.keys.sealing) as _, sealed_request).unwrap();
    let mut sealer = context.respond([9; 32]);
    let (front, back) = cut(data);
    let mut sealed = sealer.chunk(front).unwrap();
    sealed.extend(sealer.finish(back).unwrap());
    let Some((chunks, true)) = read_answer(&[&sealed]) else { return false };
    assert_eq!(chunks, WORLD.exchanges[0].chunks);
    true
}

/// The chunks of an answer that ended well, and whether with a receipt.
fn read_answer(pieces: &[&[u8]]) -> Option<(Vec<Vec<u8>>, bool)> {
    let mut client: ClientExchange = resume(&PROVIDER, 0);
    let mut chunks = Vec::new();
    let mut take = |opened: Vec<Opened>| {
        chunks.extend(opened.into_iter().filter_map(|opened| match opened {
            Opened::Chunk(chunk) => Some(chunk),
            Opened::Head { .. } => None,
        }));
    };
    for piece in pieces {
        take(client.push(piece).ok()?);
    }
    let (opened, ended) = client.finish(&PROVIDER).ok()?;
    take(opened);
    let answered = match ended {
        Ended::Answered(receipt) => {
            assert_eq!(receipt.statement(), &WORLD.exchanges[0].receipt);
            true
        }
        Ended::Refused => false,
    };
    Some((chunks, answered))
}
