//! Binary HTTP: the strictness of the parsers, and that nothing malformed is ever written.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use glassbloom_spec::seal::bhttp::{
    BadMessage, Event, Fields, MAX_CONTENT_CHUNK, MAX_FIELDS, Request, ResponseDecoder, ResponseEncoder,
};
use proptest::prelude::*;

fn request() -> Request {
    Request {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "example.com:8443".into(),
        path: "/v1/x?y=1".into(),
        headers: Fields::new().with("a", "1").unwrap().with("b", "2 3").unwrap(),
        content: b"hello".to_vec(),
    }
}

#[test]
fn a_request_is_laid_out_as_the_rfc_says() {
    let expected = [
        b"\x00\x04POST\x05https\x10example.com:8443\x09/v1/x?y=1".as_slice(),
        b"\x0a\x01a\x011\x01b\x032 3",
        b"\x05hello\x00",
    ]
    .concat();
    assert_eq!(request().encode().unwrap(), expected);
    assert_eq!(Request::parse(&expected).unwrap(), request());
}

#[test]
fn the_get_example_of_the_rfc_is_read() {
    // RFC 9292 §5.1, Figure 9: known length; trailers and padding are not there.
    let hex = "0003474554056874747073000a2f68656c6c6f2e747874406c0a757365722d6167656e74346375726c2f372e31362e33\
               206c69626375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777\
               772e6578616d706c652e636f6d0f6163636570742d6c616e677561676506656e2c206d690000";
    let bytes = hex::decode(hex).unwrap();
    // It names the host in a field; ours belongs in the authority.
    assert_eq!(Request::parse(&bytes), Err(BadMessage::Field("host".into())));
    let text = hex.replace("686f7374", "78686f73");
    let request = Request::parse(&hex::decode(text).unwrap()).unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/hello.txt"));
    assert_eq!(request.headers.get("accept-language"), Some("en, mi"));
    assert_eq!(request.headers.len(), 3);
}

#[test]
fn empty_ends_may_be_missing_and_zeros_may_follow() {
    let mut request = request();
    request.content.clear();
    let full = request.encode().unwrap();
    for cut in 0..=2 {
        assert_eq!(Request::parse(&full[..full.len() - cut]).unwrap(), request);
    }
    assert_eq!(Request::parse(&full[..full.len() - 3]), Err(BadMessage::Truncated));
    assert_eq!(Request::parse(&[&full[..], &[0; 100]].concat()).unwrap(), request);
    assert_eq!(Request::parse(&[&full[..], &[0, 0, 1]].concat()), Err(BadMessage::Padding));
}

