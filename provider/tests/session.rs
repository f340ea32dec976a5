//! The daemon against a coordinator that the test plays, seen from the client that sealed the request.
//!
//! Each test boots a registry and a coordinator in memory and a real `serve`, then drives one session: admission and what
//! prevents it, a streamed and a whole answer opened and verified with the client's own code, requests that are refused
//! inside and outside the seal, cancellation, overload, engine failures, and what is written to files and logs.

#![expect(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod fake_engine;
mod network;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
};

use fake_engine::{Asked, FakeEcho, FakeEngine};
use glassbloom_provider::{
    config::{Config, ConfigFile, KeysFile},
    engine::{self, Engine, EngineError, Event},
    keys,
    measure::Build,
    serve,
    status::{State, Status},
};
use glassbloom_service::{Clock, Shutdown, random};
use glassbloom_spec::{
    api::{FromProvider, ToProvider},
    envelope::{self, ClientExchange, ClientRequest, Ended, Opened},
    leaf::{Attestation, Beacon, ModelFile, Payload, Release, Transcript},
    openai::{ChatRequest, SseParser},
    receipt::{Finish, SealedBy, VerifiedReceipt},
    record::ProviderRecord,
    seal::{
        Padding,
        bhttp::{self, Request},
        seal_request,
    },
    statement::Statement,
    verify::{Continuity, Known, Report, RevocationState, VerifiedProvider},
};
use network::{ALIAS, Network, Published, Sent, Session, TOKEN};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Duration, timeout},
};

