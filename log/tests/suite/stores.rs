//! Whole logs in buckets and databases: crashes, two processes, backups, and the binary itself.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use futures_util::TryStreamExt;
use glassbloom_log::{
    Error, Log,
    fsck::{Source, check},
    store::{
        Bucket, HeadStore, ObjectHeads, ObjectTiles, PostgresHeads, Retries, StoreError, StoredHead,
        TileStore,
    },
};
use glassbloom_service::http_client;
use glassbloom_spec::checkpoint::TreeHead;
use object_store::{ObjectStore, ObjectStoreExt};
use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};

use crate::support::{
    Bench, LIMIT, ORIGIN,
    bucket::{FakeStore, Fault},
    entry, published,
    servers::{BUCKET, Postgres, S3},
    witness::FakeWitness,
};

const PREFIX: &str = "some/prefix";

/// The servers of a log that is not on this disk.
struct Remote {
    s3: S3,
    /// Where the head is; in the bucket when there is none.
    postgres: Option<Postgres>,
}

impl Remote {
    /// Tiles in a bucket, with each kind of head; as many as can be started here.
    async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        if let Some(s3) = S3::start().await {
            all.push(Self { s3, postgres: None });
        }
        if let (Some(s3), Some(postgres)) = (S3::start().await, Postgres::start(&[])) {
            PostgresHeads::create(&postgres.url()).await.unwrap();
            all.push(Self { s3, postgres: Some(postgres) });
        }
        all
    }

    /// The log as a new process sees it: every store opened anew.
    async fn process(&self, prefix: &str) -> Bench {
        let bucket = self.s3.bucket(prefix);
        let tiles: Arc<dyn TileStore> = Arc::new(ObjectTiles::new(&bucket, "registry"));
        Bench::on(tiles, self.heads(&bucket).await)
    }

    async fn heads(&self, bucket: &Bucket) -> Arc<dyn HeadStore> {
        match &self.postgres {
            Some(postgres) => Arc::new(PostgresHeads::open(&postgres.url()).await.unwrap()),
            None => Arc::new(ObjectHeads::open(bucket.clone()).await.unwrap()),
        }
    }

    /// Overwrites the head as a backup does that is played back.
    async fn restore_head(&self, prefix: &str, head: &StoredHead) {
        let Some(postgres) = &self.postgres else {
            let note = std::str::from_utf8(&head.note).unwrap();
            let (applied, writer) = (head.applied, "00".repeat(32));
            let object = format!("glassbloom head v1\napplied {applied}\nwriter {writer}\n\n{note}");
            let put = self.s3.signed_put(&format!("/{prefix}/heads/{ORIGIN}"), &object).await;
            assert!(put.is_success(), "{put}");
            return;
        };
        let options: PgConnectOptions = postgres.address().parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        let done = sqlx::query("UPDATE glassbloom_head SET note = $1, applied = $2 WHERE origin = $3")
            .bind(&head.note)
            .bind(i64::try_from(head.applied.get()).unwrap())
            .bind(ORIGIN)
            .execute(&mut connection)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
        connection.close().await.unwrap();
    }
}

/// Lets everybody read the objects below this prefix, and no others.
async fn allow_everybody(s3: &S3, prefix: &str) {
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",
        "Resource":"arn:aws:s3:::{BUCKET}/{prefix}/*"}}]}}"#
    );
    let put = s3.signed_put("?policy", &policy).await;
    assert!(put.is_success(), "{put}");
}

/// A backup of everything below a prefix.
async fn copy(s3: &S3, from: &str, to: &str) {
    let store = s3.store();
    let objects: Vec<_> = store.list(Some(&from.into())).try_collect().await.unwrap();
    assert!(!objects.is_empty());
    for object in objects {
        let below = object.location.as_ref().strip_prefix(from).unwrap();
        store.copy(&object.location, &format!("{to}{below}").into()).await.unwrap();
    }
}

/// Adds entries at once; returns those that were acknowledged, with their indices.
async fn add(log: &Log, entries: std::ops::Range<u64>) -> BTreeMap<u64, u64> {
    let adds = entries.map(|n| async move { Some((n, log.add(entry(n)).await.ok()?.get())) });
    futures_util::future::join_all(adds).await.into_iter().flatten().collect()
}

