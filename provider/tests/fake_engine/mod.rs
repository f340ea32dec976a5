//! An engine whose answers the test writes, event by event.

use glassbloom_provider::engine::{ChatJob, ChatStream, Engine, Event, ModelInfo};
use tokio::sync::mpsc;

/// A job, and where the test puts its events.
pub(crate) struct Asked {
    pub(crate) job: ChatJob,
    pub(crate) events: mpsc::Sender<Event>,
}

/// Hands its jobs to the test.
pub(crate) struct FakeEngine {
    model: String,
    jobs: mpsc::UnboundedSender<Asked>,
}

impl FakeEngine {
    pub(crate) fn new(model: &str) -> (Self, mpsc::UnboundedReceiver<Asked>) {
        let (jobs, asked) = mpsc::unbounded_channel();
        (Self { model: model.to_owned(), jobs }, asked)
    }
}

impl Engine for FakeEngine {
    fn models(&self) -> Vec<ModelInfo> {
        vec![ModelInfo {
            id: self.model.clone(),
            family: "fake".to_owned(),
            context_tokens: 4096,
            parameters: 0,
            bits: None,
        }]
    }

    fn chat(&self, job: ChatJob) -> ChatStream {
        let (events, stream) = mpsc::channel(16);
        self.jobs.send(Asked { job, events }).expect("the test holds the other end");
        stream
    }
}