struct Provider {
    folder: tempfile::TempDir,
    network: Arc<Network>,
    published: Published,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Provider {
    async fn start(engine: impl Engine + 'static, capacity: u32) -> Self {
        Self::start_with(engine, capacity, TOKEN).await
    }

    async fn start_with(engine: impl Engine + 'static, capacity: u32, token: &str) -> Self {
        logs();
        let network = Network::start().await;
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("token", &format!("{token}\n"));
        write("policy", &network.policy_text());
        std::fs::create_dir(folder.path().join("model")).unwrap();
        write("model/config.json", "{}");
        let files = glassbloom_provider::engine::manifest(&folder.path().join("model"))
            .unwrap()
            .into_iter()
            .map(|file| ModelFile { name: file.name, size: file.size, sha256: file.sha256 })
            .collect();
        // A leaf that no record needs, which a forked log can change.
        network.append(&filler(&network));
        let published = network.publish(Build::of_this_process().unwrap().hash(), files);
        let file = ConfigFile {
            coordinator: network.url(),
            token_file: "token".into(),
            log: network.url(),
            policy: "policy".into(),
            capacity,
            health: None,
            keys: KeysFile::default(),
            models: BTreeMap::from([(ALIAS.to_owned(), "model".into())]),
        };
        let config = Config::check(file, folder.path()).unwrap();
        let shutdown = Shutdown::new();
        let task =
            tokio::spawn(serve(config, Arc::new(engine), Arc::new(network.clock.clone()), shutdown.clone()));
        Self { folder, network, published, shutdown, task }
    }

    /// Accepts the connection and admits the provider as an honest coordinator does.
    async fn admitted(&self) -> (Session, ProviderRecord, VerifiedProvider) {
        let mut session = self.network.accept().await;
        let (attestation, ..) = session.hello().await;
        let record = self.network.record(&self.published, &attestation);
        session.tell(&ToProvider::Welcome { records: vec![record.clone()] }).await;
        let verified = self.verify(&record);
        (session, record, verified)
    }

    fn verify(&self, record: &ProviderRecord) -> VerifiedProvider {
        let known = Known {
            now: self.network.clock.now(),
            continuity: Continuity::FirstSeen,
            revocation: RevocationState::NotChecked,
        };
        self.network.policy().verify(record, ALIAS, &known, &mut Report::new()).unwrap()
    }

    fn status(&self) -> Status {
        Status::read(self.folder.path()).unwrap()
    }

    /// Polls the status file, which is what an operator sees.
    async fn until(&self, state: State) -> Status {
        timeout(Duration::from_secs(30), async {
            let mut poll = tokio::time::interval(Duration::from_millis(5));
            loop {
                poll.tick().await;
                match Status::read(self.folder.path()) {
                    Ok(status) if status.state == state => break status,
                    _ => {}
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("not {state:?}: {:?}", self.status()))
    }

    async fn stop(self) {
        self.shutdown.trigger();
        timeout(Duration::from_secs(30), self.task).await.expect("stops in time").unwrap().unwrap();
        assert_eq!(Status::read(self.folder.path()).unwrap().state, State::Stopped);
    }
}

/// Everything that this test program has logged, at every level.
fn logs() -> String {
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    static KEPT: OnceLock<Kept> = OnceLock::new();
    let kept = KEPT.get_or_init(|| {
        let kept = Kept::default();
        let writer = kept.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .init();
        kept
    });
    String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
}

fn filler(network: &Network) -> Statement {
    let release = Release {
        version: "0".into(),
        build: glassbloom_spec::hash::Hash::of(b"another"),
        platform: "p".into(),
        commit: "c".into(),
        not_before: 0.into(),
        code: None,
        approvals: Vec::new(),
    };
    release.sign(&network.release).unwrap()
}

fn chat(text: &str, stream: bool) -> String {
    format!(r#"{{"model":"{ALIAS}","messages":[{{"role":"user","content":"{text}"}}],"stream":{stream}}}"#)
}

fn seal(provider: &VerifiedProvider, body: &str) -> (Vec<u8>, ClientExchange) {
    let sampling = ChatRequest::parse(body.as_bytes()).ok().map(|request| request.sampling.encode());
    let request =
        ClientRequest { body: body.as_bytes().to_vec(), sampling, sealed_by: SealedBy::User, attempt: 2 };
    envelope::seal(provider, &request, &random()).unwrap()
}

/// The clear answer that came out of the seal.
struct Answer {
    status: u16,
    content_type: String,
    chunks: Vec<Vec<u8>>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8(self.chunks.concat()).unwrap()
    }
}

/// Reads one request's messages up to the one that ends it, opening the sealed ones.
async fn open(session: &mut Session, id: u64, exchange: &mut ClientExchange) -> (Answer, FromProvider) {
    let mut answer = Answer { status: 0, content_type: String::new(), chunks: Vec::new() };
    loop {
        match session.next().await.expect("the answer is not over") {
            Sent::Data(found, sealed) => {
                assert_eq!(found, id);
                for opened in exchange.push(&sealed).unwrap() {
                    match opened {
                        Opened::Chunk(chunk) => answer.chunks.push(chunk),
                        Opened::Head { status, content_type } => {
                            (answer.status, answer.content_type) = (status, content_type)
                        }
                    }
                }
            }
            Sent::Text(end) => return (answer, end),
        }
    }
}

fn finish(
    exchange: ClientExchange,
    provider: &VerifiedProvider,
    answer: &mut Answer,
) -> Option<VerifiedReceipt> {
    let (rest, ended) = exchange.finish(provider).unwrap();
    answer.chunks.extend(rest.into_iter().filter_map(|opened| match opened {
        Opened::Chunk(chunk) => Some(chunk),
        Opened::Head { .. } => None,
    }));
    match ended {
        Ended::Answered(receipt) => Some(*receipt),
        Ended::Refused => None,
    }
}

fn failure(end: &FromProvider) -> (u64, &str) {
    match end {
        FromProvider::Failed { id, code, .. } => (*id, code),
        other => panic!("not a failure: {other:?}"),
    }
}

#[tokio::test]
async fn a_stream_is_answered_and_its_receipt_holds() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let mut session = provider.network.accept().await;
    let (attestation, capacity, models) = session.hello().await;
    assert_eq!((capacity, models), (4, vec![ALIAS.to_owned()]));
    let record = provider.network.record(&provider.published, &attestation);
    session.tell(&ToProvider::Welcome { records: vec![record.clone()] }).await;
    let verified = provider.verify(&record);
    assert_eq!(verified.attestation().endpoint, provider.network.url());

    let (sealed, mut exchange) = seal(&verified, &chat("to be or not", true));
    session.request(7, &sealed).await;
    let (mut answer, end) = open(&mut session, 7, &mut exchange).await;
    let receipt = finish(exchange, &verified, &mut answer).unwrap();
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/event-stream; charset=utf-8"));
    // Role, four words, the finish and [DONE]: one event in each chunk.
    assert_eq!(answer.chunks.len(), 7);
    let mut events = SseParser::default();
    let events = events.push(&answer.chunks.concat()).unwrap();
    assert_eq!((events.len(), events.last().unwrap().is_done()), (7, true));

    let FromProvider::Completed { id: 7, receipt: sent, usage } = end else { panic!("{end:?}") };
    assert_eq!(sent, receipt.statement().bytes());
    assert_eq!((usage.prompt, usage.completion), (4, 4));
    assert_eq!(usage.blindings.len(), 2);
    let said = receipt.receipt();
    assert_eq!(
        (said.finish, said.attempt, said.sealed_by, said.chunks),
        (Finish::Stop, 2, SealedBy::User, 7)
    );
    assert_eq!(said.times, [provider.network.clock.now().minutes(); 2]);
    assert_eq!(said.registry, verified.registry());
    assert_eq!(said.attestation, verified.attestation_hash());

    let status = provider.status();
    assert_eq!(status.state, State::Connected);
    assert_eq!(status.attestation.as_ref().unwrap().leaf, verified.attestation_hash());
    assert_eq!(status.attestation.unwrap().index, record.attestation.index);
    let remembered = std::fs::read_to_string(provider.folder.path().join("attestation.leaf")).unwrap();
    let leaf = verified.attestation_hash().to_string();
    assert_eq!(remembered.split_ascii_whitespace().next(), Some(leaf.as_str()));
    provider.stop().await;
}

#[tokio::test]
async fn without_stream_the_answer_is_one_body_with_a_receipt() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let (mut session, _, verified) = provider.admitted().await;
    let (sealed, mut exchange) = seal(&verified, &chat("to be", false));
    session.request(0, &sealed).await;
    let (mut answer, end) = open(&mut session, 0, &mut exchange).await;
    assert!(matches!(end, FromProvider::Completed { id: 0, .. }));
    assert!(finish(exchange, &verified, &mut answer).is_some());
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"));
    let body: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "to be");
    provider.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_inside_the_seal() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let (mut session, _, verified) = provider.admitted().await;
    let other_model = chat("x", true).replace(ALIAS, "other");
    let no_text = format!(
        r#"{{"model":"{ALIAS}","messages":[{{"role":"user","content":[{{"type":"text","text":"x"}}]}}]}}"#
    );
    for (id, body, status, words) in [
        (0, "{".to_owned(), 400, "invalid_json"),
        (1, chat("x", true).replace("stream", "stroom"), 400, "stroom"),
        (2, other_model, 404, "model_not_found"),
        // The fake model wants a plain text, as a chat template may.
        (3, no_text, 400, "chat template"),
    ] {
        let (sealed, mut exchange) = seal(&verified, &body);
        session.request(id, &sealed).await;
        let (mut answer, end) = open(&mut session, id, &mut exchange).await;
        assert_eq!(failure(&end), (id, "refused"), "{body}");
        let FromProvider::Failed { message, .. } = &end else { unreachable!("looked at above") };
        assert!(!message.contains(words), "the coordinator learns nothing: {message}");
        assert!(finish(exchange, &verified, &mut answer).is_none());
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    provider.stop().await;
}

#[tokio::test]
async fn a_request_that_comes_twice_is_answered_once() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let (mut session, _, verified) = provider.admitted().await;
    let (sealed, mut exchange) = seal(&verified, &chat("x", true));
    session.request(1, &sealed).await;
    let (answer, _) = open(&mut session, 1, &mut exchange).await;
    assert_eq!(answer.status, 200);
    session.request(2, &sealed).await;
    let Some(Sent::Text(end)) = session.next().await else { panic!("nothing may be answered") };
    assert_eq!(failure(&end), (2, "replayed"));
    provider.stop().await;
}

#[tokio::test]
async fn what_was_sealed_to_another_attestation_or_altered_is_refused() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let (mut session, record, verified) = provider.admitted().await;
    // The same keys in another attestation: what an old bundle or a confused relay would bring.
    let key = keys::load(&provider.folder.path().join(keys::SIGNING_KEY)).unwrap();
    let attestation = Attestation::of(&Statement::parse(&record.attestation.leaf).unwrap()).unwrap();
    let other = Attestation { not_after: (attestation.not_after.get() - 1).into(), ..attestation };
    let other = provider.network.record(&provider.published, other.sign(&key).unwrap().bytes());
    let (sealed, _) = seal(&provider.verify(&other), &chat("x", true));
    session.request(1, &sealed).await;
    let Some(Sent::Text(end)) = session.next().await else { panic!("nothing may be answered") };
    assert_eq!(failure(&end), (1, "other-attestation"));

