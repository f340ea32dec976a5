//! A client of the proxy that reads a stream piece by piece, and asks the log what became of its receipts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, stream::BoxStream};
use glassbloom_e2e::network::{MODEL, Part, Plan};
use glassbloom_service::{LogClient, http_client};
use glassbloom_spec::{
    hash::Hash,
    merkle::root_of,
    openai::SseParser,
    policy::{Checkpoint, Policy},
};
use serde_json::{Value, json};

/// An entry that the network said is in the receipts log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) leaf: Hash,
    pub(crate) index: u64,
}

impl Receipt {
    /// From the object that the proxy adds to an answer, or what the client scripts print of it.
    pub(crate) fn of(added: &Value) -> Result<Self> {
        let leaf = added["receipt"].as_str().context("no receipt")?.parse().ok().context("no hash")?;
        Ok(Self { leaf, index: added["index"].as_u64().context("no index")? })
    }
}

/// An answer that is being streamed.
pub(crate) struct Answering {
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    parser: SseParser,
    so_far: Ended,
}

/// How a stream ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) text: String,
    pub(crate) receipt: Option<Receipt>,
    /// Whether `[DONE]` came.
    pub(crate) is_done: bool,
    /// What it said instead.
    pub(crate) error: Option<String>,
}

/// A question with a short answer that is known.
pub(crate) async fn ask(plan: &Plan) -> Result<Answering> {
    let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
    begin(plan, &json!({"model": MODEL, "messages": messages, "stream": true, "temperature": 0})).await
}

/// A question with an answer of some forty pieces.
pub(crate) async fn ask_at_length(plan: &Plan) -> Result<Answering> {
    let messages = json!([{"role": "user", "content": "What is a Merkle tree?"}]);
    begin(plan, &json!({"model": MODEL, "messages": messages, "stream": true, "temperature": 0})).await
}

/// Asks through the proxy; gives the answer once its first piece of text is there.
async fn begin(plan: &Plan, body: &Value) -> Result<Answering> {
    let request = http_client()
        .post(format!("{}/v1/chat/completions", plan.url(Part::Proxy)))
        .bearer_auth(plan.api_key()?)
        .json(body);
    let response = request.send().await.context("the proxy does not answer")?;
    if !response.status().is_success() {
        bail!("refused with {}: {}", response.status(), response.text().await.unwrap_or_default());
    }
    let bytes = response.bytes_stream().boxed();
    let mut answering = Answering { bytes, parser: SseParser::default(), so_far: Ended::default() };
    while answering.so_far.text.is_empty() && answering.more().await? {}
    Ok(answering)
}

impl Answering {
    /// Reads on; false at the end.
    async fn more(&mut self) -> Result<bool> {
        let bytes = match self.bytes.next().await {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => {
                self.so_far.error = Some(error.to_string());
                return Ok(false);
            }
            None => return Ok(false),
        };
        for event in self.parser.push(&bytes)? {
            ensure!(!self.so_far.is_done, "something came after [DONE]");
            if event.is_done() {
                self.so_far.is_done = true;
                continue;
            }
            let chunk: Value = serde_json::from_str(&event.data)?;
            self.so_far.text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            if chunk["glassbloom"].is_object() {
                self.so_far.receipt = Some(Receipt::of(&chunk["glassbloom"])?);
            }
            if let Some(message) = chunk["error"]["message"].as_str() {
                self.so_far.error = Some(message.to_owned());
            }
        }
        Ok(true)
    }

    /// The text so far.
    pub(crate) fn text(&self) -> &str {
        &self.so_far.text
    }

    /// Reads to the end, which either is whole, with a receipt, or says that it is not.
    pub(crate) async fn rest(mut self) -> Result<Ended> {
        while self.more().await? {}
        let ended = self.so_far;
        ensure!(ended.is_done == ended.receipt.is_some(), "[DONE] and the receipt come together: {ended:?}");
        ensure!(ended.is_done != ended.error.is_some(), "it ends with [DONE] or an error: {ended:?}");
        Ok(ended)
    }
}

/// Asks until it is answered to its end.
pub(crate) async fn answered_within(plan: &Plan, limit: Duration) -> Result<(Receipt, Duration)> {
    let start = Instant::now();
    loop {
        let attempt = async { ask(plan).await?.rest().await };
        let why = match tokio::time::timeout(limit, attempt).await.context("no end")? {
            Ok(Ended { text, receipt: Some(receipt), .. }) => {
                ensure!(text.contains("Paris"), "answered {text:?}");
                return Ok((receipt, start.elapsed()));
            }
            Ok(ended) => format!("{ended:?}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(start.elapsed() < limit, "nothing is answered within {limit:?}: {why}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What a log publishes under the clients' policy, and the leaf hash of every entry in it.
pub(crate) async fn published(plan: &Plan, log: &str) -> Result<(Checkpoint, Vec<Hash>)> {
    let policy = std::fs::read_to_string(plan.policy())?;
    let policy = Policy::parse(&policy).map_err(|error| anyhow::anyhow!("the policy: {error}"))?;
    let client = LogClient::new(&format!("{}/{log}", plan.url(Part::Log)));
    let note = client.checkpoint_bytes().await?;
    let origin = format!("glassbloom.local/{log}");
    let checkpoint = policy.open(Some(&origin), &note).context("the checkpoint does not open")?;
    let entries = client.entries(0..checkpoint.size().get(), checkpoint.size()).await?;
    let leaves: Vec<Hash> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
    ensure!(
        root_of(leaves.iter().copied()) == checkpoint.root(),
        "the entries of {log} do not lead to its root"
    );
    Ok((checkpoint, leaves))
}

/// Fails unless every receipt still stands where the network said that it stands.
pub(crate) async fn nothing_lost(plan: &Plan, receipts: &[Receipt]) -> Result<()> {
    let (_, leaves) = published(plan, "receipts").await?;
    for receipt in receipts {
        let place = usize::try_from(receipt.index)?;
        ensure!(leaves.get(place) == Some(&receipt.leaf), "{receipt:?} was acknowledged and is not there");
    }
    Ok(())
}
