//! One sealed request and its answer, with every byte that went over the wire.

use glassbloom_spec::{
    envelope::{
        self, ClientExchange, ClientRequest, Ended, FinishError, Opened, ProviderAnswer, ReceiptFacts,
    },
    id::UnixMinutes,
    openai::ChatRequest,
    receipt::{Finish, SealedBy, Usage, VerifiedReceipt},
    statement::Statement,
    verify::VerifiedProvider,
};

use super::{Keys, MODEL, NOW};

/// What is asked and what is answered.
#[derive(Clone, Debug)]
pub struct Script {
    /// Seeds everything that is random in the exchange.
    pub seed: u8,
    /// What the user says.
    pub prompt: &'static str,
    /// The answer, in pieces.
    pub pieces: &'static [&'static str],
    /// Tokens.
    pub usage: Usage,
    /// Who seals.
    pub sealed_by: SealedBy,
}

impl Script {
    /// The exchanges of [`super::World::new`].
    pub fn all() -> [Self; 3] {
        [
            Self {
                seed: 101,
                prompt: "Name a flower.",
                pieces: &["A ", "glass ", "flower."],
                usage: Usage { prompt: 12, completion: 3 },
                sealed_by: SealedBy::User,
            },
            Self {
                seed: 102,
                prompt: "And another?",
                pieces: &["Tulip."],
                usage: Usage { prompt: 9, completion: 2 },
                sealed_by: SealedBy::User,
            },
            Self {
                seed: 103,
                prompt: "A third.",
                pieces: &["Lily."],
                usage: Usage { prompt: 8, completion: 2 },
                sealed_by: SealedBy::Coordinator,
            },
        ]
    }

    /// The request body.
    pub fn body(&self) -> Vec<u8> {
        format!(
            r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"{}"}}],"stream":true,"seed":7}}"#,
            self.prompt
        )
        .into_bytes()
    }

    /// The request as a client seals it.
    pub fn request(&self) -> ClientRequest {
        ClientRequest {
            body: self.body(),
            sampling: Some(sampling(&self.body())),
            sealed_by: self.sealed_by,
            attempt: 1,
        }
    }

    /// The chunks of the answer.
    pub fn chunks(&self) -> Vec<Vec<u8>> {
        let event = |piece: &&str| format!("data: {{\"delta\":\"{piece}\"}}\n\n").into_bytes();
        let mut chunks: Vec<_> = self.pieces.iter().map(event).collect();
        chunks.push(b"data: [DONE]\n\n".to_vec());
        chunks
    }
}

/// A finished exchange.
pub struct Exchange {
    /// The request body.
    pub body: Vec<u8>,
    /// The chunks of the answer.
    pub chunks: Vec<Vec<u8>>,
    /// The sealed request.
    pub sealed_request: Vec<u8>,
    /// The sealed answer, as it was sent: the head, one piece per chunk, the end.
    pub sealed_answer: Vec<Vec<u8>>,
    /// The receipt.
    pub receipt: Statement,
    /// The receipt as the client accepted it.
    pub verified: VerifiedReceipt,
}

impl Exchange {
    pub(super) fn run(keys: &Keys, provider: &VerifiedProvider, script: &Script) -> Self {
        let (sealed_request, client) = seal(provider, script);
        let (mut sealed_answer, answer) = begin(keys, provider, script, &sealed_request);
        let (receipt, _) = answer
            .receipt(&facts(provider, script, &script.body()), &keys.provider)
            .expect("software keys sign");
        sealed_answer.push(answer.finish(&receipt, script.usage).expect("a receipt fits the trailers"));
        let verified = read(client, provider, &sealed_answer).expect("an honest answer is accepted");
        Self {
            body: script.body(),
            chunks: script.chunks(),
            sealed_request,
            sealed_answer,
            receipt,
            verified,
        }
    }
}

/// The client's side: the sealed request.
///
/// # Panics
/// When the request is too large.
pub fn seal(provider: &VerifiedProvider, script: &Script) -> (Vec<u8>, ClientExchange) {
    envelope::seal(provider, &script.request(), &[script.seed; 32]).expect("a small request")
}

/// The provider's side up to the end: the sealed pieces so far, and what signs and ends the answer.
///
/// # Panics
/// When the request does not open.
pub fn begin(
    keys: &Keys,
    provider: &VerifiedProvider,
    script: &Script,
    sealed: &[u8],
) -> (Vec<Vec<u8>>, ProviderAnswer) {
    let config = keys.key_config();
    let (_, exchange) = envelope::open(keys.sealing.clone(), &config, provider.attestation_hash(), sealed)
        .expect("sealed to this key");
    let (head, mut answer) =
        exchange.start(200, "text/event-stream", [script.seed; 32]).expect("a plain head");
    let mut pieces = vec![head];
    for chunk in script.chunks() {
        pieces.push(answer.chunk(&chunk).expect("a small chunk"));
    }
    (pieces, answer)
}

/// What the provider states in the receipt of a script.
pub fn facts<'a>(provider: &'a VerifiedProvider, script: &Script, body: &[u8]) -> ReceiptFacts<'a> {
    // Leaked once per exchange of a test, so that the facts can borrow it.
    let sampling: &'static [u8] = Vec::leak(sampling(body));
    ReceiptFacts {
        model: provider.model_hash(),
        policy: provider.policy_hash(),
        prices: provider.prices_hash(),
        price: provider.price(),
        finish: Finish::Stop,
        usage: script.usage,
        sampling,
        times: [UnixMinutes::new(NOW / 60 + 1), UnixMinutes::new(NOW / 60 + 2)],
    }
}

/// Reads a sealed answer to its end, as the client does.
///
/// # Errors
/// When it does not open, or its receipt does not hold.
///
/// # Panics
/// When the answer refuses the request.
pub fn read(
    mut client: ClientExchange,
    provider: &VerifiedProvider,
    sealed: &[Vec<u8>],
) -> Result<VerifiedReceipt, FinishError> {
    for piece in sealed {
        for opened in client.push(piece)? {
            match opened {
                Opened::Head { .. } | Opened::Chunk(_) => {}
            }
        }
    }
    match client.finish(provider)?.1 {
        Ended::Answered(receipt) => Ok(*receipt),
        Ended::Refused => panic!("the provider refused"),
    }
}

fn sampling(body: &[u8]) -> Vec<u8> {
    ChatRequest::parse(body).expect("a request of ours").sampling.encode()
}

/// The client of one of the world's exchanges, before any answer has come.
///
/// # Panics
/// When there is no such exchange.
pub fn resume(provider: &VerifiedProvider, number: usize) -> ClientExchange {
    seal(provider, &Script::all()[number]).1
}