#[tokio::test]
async fn crashes_lose_nothing_acknowledged() {
    for remote in Remote::all().await {
        remote.process(PREFIX).await.create().await;
        let mut acknowledged = BTreeMap::new();
        let mut next = 0;
        for count in [1, 2, 300, 1] {
            let bench = remote.process(PREFIX).await;
            let log = bench.open().await.unwrap();
            let added = add(&log, next..next + count).await;
            assert_eq!(added.len() as u64, count);
            acknowledged.extend(added);
            next += count;
            // Whatever the tasks are at, they are at no longer.
            drop(log);
        }
        let bench = remote.process(PREFIX).await;
        let log = bench.open().await.unwrap();
        assert_eq!(bench.check_all(&log).await.get(), next);
        assert_eq!(add(&log, 0..next).await, acknowledged, "each entry keeps its index");
        log.stop().await.unwrap();
        let staged = bench.tiles.staged().await.unwrap();
        assert_eq!(staged.len(), 1, "as many as may have to be replayed");

        // The bucket alone is a log that anybody can check, with or without credentials.
        let public = Source::Bucket(remote.s3.bucket(&format!("{PREFIX}/public/registry")));
        let report = check(&public, &bench.policy, ORIGIN, |_, _| ()).await.unwrap();
        assert_eq!((report.checkpoint.size().get(), report.findings), (next, vec![]));
        allow_everybody(&remote.s3, &format!("{PREFIX}/public")).await;
        let url = format!(
            "s3://{BUCKET}/{PREFIX}/public/registry?endpoint={}&allow_http=true&region=us-east-1&skip_signature=true",
            remote.s3.endpoint
        );
        let anonymous = Bucket::open(&url.parse().unwrap(), Retries::Transient).unwrap();
        let report = check(&Source::Bucket(anonymous), &bench.policy, ORIGIN, |_, _| ()).await.unwrap();
        assert_eq!((report.checkpoint.size().get(), report.findings), (next, vec![]));
        let base = format!("{}/{BUCKET}/{PREFIX}", remote.s3.endpoint);
        let http = Source::Http(http_client(), format!("{base}/public/registry"));
        let report = check(&http, &bench.policy, ORIGIN, |_, _| ()).await.unwrap();
        assert_eq!((report.checkpoint.size().get(), report.findings), (next, vec![]));
        for (path, status, caching) in [
            ("public/registry/checkpoint", 200, "no-store"),
            ("public/registry/tile/0/000", 200, "public, max-age=604800, immutable"),
            (&format!("staging/registry/{}", staged[0]), 403, ""),
        ] {
            let answer = http_client().get(format!("{base}/{path}")).send().await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            let header = answer.headers().get("cache-control").map(|value| value.to_str().unwrap());
            assert_eq!(header.unwrap_or_default(), caching, "{path}");
        }
    }
}

#[tokio::test]
async fn of_two_processes_one_stops() {
    for remote in Remote::all().await {
        let first = remote.process(PREFIX).await;
        first.create().await;
        let one = first.open().await.unwrap();
        assert_eq!(add(&one, 0..5).await.len(), 5);
        first.check_all(&one).await;

        let second = remote.process(PREFIX).await;
        let two = second.open().await.unwrap();
        assert!(matches!(one.add(entry(5)).await, Err(Error::Halted)));
        let why = one.stopped().await.unwrap_err();
        assert!(matches!(why, Error::Store(StoreError::HeadMoved { .. })), "{why}");
        assert_eq!(add(&two, 6..7).await, BTreeMap::from([(6, 5)]));
        second.check_all(&two).await;
    }
}

/// Processes take the log from each other while all of them add: whatever any of them published is a beginning of
/// the one tree, and whatever any of them acknowledged is in it.
#[tokio::test]
async fn processes_that_fight_never_fork() {
    const EACH: u64 = 60;
    for remote in Remote::all().await {
        remote.process(PREFIX).await.create().await;
        let (mut acknowledged, mut seen) = (BTreeMap::new(), Vec::<TreeHead>::new());
        let mut fighting = Vec::new();
        for round in 0..4 {
            // One that finds the log changing under its hands stops, and is started again.
            let mut opened = None;
            for _ in 0..5 {
                opened = remote.process(PREFIX).await.open().await.ok();
                if opened.is_some() {
                    break;
                }
            }
            let log = opened.expect("a process that nobody disturbs opens the log");
            let begun = published_or_stopped(&log).await;
            seen.extend(begun);
            fighting.push(tokio::spawn(async move {
                let (mut mine, mut heads) = (BTreeMap::new(), Vec::new());
                for n in round * EACH..(round + 1) * EACH {
                    let Ok(index) = log.add(entry(n)).await else { break };
                    mine.insert(n, index.get());
                    heads.extend(log.published().map(|published| published.head.clone()));
                }
                (mine, heads, log)
            }));
        }
        for task in fighting {
            let (mine, heads, log) = task.await.unwrap();
            acknowledged.extend(mine);
            seen.extend(heads);
            // The loser may not know yet that it lost.
            drop(log);
        }
        let bench = remote.process(PREFIX).await;
        let log = bench.open().await.unwrap();
        let size = bench.check_all(&log).await;
        assert!(size.get() >= acknowledged.len() as u64);
        assert!(acknowledged.len() as u64 > EACH / 2, "they did get to add: {}", acknowledged.len());
        for (n, index) in acknowledged {
            assert_eq!(log.add(entry(n)).await.unwrap().get(), index, "entry {n}");
        }
        assert!(!seen.is_empty());
        for head in seen {
            assert_eq!(log.reader().root(head.size).await.unwrap(), head.root, "size {}", head.size);
        }
    }
}