#[test]
fn a_request_cut_in_a_part_is_refused() {
    let full = request().encode().unwrap();
    // At these two places the RFC lets a message end: before the trailers, and before the content as well.
    // What protects a request from losing its content is the seal.
    let ends = [full.len() - 1, full.len() - 1 - b"\x05hello".len()];
    for len in (0..full.len()).filter(|len| !ends.contains(len)) {
        assert!(Request::parse(&full[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn malformed_control_data_is_neither_written_nor_read() {
    type Change = fn(&mut Request);
    let changes: [(&str, Change); 12] = [
        ("method", |r| r.method.clear()),
        ("method", |r| r.method = "GET /".into()),
        ("method", |r| r.method = "GET\r\n".into()),
        ("scheme", |r| r.scheme = "ftp".into()),
        ("authority", |r| r.authority = "a b".into()),
        ("authority", |r| r.authority = "user@host".into()),
        ("authority", |r| r.authority = "host/path".into()),
        ("path", |r| r.path.clear()),
        ("path", |r| r.path = "v1".into()),
        ("path", |r| r.path = "/a b".into()),
        ("path", |r| r.path = "/a\r\nx: y".into()),
        ("path", |r| r.path = "/caf\u{e9}".into()),
    ];
    let good = request();
    for (part, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(bad.encode(), Err(BadMessage::Control(part)), "{bad:?}");
        // The same bytes from someone who does not check.
        let mut bytes = vec![0];
        for text in [&bad.method, &bad.scheme, &bad.authority, &bad.path] {
            bytes.push(u8::try_from(text.len()).unwrap());
            bytes.extend(text.as_bytes());
        }
        bytes.extend([0, 0, 0]);
        assert_eq!(Request::parse(&bytes), Err(BadMessage::Control(part)), "{bad:?}");
    }
    let mut long = good;
    long.path = format!("/{}", "x".repeat(5000));
    assert_eq!(long.encode(), Err(BadMessage::TooLong("path")));
}

#[test]
fn fields_that_http_forbids_are_refused() {
    for name in
        ["", "A", "a b", "a:", ":path", "a\r\n", "caf\u{e9}", "connection", "transfer-encoding", "host", "te"]
    {
        assert!(matches!(Fields::new().with(name, "v"), Err(BadMessage::Field(_))), "{name:?}");
    }
    for value in [" a", "a ", "\ta", "a\r\nb", "a\0b", "\u{7f}", "caf\u{e9}"] {
        assert!(matches!(Fields::new().with("a", value), Err(BadMessage::Field(_))), "{value:?}");
    }
    for value in ["", "a", "a b", "a\tb", "~!@#"] {
        Fields::new().with("a", value).unwrap();
    }
}

#[test]
fn field_sections_are_bounded() {
    let mut fields = Fields::new();
    for n in 0..MAX_FIELDS {
        fields = fields.with(&format!("f{n}"), "v").unwrap();
    }
    assert_eq!(fields.with("one-more", "v"), Err(BadMessage::TooLong("field section")));
    assert_eq!(Fields::new().with("a", &"x".repeat(1 << 16)), Err(BadMessage::TooLong("field section")));
}

#[test]
fn a_field_given_twice_has_no_value() {
    let fields = Fields::new().with("a", "1").unwrap().with("a", "2").unwrap().with("b", "3").unwrap();
    assert_eq!(fields.get("a"), None);
    assert_eq!(fields.get("b"), Some("3"));
    assert_eq!(fields.iter().count(), 3);
}

#[test]
fn content_length_must_be_true() {
    let with_length = |length: &str| {
        let mut request = request();
        request.headers = Fields::new().with("content-length", length).unwrap();
        request.encode()
    };
    with_length("5").unwrap();
    for length in ["4", "6", "05", "+5", "five", "5, 5"] {
        assert_eq!(with_length(length), Err(BadMessage::ContentLength), "{length}");
    }
    let headers = Fields::new().with("content-length", "3").unwrap();
    let (_, mut encoder) = ResponseEncoder::start(200, &headers).unwrap();
    encoder.content(b"four").unwrap();
    assert_eq!(encoder.end(&Fields::new()), Err(BadMessage::ContentLength));
    let mut decoder = ResponseDecoder::default();
    let bytes = b"\x03\x40\xc8\x0econtent-length\x013\x00\x04four\x00";
    assert_eq!(decoder.push(bytes), Err(BadMessage::ContentLength));
}

#[test]
fn a_response_is_laid_out_as_the_rfc_says() {
    let (head, mut encoder) = ResponseEncoder::start(200, &Fields::new().with("a", "1").unwrap()).unwrap();
    assert_eq!(head, b"\x03\x40\xc8\x01a\x011\x00");
    assert_eq!(encoder.content(b"one").unwrap(), b"\x03one");
    assert_eq!(encoder.content(b"").unwrap(), b"", "an empty chunk would end the content");
    let end = encoder.end(&Fields::new().with("t", "2").unwrap()).unwrap();
    assert_eq!(end, b"\x00\x01t\x012\x00");
}

#[test]
fn only_final_responses_of_indeterminate_length_are_read() {
    let read = |bytes: &[u8]| ResponseDecoder::default().push(bytes);
    assert_eq!(read(b"\x01\x40\xc8\x00"), Err(BadMessage::Framing(1)));
    assert_eq!(read(b"\x00\x03GET"), Err(BadMessage::Framing(0)));
    assert_eq!(read(b"\x03\x40\x66\x00"), Err(BadMessage::Status(102)));
    assert_eq!(read(b"\x03\x42\x58\x00"), Err(BadMessage::Status(600)));
    assert_eq!(ResponseEncoder::start(102, &Fields::new()).err(), Some(BadMessage::Status(102)));
    assert_eq!(Request::parse(b"\x02\x03GET"), Err(BadMessage::Framing(2)));
}

#[test]
fn chunks_and_fields_over_the_limit_are_refused_before_they_arrive() {
    let mut decoder = ResponseDecoder::default();
    decoder.push(b"\x03\x40\xc8\x00").unwrap();
    let length = u32::try_from(MAX_CONTENT_CHUNK + 1).unwrap() | 0x8000_0000;
    assert_eq!(decoder.push(&length.to_be_bytes()), Err(BadMessage::TooLong("content chunk")));
    let mut decoder = ResponseDecoder::default();
    assert_eq!(decoder.push(b"\x03\x40\xc8\x80\x01\x00\x01"), Err(BadMessage::TooLong("field name")));
    let (_, mut encoder) = ResponseEncoder::start(200, &Fields::new()).unwrap();
    assert!(encoder.content(&vec![0; MAX_CONTENT_CHUNK + 1]).is_err());
}

#[test]
fn a_response_without_an_end_is_cut() {
    let (head, mut encoder) = ResponseEncoder::start(200, &Fields::new()).unwrap();
    let mut all = head;
    all.extend(encoder.content(b"text").unwrap());
    all.extend(encoder.end(&Fields::new().with("t", "v").unwrap()).unwrap());
    for len in 0..all.len() {
        let mut decoder = ResponseDecoder::default();
        decoder.push(&all[..len]).unwrap();
        assert_eq!(decoder.finish(), Err(BadMessage::Truncated), "{len} bytes");
    }
    let mut decoder = ResponseDecoder::default();
    assert_eq!(decoder.push(&all).unwrap().len(), 3);
    assert_eq!(decoder.push(&[0; 9]).unwrap(), []);
    assert_eq!(decoder.push(&[1]), Err(BadMessage::Padding));
}

proptest! {
    #[test]
    fn a_response_in_pieces_of_any_size_is_the_same(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        step in 1..500usize,
        status in 200..600u16,
    ) {
        let headers = Fields::new().with("content-type", "text/plain").unwrap();
        let trailers = Fields::new().with("receipt", &"r".repeat(100)).unwrap();
        let (mut bytes, mut encoder) = ResponseEncoder::start(status, &headers).unwrap();
        for chunk in &chunks {
            bytes.extend(encoder.content(chunk).unwrap());
        }
        bytes.extend(encoder.end(&trailers).unwrap());

        let mut expected = vec![Event::Head { status, headers }];
        expected.extend(chunks.into_iter().map(Event::Content));
        expected.push(Event::End { trailers });
        let mut decoder = ResponseDecoder::default();
        let mut events = Vec::new();
        for piece in bytes.chunks(step) {
            events.extend(decoder.push(piece).unwrap());
        }
        decoder.finish().unwrap();
        prop_assert_eq!(events, expected);
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes: Vec<u8>) {
        let _ = Request::parse(&bytes);
        let _ = ResponseDecoder::default().push(&bytes);
        let _ = Request::parse(&[&[0, 3], b"GET\x05https\x00\x01/".as_slice(), &bytes].concat());
        let _ = ResponseDecoder::default().push(&[b"\x03\x40\xc8".as_slice(), &bytes].concat());
    }

    #[test]
    fn what_parses_encodes_to_what_parses_the_same(content: Vec<u8>, path in "/[!-\"$-~]{0,40}", value in "[!-~]{0,40}") {
        let request = Request {
            path,
            headers: Fields::new().with("x", &value).unwrap(),
            content,
            ..request()
        };
        prop_assert_eq!(Request::parse(&request.encode().unwrap()).unwrap(), request);
    }
}
