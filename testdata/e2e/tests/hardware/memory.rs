//! What is left of a prompt in the memory of the process that read it. The provider runs in a process of its own, which
//! looks through itself: nobody else may.

use std::{
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
};

use glassbloom_provider::config::KeysFile;
use glassbloom_service::{Shutdown, SystemClock, http_client, random};
use serde_json::json;

use crate::support::{Hardware, MODEL, Options, TestNet, client, engine::FakeEngine, until, within};

/// Set in the process that is the provider: its data folder.
const CHILD: &str = "GLASSBLOOM_MEMORY_CHILD";

/// What is looked for is told in this disguise, so that telling does not put it there.
const DISGUISE: u8 = 0x5a;

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_nowhere_in_memory_afterwards() {
    within(async {
        let mut net =
            TestNet::start_and_go_on(Options { providers: 0, ..Options::default() }, &Hardware::default())
                .await;
        let (data, token) = net.prepare_provider("a process of its own", &KeysFile::default()).await;
        let mut provider = Process::start(&data);
        until(async || net.offered().await.filter(|offered| !offered.providers.is_empty())).await;

        let marker = format!("prompt-marker-{:032x}", u128::from_be_bytes(random()));
        let user = net.client(&net.url).await;
        let request = json!({
            "model": MODEL, "stream": true,
            "messages": [{ "role": "user", "content": format!("Is {marker} a name?\nAnd \"quoted\"?") }],
        });
        let url = format!("{}/v1/chat/completions", user.url);
        client::send(http_client().post(&url).bearer_auth(&user.key), &request).await.is_answered();

        assert!(provider.count(&token) > 0, "it finds what is there: the token that it holds");
        assert_eq!(provider.count(&marker), 0, "the prompt is in its memory");
        provider.stop();
    })
    .await;
}

/// Not a test: the provider's process of the test above, which starts this program again.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_of_its_own() {
    let Some(data) = std::env::var_os(CHILD) else { return };
    let config = glassbloom_provider::Config::load(Path::new(&data)).unwrap();
    let shutdown = Shutdown::new();
    let engine = Arc::new(FakeEngine::default());
    let serving =
        tokio::spawn(glassbloom_provider::serve(config, engine, Arc::new(SystemClock), shutdown.clone()));
    let asked = tokio::task::spawn_blocking(|| {
        for line in std::io::stdin().lines() {
            println!("found {}", occurrences(&hex_bytes(&line.unwrap())));
        }
    });
    asked.await.unwrap();
    shutdown.trigger();
    serving.await.unwrap().unwrap();
}

/// How often the bytes occur in this process's writable memory, given in disguise.
fn occurrences(disguised: &[u8]) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut found = 0;
    // Reused for every region and never grown: it would otherwise be found itself.
    let mut region = Vec::new();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        let own = region.as_ptr() as u64;
        if (from..to).contains(&own) && to - from <= region.capacity() as u64 + (1 << 16) {
            continue;
        }
        region.resize((to - from) as usize, 0);
        memory.seek(SeekFrom::Start(from)).unwrap();
        // Guard pages cannot be read.
        if memory.read_exact(&mut region).is_err() {
            continue;
        }
        let is_it =
            |window: &&[u8]| window.iter().zip(disguised).all(|(byte, other)| byte ^ DISGUISE == *other);
        found += region.windows(disguised.len()).filter(is_it).count();
        region.fill(0);
    }
    found
}

fn hex_bytes(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

struct Process {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::the_process_of_its_own", "--nocapture"])
            .env(CHILD, data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ask, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, ask, answers }
    }

    fn count(&mut self, sought: &str) -> usize {
        let disguised: String = sought.bytes().map(|byte| format!("{:02x}", byte ^ DISGUISE)).collect();
        writeln!(self.ask.as_mut().unwrap(), "{disguised}").unwrap();
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the process ended");
            if let Some((_, count)) = line.split_once("found ") {
                return count.trim_end().parse().unwrap();
            }
        }
    }

    fn stop(mut self) {
        drop(self.ask.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}
