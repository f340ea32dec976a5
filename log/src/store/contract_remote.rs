//! The contract on buckets and PostgreSQL, and what holds for these alone.

use std::sync::Arc;

use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use sqlx::{ConnectOptions, postgres::PgConnectOptions};

use super::{
    contract::{heads, path, tiles},
    fake::{FakeStore, Fault},
    servers::{Postgres, S3},
    *,
};

fn head(note: &str) -> StoredHead {
    StoredHead { note: note.into(), applied: 0.into() }
}

/// Who loads the head to serve has the log: nobody else swaps it, and `init` looking at it takes nothing away.
async fn takes_over(first: &dyn HeadStore, second: &dyn HeadStore, looks: &dyn HeadStore) {
    let (zero, one, two) = (head("0"), head("1"), head("2"));
    first.create("takes/over", &zero).await.unwrap();
    assert_eq!(first.load("takes/over").await.unwrap().unwrap(), zero);
    first.swap("takes/over", &zero, &one).await.unwrap();
    assert_eq!(looks.load("takes/over").await.unwrap().unwrap(), one);
    first.swap("takes/over", &one, &zero).await.unwrap();

    assert_eq!(second.load("takes/over").await.unwrap().unwrap(), zero);
    let error = first.swap("takes/over", &zero, &one).await.unwrap_err();
    assert!(matches!(error, StoreError::HeadMoved { .. }), "{error}");
    assert_eq!(looks.load("takes/over").await.unwrap().unwrap(), zero);
    second.swap("takes/over", &zero, &two).await.unwrap();
    let error = looks.swap("takes/over", &two, &one).await.unwrap_err();
    assert!(matches!(error, StoreError::HeadMoved { .. }), "{error}");
    assert_eq!(first.load("takes/over").await.unwrap().unwrap(), two);
}

/// Of many swaps from one head, one is done.
async fn one_wins(store: &dyn HeadStore) {
    let old = head("old");
    store.create("race", &old).await.unwrap();
    store.load("race").await.unwrap();
    let heads: Vec<StoredHead> = (0..20).map(|n| head(&format!("new {n}"))).collect();
    let swaps = futures_util::future::join_all(heads.iter().map(|new| store.swap("race", &old, new))).await;
    let won: Vec<&StoredHead> =
        heads.iter().zip(&swaps).filter(|(_, done)| done.is_ok()).map(|(head, _)| head).collect();
    assert_eq!(won.len(), 1, "{swaps:?}");
    assert_eq!(store.load("race").await.unwrap().as_ref(), Some(won[0]));
    assert!(swaps.iter().all(|swap| matches!(swap, Ok(()) | Err(StoreError::HeadMoved { .. }))), "{swaps:?}");
}

/// Two processes that publish: the one that did not see the newest checkpoint does not replace it.
async fn publishes_forward(first: &ObjectTiles, second: &ObjectTiles) {
    first.publish("one".into()).await.unwrap();
    assert_eq!(second.published().await.unwrap().unwrap(), "one");
    second.publish("two".into()).await.unwrap();
    let error = first.publish("older".into()).await.unwrap_err();
    assert!(matches!(error, StoreError::CheckpointMoved { .. }), "{error}");
    assert_eq!(first.published().await.unwrap().unwrap(), "two");
    first.publish("three".into()).await.unwrap();
}

async fn bucket(bucket: &Bucket) {
    tiles(&ObjectTiles::new(bucket, "registry")).await;
    // Another log in the same bucket is another log.
    tiles(&ObjectTiles::new(bucket, "receipts")).await;
    publishes_forward(&ObjectTiles::new(bucket, "two"), &ObjectTiles::new(bucket, "two")).await;
    let open = || ObjectHeads::open(bucket.clone());
    heads(&open().await.unwrap()).await;
    one_wins(&open().await.unwrap()).await;
    let looks = ObjectHeads::create(bucket.clone()).await.unwrap();
    takes_over(&open().await.unwrap(), &open().await.unwrap(), &looks).await;
    assert_eq!(bucket.list("heads").await.unwrap().len(), 4, "what was tried out at start is gone");

    // More than one page of a listing, more than one request of deletions.
    let store = ObjectTiles::new(bucket, "many");
    let partials = (1..=255).map(|n| (path(&format!("tile/0/000.p/{n}")), Bytes::from(vec![n])));
    store.put(partials.collect()).await.unwrap();
    store.put(vec![(path("tile/0/000"), "full".into())]).await.unwrap();
    store.discard_partials(&path("tile/0/000")).await.unwrap();
    assert_eq!(bucket.list("public/many").await.unwrap(), ["tile/0/000"]);
}

#[tokio::test]
async fn buckets_in_memory() {
    bucket(&Bucket::new(Arc::new(FakeStore::default()), "some/prefix")).await;
}

#[tokio::test]
async fn an_s3_server() {
    let Some(s3) = S3::start().await else { return };
    bucket(&s3.bucket("some/prefix")).await;
}

