//! The witness client: asks every witness in parallel to cosign a checkpoint. `[c2sp.org/tlog-witness]`
//!
//! Each witness has a task of its own, which always works on the newest round and skips those it missed. A slow or
//! dead witness therefore delays only itself.
//!
//! A witness that claims to know a larger or another tree of this log has to show the note with this log's signature:
//! then it is the [`alarm`]. Without that it is a witness that failed, like any other.

pub(crate) mod alarm;
mod transport;

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::TreeSize,
    merkle,
    note::{SignatureLine, VerifierKey, parse_signature_lines},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use self::alarm::{Alarm, Evidence};
pub(crate) use self::transport::describe;
pub use self::transport::{HttpTransport, Reply, Transport};
use crate::{error::Error, keys::LogKeys, metrics::Metrics, reader::TileReader, store::HeadStore};

/// Where a witness takes checkpoints, and the keys it cosigns with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Submission prefix; `/add-checkpoint` follows.
    pub url: String,
    /// Its keys, usually one or two of different algorithms.
    pub keys: Vec<VerifierKey>,
}

/// A checkpoint to be cosigned, signed by the log.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) number: u64,
    pub(crate) head: TreeHead,
    pub(crate) note: Vec<u8>,
}

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Verified signature lines over the round's head.
    Cosigned(Vec<SignatureLine>),
    /// The witness has shown a tree by this log's key that this log does not have. The alarm is raised.
    Alarm,
    /// The witness could not be reached, refused, answered nonsense, or claimed what it did not show.
    Failed,
    /// It failed a moment ago and is left alone for a while.
    BackingOff,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) witness: usize,
    pub(crate) round: Arc<Round>,
    pub(crate) answer: Answer,
}

/// All witnesses of one log.
pub(crate) struct Witnesses {
    // One for each: then they are told in the same order every time, which a simulation can repeat.
    rounds: Vec<watch::Sender<Option<Arc<Round>>>>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    pub(crate) count: usize,
    // Dropped with this, also in the middle of a request.
    _tasks: JoinSet<()>,
}

/// What the tasks of all witnesses share.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) heads: Arc<dyn HeadStore>,
    pub(crate) keys: Arc<LogKeys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reader: TileReader,
    pub(crate) timeout: Duration,
    pub(crate) transport: Arc<dyn Transport>,
}

impl Witnesses {
    /// Starts one task per witness; they end when this is dropped.
    pub(crate) fn start(endpoints: Vec<Endpoint>, means: &Means) -> Self {
        let mut rounds = Vec::new();
        let (results, outcomes) = mpsc::unbounded_channel();
        let count = endpoints.len();
        let mut tasks = JoinSet::new();
        for (witness, endpoint) in endpoints.into_iter().enumerate() {
            let client = Client {
                endpoint,
                failures: 0,
                known: TreeSize::new(0),
                means: means.clone(),
                not_before: Instant::now(),
                witness,
            };
            let (sender, receiver) = watch::channel(None);
            rounds.push(sender);
            tasks.spawn(client.run(receiver, results.clone()));
        }
        Self { rounds, outcomes, count, _tasks: tasks }
    }

    /// Hands a new round to every task.
    pub(crate) fn begin(&mut self, round: Round) -> Arc<Round> {
        let round = Arc::new(round);
        for witness in &self.rounds {
            witness.send_replace(Some(Arc::clone(&round)));
        }
        round
    }

    /// The next outcome of any round.
    pub(crate) async fn next(&mut self) -> Option<Outcome> {
        self.outcomes.recv().await
    }
}

struct Client {
    endpoint: Endpoint,
    failures: u32,
    // The size the witness cosigned last, as far as we know; wrong guesses are corrected by its 409.
    known: TreeSize,
    means: Means,
    not_before: Instant,
    witness: usize,
}

/// A 409 tells the size; more than a few in a row are a witness that changes its mind.
const ATTEMPTS: usize = 3;
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// What a witness did with a checkpoint.
enum Asked {
    Cosigned(Vec<SignatureLine>),
    /// It says that it knows a tree that this log does not have.
    Claim(String),
    Failed(String),
}

impl Client {
    async fn run(
        mut self,
        mut rounds: watch::Receiver<Option<Arc<Round>>>,
        results: mpsc::UnboundedSender<Outcome>,
    ) {
        while rounds.changed().await.is_ok() {
            let Some(round) = rounds.borrow_and_update().clone() else { continue };
            let answer = self.answer(&round).await;
            if results.send(Outcome { witness: self.witness, round, answer }).is_err() {
                return;
            }
        }
    }

    async fn answer(&mut self, round: &Round) -> Answer {
        if Instant::now() < self.not_before {
            return Answer::BackingOff;
        }
        let limit = self.means.timeout;
        let late = |_| format!("no answer within {limit:?}");
        let asked = tokio::time::timeout(limit, self.ask(round)).await;
        let failed = match asked.unwrap_or_else(|elapsed| Asked::Failed(late(elapsed))) {
            Asked::Cosigned(lines) => {
                if self.failures > 0 {
                    tracing::info!(witness = %self.endpoint.url, "witness cosigns again");
                }
                self.failures = 0;
                self.means.metrics.witness_cosigned(self.witness);
                return Answer::Cosigned(lines);
            }
            Asked::Claim(what) => {
                let shown = tokio::time::timeout(limit, self.prove(round)).await;
                match shown.unwrap_or_else(|elapsed| Err(late(elapsed))) {
                    Ok(evidence) => {
                        self.means.metrics.witness_alarm(self.witness);
                        self.means.alarm.raise(evidence).await;
                        return Answer::Alarm;
                    }
                    Err(why) => {
                        self.means.metrics.witness_claim(self.witness);
                        format!("{what}, and shows nothing that this log signed and does not have: {why}")
                    }
                }
            }
            Asked::Failed(why) => why,
        };
        // Once when it starts to fail and then ever more rarely.
        if self.failures.is_power_of_two() || self.failures == 0 {
            let (url, size) = (&self.endpoint.url, round.head.size);
            tracing::warn!(witness = %url, %size, "witness did not cosign: {failed}");
        }
        let pause = FIRST_BACK_OFF.saturating_mul(1 << self.failures.min(10)).min(LONGEST_BACK_OFF);
        self.not_before = Instant::now() + pause;
        self.failures += 1;
        self.means.metrics.witness_failed(self.witness);
        Answer::Failed
    }