/// The first head that this log publishes, unless it stops before.
async fn published_or_stopped(log: &Log) -> Option<TreeHead> {
    tokio::select! {
        () = published(log, 0.into()) => log.published().map(|published| published.head.clone()),
        _ = log.stopped() => None,
    }
}

#[tokio::test]
async fn a_restored_head_is_refused_and_a_restored_log_raises_the_alarm() {
    for remote in Remote::all().await {
        let witness = FakeWitness::start(0).await;
        let process =
            async |prefix| remote.process(prefix).await.with_witnesses(vec![witness.endpoint.clone()], 1);
        let bench = process(PREFIX).await;
        bench.create().await;
        let log = bench.open().await.unwrap();
        log.append(entry(0), LIMIT).await.unwrap();
        log.stop().await.unwrap();
        let head = bench.heads.load(ORIGIN).await.unwrap().unwrap();
        copy(&remote.s3, PREFIX, "backup").await;
        let log = bench.open().await.unwrap();
        log.append(entry(1), LIMIT).await.unwrap();
        log.stop().await.unwrap();

        // The head alone: the bucket knows better.
        remote.restore_head(PREFIX, &head).await;
        let error = process(PREFIX).await.open().await.err().unwrap();
        assert!(matches!(error, Error::HeadWentBack { .. }), "{error}");
        assert!(error.to_string().contains("restored from a backup"), "{error}");

        // Both: the witness knows better, and shows it.
        let restored = process("backup").await;
        let log = restored.open().await.unwrap();
        let published = restored.tiles.published().await.unwrap();
        let alarm = async {
            while !matches!(log.add(entry(9)).await, Err(Error::Alarm { .. })) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, alarm).await.expect("the alarm is raised");
        assert_eq!(restored.tiles.published().await.unwrap(), published, "nothing new");
    }
}

/// One log in a bucket that goes down at its `after`th request from now, and later is there again. Returns whether it
/// went down before everything was added.
async fn goes_down(after: usize, carried_out: bool) -> bool {
    let name = format!("after {after}, carried out: {carried_out}");
    let store = Arc::new(FakeStore::default());
    let process = async || {
        let bucket = Bucket::new(Arc::clone(&store) as Arc<dyn ObjectStore>, PREFIX);
        let heads = Arc::new(ObjectHeads::open(bucket.clone()).await.unwrap());
        Bench::on(Arc::new(ObjectTiles::new(&bucket, "registry")), heads)
    };
    let bench = process().await;
    bench.create().await;
    let log = bench.open().await.unwrap();
    let mut acknowledged = add(&log, 0..3).await;
    bench.check_all(&log).await;

    store.fault(Fault::GoesDown { after, carried_out });
    let mut next = 3;
    for count in [1, 2, 300, 1, 1] {
        acknowledged.extend(add(&log, next..next + count).await);
        next += count;
    }
    if log.size().get() == next {
        // Tiles and checkpoint of what is committed come later, or not at all.
        tokio::select! {
            () = published(&log, next.into()) => {}
            _ = log.stopped() => {}
        }
    }
    let stopped = log.stop().await;
    let went_down = store.is_down();
    assert!(stopped.is_ok() || went_down, "{name}: {stopped:?}");

    store.fault(Fault::None);
    let bench = process().await;
    let log = bench.open().await.unwrap_or_else(|error| panic!("{name}: {error}"));
    bench.check_all(&log).await;
    for (n, index) in &acknowledged {
        assert_eq!(log.add(entry(*n)).await.unwrap().get(), *index, "{name}: entry {n}");
    }
    assert_eq!(add(&log, 0..next).await.len() as u64, next, "{name}");
    assert_eq!(bench.check_all(&log).await.get(), next, "{name}");
    log.stop().await.unwrap();
    went_down
}

