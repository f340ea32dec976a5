//! One session with the coordinator: an outbound WebSocket, greeted with an attestation, that carries sealed requests
//! one way and sealed answers the other.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{Sink, SinkExt, StreamExt, stream::SplitStream};
use glassbloom_service::{Clock, Shutdown, http_client};
use glassbloom_spec::{
    api::{FromProvider, ToProvider, data, path},
    id::UnixSeconds,
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Bytes, Message,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderValue, header::AUTHORIZATION},
        protocol::WebSocketConfig,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{self, AdmissionError},
    answer::{self, Answering},
    attest::{self, Attested},
    challenge::{Challenge, ChallengeError, Challenged},
    config::Config,
    daemon::Daemon,
    registry::RegistryError,
    status::{AttestationStatus, Reporter},
};

/// How a session ended.
pub(crate) enum Ended {
    /// The connection did not come about, or broke.
    Lost(String),
    /// The coordinator judged the attestation and does not allow it to serve.
    Refused(String),
    /// Not allowed to serve either, for a reason that another attestation does not change.
    Rejected(String),
    /// The attestation is past half its life.
    Renew,
    /// The daemon is asked to stop.
    Stopped,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Runs one session to its end; says also whether it got as far as serving.
pub(crate) async fn run(daemon: &mut Daemon, attested: &Attested, shutdown: &Shutdown) -> (Ended, bool) {
    let greeted = async {
        let mut socket = connect(&daemon.config).await?;
        let answering = greet(daemon, attested, &mut socket).await?;
        Ok::<_, Ended>((socket, answering))
    };
    match shutdown.unless_requested(greeted).await {
        None => (Ended::Stopped, false),
        Some(Err(ended)) => (ended, false),
        Some(Ok((socket, answering))) => {
            let index = answering.index;
            daemon.reporter.connected(AttestationStatus { leaf: attested.leaf, index });
            tracing::info!(attestation = %attested.leaf, index = index.get(), "connected; requests come in");
            (serve(daemon, attested, socket, answering, shutdown).await, true)
        }
    }
}

async fn connect(config: &Config) -> Result<Socket, Ended> {
    let lost =
        |why: String| Ended::Lost(format!("{}: {why}; is the coordinator running?", config.endpoint()));
    // Installs the TLS provider that a wss address needs.
    http_client();
    let request = request(config).map_err(Ended::Rejected)?;
    let limits =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    match timeout(CONNECT_TIMEOUT, connect_async_with_config(request, Some(limits), true)).await {
        Err(_) => Err(lost("no answer".to_owned())),
        Ok(Err(tungstenite::Error::Http(response))) if matches!(response.status().as_u16(), 401 | 403) => {
            Err(Ended::Rejected(format!(
                "{} does not accept this provider's token; ask its operator for a new one",
                config.endpoint()
            )))
        }
        Ok(Err(error)) => Err(lost(error.to_string())),
        Ok(Ok((socket, _))) => Ok(socket),
    }
}

fn request(config: &Config) -> Result<Request, String> {
    let base = config.endpoint();
    let url = match base.strip_prefix("https://") {
        Some(rest) => format!("wss://{rest}{}", path::SESSION),
        None => format!("ws://{}{}", base.trim_start_matches("http://"), path::SESSION),
    };
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", config.token.secret()))
        .map_err(|_| "the token cannot stand in a header".to_owned())?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, bearer);
    Ok(request)
}