#[tokio::test]
async fn postgresql() {
    let Some(server) = Postgres::start(&[]) else { return };
    let url = server.url();
    let error = PostgresHeads::open(&url).await.err().unwrap().to_string();
    assert!(error.contains("glassbloom-log init"), "{error}");
    let looks = PostgresHeads::create(&url).await.unwrap();
    let open = || PostgresHeads::open(&url);
    heads(&open().await.unwrap()).await;
    one_wins(&open().await.unwrap()).await;
    takes_over(&open().await.unwrap(), &open().await.unwrap(), &looks).await;
    let again = PostgresHeads::create(&url).await.unwrap();
    assert_eq!(again.load("takes/over").await.unwrap().unwrap(), head("2"), "init again changes nothing");

    // A connection that breaks while a swap is under way leaves it open whether the head was swapped. That is an
    // error; whoever loads the head again finds out.
    let store = open().await.unwrap();
    assert_eq!(store.load("takes/over").await.unwrap().unwrap(), head("2"));
    let mut connection = server.address().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    sqlx::raw_sql(others).execute(&mut connection).await.unwrap();
    let error = store.swap("takes/over", &head("2"), &head("3")).await.unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert_eq!(store.load("takes/over").await.unwrap().unwrap(), head("2"));
    store.swap("takes/over", &head("2"), &head("3")).await.unwrap();
}

#[tokio::test]
async fn a_database_that_may_forget_is_refused() {
    let Some(server) = Postgres::start(&["fsync=off", "synchronous_commit=off"]) else { return };
    let error = PostgresHeads::create(&server.url()).await.err().unwrap().to_string();
    assert!(error.contains("fsync = off"), "{error}");
}

#[tokio::test]
async fn objects_carry_what_a_static_file_server_needs() {
    let store = Arc::new(FakeStore::default());
    let tiles = ObjectTiles::new(&Bucket::new(Arc::clone(&store) as Arc<dyn ObjectStore>, "p"), "registry");
    tiles.put(vec![(path("tile/entries/x001/000"), "entries".into())]).await.unwrap();
    tiles.publish("checkpoint".into()).await.unwrap();
    tiles.stage(BatchName { old: 0.into(), new: 1.into(), root: Hash::of(b"") }, "s".into()).await.unwrap();
    let staged = format!("p/staging/registry/{:020}-{:020}-{}", 0, 1, Hash::of(b""));
    for (name, media_type, caching) in [
        (
            "p/public/registry/tile/entries/x001/000",
            "application/octet-stream",
            "public, max-age=604800, immutable",
        ),
        ("p/public/registry/checkpoint", "text/plain; charset=utf-8", "no-store"),
        (&staged, "application/octet-stream", "no-store"),
    ] {
        let attributes = store.get(&Path::from(name)).await.unwrap().attributes;
        let get = |attribute| attributes.get(&attribute).map(|value| value.to_string());
        assert_eq!(get(object_store::Attribute::ContentType).as_deref(), Some(media_type), "{name}");
        assert_eq!(get(object_store::Attribute::CacheControl).as_deref(), Some(caching), "{name}");
    }
}

#[tokio::test]
async fn a_bucket_that_ignores_conditions_keeps_no_head() {
    for fault in [Fault::IgnoresConditions, Fault::LacksConditions] {
        let store = Arc::new(FakeStore::default());
        store.fault(fault);
        let bucket = Bucket::new(Arc::clone(&store) as Arc<dyn ObjectStore>, "p");
        let error = ObjectHeads::open(bucket.clone()).await.err().unwrap().to_string();
        assert!(error.contains("PostgreSQL"), "{fault:?}: {error}");
        assert!(bucket.list("").await.unwrap().is_empty(), "{fault:?}");
        store.fault(Fault::None);
        ObjectHeads::open(bucket).await.unwrap();
    }
    // Where conditional puts are switched off, tiles are looked at before they are written.
    let store = Arc::new(FakeStore::default());
    store.fault(Fault::LacksConditions);
    tiles(&ObjectTiles::new(&Bucket::new(store, "p"), "registry")).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_hides_no_conflict() {
    let store = Arc::new(FakeStore::default());
    let bucket = Bucket::new(Arc::clone(&store) as Arc<dyn ObjectStore>, "p");
    let tiles = ObjectTiles::new(&bucket, "registry");
    let tile = path("tile/0/000.p/1");
    store.fault(Fault::LosesAnAnswer);
    tiles.put(vec![(tile, "a".into())]).await.unwrap();
    store.fault(Fault::LosesAnAnswer);
    let error = tiles.put(vec![(tile, "b".into())]).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");

    // A swap whose answer is lost is not sent again and not taken for done.
    let heads = ObjectHeads::open(bucket.clone()).await.unwrap();
    heads.create("a", &head("0")).await.unwrap();
    store.fault(Fault::LosesAnAnswer);
    let error = heads.swap("a", &head("0"), &head("1")).await.unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    let error = heads.swap("a", &head("0"), &head("2")).await.unwrap_err();
    assert!(matches!(error, StoreError::HeadMoved { .. }), "{error}");
    assert_eq!(heads.load("a").await.unwrap().unwrap(), head("1"), "who opens it again finds out");
    heads.swap("a", &head("1"), &head("2")).await.unwrap();
}
