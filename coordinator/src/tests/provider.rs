//! A provider without a model: it connects, and the test decides what it says.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use glassbloom_service::{Clock, SystemClock};
use glassbloom_spec::{
    api::{FromProvider, ToProvider, UsageOpening, data, path},
    bundle::ReceiptBundle,
    curve::{PublicKey, SigningKey},
    envelope::{OpenedRequest, ProviderAnswer, ProviderExchange, ReceiptFacts, open},
    hash::Hash,
    id::UnixSeconds,
    leaf::{Attestation, Beacon, Evidence, Model, ModelFile, Payload, attestation_nonce, challenge_message},
    receipt::{Finish, Usage},
    record::ProviderRecord,
    seal::{
        KeyConfig,
        hpke::{EcdhSecret, derive_key_pair},
    },
    statement::Statement,
    verify::VerifiedProvider,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::net::{MODEL, Net, release};

pub(super) struct Provider {
    pub(super) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(super) attestation: Statement,
    pub(super) records: Vec<ProviderRecord>,
    /// How it answers challenges once it is welcome.
    pub(super) manner: Manner,
    signing: SigningKey,
    sealing: Arc<EcdhSecret>,
    config: KeyConfig,
}

/// How a provider answers challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// As it should, without the test noticing.
    Honest,
    /// With somebody else's key.
    Forging,
    /// Not at all: the test hears them.
    Silent,
}

/// What a test may say instead of the truth.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    pub(super) seed: u8,
    pub(super) build: Hash,
    pub(super) capacity: u32,
    pub(super) models: Vec<Hash>,
    pub(super) beacon: Option<Vec<u8>>,
    /// How it answers the challenge before it is welcome.
    pub(super) manner: Manner,
}

impl Default for Claims {
    fn default() -> Self {
        let file = ModelFile { name: "model.safetensors".to_owned(), size: 7, sha256: Hash::of(b"weights") };
        Self {
            seed: 1,
            build: release().build,
            capacity: 2,
            models: vec![Model::digest_of(&[file])],
            beacon: None,
            manner: Manner::Honest,
        }
    }
}

impl Provider {
    /// A provider that was welcomed.
    pub(super) async fn connect(net: &Net) -> Self {
        Self::connect_as(net, &Claims::default()).await.unwrap()
    }

    /// A provider with these claims, or why it is refused.
    pub(super) async fn connect_as(net: &Net, claims: &Claims) -> Result<Self, (String, String)> {
        let signing = SigningKey::from_seed(&[claims.seed; 32]);
        let sealing = Arc::new(derive_key_pair(&[claims.seed; 32]));
        let config = KeyConfig::new(1, PublicKey::from_sec1(&sealing.public_key()).unwrap());
        let beacon = match &claims.beacon {
            Some(beacon) => beacon.clone(),
            None => net.checkpoint("registry").await.note_bytes().to_vec(),
        };
        let beacon = Beacon { checkpoint: beacon };
        let attestation = Attestation {
            nonce: attestation_nonce(beacon.digest(), &signing.public_key(), &config),
            signing_key: signing.public_key(),
            key_config: config.clone(),
            build: claims.build,
            endpoint: net.url.clone(),
            not_after: UnixSeconds::new(net.app.clock.now().seconds().get() + 3600),
            models: claims.models.clone(),
            beacon,
            evidence: Evidence::self_signed(),
            previous: None,
            possession: None,
            countersignature: None,
            release_proof: None,
            enrolment: None,
        };
        let attestation = attestation.possessed(&sealing).sign(&signing).unwrap();
        let mut provider = Self {
            socket: dial(net, &net.token).await.unwrap(),
            attestation,
            records: Vec::new(),
            manner: claims.manner,
            signing,
            sealing,
            config,
        };
        provider.hello(claims.capacity).await?;
        provider.manner = Manner::Honest;
        Ok(provider)
    }

