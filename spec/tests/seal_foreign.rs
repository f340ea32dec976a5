//! Sealed messages against software by other people: the crate `bhttp`, and the crates `hpke`, `hkdf` and `aes-gcm` put
//! together as the draft says. (The crate `ohttp` does not do AES-256-GCM.)

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::io::Cursor;
use std::sync::Arc;

use ::hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256,
    kem::DhP256HkdfSha256 as TheirKem, setup_receiver, setup_sender,
};
use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use glassbloom_spec::{
    curve::PublicKey,
    seal::{
        KeyConfig, Padding, ResponseWriter,
        bhttp::{Event, Fields, Request, ResponseDecoder},
        hpke::derive_key_pair,
        open_request, seal_request,
    },
};
use hkdf::Hkdf;
use sha2::Sha256;

const HEADER: [u8; 7] = [1, 0, 0x10, 0, 1, 0, 2];
const INFO: &[u8] = b"message/bhttp chunked request\0\x01\0\x10\0\x01\0\x02";
const RESPONSE_LABEL: &[u8] = b"message/bhttp chunked response";

fn request() -> Request {
    Request::post_json("/v1/chat/completions", b"{}".to_vec())
}

/// Key and base nonce of a response, from the exported secret.
fn response_key(secret: &[u8], enc: &[u8], nonce: &[u8]) -> (Aes256Gcm, [u8; 12]) {
    let hkdf = Hkdf::<Sha256>::new(Some(&[enc, nonce].concat()), secret);
    let (mut key, mut base) = ([0; 32], [0; 12]);
    hkdf.expand(b"key", &mut key).unwrap();
    hkdf.expand(b"nonce", &mut base).unwrap();
    (Aes256Gcm::new(&key.into()), base)
}

#[test]
fn their_gateway_reads_our_request_and_we_read_its_response() {
    let (secret, public) = TheirKem::derive_keypair(&[3; 32]);
    let public = PublicKey::from_sec1(&public.to_bytes()).unwrap();
    let (sealed, mut reader) =
        seal_request(&KeyConfig::new(1, public), &request(), Padding::Off, &[9; 32]).unwrap();

    let (header, rest) = sealed.split_at(7);
    let (enc, rest) = rest.split_at(65);
    assert_eq!(header, HEADER);
    let encapped = <TheirKem as Kem>::EncappedKey::from_bytes(enc).unwrap();
    let mut context =
        setup_receiver::<AesGcm256, HkdfSha256, TheirKem>(&OpModeR::Base, &secret, &encapped, INFO).unwrap();
    assert_eq!(rest[0], 0, "one chunk, the last");
    let message = context.open(&rest[1..], b"final").unwrap();
    let message = bhttp::Message::read_bhttp(&mut Cursor::new(&message[..])).unwrap();
    assert_eq!(message.control().path(), Some(&b"/v1/chat/completions"[..]));
    assert_eq!(message.content(), b"{}");

    let mut response = bhttp::Message::response(bhttp::StatusCode::OK);
    response.put_header("content-type", "text/plain");
    response.write_content("hello");
    response.put_trailer("glassbloom-receipt", "AAAA");
    let mut plaintext = Vec::new();
    response.write_bhttp(bhttp::Mode::IndeterminateLength, &mut plaintext).unwrap();
    let (first, last) = plaintext.split_at(10);

    let mut exported = [0; 32];
    context.export(RESPONSE_LABEL, &mut exported).unwrap();
    let nonce = [7; 32];
    let (aead, base) = response_key(&exported, enc, &nonce);
    let mut bytes = nonce.to_vec();
    let sealed = aead.encrypt(&Nonce::from(base), Payload { msg: first, aad: b"" }).unwrap();
    bytes.push(u8::try_from(sealed.len()).unwrap());
    bytes.extend(sealed);
    let mut second = base;
    second[11] ^= 1;
    bytes.push(0);
    bytes.extend(aead.encrypt(&Nonce::from(second), Payload { msg: last, aad: b"final" }).unwrap());

    let mut events = reader.push(&bytes).unwrap();
    events.extend(reader.finish().unwrap());
    assert_eq!(
        events,
        [
            Event::Head { status: 200, headers: Fields::new().with("content-type", "text/plain").unwrap() },
            Event::Content(b"hello".to_vec()),
            Event::End { trailers: Fields::new().with("glassbloom-receipt", "AAAA").unwrap() },
        ]
    );
}