/// Says hello and verifies the welcome.
async fn greet(daemon: &mut Daemon, attested: &Attested, socket: &mut Socket) -> Result<Answering, Ended> {
    let hello = FromProvider::Hello {
        attestation: attested.statement.bytes().to_vec(),
        capacity: daemon.config.capacity,
        models: daemon.loaded.iter().map(|model| model.alias.clone()).collect(),
    };
    socket.send(text(&hello)).await.map_err(|error| Ended::Lost(error.to_string()))?;
    let deadline = Instant::now() + WELCOME_TIMEOUT;
    let records = loop {
        let message = tokio::time::timeout_at(deadline, socket.next()).await;
        match message.map_err(|_| Ended::Lost("the coordinator did not answer the attestation".to_owned()))? {
            Some(Ok(Message::Text(message))) => match parse(&message)? {
                ToProvider::Cancel { .. } => {}
                ToProvider::Challenge { epoch, beacon } => {
                    let answer = challenged(daemon, attested).answer(&Challenge { epoch, beacon }).await;
                    let answer = answer.map_err(|error| unanswered(daemon, error))?;
                    socket.send(text(&answer)).await.map_err(|error| Ended::Lost(error.to_string()))?;
                }
                ToProvider::Notice { code, message } => note(&daemon.reporter, &code, message),
                ToProvider::Refused { code, message } => {
                    return Err(Ended::Refused(format!("{message} ({code})")));
                }
                ToProvider::Welcome { records } => break records,
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(message)) => return Err(Ended::Lost(unexpected(&message))),
            Some(Err(error)) => return Err(Ended::Lost(error.to_string())),
            None => return Err(Ended::Lost("the coordinator closed the connection".to_owned())),
        }
    };
    let now = daemon.clock.now();
    let admitted = admission::admit(
        &records,
        attested,
        &daemon.loaded,
        &daemon.config.policy,
        &mut daemon.registry,
        now,
    )
    .await;
    let admission = admitted.map_err(|error| match error {
        AdmissionError::Registry(RegistryError::Fetch(error)) => Ended::Lost(error.to_string()),
        error => Ended::Rejected(error.to_string()),
    })?;
    // The attestation is in the registry from here on, so the next one continues the chain from it.
    let signing_key = daemon.identity.signing.public_key();
    attest::remember(&daemon.config.data, attested.leaf, &signing_key)
        .map_err(|error| Ended::Rejected(error.to_string()))?;
    daemon.identity.device().logged(attested.leaf).map_err(|error| Ended::Rejected(error.to_string()))?;
    let answering = Answering {
        attestation: attested.leaf,
        index: admission.index,
        clock: Arc::clone(&daemon.clock),
        engine: Arc::clone(&daemon.engine),
        fingerprint: format!("fp_{:.12}", daemon.build.to_string()),
        identity: Arc::clone(&daemon.identity),
        models: admission.models,
        registry: daemon.registry.stored().map(|stored| (stored.size(), stored.root())),
    };
    Ok(answering)
}

/// A provider as it answers challenges.
fn challenged<'a>(daemon: &'a mut Daemon, attested: &Attested) -> Challenged<'a> {
    Challenged {
        attestation: attested.leaf,
        clock: &*daemon.clock,
        identity: &daemon.identity,
        policy: &daemon.config.policy,
        registry: &mut daemon.registry,
    }
}

/// Ends a session that cannot begin: it takes an answer to be welcome.
fn unanswered(daemon: &Daemon, error: ChallengeError) -> Ended {
    daemon.reporter.challenge_failed(error.to_string());
    match error {
        ChallengeError::Registry(RegistryError::Fetch(error)) => Ended::Lost(error.to_string()),
        error => Ended::Rejected(error.to_string()),
    }
}

/// Passes on what the coordinator tells the operator.
fn note(reporter: &Reporter, code: &str, message: String) {
    tracing::warn!(code, message, "the coordinator says");
    reporter.notice(code, message);
}

async fn serve(
    daemon: &mut Daemon,
    attested: &Attested,
    socket: Socket,
    answering: Answering,
    shutdown: &Shutdown,
) -> Ended {
    let (sink, mut incoming) = socket.split();
    let (outbox, queued) = mpsc::channel(OUTBOX);
    let mut desk = Desk::new(answering, daemon.config.capacity, outbox.clone());
    let mut writing = std::pin::pin!(write(sink, queued));
    let (challenges, asked) = mpsc::channel(ASKED);
    let (clock, reporter) = (Arc::clone(&daemon.clock), daemon.reporter.clone());
    let hearing = Hearing { clock: &*clock, reporter: &reporter, challenges, renew_at: attested.renew_at };
    let ended = tokio::select! {
        why = &mut writing => return Ended::Lost(why),
        ended = read(&hearing, &mut incoming, &mut desk, shutdown) => ended,
        // Beside the reading, because it asks the log: a cancellation is heard meanwhile.
        () = challenged(daemon, attested).answer_all(asked, outbox, &reporter) => Ended::Lost("nobody answers challenges".to_owned()),
    };
    // Nobody waits any more for what is left; with the last sender gone, the writer says goodbye and ends.
    drop(desk);
    let _ = timeout(GOODBYE_TIMEOUT, writing).await;
    ended
}

