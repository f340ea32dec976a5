//! What the machine allows, measured in the same run: one core's SHA-256, this disk's durable writes, and a bare HTTP
//! server on loopback.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{Router, body::Bytes, extract::State, routing};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    note::NoteSigner,
};
use tokio::net::TcpListener;

use super::entries::{ENTRY, Entries};

/// RFC 6962 hashes of entries per second on one core.
pub fn leaf_hashes(time: Duration) -> f64 {
    let entry = Entries::new(0).next();
    let (begin, mut done) = (Instant::now(), 0_u32);
    while begin.elapsed() < time {
        for _ in 0..64 {
            std::hint::black_box(Hash::leaf(std::hint::black_box(&entry)));
        }
        done += 64;
    }
    f64::from(done) / begin.elapsed().as_secs_f64()
}

/// ML-DSA-44 cosignatures per second on one core.
///
/// # Errors
/// When the signer refuses.
pub fn mldsa44_signatures(time: Duration) -> Result<f64> {
    let signer = NoteSigner::mldsa44("witness.example", [7; 32])?;
    let (begin, mut done) = (Instant::now(), 0_u32);
    while begin.elapsed() < time || done == 0 {
        // Each message is another: how long one takes depends on it.
        let root = Hash::of(&done.to_be_bytes());
        let head = TreeHead { origin: "log.example".to_owned(), size: TreeSize::new(1), root };
        std::hint::black_box(signer.cosign(&head, UnixSeconds::new(1))?);
        done += 1;
    }
    Ok(f64::from(done) / begin.elapsed().as_secs_f64())
}

/// Appends of `size` bytes per second to a file in `folder`, each synced before the next.
///
/// # Errors
/// When the disk refuses.
pub fn synced_writes(folder: &Path, size: usize, time: Duration) -> Result<f64> {
    let path = folder.join("limit-fsync");
    let mut file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let entries = Entries::new(1);
    let data: Vec<u8> = (0..size.div_ceil(ENTRY)).flat_map(|_| entries.next()).take(size).collect();
    let (begin, mut done) = (Instant::now(), 0_u32);
    while begin.elapsed() < time || done == 0 {
        file.write_all(&data).and_then(|()| file.sync_data()).context("measuring the disk")?;
        done += 1;
    }
    let rate = f64::from(done) / begin.elapsed().as_secs_f64();
    std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    Ok(rate)
}

/// The bare server: `POST /add` reads a body and answers a number, `GET` answers 8 KiB or a checkpoint's size from
/// memory. Runs until the process ends.
///
/// # Errors
/// When the address is taken.
pub async fn echo(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let tile = Bytes::from(vec![7; 8192]);
    let checkpoint = Bytes::from(vec![b'c'; 4096]);
    let count: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
    let app = Router::new()
        .route("/add", routing::post(add))
        .route("/checkpoint", routing::get(move || std::future::ready(checkpoint.clone())))
        .route("/tile/0/000", routing::get(move || std::future::ready(tile.clone())))
        .with_state(count);
    axum::serve(listener, app).await.context("serving")
}

async fn add(State(count): State<&'static AtomicU64>, _body: Bytes) -> String {
    count.fetch_add(1, Ordering::Relaxed).to_string()
}
