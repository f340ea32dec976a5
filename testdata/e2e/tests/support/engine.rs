//! An engine whose answer is always the same, that a test can hold and watch.

use glassbloom_provider::engine::{ChatJob, ChatStream, Engine, Event, Finish, ModelInfo};
use tokio::sync::{mpsc, watch};

use super::MODEL;

/// What every provider of the test network answers, piece by piece.
pub const ANSWER: [&str; 7] =
    ["The ", "capital ", "of ", "France ", "is ", "Paris-marker-5d1f0e-answer", "."];

/// The text of [`ANSWER`] that must appear nowhere outside the seal.
pub const ANSWER_MARKER: &str = "Paris-marker-5d1f0e-answer";

/// Where an answer waits until [`FakeEngine::hold`] is set back to [`Hold::Nowhere`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Before its first piece.
    AtTheStart,
    /// After its first piece.
    InTheMiddle,
    /// Nowhere.
    Nowhere,
}

/// No model at all.
#[derive(Clone, Debug)]
pub struct FakeEngine {
    /// Where answers wait.
    pub hold: watch::Sender<Hold>,
    /// Jobs that came so far.
    pub started: watch::Sender<u32>,
    /// Jobs that ended because nobody wanted them any more.
    pub cancelled: watch::Sender<u32>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        let counter = || watch::channel(0).0;
        Self { hold: watch::channel(Hold::Nowhere).0, started: counter(), cancelled: counter() }
    }
}

impl FakeEngine {
    async fn answer(self, job: ChatJob, events: mpsc::Sender<Event>) {
        self.started.send_modify(|count| *count += 1);
        let mut hold = self.hold.subscribe();
        let told = async {
            // Before all events: the first of them begins the answer.
            hold.wait_for(|hold| *hold != Hold::AtTheStart).await.ok()?;
            events.send(Event::Started { prompt_tokens: 3 }).await.ok()?;
            for (at, piece) in ANSWER.into_iter().enumerate() {
                if at == 1 {
                    hold.wait_for(|hold| *hold == Hold::Nowhere).await.ok()?;
                }
                events.send(Event::Text(piece.to_owned())).await.ok()?;
            }
            let completion_tokens = ANSWER.len() as u32;
            let done = Event::Done { finish: Finish::Stop, prompt_tokens: 3, completion_tokens };
            events.send(done).await.ok()
        };
        let told = tokio::select! {
            told = told => told,
            () = job.cancel.cancelled() => None,
            () = events.closed() => None,
        };
        if told.is_none() {
            self.cancelled.send_modify(|count| *count += 1);
        }
    }
}

impl Engine for FakeEngine {
    fn models(&self) -> Vec<ModelInfo> {
        vec![ModelInfo {
            id: MODEL.to_owned(),
            family: "fake".to_owned(),
            context_tokens: 4096,
            parameters: 0,
            bits: None,
        }]
    }

    fn chat(&self, job: ChatJob) -> ChatStream {
        let (events, stream) = mpsc::channel(4);
        tokio::spawn(self.clone().answer(job, events));
        stream
    }
}
