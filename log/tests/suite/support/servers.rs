//! Real servers for the stores: an S3 API server from the Python environment, and PostgreSQL. Each in a temporary
//! folder, on loopback or a socket, killed when dropped.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use glassbloom_log::store::{Bucket, PostgresUrl};
use object_store::aws::{AmazonS3, AmazonS3Builder};

const LIMIT: Duration = Duration::from_secs(60);

/// A child process; killed and waited for when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // PostgreSQL takes its own children along when it is told so; killed, it could not.
        let _ = Command::new("kill").args(["-QUIT", &self.0.id().to_string()]).status();
        for _ in 0..100 {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server and waits for the line that says it is ready.
fn start<T: Send + 'static>(
    command: &mut Command,
    ready: impl Fn(&str) -> Option<T> + Send + Sync + 'static,
) -> (Server, T) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, said) = mpsc::channel();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let server = Server(child);
    // Read on to the end, or the server would stand still when a pipe is full.
    let ready = Arc::new(ready);
    let read = |pipe: Box<dyn std::io::Read + Send>| {
        let (sender, ready) = (sender.clone(), Arc::clone(&ready));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = sender.send(ready(&line).ok_or(line));
            }
        })
    };
    let readers = [read(Box::new(stdout)), read(Box::new(stderr))];
    drop(sender);
    let mut lines = Vec::new();
    loop {
        match said.recv_timeout(LIMIT) {
            Ok(Ok(found)) => {
                drop(readers);
                return (server, found);
            }
            Ok(Err(line)) => lines.push(line),
            Err(error) => panic!("the server did not start: {error}\n{}", lines.join("\n")),
        }
    }
}

/// An S3 API server (moto) with one empty bucket.
pub(crate) struct S3 {
    _server: Server,
    pub(crate) endpoint: String,
}

pub(crate) const BUCKET: &str = "logs";

// One request at a time, so that a conditional put is looked at and carried out as one.
const SERVE_S3: &str = "
import sys
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app
server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=False)
print('port', server.server_port, flush=True)
server.serve_forever()
";

impl S3 {
    /// `None`, and a word about it, where moto is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let python = glassbloom_testdata::repository().join("target/venv/bin/python");
        let mut has = Command::new(&python);
        if !has.args(["-c", "import moto.server"]).output().is_ok_and(|done| done.status.success()) {
            glassbloom_testdata::skipped("no S3 API server: `cargo ci` makes target/venv with moto");
            return None;
        }
        let mut command = Command::new(python);
        command.args(["-c", SERVE_S3]);
        let (server, port) = start(&mut command, |line| line.strip_prefix("port ").map(str::to_owned));
        let s3 = Self { _server: server, endpoint: format!("http://127.0.0.1:{port}") };
        let made = s3.signed_put("", "").await;
        assert!(made.is_success(), "{made}");
        Some(s3)
    }

    /// A prefix in the bucket of this server, as a process with its credentials sees it.
    pub(crate) fn bucket(&self, prefix: &str) -> Bucket {
        Bucket::new(Arc::new(self.store()), prefix)
    }

    pub(crate) fn store(&self) -> AmazonS3 {
        glassbloom_service::install_tls();
        AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("test")
            .with_secret_access_key("test")
            .with_bucket_name(BUCKET)
            .build()
            .unwrap()
    }

    /// Makes the bucket with an empty path, or puts an object, or the bucket's policy.
    pub(crate) async fn signed_put(&self, path: &str, body: &str) -> reqwest::StatusCode {
        // The server asks who signed, not whether the signature holds.
        let signature = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, \
                         Signature=0";
        let url = format!("{}/{BUCKET}{path}", self.endpoint);
        let put = glassbloom_service::http_client().put(url).header("authorization", signature);
        put.body(body.to_owned()).send().await.unwrap().status()
    }
}

/// A PostgreSQL server with an empty database.
pub(crate) struct Postgres {
    // Dropped in this order.
    _server: Server,
    folder: tempfile::TempDir,
}

/// `postgres` and its kin are on the path, or where Debian puts them.
fn postgres_binary(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(debian.map(|version| version.path().join("bin")))
        .map(|folder| folder.join(name))
        .find(|binary| binary.is_file())
}

/// PostgreSQL refuses to run as root, so there it runs as somebody who owns nothing else.
const NOBODY: u32 = 65534;

fn unprivileged(binary: &Path, root: bool) -> Command {
    if !root {
        return Command::new(binary);
    }
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    command.arg(binary);
    command
}

impl Postgres {
    /// `None`, and a word about it, where PostgreSQL is not installed.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let (Some(initdb), Some(postgres)) = (postgres_binary("initdb"), postgres_binary("postgres")) else {
            glassbloom_testdata::skipped("no PostgreSQL server (Debian: apt install postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::metadata(folder.path()).unwrap().uid() == 0;
        if root {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = folder.path().join("data");
        let made = unprivileged(&initdb, root)
            .current_dir(folder.path())
            .args(["--auth=trust", "--username=log", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut command = unprivileged(&postgres, root);
        command.current_dir(folder.path()).arg("-D").arg(&data);
        command.arg("-c").arg("listen_addresses=").arg("-c");
        command.arg(format!("unix_socket_directories={}", folder.path().display()));
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        let ready = |line: &str| line.contains("ready to accept connections").then_some(());
        let (server, ()) = start(&mut command, ready);
        Some(Self { _server: server, folder })
    }

    pub(crate) fn address(&self) -> String {
        format!("postgres://log@localhost/postgres?host={}", self.folder.path().display())
    }

    pub(crate) fn url(&self) -> PostgresUrl {
        self.address().parse().unwrap()
    }
}