/// What reading a session takes beside the desk.
struct Hearing<'a> {
    clock: &'a dyn Clock,
    reporter: &'a Reporter,
    challenges: mpsc::Sender<Challenge>,
    renew_at: UnixSeconds,
}

/// Takes messages until the session ends. Answers leave through the outbox, so a slow reader at the other end
/// does not keep a cancellation from being heard.
async fn read(
    hearing: &Hearing<'_>,
    incoming: &mut SplitStream<Socket>,
    desk: &mut Desk,
    shutdown: &Shutdown,
) -> Ended {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heard, mut leaving): (Instant, Option<(Ended, Instant)>) = (Instant::now(), None);
    loop {
        if leaving.is_none() && hearing.clock.now().seconds() >= hearing.renew_at {
            leaving = Some((Ended::Renew, Instant::now() + RENEW_GRACE));
        }
        if leaving.as_ref().is_some_and(|(_, deadline)| desk.is_idle() || Instant::now() >= *deadline) {
            return leaving.take().expect("looked at above").0;
        }
        let deadline = leaving.as_ref().map(|(_, deadline)| *deadline);
        tokio::select! {
            message = incoming.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Binary(bytes))) => desk.request(&bytes, is_closing(leaving.as_ref())),
                    Some(Ok(Message::Text(text))) => match parse(&text) {
                        Ok(ToProvider::Cancel { id }) => desk.cancel(id),
                        Ok(ToProvider::Challenge { epoch, beacon }) => {
                            // Some wait already: whoever asks that often gets the answers to those.
                            let _ = hearing.challenges.try_send(Challenge { epoch, beacon });
                        }
                        Ok(ToProvider::Notice { code, message }) => note(hearing.reporter, &code, message),
                        Ok(ToProvider::Refused { code, message }) => return Ended::Refused(format!("{message} ({code})")),
                        // Rules or prices changed: what receipts refer to has to be verified anew.
                        Ok(ToProvider::Welcome { .. }) => return Ended::Lost("the coordinator renewed its welcome".to_owned()),
                        Err(ended) => return ended,
                    },
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Ok(Message::Close(_))) | None => {
                        return Ended::Lost("the coordinator closed the connection".to_owned());
                    }
                    Some(Err(error)) => return Ended::Lost(error.to_string()),
                }
            }
            () = desk.finished() => {}
            _ = heartbeat.tick() => {
                if heard.elapsed() > SILENCE {
                    return Ended::Lost(format!("no sign of life from the coordinator for {} s", SILENCE.as_secs()));
                }
                if !desk.heartbeat() {
                    return Ended::Lost("the coordinator does not take what it is sent".to_owned());
                }
            }
            () = shutdown.requested(), if !matches!(leaving, Some((Ended::Stopped, _))) => {
                leaving = Some((Ended::Stopped, Instant::now() + STOP_GRACE));
            }
            () = until(deadline) => {}
        }
    }
}

