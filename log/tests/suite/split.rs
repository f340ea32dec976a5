//! A log closes at a date and another one goes on: by the log's clock, over HTTP, and through kills between the steps.

use std::{fs, path::Path, sync::Arc, time::Duration};

use glassbloom_log::{
    Error, Log,
    config::{Config, ConfigFile, Layout},
    fsck::{Source, check},
    init::init,
    serve,
    split::{Split, split},
};
use glassbloom_service::{Append, Clock, LogClient, MockClock, Shutdown, http_client};
use glassbloom_spec::{id::UnixMillis, policy::Policy, proof::TlogProof, succession::Succession};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::support::{LIMIT, arguments};

const BEFORE: u64 = 1_798_761_000_000;
const AT: &str = "2027-01-01T00:00:00Z";
const AFTER: u64 = 1_798_761_600_000;
const OLD: &str = "test.example/receipts";
const NEW: &str = "test.example/receipts/2027";

async fn make(data: &Path) {
    init(&arguments(data)).await.unwrap();
}

fn plan() -> Split {
    Split { log: "receipts".into(), at: AT.parse().unwrap(), next: "receipts/2027".into() }
}

struct Server {
    url: String,
    token: String,
    policy: Policy,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    async fn start(data: &Path, clock: &MockClock) -> Self {
        let config = Config::load(data, None).unwrap();
        let policy = (*config.policy).clone();
        let token = fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let task = tokio::spawn(serve(config, listener, clock, shutdown.clone()));
        Self { url, token, policy, shutdown, task }
    }

    async fn append(&self, log: &str, entry: &str) -> Result<TlogProof, glassbloom_service::FetchError> {
        let client = LogClient::new(&format!("{}/{log}", self.url));
        match client.append(entry.as_bytes(), &self.token).await? {
            Append::Proven(appended) => {
                let proof = TlogProof::parse(appended.proof.as_bytes()).unwrap();
                proof.open(&self.policy, entry.as_bytes()).unwrap();
                Ok(proof)
            }
            Append::Promised(_) => panic!("a log without witnesses is never late"),
        }
    }

