//! One sealed request, from its bytes to its receipt. Nothing of what is inside is logged or told to the coordinator.

use std::{collections::HashMap, sync::Arc};

use glassbloom_service::{Clock, random};
use glassbloom_spec::{
    api::{FromProvider, data},
    envelope::{self, EnvelopeError, OpenedRequest, ProviderAnswer, ProviderExchange, ReceiptFacts},
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixMinutes},
    verify::VerifiedProvider,
};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    attest::Identity,
    engine::{Engine, EngineError, Event},
    inner::{Facts, Meta, Prepared, Refusal, Writer},
    session::text,
};

/// What answering needs, fixed for a session.
pub(crate) struct Answering {
    pub(crate) attestation: Hash,
    /// Where the attestation stands in the registry.
    pub(crate) index: LeafIndex,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) engine: Arc<dyn Engine>,
    /// Names the build in answers.
    pub(crate) fingerprint: String,
    pub(crate) identity: Arc<Identity>,
    /// By alias: what receipts refer to.
    pub(crate) models: HashMap<String, VerifiedProvider>,
    /// Size and root of the registry that this provider has seen.
    pub(crate) registry: Option<(TreeSize, Hash)>,
}

/// Why an answer ended before its receipt.
enum Stop {
    /// Nobody waits for it; nothing more is sent.
    Abandoned,
    /// The coordinator is told, in words that say nothing of the request.
    Failed { code: &'static str, message: String },
}

impl From<EnvelopeError> for Stop {
    fn from(error: EnvelopeError) -> Self {
        let code = match &error {
            EnvelopeError::OtherAttestation { .. } => "other-attestation",
            EnvelopeError::Inner(_) | EnvelopeError::Unsealed(_) => "not-opened",
            EnvelopeError::Amount(_) | EnvelopeError::Seal(_) | EnvelopeError::Sign(_) => "internal",
        };
        Self::Failed { code, message: error.to_string() }
    }
}

/// Answers a sealed request into the outbox, ending with its receipt or with the reason why there is none.
pub(crate) async fn answer(
    answering: &Answering,
    id: u64,
    sealed: Vec<u8>,
    cancel: CancellationToken,
    outbox: &mpsc::Sender<Message>,
) {
    let reply = Reply { id, outbox };
    // Also while it waits for room in the outbox: whoever cancels gets nothing more.
    let answered = cancel.run_until_cancelled(answering.answer(&reply, &sealed, &cancel)).await;
    if let Some(Err(Stop::Failed { code, message })) = answered {
        tracing::warn!(id, code, message, "a request was not answered");
        let _ = reply.tell(FromProvider::Failed { id, code: code.to_owned(), message }).await;
    }
}

impl Answering {
    async fn answer(&self, reply: &Reply<'_>, sealed: &[u8], cancel: &CancellationToken) -> Result<(), Stop> {
        let came = self.clock.now().minutes();
        let (request, exchange) = blocking(|| {
            let key = Arc::clone(&self.identity.sealing);
            envelope::open(key, &self.identity.key_config, self.attestation, sealed)
        })?;
        if !self.identity.is_first(exchange.encapsulated_key()) {
            let message = "the same sealed request was opened before".to_owned();
            return Err(Stop::Failed { code: "replayed", message });
        }
        let OpenedRequest { body, registry, .. } = request;
        let body = Zeroizing::new(body);
        let prepared = self.check_registry(registry).and_then(|()| Prepared::parse(&body, self.meta()));
        drop(body);
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => return reply.refuse(exchange, &refusal).await,
        };
        let Some(provider) = self.models.get(&prepared.model) else {
            return reply.refuse(exchange, &Refusal::unknown_model(&prepared.model)).await;
        };
        let Prepared { job, sampling, writer, .. } = prepared;
        let job = crate::engine::ChatJob { cancel: cancel.clone(), ..job };
        let Some((mut answer, facts)) = self.stream(reply, exchange, writer, job).await? else {
            return Ok(());
        };
        let facts = ReceiptFacts {
            model: provider.model_hash(),
            policy: provider.policy_hash(),
            prices: provider.prices_hash(),
            price: provider.price(),
            finish: facts.finish,
            usage: facts.usage,
            sampling: &sampling,
            times: self.times(came),
        };
        self.sign(reply, &mut answer, &facts).await
    }

