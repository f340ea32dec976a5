//! The engine answers what Python's `mlx-lm` answers, token for token, and behaves as its interface says.
#![cfg(feature = "mlx")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use glassbloom_provider::engine::{
    ChatJob, ChatStream, Engine, EngineError, Event, Finish, MlxEngine, Options, Precision, Sampling,
    manifest,
};
use glassbloom_testdata::{repository, skipped, vector};
use serde_json::{Value, json};

const MODEL: &str = "bloom-tiny-1m";

fn folder() -> PathBuf {
    vector("model").join(MODEL)
}

fn engine(precision: Precision, queue: usize) -> MlxEngine {
    MlxEngine::load([(MODEL.to_owned(), folder())], Options { queue, precision }).unwrap()
}

fn collect(mut stream: ChatStream) -> Vec<Event> {
    std::iter::from_fn(|| stream.blocking_recv()).collect()
}

fn text(events: &[Event]) -> String {
    events
        .iter()
        .filter_map(|event| if let Event::Text(text) = event { Some(text.as_str()) } else { None })
        .collect()
}

fn requests() -> Vec<ChatJob> {
    let prompts = std::fs::read_to_string(vector("model/demo_prompts.jsonl")).unwrap();
    let parse = |line| serde_json::from_str::<Value>(line).unwrap();
    prompts
        .lines()
        .map(parse)
        .map(|mut request| ChatJob {
            messages: request["messages"].take(),
            tools: request["tools"].take(),
            max_tokens: Some(200),
            ..ChatJob::default()
        })
        .collect()
}