    let (mut sealed, _) = seal(&verified, &chat("x", true));
    *sealed.last_mut().unwrap() ^= 1;
    session.request(2, &sealed).await;
    let Some(Sent::Text(end)) = session.next().await else { panic!("nothing may be answered") };
    assert_eq!(failure(&end), (2, "not-opened"));
    session.request(3, b"").await;
    let Some(Sent::Text(end)) = session.next().await else { panic!("nothing may be answered") };
    assert_eq!(failure(&end), (3, "not-opened"));
    provider.stop().await;
}

#[tokio::test]
async fn a_client_of_a_forked_registry_is_told_so() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let (mut session, record, _) = provider.admitted().await;
    provider.until(State::Connected).await;
    let size = provider.network.head().size;
    provider.network.rewrite(0);
    let forked = provider.network.proofs_again(&record);
    assert_eq!(provider.network.head().size, size);
    let verified = provider.verify(&forked);
    let (sealed, mut exchange) = seal(&verified, &chat("x", true));
    session.request(1, &sealed).await;
    let (mut answer, end) = open(&mut session, 1, &mut exchange).await;
    assert_eq!(failure(&end), (1, "refused"));
    assert!(finish(exchange, &verified, &mut answer).is_none());
    assert!(answer.status == 409 && answer.text().contains("registry_fork"), "{}", answer.text());
    provider.stop().await;
}

