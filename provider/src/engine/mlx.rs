//! Runs models with MLX: one thread for each model, which owns it and answers one job after another.
//!
//! An array of MLX may move between threads but not be shared by them, and a step of a model takes long, so a
//! model is no place for an asynchronous task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::output::Output;
use super::qwen3::Qwen3;
use super::sample::Sampler;
use super::template::Template;
use super::tokenizer::Tokenizer;
use super::weights::Precision;
use super::{ChatJob, ChatStream, Engine, EngineError, Event, Finish, LoadError, ModelInfo, failed};

/// A prompt is read this many tokens at a time, and cancelling acts in between.
const PREFILL: usize = 256;

/// How an engine is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many jobs can wait for each model; one more is refused as [`EngineError::Busy`].
    pub queue: usize,
    /// How weights are rounded when they are loaded.
    pub precision: Precision,
}

impl Default for Options {
    /// Sixteen waiting jobs, and the precision that is fast on this system.
    fn default() -> Self {
        let precision = if cfg!(target_os = "macos") { Precision::AsStored } else { Precision::Float32 };
        Self { queue: 16, precision }
    }
}

/// Models that run with MLX.
///
/// When it is dropped, jobs that run are cancelled and the models are freed.
pub struct MlxEngine {
    models: Vec<(ModelInfo, mpsc::Sender<Queued>)>,
    closing: CancellationToken,
}

struct Queued {
    job: ChatJob,
    events: mpsc::Sender<Event>,
}

impl MlxEngine {
    /// Loads models, each with the name that requests ask for and its folder in Hugging Face layout. Takes as
    /// long as reading their files.
    ///
    /// # Errors
    /// When a folder is no model that can run here.
    pub fn load(
        models: impl IntoIterator<Item = (String, PathBuf)>,
        options: Options,
    ) -> Result<Self, LoadError> {
        #[cfg(target_os = "linux")]
        glassbloom_blas::keep();
        let closing = CancellationToken::new();
        let mut loaded = Vec::new();
        for (id, folder) in models {
            let model = Model::load(id, &folder, options.precision)?;
            let info = model.info.clone();
            let (jobs, queue) = mpsc::channel(options.queue.max(1));
            let closing = closing.clone();
            thread::Builder::new()
                .name(format!("model {}", info.id))
                .spawn(move || model.work(queue, &closing))
                .map_err(|error| LoadError::file(&folder, error))?;
            loaded.push((info, jobs));
        }
        Ok(Self { models: loaded, closing })
    }
}

impl Drop for MlxEngine {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Engine for MlxEngine {
    fn models(&self) -> Vec<ModelInfo> {
        self.models.iter().map(|(info, _)| info.clone()).collect()
    }

    fn chat(&self, job: ChatJob) -> ChatStream {
        let found = self.models.iter().find(|(info, _)| job.model.is_empty() || info.id == job.model);
        let Some((info, jobs)) = found else { return failed(EngineError::UnknownModel(job.model)) };
        // A token makes at most two events, so that the model never waits for a slow reader.
        let tokens = job.max_tokens.unwrap_or(u32::MAX).min(info.context_tokens) as usize;
        let (events, stream) = mpsc::channel(2 * tokens + 16);
        match jobs.try_send(Queued { job, events }) {
            Ok(()) => stream,
            Err(mpsc::error::TrySendError::Full(_)) => failed(EngineError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                failed(EngineError::Internal("its thread has ended".to_owned()))
            }
        }
    }
}

/// A model and what belongs to it, on the thread that owns it.
struct Model {
    info: ModelInfo,
    network: Qwen3,
    tokenizer: Tokenizer,
    template: Template,
    /// The tokens that end an answer.
    ends: Vec<u32>,
}

impl Model {
    fn load(id: String, folder: &Path, precision: Precision) -> Result<Self, LoadError> {
        let config = json(&folder.join("config.json"))?;
        let tokenizer = Tokenizer::load(folder)?;
        let template = Template::load(folder)?;
        let ends = ends(folder, &config, &tokenizer)?;
        let network = Qwen3::load(folder, &config, precision)?;
        let info = ModelInfo {
            id,
            family: "qwen3".to_owned(),
            context_tokens: network.context_tokens(),
            parameters: network.parameters(),
            bits: network.bits(),
        };
        Ok(Self { info, network, tokenizer, template, ends })
    }

