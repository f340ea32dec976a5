//! The corpus of targets that have no folder of vectors, always the same.
//!
//! `cargo run -p glassbloom-fuzz --example seeds` writes it. What a fuzzer found is kept beside it in files whose names begin
//! with `found-`, which are left alone.

use std::{fs, io, sync::Arc};

use glassbloom_spec::{
    api::{
        FromProvider, Providers, ToProvider, UsageOpening, data,
        frame::{Frame, RelayError},
    },
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    merkle::{Frontier, prove_consistency, prove_inclusion, root_of},
    note::SignedNote,
    openai::{
        ChatCompletion, ChunkWriter, Error, FinishReason, Identity, Model, ModelList, Reply, ToolCall,
        ToolCallDelta, Usage, sse,
    },
    seal::{bhttp, open_request},
    subtree::{Subtree, prove_subtree, verify_subtree},
    tile::encode_bundle,
    witness::{AddCheckpoint, SignSubtree},
};
use glassbloom_testdata::world::{NOW, REGISTRY};

use crate::{TARGETS, WORLD, folder};

/// One file of the corpus.
pub struct Seed {
    /// Whose.
    pub target: &'static str,
    /// File name.
    pub name: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Writes the corpus and removes what is no longer in it.
///
/// # Errors
/// When a file cannot be written.
pub fn write() -> io::Result<usize> {
    let seeds = all();
    for target in TARGETS {
        let folder = folder().join("corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        for file in fs::read_dir(&folder)? {
            let file = file?;
            if !file.file_name().to_string_lossy().starts_with("found-") {
                fs::remove_file(file.path())?;
            }
        }
    }
    for seed in &seeds {
        fs::write(folder().join("corpus").join(seed.target).join(&seed.name), &seed.bytes)?;
    }
    Ok(seeds.len())
}

/// Every seed.
pub fn all() -> Vec<Seed> {
    let mut seeds = Seeds(Vec::new());
    seeds.notes();
    seeds.requests();
    seeds.trees();
    seeds.values();
    seeds.messages();
    seeds.inside_the_seal();
    seeds.chat();
    let others = [crate::evidence::seeds(), crate::identity::seeds(), crate::machines::seeds()];
    for (target, name, bytes) in others.into_iter().flatten() {
        seeds.add(target, name, bytes);
    }
    // Something for every target: a file of its own, so that its folder is kept.
    for target in TARGETS {
        seeds.add(target.name, "empty", Vec::new());
    }
    seeds.0
}

struct Seeds(Vec<Seed>);

impl Seeds {
    fn add(&mut self, target: &'static str, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push(Seed { target, name: name.into(), bytes: bytes.into() });
    }

    fn notes(&mut self) {
        let keys = &WORLD.keys;
        let head = WORLD.registry.head(7);
        let [ed25519, mldsa] = keys.log(REGISTRY);
        let [witness, _] = keys.witnesses();
        let line = ed25519.sign_checkpoint(&head).unwrap();
        let cosignature = witness.cosign(&head, UnixSeconds::new(NOW)).unwrap();
        self.add("note", "line", line.to_string());
        self.add("note", "lines", format!("{line}\n{cosignature}\n"));
        self.add("note", "head", head.to_string());
        self.add("note", "root-base64", head.root.to_base64());
        self.add("note", "root-hex", head.root.to_string());
        self.add("note", "number", "18446744073709551615");
        self.add("note", "blank-lines-in-the-text", format!("a\n\n\nb\n\n{line}\n"));
        for (name, key) in [("ed25519-log", ed25519), ("mldsa44-log", mldsa), ("ed25519-witness", witness)] {
            self.add("key", name, key.vkey().to_string());
            self.add("key", format!("{name}-private"), key.to_private_string().as_bytes());
        }
    }

