//! What a log uploads to a mirror: pending checkpoints and packages of entries. `[c2sp.org/tlog-mirror]`

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use async_compression::tokio::write::GzipEncoder;
use glassbloom_auditor::mirror::{self, Config, Mirror, MirrorError};
use glassbloom_service::{MockClock, Shutdown, http_client};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixMillis, UnixSeconds},
    merkle::{Frontier, NodeId, prove_consistency},
    note::{SignedNote, VerifierKey, parse_signature_lines},
    subtree::{Subtree, prove_subtree},
    tile::encode_bundle,
    witness::AddCheckpoint,
};
use reqwest::Response;
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinHandle};

use crate::support::{NOW, RECEIPTS, head, note, policy, tiles};

/// A log that uploads itself.
struct Uploader {
    entries: Vec<Vec<u8>>,
    nodes: BTreeMap<NodeId, Hash>,
}

impl Uploader {
    fn new(count: u64) -> Self {
        Self::of((0..count).map(|number| format!("entry {number}").into_bytes()).collect())
    }

    fn of(entries: Vec<Vec<u8>>) -> Self {
        let (mut frontier, mut nodes) = (Frontier::new(), BTreeMap::new());
        for entry in &entries {
            frontier.append_with(Hash::leaf(entry), |id, hash| {
                nodes.insert(id, hash);
            });
        }
        Self { entries, nodes }
    }

    fn head(&self, size: u64) -> TreeHead {
        head(RECEIPTS, &self.entries[..size as usize])
    }

    fn checkpoint(&self, old: u64, size: u64) -> Vec<u8> {
        let head = self.head(size);
        let proof = prove_consistency(TreeSize::new(old), head.size, &self.nodes).unwrap();
        let note = SignedNote::parse(&note(&head, NOW)).unwrap();
        AddCheckpoint { old: TreeSize::new(old), proof, note, head }.encode()
    }

    fn front(origin: &str, start: u64, end: u64) -> Vec<u8> {
        let mut body = (origin.len() as u16).to_be_bytes().to_vec();
        body.extend(origin.as_bytes());
        body.extend(start.to_be_bytes());
        body.extend(end.to_be_bytes());
        body.extend(6_u16.to_be_bytes());
        body.extend(b"ticket");
        body
    }

    fn packages(&self, start: u64, end: u64) -> Vec<Vec<u8>> {
        let (mut at, mut packages) = (start, Vec::new());
        while at < end {
            let base = at / 256 * 256;
            let stop = end.min(base + 256);
            let mut package = encode_bundle(&self.entries[at as usize..stop as usize]).unwrap();
            let subtree = Subtree::new(LeafIndex::new(base), TreeSize::new(stop)).unwrap();
            let proof = prove_subtree(subtree, TreeSize::new(end), &self.nodes).unwrap();
            package.push(proof.len() as u8);
            proof.iter().for_each(|hash| package.extend(hash.as_bytes()));
            packages.push(package);
            at = stop;
        }
        packages
    }

    fn upload(&self, start: u64, end: u64) -> Vec<u8> {
        [Self::front(RECEIPTS, start, end), self.packages(start, end).concat()].concat()
    }
}

struct Running {
    data: tempfile::TempDir,
    vkeys: Vec<VerifierKey>,
    url: String,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

fn config(data: &tempfile::TempDir) -> Config {
    Config { data: data.path().to_owned(), policy: policy(), log: None, submissions: true }
}

impl Running {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let vkeys = mirror::init(data.path(), "mirror.example/m1").unwrap();
        Self::start_in(data, vkeys).await
    }

