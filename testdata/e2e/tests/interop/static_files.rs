//! The folder `DATA/public` behind servers that know nothing of logs.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use glassbloom_service::{ExitCode, LogClient};
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
    merkle,
};
use glassbloom_testdata::world::{World, index};

use crate::bed::{Bed, NAME, auditor_command, is_there, log_command};

/// A server process, which ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Python's `http.server`, and where it is.
fn python(folder: &Path) -> (Server, String) {
    let mut serve = Command::new("python3");
    serve.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder);
    let mut child = serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // "Serving HTTP on 127.0.0.1 port 40123 (http://127.0.0.1:40123/) ..."
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.split_once('(').and_then(|(_, rest)| rest.split_once("/)")).unwrap().0.to_owned();
    (Server(child), url)
}

/// nginx with a configuration of its own.
async fn nginx(folder: &Path, scratch: &Path) -> (Server, String) {
    std::fs::create_dir_all(scratch).unwrap();
    // nginx does not say which port it got.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration = format!(
        "daemon off; master_process off; pid {scratch}/pid; error_log stderr;\nevents {{}}\nhttp {{\n\
         access_log off; client_body_temp_path {scratch}/a; proxy_temp_path {scratch}/b;\n\
         fastcgi_temp_path {scratch}/c; uwsgi_temp_path {scratch}/d; scgi_temp_path {scratch}/e;\n\
         server {{ listen {address}; root {folder}; }}\n}}\n",
        scratch = scratch.display(),
        folder = folder.display(),
    );
    let file = scratch.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let program =
        ["/usr/sbin/nginx", "/usr/bin/nginx"].map(PathBuf::from).into_iter().find(|file| file.is_file());
    let mut serve = Command::new(program.unwrap_or_else(|| "nginx".into()));
    serve.arg("-p").arg(scratch).arg("-e").arg("stderr").arg("-c").arg(&file);
    let server =
        Server(serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return (server, format!("http://{address}"));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nginx does not listen");
}

/// A log whose registry holds what an auditor can judge, served no longer by itself.
async fn published() -> Bed {
    let world = World::new();
    let (coordinator, release) = (world.keys.coordinator.public_key(), world.keys.release.public_key());
    let bed = Bed::start(&format!("coordinator {coordinator}\nrelease {release}\n")).await;
    for entry in &world.registry_entries()[..index::ATTESTATION as usize] {
        bed.append("registry", entry).await;
    }
    bed
}

async fn passes(bed: &Bed, url: &str, state: &str) {
    let policy = bed.data("policy");
    let policy = policy.to_str().unwrap();
    for target in [format!("{url}/registry"), url.to_owned()] {
        assert_eq!(log_command(&["fsck", &target, "--policy", policy]).await, ExitCode::Ok, "{target}");
    }
    let state = bed.at(state);
    let audit = ["audit", "--log", url, "--policy", policy, "--state", state.to_str().unwrap()];
    assert_eq!(auditor_command(&audit).await, ExitCode::Ok);
    // Again, from where it stood.
    assert_eq!(auditor_command(&audit).await, ExitCode::Ok);

    let log = LogClient::new(&format!("{url}/registry"));
    let checkpoint =
        bed.policy.open(Some(&format!("{NAME}/registry")), &log.checkpoint_bytes().await.unwrap());
    let checkpoint = checkpoint.unwrap();
    let (size, root) = (checkpoint.size(), checkpoint.root());
    let entries = log.entries(0..size.get(), size).await.unwrap();
    assert_eq!(entries, World::new().registry_entries()[..entries.len()]);
    for (at, entry) in entries.iter().enumerate() {
        let at = LeafIndex::new(at as u64);
        let proof = log.inclusion_proof(at, size).await.unwrap();
        merkle::verify_inclusion(Hash::leaf(entry), at, size, root, &proof).unwrap();
    }
    let old = TreeSize::new(3);
    let old_root = merkle::root_of(entries[..3].iter().map(|entry| Hash::leaf(entry)));
    let proof = log.consistency_proof(old, size).await.unwrap();
    merkle::verify_consistency(old, size, old_root, root, &proof).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_serves_our_folder() {
    if !is_there("python3", "python3") {
        return;
    }
    let bed = published().await;
    let (_server, url) = python(&bed.data("public"));
    passes(&bed, &url, "audit").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_serves_our_folder_and_a_flipped_bit_in_it_is_found() {
    if !is_there("nginx", "nginx-light") {
        return;
    }
    let bed = published().await;
    let (_server, url) = nginx(&bed.data("public"), &bed.at("nginx")).await;
    passes(&bed, &url, "audit").await;

    let bundle = bed.data("public/registry/tile/entries/000.p/5");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let (target, policy) = (format!("{url}/registry"), bed.data("policy"));
    assert_eq!(
        log_command(&["fsck", &target, "--policy", policy.to_str().unwrap()]).await,
        ExitCode::Rejected
    );
}
