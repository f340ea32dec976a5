//! Where services meet: HTTP paths, JSON bodies, the provider session and the frames of a relayed answer.
//! See `spec/api.md`.

use serde::{Deserialize, Serialize};

use crate::{
    hash::Hash,
    id::{LeafIndex, UnixSeconds},
    leaf::Transcript,
    record::{LeafProof, ProviderRecord, base64_bytes},
};

/// Paths of the coordinator.
pub mod path {
    /// `GET`, with an epoch in seconds after it: [`Challenges`](super::Challenges), public.
    pub const CHALLENGES: &str = "/v1/challenges";
    /// `POST`: chat in plain text; the coordinator seals on the caller's behalf and says so.
    pub const CHAT: &str = "/v1/chat/completions";
    /// `GET`: public; answers 200 when the service works.
    pub const HEALTH: &str = "/healthz";
    /// `GET`: public; Prometheus text.
    pub const METRICS: &str = "/metrics";
    /// `GET`: the models that can be asked for.
    pub const MODELS: &str = "/v1/models";
    /// `GET ?model=M&n=3`: all that a client needs to verify providers and seal to them.
    pub const PROVIDERS: &str = "/v1/providers/bundle";
    /// `GET`, with a build in hexadecimal after it: a [`ReleaseRecord`](super::ReleaseRecord), public.
    pub const RELEASES: &str = "/v1/releases";
    /// `POST`: a sealed request for one provider; answers with [`super::frame`]s.
    pub const SEALED: &str = "/v1/sealed";
    /// `GET`, WebSocket: a provider's session.
    pub const SESSION: &str = "/v1/provider/session";

    /// Where the transcripts of an epoch are.
    pub fn challenges(epoch: crate::id::UnixSeconds) -> String {
        format!("{CHALLENGES}/{epoch}")
    }

    /// Where the release of a build is.
    pub fn release(build: &crate::hash::Hash) -> String {
        format!("{RELEASES}/{build}")
    }
}

/// Header names of the sealed path; all that the relay may see beside the ciphertext.
pub mod header {
    /// Leaf hash of the attestation sealed to, in hexadecimal.
    pub const ATTESTATION: &str = "glassbloom-attestation";
    /// The model's alias.
    pub const MODEL: &str = "glassbloom-model";
    /// Who sealed: `user` or `coordinator`; in plain-text answers.
    pub const SEALED_BY: &str = "glassbloom-sealed-by";
}

/// Media type of a sealed request. `[draft-ietf-ohai-chunked-ohttp]`
pub const MEDIA_SEALED_REQUEST: &str = "message/ohttp-chunked-req";
/// Media type of a relayed answer: a sequence of [`frame`]s.
pub const MEDIA_RELAY: &str = "application/vnd.glassbloom.relay";
/// Largest sealed request, in bytes.
pub const MAX_SEALED_REQUEST: usize = 1 << 20;

/// The challenges of an epoch: the logged batch, and the answers that its root is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenges {
    /// The `challenge-batch` statement, to the byte.
    #[serde(with = "base64_bytes")]
    pub batch: Vec<u8>,
    /// The answers, in the order of the batch's `expected`.
    pub answers: Vec<ChallengeAnswer>,
}

/// A provider's answer to the challenge of an epoch; see [`crate::leaf::Transcript`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeAnswer {
    /// Leaf hash of its attestation.
    pub attestation: Hash,
    /// Its signing key's signature.
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
}

impl ChallengeAnswer {
    /// The transcript that the batch's root is over; `None` when the signature has a length that none has.
    pub fn transcript(&self) -> Option<Transcript> {
        let signature = self.signature.as_slice().try_into().ok()?;
        Some(Transcript { attestation: self.attestation, signature })
    }
}

impl From<&Transcript> for ChallengeAnswer {
    fn from(transcript: &Transcript) -> Self {
        Self { attestation: transcript.attestation, signature: transcript.signature.to_vec() }
    }
}