#[tokio::test]
async fn a_refusal_is_written_down_and_the_next_attempt_attests_anew() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let mut session = provider.network.accept().await;
    let (first, ..) = session.hello().await;
    let refused =
        ToProvider::Refused { code: "build-not-released".into(), message: "publish a release".into() };
    session.tell(&refused).await;
    let status = provider.until(State::Refused).await;
    assert_eq!(status.detail, "publish a release (build-not-released)");
    assert_eq!(status.last_refusal, Some(status.detail));
    provider.network.append(&filler(&provider.network));
    let mut session = provider.network.accept().await;
    let (second, ..) = session.hello().await;
    assert_ne!(first, second, "judged anew");
    provider.stop().await;
}

#[tokio::test]
async fn a_lost_session_comes_back_with_the_same_attestation() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let (session, record, _) = provider.admitted().await;
    provider.until(State::Connected).await;
    drop(session);
    provider.until(State::Disconnected).await;
    let mut session = provider.network.accept().await;
    let (attestation, ..) = session.hello().await;
    assert_eq!(attestation, record.attestation.leaf);
    // Past half its life, the next one names it.
    provider.network.clock.advance_millis(7 * 60 * 60 * 1000);
    drop(session);
    let mut session = provider.network.accept().await;
    let (renewed, ..) = session.hello().await;
    let renewed = Attestation::of(&Statement::parse(&renewed).unwrap()).unwrap();
    assert_eq!(renewed.previous, Some(glassbloom_spec::hash::Hash::leaf(&attestation)));
    provider.stop().await;
}

