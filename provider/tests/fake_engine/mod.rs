//! An engine whose answers the test writes, event by event.

use glassbloom_provider::engine::{ChatJob, ChatStream, Engine, EngineError, Event, Finish, ModelInfo};
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
        vec![info(&self.model)]
    }

    fn chat(&self, job: ChatJob) -> ChatStream {
        let (events, stream) = mpsc::channel(16);
        self.jobs.send(Asked { job, events }).expect("the test holds the other end");
        stream
    }
}

fn info(model: &str) -> ModelInfo {
    ModelInfo {
        id: model.to_owned(),
        family: "fake".to_owned(),
        context_tokens: 4096,
        parameters: 0,
        bits: None,
    }
}

/// Repeats the last message word by word; a word counts as a token.
pub(crate) struct FakeEcho {
    model: String,
}

impl FakeEcho {
    pub(crate) fn new(model: &str) -> Self {
        Self { model: model.to_owned() }
    }
}

impl Engine for FakeEcho {
    fn models(&self) -> Vec<ModelInfo> {
        vec![info(&self.model)]
    }

    fn chat(&self, job: ChatJob) -> ChatStream {
        let last = job.messages.as_array().and_then(|messages| messages.last());
        let Some(text) = last.and_then(|message| message["content"].as_str()) else {
            let (events, stream) = mpsc::channel(1);
            let failed = Event::Failed(EngineError::Request("the last message has no text".to_owned()));
            events.try_send(failed).expect("there is room for one event");
            return stream;
        };
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        let prompt_tokens = words.len() as u32;
        let said = words.len().min(job.max_tokens.map_or(usize::MAX, |most| most as usize));
        // Room for all of them, so that nothing waits.
        let (events, stream) = mpsc::channel(said + 2);
        let send = |event| events.try_send(event).expect("there is room for every event");
        send(Event::Started { prompt_tokens });
        words[..said].iter().for_each(|word| send(Event::Text((*word).to_owned())));
        let finish = if said < words.len() { Finish::Length } else { Finish::Stop };
        send(Event::Done { finish, prompt_tokens, completion_tokens: said as u32 });
        stream
    }
}