    async fn hello(&mut self, capacity: u32) -> Result<(), (String, String)> {
        let attestation = self.attestation.bytes().to_vec();
        self.tell(&FromProvider::Hello { attestation, capacity, models: vec![MODEL.to_owned()] }).await;
        match self.hear().await {
            Some(ToProvider::Welcome { records }) => self.records = records,
            Some(ToProvider::Refused { code, message }) => return Err((code, message)),
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    /// Says hello again on a new connection, with the same attestation.
    pub(super) async fn reconnect(&mut self, net: &Net) {
        self.socket = dial(net, &net.token).await.unwrap();
        self.hello(2).await.unwrap();
    }

    pub(super) async fn tell(&mut self, message: &FromProvider) {
        self.socket.send(Message::text(serde_json::to_string(message).unwrap())).await.unwrap();
    }

    pub(super) async fn send(&mut self, id: u64, bytes: &[u8]) {
        self.socket.send(Message::binary(data::encode(id, bytes))).await.unwrap();
    }

    async fn message(&mut self) -> Option<Message> {
        loop {
            match timeout(Duration::from_secs(20), self.socket.next()).await.expect("a message in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(Message::Text(text))) if self.manner != Manner::Silent => {
                    match serde_json::from_str(&text).unwrap() {
                        ToProvider::Challenge { epoch, beacon } => self.answer(epoch, &beacon).await,
                        _ => return Some(Message::Text(text)),
                    }
                }
                Some(Ok(message)) => return Some(message),
            }
        }
    }

    /// Answers a challenge in its manner.
    pub(super) async fn answer(&mut self, epoch: UnixSeconds, beacon: &[u8]) {
        let message = challenge_message(Hash::of(beacon), self.attestation.leaf_hash(), epoch);
        let signature = match self.manner {
            Manner::Forging => SigningKey::from_seed(&[99; 32]).sign(&message),
            _ => self.signing.sign(&message),
        };
        self.tell(&FromProvider::ChallengeAnswer { epoch, signature: signature.to_vec() }).await;
    }

    /// The next text message; `None` at the end of the session.
    pub(super) async fn hear(&mut self) -> Option<ToProvider> {
        match self.message().await? {
            Message::Text(text) => Some(serde_json::from_str(&text).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// The next request, opened.
    pub(super) async fn request(&mut self) -> (u64, OpenedRequest, ProviderExchange) {
        let Some(Message::Binary(message)) = self.message().await else { panic!("expected a request") };
        let (id, sealed) = data::decode(&message).unwrap();
        let key = Arc::clone(&self.sealing);
        let (request, exchange) = open(key, &self.config, self.attestation.leaf_hash(), sealed).unwrap();
        (id, request, exchange)
    }

    /// Sends the head of an answer.
    pub(super) async fn begin(&mut self, id: u64, exchange: ProviderExchange, media: &str) -> ProviderAnswer {
        let (head, answer) = exchange.start(200, media, glassbloom_service::random()).unwrap();
        self.send(id, &head).await;
        answer
    }

    pub(super) async fn chunk(&mut self, id: u64, answer: &mut ProviderAnswer, chunk: &str) {
        let sealed = answer.chunk(chunk.as_bytes()).unwrap();
        self.send(id, &sealed).await;
    }

    /// Signs the receipt and sends the end.
    pub(super) async fn finish(
        &mut self,
        id: u64,
        answer: ProviderAnswer,
        provider: &VerifiedProvider,
        sampling: &[u8],
    ) {
        let (receipt, opening) = self.receipt(&answer, provider, sampling);
        let end = answer.finish(&receipt, USAGE).unwrap();
        self.send(id, &end).await;
        self.tell(&FromProvider::Completed { id, receipt: receipt.bytes().to_vec(), usage: opening }).await;
    }

    pub(super) fn receipt(
        &self,
        answer: &ProviderAnswer,
        provider: &VerifiedProvider,
        sampling: &[u8],
    ) -> (Statement, UsageOpening) {
        let facts = ReceiptFacts {
            model: provider.model_hash(),
            policy: provider.policy_hash(),
            prices: provider.prices_hash(),
            price: provider.price(),
            finish: Finish::Stop,
            usage: USAGE,
            sampling,
            times: [SystemClock.now().minutes(); 2],
        };
        answer.receipt(&facts, &self.signing).unwrap()
    }
}

/// Opens the session's WebSocket; the status when that is refused.
pub(super) async fn dial(net: &Net, token: &str) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, u16> {
    let url = format!("{}{}", net.url.replace("http", "ws"), path::SESSION);
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

pub(super) const USAGE: Usage = Usage { prompt: 10, completion: 20 };

/// Keeps a bundle as clients do, to show that what this relay gives suffices for one.
pub(super) fn bundle(
    provider: &VerifiedProvider,
    logged: &glassbloom_spec::receipt::LoggedReceipt,
) -> ReceiptBundle {
    ReceiptBundle::new(provider, logged)
}
