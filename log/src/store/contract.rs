//! What every store must do, run against every implementation.

use super::*;

pub(super) fn path(text: &str) -> TilePath {
    text.parse().expect("a tile path of these tests")
}

fn batch(old: u64, new: u64) -> BatchName {
    BatchName { old: old.into(), new: new.into(), root: Hash::of(&[new as u8]) }
}

pub(super) async fn tiles(store: &dyn TileStore) {
    let (a, b) = (path("tile/0/000.p/2"), path("tile/entries/000.p/2"));
    assert_eq!(store.get(&a).await.unwrap(), None);
    store.put(vec![(a, Bytes::from_static(b"aa")), (b, Bytes::from_static(b"bb"))]).await.unwrap();
    assert_eq!(store.get(&a).await.unwrap().unwrap(), "aa");
    store.put(vec![(a, Bytes::from_static(b"aa"))]).await.unwrap();
    let error = store.put(vec![(a, Bytes::from_static(b"ac"))]).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    assert_eq!(store.get(&a).await.unwrap().unwrap(), "aa");

    let full = path("tile/0/000");
    store.put(vec![(full, Bytes::from_static(b"full"))]).await.unwrap();
    store.discard_partials(&full).await.unwrap();
    store.discard_partials(&path("tile/0/x001/000")).await.unwrap();
    assert_eq!(store.get(&a).await.unwrap(), None);
    assert_eq!(store.get(&b).await.unwrap().unwrap(), "bb");
    assert_eq!(store.get(&full).await.unwrap().unwrap(), "full");

    assert_eq!(store.published().await.unwrap(), None);
    store.publish(Bytes::from_static(b"one")).await.unwrap();
    store.publish(Bytes::from_static(b"two")).await.unwrap();
    assert_eq!(store.published().await.unwrap().unwrap(), "two");

    for (old, new) in [(0, 5), (9, 10), (5, 9)] {
        store.stage(batch(old, new), Bytes::from_static(b"x")).await.unwrap();
    }
    store.stage(batch(5, 9), Bytes::from_static(b"y")).await.unwrap();
    assert_eq!(store.staged().await.unwrap(), [batch(0, 5), batch(5, 9), batch(9, 10)]);
    assert_eq!(store.read_staged(batch(5, 9)).await.unwrap().unwrap(), "y");
    store.unstage(&[batch(0, 5), batch(1, 2)]).await.unwrap();
    assert_eq!(store.staged().await.unwrap(), [batch(5, 9), batch(9, 10)]);
    assert_eq!(store.read_staged(batch(0, 5)).await.unwrap(), None);
}

pub(super) async fn heads(store: &dyn HeadStore) {
    let head = |note: &str, applied: u64| StoredHead { note: note.into(), applied: applied.into() };
    let (zero, one, two) = (head("0", 0), head("1", 0), head("2", 1));
    assert_eq!(store.load("a").await.unwrap(), None);
    let error = store.swap("a", &zero, &one).await.unwrap_err();
    assert!(matches!(error, StoreError::HeadMoved { .. }), "{error}");
    store.create("a", &zero).await.unwrap();
    store.create("b", &one).await.unwrap();
    assert!(matches!(store.create("a", &one).await.unwrap_err(), StoreError::HeadMoved { .. }));
    assert_eq!(store.load("a").await.unwrap().unwrap(), zero);

    store.swap("a", &zero, &one).await.unwrap();
    for gone in [&zero, &StoredHead { applied: 7.into(), ..one.clone() }] {
        let error = store.swap("a", gone, &two).await.unwrap_err();
        assert!(matches!(error, StoreError::HeadMoved { .. }), "{error}");
    }
    assert_eq!(store.load("a").await.unwrap().unwrap(), one);
    store.swap("a", &one, &two).await.unwrap();
    assert_eq!(store.load("a").await.unwrap().unwrap(), two);
    assert_eq!(store.load("b").await.unwrap().unwrap(), one);
}

