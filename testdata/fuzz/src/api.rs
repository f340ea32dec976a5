//! What services say to each other.

use glassbloom_spec::{
    api::{
        Appended, FromProvider, PromisedEntry, Providers, ToProvider, UsageOpening, data,
        frame::{BadFrame, Decoder, Frame, MAX_PAYLOAD},
    },
    checkpoint::TreeHead,
    merkle::Frontier,
    record::{LeafProof, ProviderRecord},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::cut;

/// JSON that is read, written and read again is the same.
pub(crate) fn survives<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return false };
    let written = serde_json::to_vec(&value).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), value);
    true
}

/// Messages of a session and bodies of answers.
pub fn messages(bytes: &[u8]) -> bool {
    let mut accepted = survives::<Appended>(bytes);
    accepted |= survives::<FromProvider>(bytes);
    accepted |= survives::<Frontier>(bytes);
    accepted |= survives::<LeafProof>(bytes);
    accepted |= survives::<ProviderRecord>(bytes);
    accepted |= survives::<PromisedEntry>(bytes);
    accepted |= survives::<Providers>(bytes);
    accepted |= survives::<ToProvider>(bytes);
    accepted |= survives::<TreeHead>(bytes);
    accepted |= survives::<UsageOpening>(bytes);
    if let Some((id, rest)) = data::decode(bytes) {
        assert_eq!(data::encode(id, rest), bytes);
    }
    accepted
}

/// Frames come out the same however they arrive, and go back into the same bytes.
pub fn frames(bytes: &[u8]) -> bool {
    let (front, back) = cut(bytes);
    let (whole, in_two) = (read(&[bytes]), read(&[front, back]));
    assert_eq!(whole, in_two);
    let Ok((frames, rest)) = whole else { return false };
    let mut written = Vec::new();
    for frame in &frames {
        match frame {
            Frame::Sealed(payload) | Frame::Proof(payload) | Frame::Promise(payload) => {
                assert!(payload.len() <= MAX_PAYLOAD)
            }
            // JSON has many spellings: read back, it must say the same.
            Frame::Error(_) => {
                assert_eq!(read(&[&frame.encode()]).unwrap(), (vec![frame.clone()], true));
                return true;
            }
        }
        written.extend(frame.encode());
    }
    assert_eq!(written.len() == bytes.len(), rest);
    assert!(bytes.starts_with(&written));
    !frames.is_empty()
}

fn read(pieces: &[&[u8]]) -> Result<(Vec<Frame>, bool), BadFrame> {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    Ok((frames, decoder.is_empty()))
}