#[tokio::test]
async fn an_attestation_is_renewed_when_no_request_is_under_way() {
    let (provider, mut session, verified, mut asked) = played(4).await;
    let (sealed, mut exchange) = seal(&verified, &chat("x", true));
    session.request(1, &sealed).await;
    let one = asked.recv().await.unwrap();
    one.events.send(Event::Started { prompt_tokens: 1 }).await.unwrap();
    provider.network.clock.advance_millis(7 * 60 * 60 * 1000);
    // Any message makes it look at the clock; the answer under way ends, and another one is still taken.
    session.tell(&ToProvider::Cancel { id: 99 }).await;
    let (sealed, mut another) = seal(&verified, &chat("y", true));
    session.request(2, &sealed).await;
    let two = asked.recv().await.unwrap();
    let done = Event::Done { finish: engine::Finish::Stop, prompt_tokens: 1, completion_tokens: 0 };
    one.events.send(done.clone()).await.unwrap();
    assert!(matches!(open(&mut session, 1, &mut exchange).await.1, FromProvider::Completed { .. }));
    two.events.send(done).await.unwrap();
    assert!(matches!(open(&mut session, 2, &mut another).await.1, FromProvider::Completed { .. }));
    assert!(session.next().await.is_none(), "it leaves by itself");
    let (attestation, ..) = provider.network.accept().await.hello().await;
    let attestation = Attestation::of(&Statement::parse(&attestation).unwrap()).unwrap();
    assert_eq!(attestation.previous, Some(verified.attestation_hash()));
    provider.stop().await;
}

#[tokio::test]
async fn a_registry_from_before_the_attestation_cannot_be_relied_on() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let (mut session, record, verified) = provider.admitted().await;
    let root = verified.registry().1;
    let mut inner = Request::post_json(envelope::INNER_PATH, chat("x", true).into_bytes());
    for (name, value) in [
        ("glassbloom-attestation", verified.attestation_hash().to_string()),
        ("glassbloom-registry", format!("{} {root}", record.attestation.index)),
        ("glassbloom-attempt", "1".to_owned()),
        ("glassbloom-sealed-by", "user".to_owned()),
    ] {
        inner.headers = inner.headers.with(name, &value).unwrap();
    }
    let config = &verified.attestation().key_config;
    let (sealed, mut reader) = seal_request(config, &inner, Padding::default(), &random()).unwrap();
    session.request(1, &sealed).await;
    let Some(Sent::Data(1, head)) = session.next().await else { panic!("no head") };
    let head = reader.push(&head).unwrap();
    assert!(matches!(head[..], [bhttp::Event::Head { status: 400, .. }]), "{head:?}");
    provider.stop().await;
}