/// A build's release with the oldest checkpoint that the coordinator has kept with it, so that a cool-off counts from
/// when the release was logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRecord {
    /// A checkpoint of the registry, to the byte.
    #[serde(with = "base64_bytes")]
    pub checkpoint: Vec<u8>,
    /// The release with its inclusion proof under that checkpoint.
    pub release: LeafProof,
}

/// Answer of a log's `append`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appended {
    /// Where the entry stands.
    pub index: LeafIndex,
    /// A `tlog-proof` under a published checkpoint.
    pub proof: String,
}

/// Answer of a log's `append`, with status 202, when no published checkpoint covers the entry in time: it is durable and
/// has its index, and the log signs that it will be covered. See `spec/promise.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromisedEntry {
    /// Where the entry stands.
    pub index: LeafIndex,
    /// An inclusion promise.
    pub promise: String,
}

/// Answer of [`path::PROVIDERS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Providers {
    /// The answer must not be used after this time.
    pub expires: UnixSeconds,
    /// Who can serve the model now, best first.
    pub providers: Vec<ProviderRecord>,
}

/// A text message of the session, from the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromProvider {
    /// Shows that the provider is there, in answer to [`ToProvider::Challenge`].
    ChallengeAnswer {
        /// The epoch of the challenge.
        epoch: UnixSeconds,
        /// The signing key over [`crate::leaf::challenge_message`].
        #[serde(with = "base64_bytes")]
        signature: Vec<u8>,
    },
    /// An answer is complete: its sealed bytes have all been sent.
    Completed {
        /// The request.
        id: u64,
        /// The signed receipt.
        #[serde(with = "base64_bytes")]
        receipt: Vec<u8>,
        /// What opens the receipt's usage commitments, for billing.
        usage: UsageOpening,
    },
    /// A request that was not answered, or not to the end.
    Failed {
        /// The request.
        id: u64,
        /// Stable code.
        code: String,
        /// For people.
        message: String,
    },
    /// Still there.
    Heartbeat {
        /// Requests being answered.
        active: u32,
    },
    /// First message: who wants to serve.
    Hello {
        /// The signed attestation.
        #[serde(with = "base64_bytes")]
        attestation: Vec<u8>,
        /// Requests that it takes at a time, queued ones included.
        capacity: u32,
        /// Aliases of the models it has loaded.
        models: Vec<String>,
    },
}

/// A text message of the session, to the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToProvider {
    /// Nobody waits for the answer any more.
    Cancel {
        /// The request.
        id: u64,
    },
    /// Asks for a sign of life that nobody could have made before the checkpoint was witnessed.
    Challenge {
        /// When the epoch began, in seconds.
        epoch: UnixSeconds,
        /// A checkpoint of the registry with all its signatures, to the byte.
        #[serde(with = "base64_bytes")]
        beacon: Vec<u8>,
    },
    /// Something the operator should know; changes nothing in the session.
    Notice {
        /// Stable code.
        code: String,
        /// What happened and what to do.
        message: String,
    },
    /// The attestation was logged but may not serve, or was not logged.
    Refused {
        /// Stable code.
        code: String,
        /// What the operator can do about it.
        message: String,
    },
    /// The attestation is in the log and may serve.
    Welcome {
        /// One record per model, as clients will see them.
        records: Vec<ProviderRecord>,
    },
}

/// Opens the usage commitments of a receipt: for the parties to the exchange and the coordinator's books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageOpening {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the answer.
    pub completion: u64,
    /// The two blinding factors.
    pub blindings: [Hash; 2],
}

/// Binary messages of the session: a request's identifier, then bytes.
///
/// To the provider: one message per request, holding the whole sealed request. From the provider: the sealed answer in
/// pieces.
pub mod data {
    /// Puts the identifier before the bytes.
    pub fn encode(id: u64, bytes: &[u8]) -> Vec<u8> {
        [&id.to_be_bytes(), bytes].concat()
    }