    fn requests(&mut self) {
        let note = SignedNote::parse(&WORLD.checkpoint(REGISTRY, 7, NOW)).unwrap();
        let head = WORLD.registry.head(7);
        let proof = WORLD.registry.consistency(3, 7);
        let add = AddCheckpoint { old: 3.into(), proof, note: note.clone(), head: head.clone() };
        self.add("witness_request", "add-checkpoint", add.encode());
        let subtree = Subtree::new(4.into(), 6.into()).unwrap();
        let within = WORLD.registry_entries()[4..6].iter().map(|entry| Hash::leaf(entry));
        let hash = root_of(within);
        // Entry 6 on the right of it, and what is on the left of both.
        let proof = vec![Hash::leaf(&WORLD.registry_entries()[6]), WORLD.registry.head(4).root];
        verify_subtree(subtree, hash, head.size, head.root, &proof).unwrap();
        let sign = SignSubtree { subtree, hash, proof, note, head };
        self.add("witness_request", "sign-subtree", sign.encode());
    }

    fn trees(&mut self) {
        for path in [
            "tile/0/000",
            "tile/entries/x001/x234/067.p/255",
            "tile/63/001.p/1",
            "tile/7/x072/x057/x594/x037/x927/935",
        ] {
            self.add("tile_path", path.replace('/', "-"), path);
        }
        let entries: [&[u8]; 3] = [b"one", b"", &[7; 300]];
        self.add("tile", "bundle", encode_bundle(&entries).unwrap());
        self.add("tile", "bundle-of-empty-entries", vec![0; 2 * 256]);
        self.add("tile", "hashes", WORLD.registry.inclusion(5, 7).concat_bytes());
        let leaves = |count: u8| (0..count).map(|leaf| Hash::leaf(&[leaf]));
        for (old, new, index) in [(3_u8, 7_u8, 5_u8), (4, 7, 0), (0, 1, 0), (128, 255, 254), (6, 6, 5)] {
            let mut nodes = std::collections::BTreeMap::new();
            let mut tree = Frontier::new();
            for leaf in leaves(new) {
                tree.append_with(leaf, |id, hash| {
                    nodes.insert(id, hash);
                });
            }
            let (old_size, new_size) = (TreeSize::new(old.into()), TreeSize::new(new.into()));
            let of = |proof: Vec<Hash>| [&[old, new, index][..], &proof.concat_bytes()].concat();
            let consistency = prove_consistency(old_size, new_size, &nodes).unwrap();
            let inclusion = prove_inclusion(u64::from(index).into(), new_size, &nodes).unwrap();
            self.add("merkle", format!("consistency-{old}-{new}"), of(consistency));
            self.add("merkle", format!("inclusion-{index}-{new}"), of(inclusion));
            if let Some(subtree) = Subtree::new(old_size.get().into(), u64::from(index).into()) {
                let proof = prove_subtree(subtree, new_size, &nodes).unwrap();
                self.add("merkle", format!("subtree-{old}-{index}-{new}"), of(proof));
            }
        }
    }