    async fn start_in(data: tempfile::TempDir, vkeys: Vec<VerifierKey>) -> Self {
        let clock = Arc::new(MockClock::new(UnixMillis::new((NOW + 5) * 1000)));
        let mirror = Mirror::open(config(&data), clock).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let serving = mirror::serve(mirror, listener, Duration::from_secs(60), shutdown.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { data, vkeys, url, shutdown, task }
    }

    async fn restart(self) -> Self {
        self.shutdown.trigger();
        self.task.await.unwrap();
        Self::start_in(self.data, self.vkeys).await
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Response {
        let request = http_client().post(format!("{}/{path}", self.url)).body(body);
        request.header("content-type", "application/octet-stream").send().await.unwrap()
    }

    async fn pend(&self, body: Vec<u8>) -> (u16, String) {
        let response = self.post("add-checkpoint", body).await;
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Status and body; the media type is checked.
    async fn send(&self, body: Vec<u8>) -> (u16, String) {
        let response = self.post("add-entries", body).await;
        let status = response.status().as_u16();
        assert_eq!(response.headers()["accept-encoding"], "gzip");
        if [202, 409].contains(&status) {
            assert_eq!(response.headers()["content-type"], "text/x.tlog.mirror-info");
        }
        (status, response.text().await.unwrap())
    }

    fn assert_signed(&self, head: &TreeHead, lines: &str) {
        let lines = parse_signature_lines(lines).unwrap();
        assert_eq!(lines.len(), self.vkeys.len());
        for (vkey, line) in self.vkeys.iter().zip(&lines) {
            assert_eq!(vkey.verify(head, line).unwrap(), UnixSeconds::new(NOW + 5));
        }
    }

    fn assert_complete(&self, entries: &[Vec<u8>]) {
        let folder = self.data.path().join("public").join(Hash::of(RECEIPTS.as_bytes()).to_string());
        let note = fs::read(folder.join("checkpoint")).unwrap();
        // What witnesses had cosigned stays with it, so that the copy opens under the policy.
        let checkpoint = policy().open(Some(RECEIPTS), &note).unwrap();
        assert_eq!(*checkpoint.head(), head(RECEIPTS, entries));
        for (path, bytes) in tiles(entries) {
            let exact = fs::read(folder.join(path.to_string()));
            let full = || fs::read(folder.join(path.to_full().to_string())).unwrap();
            let found = exact.unwrap_or_else(|_| full()[..bytes.len()].to_vec());
            assert!(found == bytes, "{path}");
        }
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn a_log_uploads_itself_in_steps() {
    let log = Uploader::new(1500);
    let mut mirror = Running::start().await;
    let mut had = 0;
    for size in [0, 1, 5, 256, 300, 301, 512, 700, 1500] {
        assert_eq!(mirror.pend(log.checkpoint(had, size)).await, (200, String::new()), "size {size}");
        let (status, lines) = mirror.send(log.upload(had, size)).await;
        assert_eq!(status, 200, "{had} to {size}: {lines}");
        mirror.assert_signed(&log.head(size), &lines);
        mirror.assert_complete(&log.entries[..size as usize]);
        if size == 300 {
            mirror = mirror.restart().await;
        }
        had = size;
    }
    // Sent again, what is there is proven and signed again.
    let (status, lines) = mirror.send(log.upload(700, 1500)).await;
    assert_eq!(status, 200);
    mirror.assert_signed(&log.head(1500), &lines);
    mirror.stop().await;
}

#[tokio::test]
async fn only_some_pending_checkpoints_are_remembered() {
    let log = Uploader::new(300);
    let mirror = Running::start().await;
    assert_eq!(mirror.pend(log.checkpoint(0, 10)).await.0, 200);
    assert_eq!(mirror.send(log.upload(0, 10)).await.0, 200);
    for size in 10..40 {
        assert_eq!(mirror.pend(log.checkpoint(size, size + 1)).await.0, 200);
    }
    // The one the copy stands at, the oldest that is kept beside it, and one that is forgotten.
    assert_eq!(mirror.send(log.upload(10, 10)).await.0, 200);
    assert_eq!(mirror.send(log.upload(10, 25)).await, (409, "40\n10\n\n".to_owned()));
    let mirror = mirror.restart().await;
    assert_eq!(mirror.send(log.upload(10, 26)).await.0, 200);
    mirror.assert_complete(&log.entries[..26]);
    assert_eq!(mirror.send(log.upload(10, 10)).await, (409, "40\n26\n\n".to_owned()));
    mirror.stop().await;
}

#[tokio::test]
async fn an_upload_in_parts_and_over_several_checkpoints() {
    let log = Uploader::new(1000);
    let mirror = Running::start().await;
    assert_eq!(mirror.pend(log.checkpoint(0, 600)).await.0, 200);
    let packages = log.packages(0, 600);
    let part = |count: usize| [Uploader::front(RECEIPTS, 0, 600), packages[..count].concat()].concat();
    assert_eq!(mirror.send(part(1)).await, (202, "600\n256\n\n".to_owned()));
    // Cut within a package: what was whole counts.
    let cut = part(2);
    assert_eq!(mirror.send(cut[..cut.len() - 1].to_vec()).await, (202, "600\n256\n\n".to_owned()));
    assert_eq!(mirror.send(part(2)).await, (202, "600\n512\n\n".to_owned()));
    // Another client is further; the first one's checkpoint is finished all the same, and never goes back.
    assert_eq!(mirror.pend(log.checkpoint(600, 1000)).await.0, 200);
    let ahead = [Uploader::front(RECEIPTS, 512, 1000), log.packages(512, 1000)[..1].concat()].concat();
    assert_eq!(mirror.send(ahead).await, (202, "1000\n768\n\n".to_owned()));
    let (status, lines) = mirror.send(log.upload(512, 600)).await;
    assert_eq!(status, 200, "{lines}");
    mirror.assert_complete(&log.entries[..600]);
    let (status, lines) = mirror.send(log.upload(768, 1000)).await;
    assert_eq!(status, 200, "{lines}");
    mirror.assert_complete(&log.entries);
    assert_eq!(mirror.send(log.upload(512, 600)).await, (409, "1000\n1000\n\n".to_owned()));
    mirror.assert_complete(&log.entries);
    mirror.stop().await;
}

#[tokio::test]
async fn every_refusal() {
    let log = Uploader::new(600);
    let mirror = Running::start().await;
    // 422 before there is anything to prove against, 404 for a log that is not mirrored.
    assert_eq!(mirror.send(log.upload(0, 300)).await.0, 422);
    assert_eq!(mirror.send(Uploader::front("other.example/log", 0, 300)).await.0, 404);
    // Pending checkpoints follow the rules of a witness.
    assert_eq!(mirror.pend(log.checkpoint(0, 300)).await.0, 200);
    assert_eq!(mirror.pend(log.checkpoint(0, 600)).await, (409, "300\n".to_owned()));
    let mut other = log.entries.clone();
    other[7] = b"another history".to_vec();
    let fork = Uploader::of(other);
    assert_eq!(mirror.pend(fork.checkpoint(300, 600)).await.0, 422);
    let mut unsigned = AddCheckpoint::parse(&log.checkpoint(300, 600)).unwrap();
    unsigned.note.signatures.remove(0);
    assert_eq!(mirror.pend(unsigned.encode()).await.0, 403);
    unsigned.note.text = unsigned.note.text.replacen(RECEIPTS, "other.example/log", 1);
    assert_eq!(mirror.pend(unsigned.encode()).await.0, 404);
    assert_eq!(mirror.pend(b"old 0\n".to_vec()).await.0, 400);

    // 400: no header, no whole package, bytes after the last one, another type of content; 415: another encoding.
    let good = log.upload(0, 300);
    for cut in [0, 1, 20, 50, good.len() / 3] {
        assert_eq!(mirror.send(good[..cut].to_vec()).await.0, 400, "{cut}");
    }
    assert_eq!(mirror.send(Uploader::front(RECEIPTS, 1, 0)).await.0, 400);
    let url = format!("{}/add-entries", mirror.url);
    assert_eq!(http_client().post(&url).body(good.clone()).send().await.unwrap().status(), 400);
    let encoded = http_client().post(&url).header("content-encoding", "br").body(good.clone());
    let encoded = encoded.header("content-type", "application/octet-stream").send().await.unwrap();
    assert_eq!(encoded.status(), 415);

    // 409: a checkpoint that was never pending, a gap.
    assert_eq!(mirror.send(log.upload(0, 299)).await, (409, "300\n0\n\n".to_owned()));
    assert_eq!(mirror.send(log.upload(256, 300)).await, (409, "300\n0\n\n".to_owned()));
    // 422: an entry, a proof or a log that is another.
    assert_eq!(mirror.send(fork.upload(0, 300)).await.0, 422);
    for at in [100, good.len() - 1] {
        let mut altered = good.clone();
        altered[at] ^= 1;
        assert_eq!(mirror.send(altered).await.0, 422, "{at}");
    }
    // The first package was as it should be each time but the first; the copy has no checkpoint until all is there.
    let checkpoint = format!("{}/receipts/checkpoint", mirror.url);
    assert_eq!(http_client().get(&checkpoint).send().await.unwrap().status(), 404);
    assert_eq!(mirror.send([good.clone(), vec![0]].concat()).await.0, 400);
    assert_eq!(mirror.send(good).await.0, 200);
    mirror.assert_complete(&log.entries[..300]);
    mirror.stop().await;

    let data = tempfile::tempdir().unwrap();
    let clock = Arc::new(MockClock::new(UnixMillis::new(NOW * 1000)));
    assert!(matches!(Mirror::open(config(&data), clock), Err(MirrorError::NoKey)));
}

#[tokio::test]
async fn gzip_and_a_restart_before_the_end() {
    let log = Uploader::new(700);
    let mirror = Running::start().await;
    assert_eq!(mirror.pend(log.checkpoint(0, 700)).await.0, 200);
    let part = [Uploader::front(RECEIPTS, 0, 700), log.packages(0, 700)[..2].concat()].concat();
    assert_eq!(mirror.send(part).await, (202, "700\n512\n\n".to_owned()));
    // Pending checkpoints survive; entries that no checkpoint covers are asked for again.
    let mirror = mirror.restart().await;
    assert_eq!(mirror.pend(log.checkpoint(0, 700)).await, (409, "700\n".to_owned()));
    assert_eq!(mirror.send(log.upload(512, 700)).await, (409, "700\n0\n\n".to_owned()));
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(&log.upload(0, 700)).await.unwrap();
    encoder.shutdown().await.unwrap();
    let request = http_client().post(format!("{}/add-entries", mirror.url)).body(encoder.into_inner());
    let request =
        request.header("content-type", "application/octet-stream").header("content-encoding", "gzip");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    mirror.assert_signed(&log.head(700), &response.text().await.unwrap());
    mirror.assert_complete(&log.entries);
    mirror.stop().await;
}