    async fn ask(&mut self, round: &Round) -> Asked {
        for _ in 0..ATTEMPTS {
            self.known = self.known.min(round.head.size);
            let proof = match self.means.reader.consistency(self.known, round.head.size).await {
                Ok(proof) => proof,
                Err(error) => return Asked::Failed(error.to_string()),
            };
            let mut body = format!("old {}\n", self.known);
            for hash in proof {
                body.push_str(&hash.to_base64());
                body.push('\n');
            }
            body.push('\n');
            let mut body = body.into_bytes();
            body.extend_from_slice(&round.note);
            let reply = match self.means.transport.add_checkpoint(&self.endpoint.url, body).await {
                Ok(reply) => reply,
                Err(why) => return Asked::Failed(why),
            };
            let Ok(text) = String::from_utf8(reply.body) else {
                return Asked::Failed(format!("{}, and not text", reply.status));
            };
            match reply.status {
                StatusCode::OK => return self.accept(round, &text),
                StatusCode::CONFLICT => {
                    let size = text.trim_end().parse::<TreeSize>();
                    let Ok(size) = size else {
                        return Asked::Failed(format!("409 without a size: {:?}", start(&text)));
                    };
                    if size > round.head.size {
                        return Asked::Claim(format!("it claims to have cosigned a tree of size {size}"));
                    }
                    self.known = size;
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    return Asked::Claim(format!(
                        "it says that this tree does not extend the one of size {} that it cosigned: {:?}",
                        self.known,
                        start(&text)
                    ));
                }
                status => return Asked::Failed(format!("{status}: {:?}", start(&text))),
            }
        }
        Asked::Failed(format!("it answered 409 {ATTEMPTS} times"))
    }

    /// Has the witness show the tree that it knows, and compares it with this log's.
    async fn prove(&self, round: &Round) -> Result<Evidence, String> {
        let Means { heads, keys, transport, .. } = &self.means;
        let (url, origin) = (&self.endpoint.url, &round.head.origin);
        let shown = transport.checkpoint(url, origin).await?.ok_or("it has no note of this log")?;
        let theirs = keys.open_head(&shown).ok_or("its note is not signed by this log's key")?;
        // Loaded after the note was shown, so that it covers whatever this log itself had cosigned until then.
        let stored = heads.load(origin).await.map_err(|e| e.to_string())?;
        let stored = stored.ok_or("the head of this log is gone")?;
        let newest = keys.open_head(&stored.note).ok_or("the head here is not signed by this log's key")?;
        let (ours, ours_note, root) = if theirs.size <= round.head.size {
            let root = self.root(theirs.size, round.head.size).await.map_err(|e| e.to_string())?;
            (round.head.clone(), round.note.clone(), Some(root))
        } else if theirs.size < newest.size {
            return Err(
                "its tree is larger than the one it was asked about, but smaller than the one here".into()
            );
        } else {
            let root = (theirs.size == newest.size).then_some(newest.root);
            (newest, stored.note, root)
        };
        if root == Some(theirs.root) {
            return Err(format!("the tree of size {} that it shows is the one here", theirs.size));
        }
        Ok(Evidence { ours, ours_note, theirs, theirs_note: shown, witness: url.clone() })
    }

    /// The root that the tree of size `now` had when it was smaller.
    async fn root(&self, then: TreeSize, now: TreeSize) -> Result<Hash, Error> {
        // From tiles of the tree as it is now: its edge at that size may never have been written.
        let tiles = self.means.reader.tiles(&merkle::frontier_nodes(then), now).await?;
        Ok(merkle::root_from_nodes(then, &tiles)?)
    }

    /// Only lines by this witness's own keys that verify are kept: what is published must verify as a whole.
    fn accept(&mut self, round: &Round, reply: &str) -> Asked {
        let Ok(lines) = parse_signature_lines(reply) else {
            return Asked::Failed(format!("not signature lines: {:?}", start(reply)));
        };
        let mut good = Vec::new();
        for line in lines {
            let Some(key) = self.endpoint.keys.iter().find(|key| key.claims(&line)) else { continue };
            match key.verify(&round.head, &line) {
                // A cosignature without a time says nothing about freshness.
                Ok(time) if time.get() > 0 => good.push(line),
                Ok(_) => return Asked::Failed("a cosignature without a time".to_owned()),
                Err(error) => return Asked::Failed(error.to_string()),
            }
        }
        if good.is_empty() {
            return Asked::Failed("no signature by the key that the policy names".to_owned());
        }
        self.known = round.head.size;
        Asked::Cosigned(good)
    }
}

fn start(text: &str) -> String {
    text.chars().take(120).collect()
}