#[tokio::test]
async fn a_bucket_that_goes_down_at_any_request_loses_nothing_acknowledged() {
    for carried_out in [false, true] {
        let mut after = 0;
        while goes_down(after, carried_out).await {
            after += 1;
        }
        assert!(after > 20, "it went down {after} times");
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_glassbloom-log");

/// The binary with the credentials of the S3 server in its environment.
fn binary(head: Option<&str>) -> Command {
    let mut command = Command::new(BINARY);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.env("GLASSBLOOM_LOG", "info");
    match head {
        Some(address) => command.env("GLASSBLOOM_LOG_HEAD", address),
        None => command.env_remove("GLASSBLOOM_LOG_HEAD"),
    };
    command
}

/// Kills the process when dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(data: &Path, head: Option<&str>) -> (Serving, String) {
    let mut command = binary(head);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).stderr(Stdio::piped());
    let mut serving = Serving(command.spawn().unwrap());
    let mut said = Vec::new();
    let mut lines = BufReader::new(serving.0.stderr.take().unwrap()).lines();
    let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let url = line.split_once("listening on ").map(|(_, url)| url.trim().to_owned());
        said.push(line);
        url
    });
    let url = url.unwrap_or_else(|| panic!("it does not say where it listens: {}", said.join("\n")));
    std::thread::spawn(move || lines.count());
    (serving, url)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_runs_on_them() {
    let Some(s3) = S3::start().await else { return };
    let Some(postgres) = Postgres::start(&[]) else { return };
    let options = format!("endpoint={}&allow_http=true&region=us-east-1", s3.endpoint);
    let tiles = format!("s3://{BUCKET}/p?{options}");
    let address = postgres.address();
    // The head in a variable, as an address with a password would be; and in the bucket.
    for head in [Some(address.as_str()), None] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let name = if head.is_some() { "one.example" } else { "two.example" };
        let tiles = tiles.replace("/p?", &format!("/{name}?"));
        let run = |arguments: &[&str]| binary(head).args(arguments).output().unwrap();
        let mut init = vec!["init", "--data", data, "--name", name, "--tiles", &tiles];
        if head.is_none() {
            init.extend(["--head", &tiles]);
        }
        for _ in 0..2 {
            let done = run(&init);
            assert!(done.status.success(), "{}", said(&done));
        }
        let config = std::fs::read_to_string(folder.path().join("log.toml")).unwrap();
        assert!(!config.contains("postgres:"), "the address is secret: {config}");
        assert!(!folder.path().join("public").exists() && !folder.path().join("state/registry.db").exists());
        let moved = run(&["init", "--data", data, "--name", name, "--tiles", "s3://elsewhere/p"]);
        assert_eq!(moved.status.code(), Some(1));
        assert!(said(&moved).contains("init does not move them"), "{}", said(&moved));

        let token = std::fs::read_to_string(folder.path().join("token")).unwrap();
        let send = async |url: &str, entry: &'static str| {
            let request = http_client().post(format!("{url}/registry/append")).bearer_auth(token.trim());
            request.body(entry).send().await.unwrap().status()
        };
        let (serving, url) = serve(folder.path(), head);
        assert_eq!(send(&url, "one").await, 200);
        let second = run(&["serve", "--listen", "127.0.0.1:0", "--data", data]);
        assert!(said(&second).contains("another process serves this log"), "{}", said(&second));
        let done = run(&init);
        assert!(done.status.success(), "{}", said(&done));
        assert_eq!(send(&url, "two").await, 200, "init again leaves a running log alone");
        drop(serving);
        let (serving, url) = serve(folder.path(), head);
        assert_eq!(send(&url, "three").await, 200);
        drop(serving);

        let policy = folder.path().join("policy");
        let policy = policy.to_str().unwrap();
        let public = tiles.replace('?', "/public/registry?");
        for command in ["fsck", "status"] {
            let done = run(&[command, &public, "--policy", policy]);
            assert!(done.status.success() && said(&done).contains("3 entries"), "{}", said(&done));
        }
        let fsck = run(&["fsck", &tiles.replace('?', "/public?"), "--policy", policy]);
        assert!(said(&fsck).contains("registry: ok, 3 entries"), "{}", said(&fsck));

        if head.is_some() {
            let lost = binary(None).args(["serve", "--data", data]).output().unwrap();
            assert_eq!(lost.status.code(), Some(1));
            assert!(said(&lost).contains("GLASSBLOOM_LOG_HEAD, which is not set"), "{}", said(&lost));
            // A new, empty table is a head restored from long ago.
            let mut connection = address.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
            sqlx::raw_sql("DELETE FROM glassbloom_head").execute(&mut connection).await.unwrap();
            let again = run(&init);
            assert_eq!(again.status.code(), Some(1));
            assert!(said(&again).contains("restored from a backup"), "{}", said(&again));
            let serve = run(&["serve", "--listen", "127.0.0.1:0", "--data", data]);
            assert_eq!(serve.status.code(), Some(1));
            assert!(said(&serve).contains("has no head"), "{}", said(&serve));
        }
    }
}