    async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let response = http_client().get(format!("{}/{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    }

    /// Waits until the successor has begun.
    async fn begun(&self) {
        let wait = async {
            while self.get("receipts/2027/tile/entries/000.p/1").await.0 != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.unwrap();
    }

    async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(LIMIT, self.task).await.unwrap().unwrap().unwrap();
    }
}

async fn check_log(data: &Path, policy: &Policy, origin: &str) -> u64 {
    let path = origin.split_once('/').unwrap().1;
    let source = Source::Folder(data.join("public").join(path));
    let report = check(&source, policy, origin, |_, _| ()).await.unwrap();
    assert_eq!(report.findings, []);
    report.checkpoint.size().get()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_closes_at_its_date_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    make(data).await;
    let clock = MockClock::new(UnixMillis::new(BEFORE));
    let server = Server::start(data, &clock).await;
    for n in 0..3 {
        server.append("receipts", &format!("before the split {n}")).await.unwrap();
    }
    server.stop().await;
    let keys = split(&Layout::new(data), &plan()).await.unwrap();
    assert_eq!(keys.len(), 2);

    let server = Server::start(data, &clock).await;
    assert_eq!(server.append("receipts", "last").await.unwrap().index.get(), 3);
    let early = server.append("receipts/2027", "too early").await.unwrap_err();
    assert!(early.to_string().contains("log-not-begun"), "{early}");

    clock.set(UnixMillis::new(AFTER));
    let refused = http_client()
        .post(format!("{}/receipts/add", server.url))
        .bearer_auth(&server.token)
        .body("late")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status().as_u16(), 410);
    let problem: serde_json::Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!((&problem["code"], &problem["successor"]), (&"log-closed".into(), &NEW.into()));
    server.begun().await;
    let (_, end) = server.get("receipts/checkpoint").await;

    // The writer that knows only the old log arrives at the new one.
    let followed = server.append("receipts", "late").await.unwrap();
    assert_eq!(followed.index.get(), 1);
    assert_eq!(server.policy.open(None, &followed.checkpoint).unwrap().origin(), NEW);
    let first =
        LogClient::new(&format!("{}/receipts/2027", server.url)).entries(0..1, 2.into()).await.unwrap();
    let succession = Succession::parse(&first[0]).unwrap();
    assert_eq!(succession.note_bytes(), end, "the final checkpoint, verbatim");
    let proof = server.append("receipts", "one more").await.unwrap();
    let logged = proof.open(&server.policy, b"one more").unwrap();
    assert!(server.policy.open_succession(&logged).is_err(), "only the first entry");

    // It stays served, healthy and as it was signed, also long after, also when the clock goes back.
    for now in [AFTER + 400 * 24 * 3_600_000, BEFORE] {
        clock.set(UnixMillis::new(now));
        assert!(server.append("receipts", &format!("at {now}")).await.unwrap().index.get() > 1);
        tokio::time::timeout(LIMIT, async {
            while server.get("healthz").await.0 != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        assert_eq!(server.get("receipts/checkpoint").await.1, end);
    }
    let policy = server.policy.clone();
    server.stop().await;
    // Nor after a restart with a clock that is behind, nor without its date.
    let mut file = ConfigFile::read(&data.join("log.toml")).unwrap();
    for log in &mut file.logs {
        (log.closes, log.successor) = (None, None);
    }
    fs::write(data.join("log.toml"), toml::to_string(&file).unwrap()).unwrap();
    let server = Server::start(data, &clock).await;
    let refused = server.append("receipts", "again").await.unwrap_err();
    assert!(refused.to_string().contains("log-closed"), "{refused}");
    assert_eq!(server.get("receipts/checkpoint").await.1, end);
    server.stop().await;
    assert_eq!(check_log(data, &policy, OLD).await, 4);
    assert!(check_log(data, &policy, NEW).await > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_that_was_cut_off_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    make(data).await;
    let (layout, clock) = (Layout::new(data), MockClock::new(UnixMillis::new(BEFORE)));
    let before = [layout.policy(), layout.config()].map(|file| (fs::read(&file).unwrap(), file));
    let keys = split(&layout, &plan()).await.unwrap();
    let after = [layout.policy(), layout.config()].map(|file| fs::read(file).unwrap());
    let database = layout.database("receipts/2027");
    // Cut off before log.toml, before the head, before the policy: the keys stay the same ones.
    for cut in 0..3 {
        fs::write(&before[1].1, &before[1].0).unwrap();
        if cut > 0 {
            for file in
                [database.clone(), database.with_extension("db-wal"), database.with_extension("db-shm")]
            {
                let _ = fs::remove_file(file);
            }
        }
        if cut > 1 {
            fs::write(&before[0].1, &before[0].0).unwrap();
        }
        let server = Server::start(data, &clock).await;
        server.append("receipts", &format!("cut {cut}")).await.unwrap();
        server.stop().await;
        assert_eq!(split(&layout, &plan()).await.unwrap(), keys, "cut {cut}");
        assert_eq!(
            [layout.policy(), layout.config()].map(|file| fs::read(file).unwrap()),
            after,
            "cut {cut}"
        );
    }
    assert_eq!(split(&layout, &plan()).await.unwrap(), keys, "again, when all is done");
    for (log, next) in [("receipts", "receipts/2028"), ("nothing", "x"), ("registry", "receipts/2029")] {
        let plan = Split { log: log.into(), next: next.into(), ..plan() };
        assert!(split(&layout, &plan).await.is_err(), "{log} {next}");
    }

    // Killed between the end of the old log and the beginning of the new one: the next start begins it.
    clock.set(UnixMillis::new(AFTER));
    let server = Server::start(data, &clock).await;
    server.begun().await;
    server.stop().await;
    for name in ["receipts-2027.db", "receipts-2027.index.db"] {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(data.join("state").join(format!("{name}{suffix}")));
        }
    }
    for folder in ["public/receipts/2027", "state/receipts-2027"] {
        fs::remove_dir_all(data.join(folder)).unwrap();
    }
    // As it was before its first entry.
    split(&layout, &plan()).await.unwrap();
    let server = Server::start(data, &clock).await;
    server.begun().await;
    assert_eq!(server.append("receipts", "on").await.unwrap().index.get(), 1);
    let policy = server.policy.clone();
    server.stop().await;
    assert_eq!(check_log(data, &policy, NEW).await, 2);
}

#[tokio::test]
async fn a_successor_that_begins_with_something_else_does_not_start() {
    let bench = crate::support::Bench::memory();
    bench.create().await;
    let log = bench.open().await.unwrap();
    log.add(crate::support::entry(1)).await.unwrap();
    log.stop().await.unwrap();
    let life = glassbloom_log::Life { predecessor: Some(OLD.to_owned()), ..Default::default() };
    let opened: Result<Log, Error> = bench.open_in(life).await;
    assert!(matches!(opened, Err(Error::Corrupt { .. })));
}
