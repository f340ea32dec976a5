//! An engine without a model.

use tokio::sync::mpsc;

use super::output::Output;
use super::{ChatJob, ChatStream, Engine, EngineError, Event, Finish, ModelInfo, failed};

/// Repeats the last message word by word, for tests of everything around an engine.
///
/// A word counts as a token. Limits, cancelling, stop texts and tool calls work as with a model.
#[derive(Clone, Debug)]
pub struct EchoEngine {
    model: String,
}

impl EchoEngine {
    /// An engine with one model of this name.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into() }
    }
}

impl Engine for EchoEngine {
    fn models(&self) -> Vec<ModelInfo> {
        vec![ModelInfo {
            id: self.model.clone(),
            family: "echo".to_owned(),
            context_tokens: 4096,
            parameters: 0,
            bits: None,
        }]
    }

    fn chat(&self, job: ChatJob) -> ChatStream {
        if !job.model.is_empty() && job.model != self.model {
            return failed(EngineError::UnknownModel(job.model));
        }
        let last = job.messages.as_array().and_then(|messages| messages.last());
        let Some(text) = last.and_then(|message| message["content"].as_str()) else {
            return failed(EngineError::Request("the last message has no text".to_owned()));
        };
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        let prompt_tokens = words.len() as u32;
        let mut output = Output::new(&job.stop, job.tools.as_array().is_some_and(|tools| !tools.is_empty()));
        // Room for all of them, so that nothing waits.
        let (events, stream) = mpsc::channel(2 * words.len() + 16);
        let send = |event: Event| events.try_send(event).expect("there is room for every event");
        send(Event::Started { prompt_tokens });
        let mut words = words.into_iter();
        let mut completion_tokens = 0;
        let finish = loop {
            if job.cancel.is_cancelled() {
                break Finish::Cancelled;
            }
            if job.max_tokens == Some(completion_tokens) {
                break Finish::Length;
            }
            let Some(word) = words.next() else { break Finish::Stop };
            completion_tokens += 1;
            output.push(word).into_iter().for_each(send);
            if output.stopped() {
                break Finish::Stop;
            }
        };
        let (rest, called) = output.finish();
        rest.into_iter().for_each(send);
        let finish = if called && finish == Finish::Stop { Finish::ToolCalls } else { finish };
        send(Event::Done { finish, prompt_tokens, completion_tokens });
        stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(job: ChatJob) -> Vec<Event> {
        let mut stream = EchoEngine::new("echo").chat(job);
        std::iter::from_fn(|| stream.try_recv().ok()).collect()
    }

    #[test]
    fn repeats() {
        assert_eq!(
            events("to be".into()),
            [
                Event::Started { prompt_tokens: 2 },
                Event::Text("to ".into()),
                Event::Text("be".into()),
                Event::Done { finish: Finish::Stop, prompt_tokens: 2, completion_tokens: 2 },
            ]
        );
        let short = ChatJob { max_tokens: Some(1), ..ChatJob::from("to be") };
        assert_eq!(
            events(short).last(),
            Some(&Event::Done { finish: Finish::Length, prompt_tokens: 2, completion_tokens: 1 })
        );
    }

    #[test]
    fn fails_like_an_engine() {
        let other = ChatJob { model: "other".to_owned(), ..ChatJob::from("hello") };
        assert_eq!(events(other), [Event::Failed(EngineError::UnknownModel("other".to_owned()))]);
        assert!(matches!(events(ChatJob::default())[..], [Event::Failed(EngineError::Request(_))]));
    }
}
