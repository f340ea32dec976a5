//! What tlog-tiles asks of a server, byte by byte on the socket. `[c2sp.org/tlog-tiles]`

use std::collections::BTreeMap;

use glassbloom_spec::{id::TreeSize, tile::tiles_for_size};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bed::{Bed, is_there, run};

struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// One request on a connection of its own.
async fn ask(bed: &Bed, method: &str, path: &str, headers: &str) -> Reply {
    let address = bed.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Reply { status, headers, body: answer[end + 4..].to_vec() }
}

const FOREVER: &str = "public, max-age=604800, immutable";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tile_of_every_published_size_stays_and_says_how_long_to_keep_it() {
    let bed = Bed::start("").await;
    // Published one by one, so that each of these sizes has been a checkpoint.
    for n in 0..4_u64 {
        bed.append("registry", format!("one by one {n}").as_bytes()).await;
    }
    let last = bed.fill("registry", 290).await.index.get();
    let sizes = [1, 2, 3, 4, last + 1];
    for size in sizes {
        for path in tiles_for_size(TreeSize::new(size)) {
            let path = format!("/registry/{path}");
            let reply = ask(&bed, "GET", &path, "origin: https://explorer.example\r\n").await;
            assert_eq!(reply.status, 200, "{path}, of size {size}");
            assert_eq!(reply.header("content-type"), "application/octet-stream");
            assert_eq!(reply.header("cache-control"), FOREVER);
            assert_eq!(reply.header("access-control-allow-origin"), "*");
            assert_eq!(reply.header("content-encoding"), "", "nobody asked for it");
            assert_eq!(reply.header("content-length"), reply.body.len().to_string());
            let head = ask(&bed, "HEAD", &path, "").await;
            assert_eq!((head.status, head.body.len()), (200, 0));
            for name in ["content-type", "cache-control"] {
                assert_eq!(head.header(name), reply.header(name), "{name} of {path}");
            }
        }
    }
    // Where a partial tile is gone, the beginning of the full one is served or the full one is there.
    for gone in ["tile/0/000.p/3", "tile/entries/000.p/3"] {
        std::fs::remove_file(bed.data("public/registry").join(gone)).ok();
        let (partial, full) =
            (format!("/registry/{gone}"), format!("/registry/{}", gone.strip_suffix(".p/3").unwrap()));
        let (partial, full) = (ask(&bed, "GET", &partial, "").await, ask(&bed, "GET", &full, "").await);
        assert_eq!((partial.status, full.status), (200, 200));
        assert!(full.body.starts_with(&partial.body) && partial.body.len() < full.body.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_never_kept_and_a_checkpoint_is_always_asked_for() {
    let bed = Bed::start("").await;
    let before = ask(&bed, "GET", "/receipts/tile/0/000.p/1", "").await;
    assert_eq!((before.status, before.header("cache-control")), (404, "no-store"));
    bed.fill("registry", 259).await;
    for path in [
        // Beyond the tree, wider than it, and no tile at all.
        "/registry/tile/0/002",
        "/registry/tile/0/001.p/5",
        "/registry/tile/1/000.p/2",
        "/registry/tile/1/000",
        "/registry/tile/entries/001",
        "/registry/tile/entries/001.p/255",
        // Other spellings of tiles that are there.
        "/registry/tile/0/0",
        "/registry/tile/00/000",
        "/registry/tile/0/x000/000",
        "/registry/tile/0/000.p/256",
        "/registry/tile/0/001.p/04",
        "/registry/tile/0/000/",
        "/registry/tile/0/000.p/0",
        "/registry/tile/-1/000",
        "/registry/tile/64/000",
        "/registry/tile/8/0/000",
        "/registry/tile/data/000",
        "/registry/tile/0/../0/000",
        "/registry/tile/0/%2e%2e/%2e%2e/%2e%2e/log.toml",
        "/registry/tile/entries/..%2f..%2f..%2f..%2ftoken",
        "/registry/",
        "/elsewhere/checkpoint",
        "/token",
    ] {
        for method in ["GET", "HEAD"] {
            let reply = ask(&bed, method, path, "").await;
            assert_eq!(reply.status, 404, "{method} {path}");
            assert_eq!(reply.header("cache-control"), "no-store", "{path}");
            assert_eq!(reply.header("etag"), "", "{path}");
            assert_eq!(reply.header("access-control-allow-origin"), "*", "{path}");
        }
    }
    let checkpoint = ask(&bed, "GET", "/registry/checkpoint", "origin: https://explorer.example\r\n").await;
    assert_eq!(checkpoint.status, 200);
    assert_eq!(checkpoint.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(checkpoint.header("cache-control"), "no-store");
    assert_eq!(checkpoint.header("access-control-allow-origin"), "*");
    assert!(bed.policy.open(None, &checkpoint.body).is_ok());
    let head = ask(&bed, "HEAD", "/registry/checkpoint", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for method in ["POST", "PUT", "DELETE"] {
        let reply = ask(&bed, method, "/registry/tile/0/000", "content-length: 0\r\n").await;
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    // A browser asks first when it would send a header of its own.
    let preflight = "origin: https://explorer.example\r\naccess-control-request-method: GET\r\n\
                     access-control-request-headers: cache-control\r\n";
    let reply = ask(&bed, "OPTIONS", "/registry/checkpoint", preflight).await;
    assert!((200..300).contains(&reply.status), "{}", reply.status);
    assert_eq!(reply.header("access-control-allow-origin"), "*");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_reads_bundles_compressed_and_plain() {
    if !is_there("curl", "curl") {
        return;
    }
    let bed = Bed::start("").await;
    bed.fill("registry", 256).await;
    let url = format!("{}/registry/tile/entries/000", bed.url);
    let curl = async |arguments: &[&str]| {
        let mut command = std::process::Command::new("curl");
        run({
            command.args(["--silent", "--fail", "--max-time", "20"]).args(arguments).arg(&url);
            command
        })
        .await
    };
    let plain = curl(&[]).await;
    assert_eq!(curl(&["--compressed"]).await, plain);
    let small = curl(&["--header", "accept-encoding: gzip"]).await;
    assert_eq!(small[..2], [0x1f, 0x8b], "gzip");
    assert!(small.len() < plain.len() / 2, "{} of {}", small.len(), plain.len());
    let head =
        String::from_utf8(curl(&["--compressed", "--dump-header", "-", "--output", "/dev/null"]).await)
            .unwrap();
    let head = head.to_lowercase();
    assert!(head.contains("content-encoding: gzip") && head.contains(FOREVER), "{head}");
    // A cache in between must not give the one to a client that asked for the other.
    assert!(head.contains("vary:") && head.contains("accept-encoding"), "{head}");
    // Hashes do not shrink.
    let tile = url.replace("entries", "0");
    let mut command = std::process::Command::new("curl");
    command.args(["--silent", "--fail", "--header", "accept-encoding: gzip", &tile]);
    assert_eq!(run(command).await.len(), 8192);
}
