//! The witness as a process that is killed: what it cosigned, it still knows.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use glassbloom_service::http_client;
use glassbloom_spec::note::VerifierKey;

use crate::support::*;

struct Process {
    child: Child,
    url: String,
}

fn auditor() -> Command {
    Command::new(env!("CARGO_BIN_EXE_glassbloom-auditor"))
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut command = auditor();
        command.args(["witness", "serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        let mut child = command.env("GLASSBLOOM_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains("listening on ")).unwrap().unwrap();
        let url = line.split("listening on ").nth(1).unwrap().trim().to_owned();
        // Goes on reading, so that the process never waits for its log to be read.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    /// SIGKILL: nothing is finished, nothing is flushed.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cosigned_survives_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let init = |arguments: &[&str]| {
        let output = auditor()
            .args(["witness", "init", "--name", WITNESS, "--data"])
            .arg(data.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect::<Vec<VerifierKey>>()
    };
    assert_eq!(init(&["--only-ed25519"]).len(), 1);
    let vkeys = init(&[]);
    assert_eq!(vkeys.len(), 2);
    let added = auditor()
        .args(["witness", "add-log", "--data"])
        .arg(data.path())
        .args(["--vkey", &log_key().vkey().to_string()])
        .status()
        .unwrap();
    assert!(added.success());

    let http = http_client();
    let mut cosigned = 0;
    for round in 0..6 {
        let process = Process::start(data.path());
        let url = format!("{}/add-checkpoint", process.url);
        let send = |old, new| http.post(&url).body(growth(old, new)).send();
        // The first request ever is cosigned; later it conflicts, and the answer is what the witness knows.
        let response = send(0, 1).await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        if round == 0 {
            assert_eq!(status, 200);
            time_of(&vkeys, &head(1), &text);
            cosigned = 1;
        } else {
            assert_eq!(status, 409, "{text}");
            let known: u64 = text.trim_end().parse().unwrap();
            // The request that was under way may have been written before the kill.
            assert!((cosigned..=cosigned + 1).contains(&known), "{known} after {cosigned} was cosigned");
            cosigned = known;
        }
        for _ in 0..8 {
            let response = send(cosigned, cosigned + 1).await.unwrap();
            assert_eq!(response.status(), 200);
            cosigned += 1;
            time_of(&vkeys, &head(cosigned), &response.text().await.unwrap());
        }
        let under_way = tokio::spawn(send(cosigned, cosigned + 1));
        tokio::task::yield_now().await;
        process.kill();
        let answered = under_way.await.unwrap();
        if answered.is_ok_and(|response| response.status() == 200) {
            cosigned += 1;
        }
    }
}
