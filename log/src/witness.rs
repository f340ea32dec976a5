//! The witness client: asks every witness in parallel to cosign a checkpoint. `[c2sp.org/tlog-witness]`
//!
//! Each witness has a task of its own, which always works on the newest round and skips those it missed. A slow or
//! dead witness therefore delays only itself.

use std::{sync::Arc, time::Duration};

use glassbloom_service::{http_client, read_bounded};
use glassbloom_spec::{
    checkpoint::TreeHead,
    id::TreeSize,
    note::{SignatureLine, VerifierKey, parse_signature_lines},
};
use reqwest::StatusCode;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{metrics::Metrics, reader::TileReader};

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
    /// The witness has seen a larger tree of this log than the log itself: a fork, or a restored backup.
    Ahead(TreeSize),
    /// The witness could not be reached, refused, or answered nonsense.
    Failed(String),
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
    rounds: watch::Sender<Option<Arc<Round>>>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    pub(crate) count: usize,
}

impl Witnesses {
    /// Starts one task per witness; they end when this is dropped.
    pub(crate) fn start(
        endpoints: Vec<Endpoint>,
        reader: &TileReader,
        timeout: Duration,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (rounds, _) = watch::channel(None);
        let (results, outcomes) = mpsc::unbounded_channel();
        let http = http_client();
        let count = endpoints.len();
        for (witness, endpoint) in endpoints.into_iter().enumerate() {
            let client = Client {
                endpoint,
                failures: 0,
                http: http.clone(),
                known: TreeSize::new(0),
                metrics: Arc::clone(metrics),
                not_before: Instant::now(),
                reader: reader.clone(),
                timeout,
                witness,
            };
            tokio::spawn(client.run(rounds.subscribe(), results.clone()));
        }
        Self { rounds, outcomes, count }
    }

    /// Hands a new round to every task.
    pub(crate) fn begin(&mut self, round: Round) -> Arc<Round> {
        let round = Arc::new(round);
        self.rounds.send_replace(Some(Arc::clone(&round)));
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
    http: reqwest::Client,
    // The size the witness cosigned last, as far as we know; wrong guesses are corrected by its 409.
    known: TreeSize,
    metrics: Arc<Metrics>,
    not_before: Instant,
    reader: TileReader,
    timeout: Duration,
    witness: usize,
}

/// The reply of an honest witness is a few lines; a size is one.
const MAX_REPLY: usize = 64 * 1024;
/// A 409 tells the size; more than a few in a row are a witness that changes its mind.
const ATTEMPTS: usize = 3;
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

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
            // An alarm holds until the witness says otherwise.
            let ahead = self.known > round.head.size;
            return if ahead { Answer::Ahead(self.known) } else { Answer::BackingOff };
        }
        let asked = tokio::time::timeout(self.timeout, self.ask(round)).await;
        let answer = asked.unwrap_or_else(|_| Answer::Failed(format!("no answer within {:?}", self.timeout)));
        let url = &self.endpoint.url;
        match &answer {
            Answer::Failed(why) => {
                // Once when it starts to fail and then ever more rarely.
                if self.failures.is_power_of_two() || self.failures == 0 {
                    tracing::warn!(witness = %url, size = %round.head.size, "witness did not cosign: {why}");
                }
                let pause = FIRST_BACK_OFF.saturating_mul(1 << self.failures.min(10)).min(LONGEST_BACK_OFF);
                self.not_before = Instant::now() + pause;
                self.failures += 1;
                self.metrics.witness_failed(self.witness);
            }
            Answer::Ahead(size) => {
                self.metrics.witness_alarm(self.witness);
                tracing::error!(
                    witness = %url, theirs = %size, ours = %round.head.size, origin = %round.head.origin,
                    "ALARM: a witness has cosigned a larger tree of this log than the one here; nothing is published. \
                     The log was restored from a backup, or somebody else holds its key"
                );
                self.not_before = Instant::now() + LONGEST_BACK_OFF;
            }
            Answer::Cosigned(_) => {
                if self.failures > 0 {
                    tracing::info!(witness = %url, "witness cosigns again");
                }
                self.failures = 0;
                self.metrics.witness_cosigned(self.witness);
            }
            Answer::BackingOff => {}
        }
        answer
    }

    async fn ask(&mut self, round: &Round) -> Answer {
        for _ in 0..ATTEMPTS {
            self.known = self.known.min(round.head.size);
            let proof = match self.reader.consistency(self.known, round.head.size).await {
                Ok(proof) => proof,
                Err(error) => return Answer::Failed(error.to_string()),
            };
            let mut body = format!("old {}\n", self.known);
            for hash in proof {
                body.push_str(&hash.to_base64());
                body.push('\n');
            }
            body.push('\n');
            let mut body = body.into_bytes();
            body.extend_from_slice(&round.note);
            let (status, reply) = match self.post(body).await {
                Ok(reply) => reply,
                Err(why) => return Answer::Failed(why),
            };
            match status {
                StatusCode::OK => return self.accept(round, &reply),
                StatusCode::CONFLICT => {
                    let size = reply.trim_end().parse::<TreeSize>();
                    let Ok(size) = size else {
                        return Answer::Failed(format!("409 without a size: {:?}", start(&reply)));
                    };
                    self.known = size;
                    if size > round.head.size {
                        return Answer::Ahead(size);
                    }
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    self.metrics.witness_alarm(self.witness);
                    tracing::error!(
                        witness = %self.endpoint.url, known = %self.known, origin = %round.head.origin,
                        "ALARM: a witness says that this tree does not extend the one it cosigned"
                    );
                    return Answer::Failed(format!("422: {:?}", start(&reply)));
                }
                status => return Answer::Failed(format!("{status}: {:?}", start(&reply))),
            }
        }
        Answer::Failed(format!("it answered 409 {ATTEMPTS} times"))
    }

    async fn post(&self, body: Vec<u8>) -> Result<(StatusCode, String), String> {
        let url = format!("{}/add-checkpoint", self.endpoint.url.trim_end_matches('/'));
        let response = self.http.post(url).body(body).send().await.map_err(|e| describe(&e))?;
        let status = response.status();
        let reply = read_bounded(response, MAX_REPLY).await.map_err(|e| e.to_string())?;
        Ok((status, String::from_utf8(reply).map_err(|_| "the answer is not text".to_owned())?))
    }

    /// Only lines by this witness's own keys that verify are kept: what is published must verify as a whole.
    fn accept(&mut self, round: &Round, reply: &str) -> Answer {
        let Ok(lines) = parse_signature_lines(reply) else {
            return Answer::Failed(format!("not signature lines: {:?}", start(reply)));
        };
        let mut good = Vec::new();
        for line in lines {
            let Some(key) = self.endpoint.keys.iter().find(|key| key.claims(&line)) else { continue };
            match key.verify(&round.head, &line) {
                // A cosignature without a time says nothing about freshness.
                Ok(time) if time.get() > 0 => good.push(line),
                Ok(_) => return Answer::Failed("a cosignature without a time".to_owned()),
                Err(error) => return Answer::Failed(error.to_string()),
            }
        }
        if good.is_empty() {
            return Answer::Failed("no signature by the key that the policy names".to_owned());
        }
        self.known = round.head.size;
        Answer::Cosigned(good)
    }
}

fn start(text: &str) -> String {
    text.chars().take(120).collect()
}

/// What went wrong, without the address that the caller names anyway.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    // The outer message only repeats the address; the cause says "connection refused".
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