#[tokio::test]
async fn a_welcome_that_does_not_hold_is_no_welcome() {
    type Lie = fn(&Provider, &[u8]) -> Vec<ProviderRecord>;
    let other_attestation: Lie = |provider, attestation| {
        let mut record = provider.network.record(&provider.published, attestation);
        record.attestation = record.verdict.clone();
        vec![record]
    };
    let nothing: Lie = |_, _| Vec::new();
    let uncosigned: Lie = |provider, attestation| {
        let mut record = provider.network.record(&provider.published, attestation);
        let cut =
            record.checkpoint[..record.checkpoint.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
        record.checkpoint.truncate(cut + 1);
        vec![record]
    };
    let forked: Lie = |provider, attestation| {
        provider.network.rewrite(0);
        vec![provider.network.record(&provider.published, attestation)]
    };
    let not_included: Lie = |provider, attestation| {
        let mut record = provider.network.record(&provider.published, attestation);
        record.attestation.proof.pop();
        vec![record]
    };
    for (lie, words) in [
        (other_attestation, "another attestation"),
        (nothing, "none of the models"),
        (uncosigned, "witness"),
        (forked, "does not extend"),
        (not_included, "inclusion"),
    ] {
        let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
        let mut session = provider.network.accept().await;
        let (attestation, ..) = session.hello().await;
        session.tell(&ToProvider::Welcome { records: lie(&provider, &attestation) }).await;
        let status = provider.until(State::Refused).await;
        assert!(status.detail.contains(words), "{words}: {}", status.detail);
        provider.stop().await;
    }
}

#[tokio::test]
async fn other_model_files_than_the_logged_ones_are_not_served() {
    let mut provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let other =
        ModelFile { name: "config.json".into(), size: 1, sha256: glassbloom_spec::hash::Hash::of(b"x") };
    provider.published = provider.network.publish(Build::of_this_process().unwrap().hash(), vec![other]);
    let mut session = provider.network.accept().await;
    let (attestation, ..) = session.hello().await;
    let record = provider.network.record(&provider.published, &attestation);
    session.tell(&ToProvider::Welcome { records: vec![record] }).await;
    let status = provider.until(State::Refused).await;
    assert!(status.detail.contains("other files"), "{}", status.detail);
    provider.stop().await;
}

#[tokio::test]
async fn a_wrong_token_is_refused_without_being_shown() {
    let wrong = "gbp_wrong_secret";
    let provider = Provider::start_with(FakeEcho::new(ALIAS), 4, wrong).await;
    let status = provider.until(State::Refused).await;
    assert!(status.detail.contains("token"), "{}", status.detail);
    assert_no_file_has(provider.folder.path(), wrong);
    let logs = logs();
    assert!(logs.contains("does not accept this provider's token") && !logs.contains(wrong));
    provider.stop().await;
}

#[tokio::test]
async fn neither_prompts_nor_answers_nor_the_token_are_written_down() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let (mut session, _, verified) = provider.admitted().await;
    let secret = "a-secret-that-no-log-may-have";
    for (id, body) in [(1, chat(secret, true)), (2, chat(secret, true).replace("user", secret))] {
        let (sealed, mut exchange) = seal(&verified, &body);
        session.request(id, &sealed).await;
        let (answer, _) = open(&mut session, id, &mut exchange).await;
        assert!(!answer.chunks.is_empty());
    }
    assert_no_file_has(provider.folder.path(), secret);
    assert_no_file_has(provider.folder.path(), TOKEN);
    let logs = logs();
    assert!(logs.contains("requests come in") && !logs.contains(secret) && !logs.contains(TOKEN));
    provider.stop().await;
}

fn assert_no_file_has(folder: &Path, secret: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() && entry.file_name() != "token" {
            let content = std::fs::read(entry.path()).unwrap();
            assert!(!String::from_utf8_lossy(&content).contains(secret), "{:?}", entry.file_name());
        }
    }
}

/// A session with an engine that the test plays too.
async fn played(capacity: u32) -> (Provider, Session, VerifiedProvider, mpsc::UnboundedReceiver<Asked>) {
    let (engine, asked) = FakeEngine::new(ALIAS);
    let provider = Provider::start(engine, capacity).await;
    let (session, _, verified) = provider.admitted().await;
    (provider, session, verified, asked)
}