#[test]
fn we_read_their_request_and_their_client_reads_our_response() {
    let key = Arc::new(derive_key_pair(&[4; 32]));
    let config = KeyConfig::new(1, PublicKey::from_sec1(&key.public_key()).unwrap());
    let recipient = <TheirKem as Kem>::PublicKey::from_bytes(&key.public_key()).unwrap();

    let mut message = bhttp::Message::request(
        b"POST".to_vec(),
        b"https".to_vec(),
        b"provider.invalid".to_vec(),
        b"/v1/chat/completions".to_vec(),
    );
    message.put_header("content-type", "application/json");
    message.write_content("{}");
    let mut plaintext = Vec::new();
    message.write_bhttp(bhttp::Mode::KnownLength, &mut plaintext).unwrap();

    let (enc, mut context) =
        setup_sender::<AesGcm256, HkdfSha256, TheirKem>(&OpModeS::Base, &recipient, INFO).unwrap();
    let enc = enc.to_bytes();
    let (first, last) = plaintext.split_at(20);
    let mut sealed = [&HEADER[..], &enc].concat();
    let chunk = context.seal(first, b"").unwrap();
    sealed.push(u8::try_from(chunk.len()).unwrap());
    sealed.extend(chunk);
    sealed.push(0);
    sealed.extend(context.seal(last, b"final").unwrap());

    let (opened, ours) = open_request(&config, key, &sealed).unwrap();
    assert_eq!(opened, request());

    let (bytes, mut writer) =
        ResponseWriter::start(ours, [8; 32], 200, &Fields::new(), Padding::To64).unwrap();
    let mut pieces = vec![bytes[32..].to_vec()];
    pieces.push(writer.content(b"data: 1\n\n").unwrap());
    pieces.push(writer.finish(&Fields::new().with("t", "v").unwrap()).unwrap());

    let mut exported = [0; 32];
    context.export(RESPONSE_LABEL, &mut exported).unwrap();
    let (aead, base) = response_key(&exported, &enc, &bytes[..32]);
    let mut plaintext = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let mut nonce = base;
        nonce[11] ^= u8::try_from(n).unwrap();
        let (length, msg) = piece.split_first().unwrap();
        let aad: &[u8] = if n == 2 { b"final" } else { b"" };
        assert_eq!(usize::from(*length), if n == 2 { 0 } else { msg.len() });
        plaintext.extend(aead.decrypt(&Nonce::from(nonce), Payload { msg, aad }).unwrap());
    }
    let message = bhttp::Message::read_bhttp(&mut Cursor::new(&plaintext[..])).unwrap();
    assert_eq!(message.control().status().unwrap().code(), 200);
    assert_eq!(message.content(), b"data: 1\n\n");
    assert_eq!(message.trailer().get(b"t"), Some(&b"v"[..]));
}

#[test]
fn we_read_what_the_crate_writes() {
    let mut response = bhttp::Message::response(bhttp::StatusCode::try_from(404u16).unwrap());
    for n in 0..9 {
        response.put_header(format!("field-{n}"), "v".repeat(100 * n));
    }
    response.write_content(vec![b'x'; 100_000]);
    let mut bytes = Vec::new();
    response.write_bhttp(bhttp::Mode::IndeterminateLength, &mut bytes).unwrap();
    let mut decoder = ResponseDecoder::default();
    let events = decoder.push(&bytes).unwrap();
    decoder.finish().unwrap();
    assert!(matches!(&events[0], Event::Head { status: 404, headers } if headers.len() == 9));
    assert_eq!(events[1], Event::Content(vec![b'x'; 100_000]));
}