    /// Takes a message apart; `None` when it is shorter than an identifier.
    pub fn decode(message: &[u8]) -> Option<(u64, &[u8])> {
        let (id, bytes) = message.split_first_chunk::<8>()?;
        Some((u64::from_be_bytes(*id), bytes))
    }
}

/// Frames of a relayed answer: `u8 kind || u32 length || payload`.
///
/// Sealed frames joined are a chunked-OHTTP response. Exactly one proof, promise or error frame ends the answer; whatever is
/// missing, an answer that ends otherwise is refused by the client.
pub mod frame {
    use serde::{Deserialize, Serialize};

    /// Largest payload, in bytes.
    pub const MAX_PAYLOAD: usize = 1 << 20;

    /// One frame.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Frame {
        /// The relay gives up; nothing vouches for what it says.
        Error(RelayError),
        /// The log's inclusion promise for the receipt, because it cannot prove it yet.
        Promise(Vec<u8>),
        /// The `tlog-proof` of the receipt.
        Proof(Vec<u8>),
        /// Bytes of the sealed answer.
        Sealed(Vec<u8>),
    }

    /// Why the relay gives up.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct RelayError {
        /// Stable code.
        pub code: String,
        /// For people.
        pub message: String,
    }

    /// A frame that cannot be.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    #[error("the relay sent a frame of unknown kind or beyond {MAX_PAYLOAD} bytes")]
    pub struct BadFrame;

    impl Frame {
        /// The frame as bytes.
        pub fn encode(&self) -> Vec<u8> {
            let (kind, payload) = match self {
                Self::Error(error) => (2, serde_json::to_vec(error).expect("two strings are JSON")),
                Self::Promise(promise) => (3, promise.clone()),
                Self::Proof(proof) => (1, proof.clone()),
                Self::Sealed(bytes) => (0, bytes.clone()),
            };
            [&[kind], (payload.len() as u32).to_be_bytes().as_slice(), &payload].concat()
        }
    }

    /// Splits a stream of bytes into frames.
    #[derive(Debug, Default)]
    pub struct Decoder(Vec<u8>);

    impl Decoder {
        /// Adds bytes.
        pub fn push(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }

        /// The next whole frame.
        pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrame> {
            let Some((head, rest)) = self.0.split_first_chunk::<5>() else { return Ok(None) };
            let [kind, length @ ..] = *head;
            let length = u32::from_be_bytes(length) as usize;
            if kind > 3 || length > MAX_PAYLOAD {
                return Err(BadFrame);
            }
            let Some(payload) = rest.get(..length) else { return Ok(None) };
            let payload = payload.to_vec();
            self.0.drain(..5 + length);
            Ok(Some(match kind {
                0 => Frame::Sealed(payload),
                1 => Frame::Proof(payload),
                3 => Frame::Promise(payload),
                _ => Frame::Error(serde_json::from_slice(&payload).map_err(|_| BadFrame)?),
            }))
        }

        /// Whether bytes of an unfinished frame are held.
        pub fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn frames_survive_being_cut_anywhere() {
            let frames = [
                Frame::Sealed(vec![1, 2, 3]),
                Frame::Proof(b"proof".to_vec()),
                Frame::Promise(b"promise".to_vec()),
                Frame::Error(RelayError { code: "a".into(), message: "b".into() }),
            ];
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            for cut in 0..bytes.len() {
                let mut decoder = Decoder::default();
                let mut found = Vec::new();
                for part in [&bytes[..cut], &bytes[cut..]] {
                    decoder.push(part);
                    while let Some(frame) = decoder.next_frame().unwrap() {
                        found.push(frame);
                    }
                }
                assert_eq!(found, frames);
                assert!(decoder.is_empty());
            }
        }

        #[test]
        fn refuses_kinds_and_lengths_that_cannot_be() {
            for bytes in [[4, 0, 0, 0, 0], [0, 0xff, 0, 0, 0]] {
                let mut decoder = Decoder::default();
                decoder.push(&bytes);
                assert_eq!(decoder.next_frame(), Err(BadFrame));
            }
        }
    }
}