#[tokio::test]
async fn a_cancelled_request_stops_the_engine_and_sends_nothing_more() {
    let (provider, mut session, verified, mut asked) = played(2).await;
    let (sealed, mut exchange) = seal(&verified, &chat("x", true));
    session.request(1, &sealed).await;
    let one = asked.recv().await.unwrap();
    one.events.send(Event::Started { prompt_tokens: 1 }).await.unwrap();
    // Head and role.
    for _ in 0..2 {
        let Some(Sent::Data(1, sealed)) = session.next().await else { panic!("no data") };
        exchange.push(&sealed).unwrap();
    }
    session.tell(&ToProvider::Cancel { id: 1 }).await;
    timeout(Duration::from_secs(30), one.job.cancel.cancelled()).await.unwrap();
    // Nobody listens any more, also to an engine that has not noticed.
    timeout(Duration::from_secs(30), one.events.closed()).await.unwrap();
    // What comes next on the wire belongs to the next request.
    let (sealed, mut exchange) = seal(&verified, &chat("y", true));
    session.request(2, &sealed).await;
    let two = asked.recv().await.unwrap();
    two.events.send(Event::Started { prompt_tokens: 1 }).await.unwrap();
    let done = Event::Done { finish: engine::Finish::Stop, prompt_tokens: 1, completion_tokens: 0 };
    two.events.send(done).await.unwrap();
    let (mut answer, end) = open(&mut session, 2, &mut exchange).await;
    assert!(matches!(end, FromProvider::Completed { id: 2, .. }));
    assert!(finish(exchange, &verified, &mut answer).is_some());
    provider.stop().await;
}

#[tokio::test]
async fn beyond_its_capacity_it_says_so_at_once() {
    let (provider, mut session, verified, mut asked) = played(1).await;
    let (sealed, _) = seal(&verified, &chat("x", true));
    session.request(1, &sealed).await;
    let one = asked.recv().await.unwrap();
    let (sealed, _) = seal(&verified, &chat("y", true));
    session.request(2, &sealed).await;
    let Some(Sent::Text(end)) = session.next().await else { panic!("nothing may be answered") };
    assert_eq!(failure(&end), (2, "overloaded"));
    // A lost session frees the engine.
    drop(session);
    timeout(Duration::from_secs(30), one.job.cancel.cancelled()).await.unwrap();
    provider.stop().await;
}

#[tokio::test]
async fn an_engine_that_fails_ends_the_answer_without_a_receipt() {
    let (provider, mut session, verified, mut asked) = played(4).await;
    let secret = "the prompt said hello";
    for (id, started, error, code) in [
        (1, true, Some(EngineError::Internal(secret.into())), "engine-failed"),
        (2, false, Some(EngineError::Internal(secret.into())), "engine-failed"),
        (3, false, Some(EngineError::Busy), "overloaded"),
        (4, true, Some(EngineError::Request(secret.into())), "engine-failed"),
        (5, true, None, "engine-failed"),
    ] {
        let (sealed, mut exchange) = seal(&verified, &chat("x", true));
        session.request(id, &sealed).await;
        let one = asked.recv().await.unwrap();
        if started {
            one.events.send(Event::Started { prompt_tokens: 1 }).await.unwrap();
        }
        if let Some(error) = error {
            one.events.send(Event::Failed(error)).await.unwrap();
        }
        drop(one);
        let (_, end) = open(&mut session, id, &mut exchange).await;
        assert_eq!(failure(&end), (id, code));
        assert!(!format!("{end:?}").contains(secret));
        assert!(exchange.finish(&verified).is_err(), "a cut stream is an error");
    }
    provider.stop().await;
}

#[tokio::test]
async fn an_answer_under_way_ends_before_the_daemon_does() {
    let (provider, mut session, verified, mut asked) = played(4).await;
    let (sealed, mut exchange) = seal(&verified, &chat("x", true));
    session.request(1, &sealed).await;
    let one = asked.recv().await.unwrap();
    one.events.send(Event::Started { prompt_tokens: 1 }).await.unwrap();
    provider.shutdown.trigger();
    let done = Event::Done { finish: engine::Finish::Stop, prompt_tokens: 1, completion_tokens: 0 };
    one.events.send(done).await.unwrap();
    let (mut answer, end) = open(&mut session, 1, &mut exchange).await;
    assert!(matches!(end, FromProvider::Completed { id: 1, .. }));
    assert!(finish(exchange, &verified, &mut answer).is_some());
    provider.stop().await;
}