async fn leaves(store: &dyn LeafStore) {
    let leaf = |n: u8| Hash::leaf(&[n]);
    let at = |indices: &[u64]| indices.iter().copied().map(LeafIndex::new).collect::<Vec<_>>();
    assert_eq!(store.indexed("a").await.unwrap().get(), 0);
    assert_eq!(store.find("a", &[leaf(0)]).await.unwrap(), [vec![]]);

    let first = [leaf(0), leaf(1), leaf(0)];
    for _ in 0..2 {
        store.insert("a", LeafIndex::new(0), &first).await.unwrap();
        assert_eq!(store.indexed("a").await.unwrap().get(), 3);
    }
    store.insert("a", LeafIndex::new(3), &[leaf(2), leaf(1)]).await.unwrap();
    store.insert("b", LeafIndex::new(7), &[leaf(3)]).await.unwrap();
    assert_eq!(store.indexed("a").await.unwrap().get(), 5);
    assert_eq!(store.indexed("b").await.unwrap().get(), 8);

    let found = store.find("a", &[leaf(9), leaf(2), leaf(1), leaf(0), leaf(1)]).await.unwrap();
    // A store that keeps the whole hash may know the first index alone.
    assert_eq!(found[0], []);
    for (candidates, all) in found[1..].iter().zip([at(&[3]), at(&[1, 4]), at(&[0, 2]), at(&[1, 4])]) {
        assert_eq!(candidates[..], all[..candidates.len()]);
        assert!(!candidates.is_empty());
    }
    assert_eq!(store.find("b", &[leaf(0), leaf(3)]).await.unwrap(), [vec![], at(&[7])]);
    assert_eq!(store.find("a", &[]).await.unwrap(), Vec::<Vec<_>>::new());

    // An index that is ahead of its tree is moved back.
    store.insert("a", LeafIndex::new(2), &[]).await.unwrap();
    assert_eq!(store.indexed("a").await.unwrap().get(), 2);
    let many: Vec<Hash> = (0..5000_u32).map(|n| Hash::leaf(&n.to_be_bytes())).collect();
    store.insert("c", LeafIndex::new(0), &many).await.unwrap();
    let found = store.find("c", &many).await.unwrap();
    assert!((0..).zip(found).all(|(n, candidates)| candidates == at(&[n])));
}

#[tokio::test]
async fn memory() {
    tiles(&MemoryTiles::default()).await;
    heads(&MemoryHeads::default()).await;
    leaves(&MemoryLeaves::default()).await;
}

#[tokio::test]
async fn local_and_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let (public, staging, database) =
        (folder.path().join("public"), folder.path().join("staging"), folder.path().join("heads.db"));
    let store = LocalTiles::open(&public, &staging).unwrap();
    tiles(&store).await;
    assert!(SqliteHeads::open(&database).await.is_err(), "a missing database is not made up");
    heads(&SqliteHeads::create(&database).await.unwrap()).await;
    let index = folder.path().join("index.db");
    leaves(&SqliteLeaves::open(&index).await.unwrap()).await;
    assert_eq!(SqliteLeaves::open(&index).await.unwrap().indexed("c").await.unwrap().get(), 5000);

    // What was written is there for the next process, and a second one at the same time is refused.
    let second = LocalTiles::open(&public, &staging);
    assert!(matches!(second.err(), Some(StoreError::Locked { .. })));
    drop(store);
    let store = LocalTiles::open(&public, &staging).unwrap();
    assert_eq!(store.published().await.unwrap().unwrap(), "two");
    let store = SqliteHeads::open(&database).await.unwrap();
    assert_eq!(store.load("b").await.unwrap().unwrap().note, b"1");
}

#[tokio::test]
async fn an_index_that_is_no_database_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index.db");
    std::fs::write(&index, vec![7; 8192]).unwrap();
    let error = SqliteLeaves::open(&index).await.err().unwrap().to_string();
    assert!(error.contains("delete") && error.contains("index.db"), "{error}");
    std::fs::remove_file(&index).unwrap();
    SqliteLeaves::open(&index).await.unwrap();
}

#[tokio::test]
async fn batches_that_earlier_versions_staged_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let (public, staging) = (folder.path().join("public"), folder.path().join("staging"));
    std::fs::create_dir(&staging).unwrap();
    std::fs::write(staging.join(batch(3, 5).to_string()), b"of one file").unwrap();
    for _ in 0..2 {
        let store = LocalTiles::open(&public, &staging).unwrap();
        assert_eq!(store.staged().await.unwrap(), [batch(3, 5)]);
        assert_eq!(store.read_staged(batch(3, 5)).await.unwrap().unwrap(), "of one file");
        assert!(!staging.join(batch(3, 5).to_string()).exists());
    }
}

#[test]
fn batch_names_are_canonical() {
    let name = batch(7, 12);
    assert_eq!(name.to_string().parse(), Ok(name));
    let reversed = batch(12, 7).to_string();
    for wrong in
        ["lock", "7-12", "00000000000000000007-00000000000000000012", &reversed, &name.to_string()[1..]]
    {
        assert!(wrong.parse::<BatchName>().is_err(), "{wrong}");
    }
}