    /// Sends the answer as it comes; nothing to sign when the engine refused the request.
    async fn stream(
        &self,
        reply: &Reply<'_>,
        exchange: ProviderExchange,
        mut writer: Writer,
        job: crate::engine::ChatJob,
    ) -> Result<Option<(Option<ProviderAnswer>, Facts)>, Stop> {
        let (mut events, mut waiting, mut open) = (self.engine.chat(job), Some(exchange), None);
        while let Some(event) = events.recv().await {
            if let Event::Failed(error) = event {
                return match (waiting.take(), Refusal::of_engine(&error)) {
                    (Some(exchange), Some(refusal)) => reply.refuse(exchange, &refusal).await.map(|()| None),
                    _ => Err(failed(&error)),
                };
            }
            let chunks = writer.push(event);
            if !chunks.is_empty() {
                if let Some(exchange) = waiting.take() {
                    let (head, answer) = exchange.start(200, writer.content_type(), random())?;
                    reply.send(&head).await?;
                    open = Some(answer);
                }
                let answer = open.as_mut().expect("started with the first chunk");
                for chunk in chunks {
                    reply.send(&answer.chunk(&chunk)?).await?;
                }
            }
            if let Some(facts) = writer.facts() {
                return Ok(Some((open, facts)));
            }
        }
        Err(Stop::Failed { code: "engine-failed", message: "the model stopped before the end".to_owned() })
    }

    async fn sign(
        &self,
        reply: &Reply<'_>,
        answer: &mut Option<ProviderAnswer>,
        facts: &ReceiptFacts<'_>,
    ) -> Result<(), Stop> {
        let Some(answer) = answer.take() else {
            return Err(Stop::Failed { code: "internal", message: "the answer has no chunk".to_owned() });
        };
        let (receipt, usage) = blocking(|| answer.receipt(facts, &*self.identity.signing))?;
        let end = answer.finish(&receipt, facts.usage)?;
        reply.send(&end).await?;
        reply.tell(FromProvider::Completed { id: reply.id, receipt: receipt.bytes().to_vec(), usage }).await
    }

    /// Refuses a client that was shown another registry than this provider was. What it relied on is repeated in the
    /// receipt, so it must at least be able to hold the attestation.
    fn check_registry(&self, (size, root): (TreeSize, Hash)) -> Result<(), Refusal> {
        match self.registry {
            _ if size.get() <= self.index.get() => Err(Refusal::registry_too_small(size)),
            Some((seen, seen_root)) if seen == size && seen_root != root => {
                Err(Refusal::other_registry(size))
            }
            _ => Ok(()),
        }
    }

    fn meta(&self) -> Meta {
        Meta {
            id: format!("{:032x}", u128::from_be_bytes(random())),
            created: self.clock.now().seconds(),
            fingerprint: self.fingerprint.clone(),
        }
    }

    /// To the minute; a clock that was set back does not turn them round.
    fn times(&self, came: UnixMinutes) -> [UnixMinutes; 2] {
        [came, self.clock.now().minutes().max(came)]
    }
}

/// Runs what may wait for a TPM without holding up other tasks, where the runtime has other threads for them.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Where one answer goes.
struct Reply<'a> {
    id: u64,
    outbox: &'a mpsc::Sender<Message>,
}

impl Reply<'_> {
    async fn send(&self, sealed: &[u8]) -> Result<(), Stop> {
        let message = Message::binary(data::encode(self.id, sealed));
        self.outbox.send(message).await.map_err(|_| Stop::Abandoned)
    }

    async fn tell(&self, message: FromProvider) -> Result<(), Stop> {
        self.outbox.send(text(&message)).await.map_err(|_| Stop::Abandoned)
    }

    /// Refuses a request in words for its sender alone; the coordinator learns only that there is no receipt.
    async fn refuse(&self, exchange: ProviderExchange, refusal: &Refusal) -> Result<(), Stop> {
        let (head, mut answer) = exchange.start(refusal.status, "application/json", random())?;
        self.send(&head).await?;
        self.send(&answer.chunk(&refusal.body)?).await?;
        self.send(&answer.finish_refused()?).await?;
        Err(Stop::Failed {
            code: "refused",
            message: "the provider refused the request; its reason is sealed".to_owned(),
        })
    }
}

fn failed(error: &EngineError) -> Stop {
    match error {
        EngineError::Busy => Stop::Failed { code: "overloaded", message: error.to_string() },
        _ => {
            // Of all engine errors this one alone does not quote the request.
            if let EngineError::Internal(why) = error {
                tracing::error!(why, "the engine failed");
            }
            Stop::Failed { code: "engine-failed", message: "the model could not answer".to_owned() }
        }
    }
}