/// What comes back for a challenge; `None` when the status says in words why nothing does.
async fn challenged(
    provider: &Provider,
    session: &mut Session,
    epoch: u64,
    beacon: Vec<u8>,
) -> Option<Vec<u8>> {
    let failure = || provider.status().last_challenge_failure;
    let before = failure();
    session.tell(&ToProvider::Challenge { epoch: epoch.into(), beacon }).await;
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            sent = session.next() => match sent {
                Some(Sent::Text(FromProvider::ChallengeAnswer { epoch: answered, signature })) => {
                    assert_eq!(answered.get(), epoch);
                    return Some(signature);
                }
                other => panic!("no answer: {other:?}"),
            },
            _ = poll.tick() => if failure() != before { return None },
        }
    }
}

#[tokio::test]
async fn a_challenge_is_answered_for_this_attestation_this_log_and_now() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let network = Arc::clone(&provider.network);
    let mut session = network.accept().await;
    let (attestation, ..) = session.hello().await;
    let now = network.clock.now().seconds().get();
    let key = Attestation::of(&Statement::parse(&attestation).unwrap()).unwrap().signing_key;
    let leaf = glassbloom_spec::hash::Hash::leaf(&attestation);
    let holds = |signature: Vec<u8>, beacon: &[u8], epoch: u64| {
        let answer = Transcript { attestation: leaf, signature: signature.try_into().unwrap() };
        let beacon = Beacon { checkpoint: beacon.to_vec() };
        answer.verify(&key, beacon.digest(), epoch.into())
    };
    // Before it is welcome, and after.
    let note = network.note();
    assert!(holds(challenged(&provider, &mut session, now, note.clone()).await.unwrap(), &note, now));
    let record = network.record(&provider.published, &attestation);
    session.tell(&ToProvider::Welcome { records: vec![record] }).await;
    provider.until(State::Connected).await;
    let newer = network.note();
    assert!(holds(
        challenged(&provider, &mut session, now - 300, newer.clone()).await.unwrap(),
        &newer,
        now - 300
    ));

    let why = async |session: &mut Session, epoch, beacon| {
        assert_eq!(challenged(&provider, session, epoch, beacon).await, None);
        provider.status().last_challenge_failure.unwrap()
    };
    assert!(
        why(&mut session, now, note).await.contains("has seen one of size"),
        "older than what it was shown"
    );
    assert!(
        why(&mut session, now + 61, newer.clone()).await.contains("clock"),
        "an answer to keep for later"
    );
    assert!(why(&mut session, now - 3_601, newer.clone()).await.contains("clock"), "an answer for the past");
    let mut unsigned = newer.clone();
    unsigned.truncate(newer.len() / 2);
    assert!(why(&mut session, now, unsigned).await.contains("does not accept"));
    network.rewrite(0);
    network.append(&filler(&network));
    assert!(why(&mut session, now, network.note()).await.contains("does not accept"), "another history");
    provider.stop().await;
}

#[tokio::test]
async fn a_suspended_provider_says_so() {
    let provider = Provider::start(FakeEcho::new(ALIAS), 4).await;
    let (mut session, ..) = provider.admitted().await;
    provider.until(State::Connected).await;
    let notice =
        |code: &str| ToProvider::Notice { code: code.into(), message: "three challenges missed".into() };
    session.tell(&notice("suspended")).await;
    assert_eq!(provider.until(State::Suspended).await.detail, "three challenges missed");
    session.tell(&notice("resumed")).await;
    provider.until(State::Connected).await;
    provider.stop().await;
}