    fn values(&mut self) {
        for (name, text) in [
            ("numbers", "8900171818181918ff190100193bff1affffffff1b00000001000000003bffffffffffffffff"),
            ("map", "a401020203616182f5f6410082f4d81880"),
            ("nested", "8181818181818180"),
        ] {
            self.add("cbor", name, hex::decode(text).unwrap());
        }
        self.add("cbor", "statement", WORLD.registry_entries()[0].clone());
        self.add("leaf", "public-key", WORLD.keys.provider.public_key().to_string());
        for exchange in &WORLD.exchanges[..1] {
            self.add("receipt", "request", exchange.body.clone());
        }
        self.add("receipt", "messages", r#"{"messages":[ {"a":[1]} , "b",3 ],"x":{}}"#);
        self.add("statement", "attestation", WORLD.registry_entries()[5].clone());
        self.add("statement", "receipt", WORLD.receipts_entries()[0].clone());
    }

    fn messages(&mut self) {
        let record = WORLD.record();
        let exchange = &WORLD.exchanges[0];
        let opening = UsageOpening { prompt: 12, completion: 3, blindings: [Hash::EMPTY_TREE; 2] };
        let receipt = exchange.receipt.bytes().to_vec();
        self.add(
            "messages",
            "completed",
            json(&FromProvider::Completed { id: 1, receipt, usage: opening.clone() }),
        );
        let words = || ("busy".to_owned(), "come back later".to_owned());
        let (code, message) = words();
        self.add("messages", "failed", json(&FromProvider::Failed { id: 2, code, message }));
        let (epoch, signature) = (UnixSeconds::new(NOW), vec![7; 64]);
        let answer = FromProvider::ChallengeAnswer { epoch, signature };
        self.add("messages", "challenge-answer", json(&answer));
        let beacon = record.checkpoint.clone();
        self.add("messages", "challenge", json(&ToProvider::Challenge { epoch, beacon }));
        let (code, message) = words();
        self.add("messages", "notice", json(&ToProvider::Notice { code, message }));
        self.add("messages", "heartbeat", json(&FromProvider::Heartbeat { active: 3 }));
        let hello = FromProvider::Hello {
            attestation: vec![1, 2, 3],
            capacity: 4,
            models: vec!["bloom-tiny".to_owned()],
        };
        self.add("messages", "hello", json(&hello));
        self.add("messages", "cancel", json(&ToProvider::Cancel { id: 1 }));
        let (code, message) = words();
        self.add("messages", "refused", json(&ToProvider::Refused { code, message }));
        self.add("messages", "welcome", json(&ToProvider::Welcome { records: vec![record.clone()] }));
        let providers = Providers { expires: UnixSeconds::new(NOW), providers: vec![record.clone()] };
        self.add("messages", "providers", json(&providers));
        self.add("messages", "record", json(&record));
        self.add("messages", "leaf", json(&record.release));
        self.add("messages", "opening", json(&opening));
        self.add("messages", "head", json(&WORLD.registry.head(7)));
        self.add("messages", "data", data::encode(7, b"bytes"));
        let mut tree = Frontier::new();
        (0..3).for_each(|leaf| tree.append(Hash::leaf(&[leaf])));
        self.add("messages", "frontier", json(&tree));
        self.add("messages", "appended", r#"{"index":3,"proof":"c2sp.org/tlog-proof@v1\n"}"#);
        let (code, message) = words();
        let frames = [
            Frame::Sealed(vec![1, 2, 3]),
            Frame::Proof(b"proof".to_vec()),
            Frame::Error(RelayError { code, message }),
        ];
        self.add("frames", "answer", frames[..2].iter().flat_map(Frame::encode).collect::<Vec<_>>());
        self.add("frames", "error", frames.iter().flat_map(Frame::encode).collect::<Vec<_>>());
        self.add("frames", "too-long", [0, 0, 0x10, 0, 1]);
    }

    fn inside_the_seal(&mut self) {
        let exchange = &WORLD.exchanges[0];
        let config = WORLD.keys.key_config();
        let sealing = Arc::clone(&WORLD.keys.sealing);
        let (request, _) = open_request(&config, sealing as _, &exchange.sealed_request).unwrap();
        let inner = request.encode().unwrap();
        self.add("inner_request", "request", inner.clone());
        self.add("http_request", "request", inner);
        self.add(
            "http_request",
            "no-content",
            bhttp::Request::post_json("/v1/x?y=z", Vec::new()).encode().unwrap(),
        );
        self.add("http_request", "padded", [&b"\0\x03GET\x05https\x00\x01/\x00"[..], &[0; 40]].concat());

        let fields = |name, value: &str| bhttp::Fields::new().with(name, value).unwrap();
        let headers = fields("content-type", "text/event-stream");
        let (mut answer, mut encoder) = bhttp::ResponseEncoder::start(200, &headers).unwrap();
        for chunk in &exchange.chunks {
            answer.extend(encoder.content(chunk).unwrap());
        }
        let receipt = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, exchange.receipt.bytes());
        let trailers = fields("glassbloom-receipt", &receipt).with("glassbloom-usage", "12 3").unwrap();
        answer.extend(encoder.end(&trailers).unwrap());
        self.add("inner_answer", "answer", answer.clone());
        self.add("http_response", "answer", answer);
        let (mut refusal, encoder) =
            bhttp::ResponseEncoder::start(400, &fields("content-length", "0")).unwrap();
        refusal.extend(encoder.end(&bhttp::Fields::new()).unwrap());
        self.add("inner_answer", "refusal", refusal.clone());
        refusal.extend([0; 30]);
        self.add("http_response", "refusal", refusal);
    }

    fn chat(&mut self) {
        self.add("chat_request", "plain", WORLD.exchanges[0].body.clone());
        self.add("chat_request", "everything", EVERYTHING);
        let identity = || Identity {
            id: "chatcmpl-1".to_owned(),
            created: UnixSeconds::new(NOW),
            model: "bloom-tiny".to_owned(),
            system_fingerprint: "fp".to_owned(),
        };
        let usage = Usage { prompt_tokens: 12, cached_tokens: 1, completion_tokens: 3, reasoning_tokens: 0 };
        let call: ToolCall = serde_json::from_str(
            r#"{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}"#,
        )
        .unwrap();
        let reply = Reply { content: Some("A flower.".to_owned()), reasoning: None, tool_calls: vec![call] };
        let whole = ChatCompletion::new(identity(), reply, FinishReason::ToolCalls, usage);
        self.add("reply", "whole", whole.to_json());
        let models = ModelList::new(vec![Model::new("bloom-tiny", UnixSeconds::new(NOW), "glassbloom")]);
        self.add("reply", "models", serde_json::to_vec(&models).unwrap());
        self.add("reply", "error", Error::model_not_found("x").to_json());
        self.add("reply", "error-of-others", r#"{"error":{"message":"no","code":404,"type":null}}"#);
        let writer = ChunkWriter::new(identity(), true);
        let events = [
            writer.role(),
            writer.content("A flower."),
            writer.reasoning("Hm."),
            writer.tool_call(ToolCallDelta::start(0, "call_1", "f")),
            writer.tool_call(ToolCallDelta::arguments(0, "{}")),
            writer.finish(FinishReason::Stop),
            writer.usage(usage),
            sse::DONE.to_vec(),
        ];
        for (number, event) in events[..7].iter().enumerate() {
            let json = event.strip_prefix(b"data: ").unwrap();
            self.add("reply", format!("chunk-{number}"), json.trim_ascii_end());
        }
        self.add("event_stream", "answer", events.concat());
        self.add("event_stream", "odd", "\u{feff}event: x\r\ndata:a\rdata: b\n:c\nid: 1\n\n\n\ndata\n\n");
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for Vec<Hash> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|hash| *hash.as_bytes()).collect()
    }
}

/// Every field of a chat request that may be there.
const EVERYTHING: &str = r#"{
"model":"bloom-tiny","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},
"messages":[
{"role":"developer","content":"Be brief.","name":"a"},
{"role":"user","content":[{"type":"text","text":"What is "},{"type":"text","text":"2+2?"}]},
{"role":"assistant","content":null,"reasoning_content":"Hm.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"add","arguments":"{\"a\":2}"}}]},
{"role":"tool","tool_call_id":"call_1","content":"4"},
{"role":"user","content":"\u00e9\ud83c\udf38"}],
"temperature":0.7,"top_p":0.95,"seed":-3,"max_tokens":5,"max_completion_tokens":16,"stop":["\n","end"],
"tools":[{"type":"function","function":{"name":"add","description":"Adds.","parameters":{"type":"object","minimum":0.1},"strict":null}}],
"tool_choice":"none","reasoning_effort":"minimal","parallel_tool_calls":true,
"user":"u","metadata":{"k":"v"},"store":false,"service_tier":"auto","verbosity":"medium","n":1,
"frequency_penalty":0,"presence_penalty":0.0,"logit_bias":{},"logprobs":false,"top_logprobs":0,
"modalities":["text"],"response_format":{"type":"text"}}"#;