    /// Answers jobs until nobody can send any more.
    fn work(self, mut queue: mpsc::Receiver<Queued>, closing: &CancellationToken) {
        while let Some(Queued { job, events }) = queue.blocking_recv() {
            // MLX reports errors of C++ as errors, but mlx-rs panics on some of its own. One job's input must
            // not end the thread; a job changes nothing of the model.
            let result = catch_unwind(AssertUnwindSafe(|| self.answer(&job, &events, closing)));
            let last = match result {
                Ok(Ok(done)) => done,
                Ok(Err(error)) => Event::Failed(error),
                Err(_) => Event::Failed(EngineError::Internal("it panicked".to_owned())),
            };
            // Nobody may be there to hear it.
            let _ = events.try_send(last);
            if let Err(error) = mlx_rs::memory::clear_cache() {
                tracing::warn!(%error, "memory of the last answer was not freed");
            }
        }
    }

    fn answer(
        &self,
        job: &ChatJob,
        events: &mpsc::Sender<Event>,
        closing: &CancellationToken,
    ) -> Result<Event, EngineError> {
        let cancelled = || job.cancel.is_cancelled() || events.is_closed() || closing.is_cancelled();
        let done = |finish, prompt: &[u32], completion_tokens| {
            Ok(Event::Done { finish, prompt_tokens: prompt.len() as u32, completion_tokens })
        };
        if cancelled() {
            return done(Finish::Cancelled, &[], 0);
        }
        let prompt = self.template.render(&job.messages, &job.tools).map_err(EngineError::Request)?;
        let prompt = self.tokenizer.encode(&prompt).map_err(EngineError::Internal)?;
        // Room for one token at least.
        let limit = (self.info.context_tokens as usize).saturating_sub(1);
        let Some((last, first)) = prompt.split_last().filter(|_| prompt.len() <= limit) else {
            return Err(EngineError::PromptTooLong { tokens: prompt.len(), limit });
        };
        send(events, Event::Started { prompt_tokens: prompt.len() as u32 });
        let room = self.info.context_tokens - prompt.len() as u32;
        let most = job.max_tokens.map_or(room, |most| most.min(room));

        let mut cache = self.network.cache();
        for tokens in first.chunks(PREFILL) {
            if cancelled() {
                return done(Finish::Cancelled, &prompt, 0);
            }
            self.network.read(tokens, &mut cache).map_err(internal)?;
        }
        let mut output = Output::new(&job.stop, job.tools.as_array().is_some_and(|tools| !tools.is_empty()));
        let mut decoder = self.tokenizer.decoder();
        let mut sampler = Sampler::new(job.sampling);
        let mut token = *last;
        let mut count = 0;
        let finish = loop {
            if cancelled() {
                break Finish::Cancelled;
            }
            if count == most {
                break Finish::Length;
            }
            token = sampler.pick(&self.network.next(&[token], &mut cache).map_err(internal)?);
            if self.ends.contains(&token) {
                break Finish::Stop;
            }
            count += 1;
            let text = decoder.push(token).map_err(EngineError::Internal)?;
            for event in output.push(&text) {
                send(events, event);
            }
            if output.stopped() {
                break Finish::Stop;
            }
        };
        // What a stop text ends has no rest.
        if !output.stopped() {
            let text = decoder.finish().map_err(EngineError::Internal)?;
            for event in output.push(&text) {
                send(events, event);
            }
        }
        let (rest, called) = output.finish();
        for event in rest {
            send(events, event);
        }
        done(if called && finish == Finish::Stop { Finish::ToolCalls } else { finish }, &prompt, count)
    }
}

/// Gives an event to the reader. It fails only when nobody reads any more, which the next step notices.
fn send(events: &mpsc::Sender<Event>, event: Event) {
    let _ = events.try_send(event);
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn internal(error: mlx_rs::error::Exception) -> EngineError {
    EngineError::Internal(error.what().to_owned())
}

fn json(file: &Path) -> Result<Value, LoadError> {
    let text = std::fs::read(file).map_err(|error| LoadError::file(file, error))?;
    serde_json::from_slice(&text).map_err(|error| LoadError::file(file, error))
}

/// The tokens that end an answer, from the three files that can name them.
fn ends(folder: &Path, config: &Value, tokenizer: &Tokenizer) -> Result<Vec<u32>, LoadError> {
    let generation = folder.join("generation_config.json");
    let generation = if generation.is_file() { json(&generation)? } else { Value::Null };
    let mut ends = Vec::new();
    for value in [&config["eos_token_id"], &generation["eos_token_id"]] {
        let numbers = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        ends.extend(numbers.iter().filter_map(|number| u32::try_from(number.as_u64()?).ok()));
    }
    let named = &json(&folder.join("tokenizer_config.json"))?["eos_token"];
    ends.extend(named.as_str().or_else(|| named["content"].as_str()).and_then(|text| tokenizer.token(text)));
    ends.sort_unstable();
    ends.dedup();
    if ends.is_empty() {
        return Err(LoadError::file(folder, "no file says which token ends an answer"));
    }
    Ok(ends)
}