/// Compares on the model as it lies here, or quantised and in two files.
fn equals_python(precision: Precision, name: &str, quantised: bool) {
    let python = repository().join("target/venv/bin/python");
    if !python.exists() {
        return skipped("there is no target/venv with mlx-lm; `cargo ci` makes it");
    }
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command
        .arg(repository().join("provider/tests/parity.py"))
        .args([folder(), vector("model/demo_prompts.jsonl")])
        .arg(name)
        .env("HF_HUB_OFFLINE", "1");
    if quantised {
        command.arg(out.path());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = String::from_utf8(output.stdout).unwrap();
    let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests = requests();
    assert_eq!(requests.len(), expected.len());

    let model = if quantised { out.path().to_owned() } else { folder() };
    let engine = MlxEngine::load([(MODEL.to_owned(), model)], Options { queue: 1, precision }).unwrap();
    assert_eq!(engine.models()[0].bits, name.strip_prefix('q').map(|bits| bits.parse().unwrap()));
    assert_eq!(engine.models()[0].parameters, 984_448);
    for (job, expected) in requests.into_iter().zip(expected) {
        let question = job.messages.to_string();
        let events = collect(engine.chat(job));
        let Some(Event::Done { prompt_tokens, completion_tokens, finish }) = events.last() else {
            panic!("{question}: {events:?}")
        };
        assert_eq!(*prompt_tokens, expected["prompt_tokens"], "{question}");
        let answer = expected["text"].as_str().unwrap();
        match &events[1..events.len() - 1] {
            [Event::ToolCall { name, arguments, .. }] => {
                let call = answer.strip_prefix("<tool_call>").unwrap().strip_suffix("</tool_call>").unwrap();
                let arguments: Value = serde_json::from_str(arguments).unwrap();
                assert_eq!(
                    serde_json::from_str::<Value>(call).unwrap(),
                    json!({ "name": name, "arguments": arguments })
                );
                assert_eq!(*finish, Finish::ToolCalls);
            }
            events => assert_eq!(text(events), answer, "{question}"),
        }
        assert_eq!(*completion_tokens, expected["tokens"], "{question}");
    }
}

#[test]
fn equals_mlx_lm_in_32_bits() {
    equals_python(Precision::Float32, "f32", false);
}

#[test]
fn equals_mlx_lm_as_stored() {
    equals_python(Precision::AsStored, "bf16", false);
}

#[test]
fn equals_mlx_lm_with_8_bits() {
    equals_python(Precision::Float32, "q8", true);
}

#[test]
fn equals_mlx_lm_with_4_bits() {
    equals_python(Precision::Float32, "q4", true);
}

#[test]
fn answers_a_question() {
    let engine = engine(Precision::Float32, 4);
    let [info] = &engine.models()[..] else { panic!("one model was loaded") };
    assert_eq!(
        (info.id.as_str(), info.context_tokens, info.parameters, info.bits),
        (MODEL, 1024, 984_448, None)
    );

    let events = collect(engine.chat("What is the capital of France?".into()));
    assert!(matches!(events[0], Event::Started { prompt_tokens } if prompt_tokens > 8), "{events:?}");
    assert_eq!(text(&events), "The capital of France is Paris.");
    assert!(matches!(events.last(), Some(Event::Done { finish: Finish::Stop, .. })), "{events:?}");

    let stop = vec!["ce is Par".to_owned()];
    let events = collect(engine.chat(ChatJob { stop, ..ChatJob::from("What is the capital of France?") }));
    assert_eq!(text(&events), "The capital of Fran");
    assert!(matches!(events.last(), Some(Event::Done { finish: Finish::Stop, .. })), "{events:?}");

    let events = collect(
        engine.chat(ChatJob { max_tokens: Some(2), ..ChatJob::from("What is the capital of France?") }),
    );
    assert!(
        matches!(events.last(), Some(Event::Done { finish: Finish::Length, completion_tokens: 2, .. })),
        "{events:?}"
    );
}

#[test]
fn a_seed_repeats_an_answer() {
    let engine = engine(Precision::Float32, 4);
    let ask = |seed| {
        let sampling = Sampling { temperature: 1.5, top_p: 0.95, top_k: 40, seed: Some(seed) };
        text(&collect(engine.chat(ChatJob {
            sampling,
            max_tokens: Some(40),
            ..ChatJob::from("Tell me a story.")
        })))
    };
    assert_eq!(ask(1), ask(1));
    assert_ne!(ask(1), ask(2));
}

#[test]
fn refuses_what_it_cannot_answer() {
    let engine = engine(Precision::Float32, 1);
    let other = ChatJob { model: "gpt-7".to_owned(), ..ChatJob::from("Hello!") };
    assert_eq!(collect(engine.chat(other)), [Event::Failed(EngineError::UnknownModel("gpt-7".to_owned()))]);

    let long = collect(engine.chat("elephants ".repeat(2000).as_str().into()));
    assert!(matches!(long[..], [Event::Failed(EngineError::PromptTooLong { limit: 1023, .. })]), "{long:?}");

    let odd = collect(engine.chat(ChatJob { messages: json!([{ "role": 1 }]), ..ChatJob::default() }));
    assert!(matches!(odd[..], [Event::Failed(EngineError::Request(_))]), "{odd:?}");
}

/// A job that goes on until the context is full.
fn endless() -> ChatJob {
    let sampling = Sampling { temperature: 50.0, seed: Some(3), ..Sampling::default() };
    ChatJob { sampling, ..ChatJob::from("Hello!") }
}

#[test]
fn a_full_queue_refuses_and_cancelling_makes_room() {
    let engine = engine(Precision::Float32, 1);
    let first = endless();
    let cancel = first.cancel.clone();
    let mut running = engine.chat(first);
    assert!(matches!(running.blocking_recv(), Some(Event::Started { .. })));
    // The first is running, so it has left the queue, which has one place.
    let waiting = engine.chat("Hello!".into());
    assert_eq!(collect(engine.chat("Hello!".into())), [Event::Failed(EngineError::Busy)]);

    cancel.cancel();
    let events = collect(running);
    let Some(Event::Done { finish: Finish::Cancelled, completion_tokens, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert!(*completion_tokens < 900, "{completion_tokens}");
    assert!(matches!(collect(waiting).last(), Some(Event::Done { finish: Finish::Stop, .. })));
}

#[test]
fn nobody_listening_cancels() {
    let engine = engine(Precision::Float32, 1);
    let mut unheard = engine.chat(endless());
    assert!(matches!(unheard.blocking_recv(), Some(Event::Started { .. })));
    drop(unheard);
    // Answered at once, not after a whole context.
    let asked = std::time::Instant::now();
    assert_eq!(
        text(&collect(engine.chat("What is the capital of France?".into()))),
        "The capital of France is Paris."
    );
    assert!(asked.elapsed() < Duration::from_secs(60));
}

#[test]
fn its_files_have_a_manifest() {
    let files = manifest(&folder()).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    let expected = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(files[2].size, 1_973_784);
}