/// Whether new requests are refused. A renewal waits for a moment without requests, and refuses some only when there was
/// none for long; the attestation still holds as long again as it was used.
fn is_closing(leaving: Option<&(Ended, Instant)>) -> bool {
    leaving.is_some_and(|(ended, deadline)| {
        matches!(ended, Ended::Stopped) || *deadline - Instant::now() < LAST_ANSWERS
    })
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Sends what is queued, flushing whenever nothing more waits; returns why it stopped.
async fn write(
    mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
    mut queued: mpsc::Receiver<Message>,
) -> String {
    let mut sending = async || {
        while let Some(message) = queued.recv().await {
            sink.feed(message).await?;
            while let Ok(message) = queued.try_recv() {
                sink.feed(message).await?;
            }
            sink.flush().await?;
        }
        sink.close().await
    };
    match sending().await {
        Ok(()) => "the session is over".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The requests of a session that are being answered.
struct Desk {
    answering: Arc<Answering>,
    capacity: usize,
    outbox: mpsc::Sender<Message>,
    running: HashMap<u64, CancellationToken>,
    tasks: JoinSet<()>,
    ids: HashMap<tokio::task::Id, u64>,
}

impl Desk {
    fn new(answering: Answering, capacity: u32, outbox: mpsc::Sender<Message>) -> Self {
        Self {
            answering: Arc::new(answering),
            capacity: capacity as usize,
            outbox,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            ids: HashMap::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Takes a request, or says at once why not.
    fn request(&mut self, message: &[u8], leaving: bool) {
        let Some((id, sealed)) = data::decode(message) else {
            tracing::warn!("a binary message without an identifier was ignored");
            return;
        };
        let refusal = if leaving {
            Some(("leaving", "the provider is about to end this session"))
        } else if self.running.contains_key(&id) {
            Some(("duplicate-id", "a request with this identifier is being answered"))
        } else if self.tasks.len() >= self.capacity {
            Some(("overloaded", "the provider answers as many requests as it can"))
        } else {
            None
        };
        if let Some((code, why)) = refusal {
            return self.fail(id, code, why);
        }
        let (cancel, outbox) = (CancellationToken::new(), self.outbox.clone());
        let (answering, sealed, token) = (Arc::clone(&self.answering), sealed.to_vec(), cancel.clone());
        let task =
            self.tasks.spawn(async move { answer::answer(&answering, id, sealed, token, &outbox).await });
        self.ids.insert(task.id(), id);
        self.running.insert(id, cancel);
    }

    fn cancel(&mut self, id: u64) {
        // An answer may end while its cancellation is under way; then there is nothing left to do.
        if let Some(cancel) = self.running.remove(&id) {
            cancel.cancel();
        }
    }

    /// Waits until a request is done with. Cancel-safe; never returns while none is running.
    async fn finished(&mut self) {
        let (task, panicked) = match self.tasks.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((task, ()))) => (task, false),
            Some(Err(error)) => (error.id(), error.is_panic()),
        };
        let Some(id) = self.ids.remove(&task) else { return };
        self.running.remove(&id);
        if panicked {
            self.fail(id, "internal", "the provider failed; try another");
        }
    }

    /// Queues a sign of life; `false` when the queue is full, which means that nothing has left for long.
    fn heartbeat(&self) -> bool {
        let alive = FromProvider::Heartbeat { active: self.tasks.len() as u32 };
        self.outbox.try_send(Message::Ping(Bytes::new())).is_ok()
            && self.outbox.try_send(text(&alive)).is_ok()
    }

    fn fail(&self, id: u64, code: &str, message: &str) {
        let failed = FromProvider::Failed { id, code: code.to_owned(), message: message.to_owned() };
        // A full queue ends the session at the next heartbeat, and with it every request.
        let _ = self.outbox.try_send(text(&failed));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // The engine sees this before its next token; aborted tasks would drop their streams only later.
        for cancel in self.running.values() {
            cancel.cancel();
        }
    }
}

/// A text message of the session.
pub(crate) fn text(message: &FromProvider) -> Message {
    Message::text(serde_json::to_string(message).expect("text and numbers are JSON"))
}

fn parse(text: &str) -> Result<ToProvider, Ended> {
    serde_json::from_str(text)
        .map_err(|error| Ended::Lost(format!("the coordinator sent an unknown message: {error}")))
}

fn unexpected(message: &Message) -> String {
    match message {
        Message::Close(_) => "the coordinator closed the connection".to_owned(),
        _ => "the coordinator sent a request before it admitted this provider".to_owned(),
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Two appends to the registry, each with a wait for witnesses, fit in.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Three missed answers to our pings.
const SILENCE: Duration = Duration::from_secs(35);
const STOP_GRACE: Duration = Duration::from_secs(5);
const RENEW_GRACE: Duration = Duration::from_secs(60 * 60);
/// Before a forced renewal, for the answers under way.
const LAST_ANSWERS: Duration = Duration::from_secs(60);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
const OUTBOX: usize = 256;
/// Challenges that may wait.
const ASKED: usize = 2;
/// Larger than a sealed request or the records of many models.
const MAX_MESSAGE: usize = 8 << 20;
