//! Checks files of the visitor's, without the network.

use glassbloom_spec::{
    bundle::ReceiptBundle,
    hash::Hash,
    id::UnixMillis,
    policy::{OpenError, Policy},
    proof::TlogProof,
    statement::Statement,
};

use crate::{
    check::{Outcome, State, Step, sentence, steps_of},
    describe, time,
};

/// The largest file that is looked at, in bytes.
pub const MAX_FILE: usize = glassbloom_spec::bundle::MAX_BUNDLE;

/// What was found out about a file.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the file is.
    pub kind: &'static str,
    /// Every check.
    pub outcome: Outcome,
    /// Facts about it, as pairs of name and value.
    pub facts: Vec<(&'static str, String)>,
    /// The request and the answer, where the file discloses them.
    pub disclosed: Vec<(&'static str, String)>,
    /// A `.tlog-proof` says nothing without its entry: the visitor is asked for it.
    pub wants_entry: bool,
}

/// Checks a receipt bundle, a `.tlog-proof` or a checkpoint under a policy. `entry` is what a `.tlog-proof` is about.
pub fn check(policy: &Policy, file: &[u8], entry: Option<&[u8]>, now: UnixMillis) -> Checked {
    if file.starts_with(b"c2sp.org/tlog-proof@") {
        return check_proof(policy, file, entry);
    }
    match ReceiptBundle::parse(file) {
        Ok(bundle) => check_bundle(policy, &bundle, now),
        Err(error) => match core::str::from_utf8(file) {
            Ok(text) if text.contains("\n\n\u{2014} ") => check_checkpoint(policy, file, now),
            _ => unknown(&error.to_string()),
        },
    }
}

fn check_bundle(policy: &Policy, bundle: &ReceiptBundle, now: UnixMillis) -> Checked {
    let verified = bundle.verify(policy, now);
    let steps = steps_of(&verified.report);
    let failure = verified
        .report
        .failure()
        .map(|step| format!("{}: {}", sentence(&step.name).trim_end_matches('.'), sentence(&step.detail)));
    let (state, why) = match (verified.sentence, failure) {
        (Some(sentence), None) => (verified.report.state(), sentence),
        (_, Some(failure)) => (State::Failed, failure),
        (None, None) => (State::Failed, "The checks ended early.".to_owned()),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut disclosed = Vec::new();
    disclosed.extend(bundle.request.as_deref().map(|request| ("Request", text(request))));
    disclosed
        .extend(bundle.response.as_ref().map(|chunks| ("Answer, as it was sent", text(&chunks.concat()))));
    let index = TlogProof::parse(&bundle.proof)
        .map(|proof| proof.index.to_string())
        .unwrap_or_else(|_| "unknown".to_owned());
    Checked {
        kind: "Receipt bundle",
        outcome: Outcome { state, why, steps },
        facts: vec![
            ("Receipt", bundle.id().to_string()),
            ("Index in the receipts log", index),
            (
                "Tokens",
                format!("{} in the prompt, {} in the answer", bundle.usage.prompt, bundle.usage.completion),
            ),
        ],
        disclosed,
        wants_entry: false,
    }
}

fn check_proof(policy: &Policy, file: &[u8], entry: Option<&[u8]>) -> Checked {
    let proof = match TlogProof::parse(file) {
        Ok(proof) => proof,
        Err(error) => return failed("Inclusion proof", "Well-formed", &error.to_string()),
    };
    let mut steps =
        vec![Step::verified("Well-formed", "A proof in the form of c2sp.org/tlog-proof.").with_bytes(file)];
    let mut facts = vec![("Index", proof.index.to_string())];
    let checkpoint = policy.open(None, &proof.checkpoint);
    steps.push(match &checkpoint {
        Ok(checkpoint) => Step::verified("Checkpoint signed and witnessed", witnessed(checkpoint)),
        Err(error) => refused("Checkpoint signed and witnessed", error),
    });
    if let Ok(checkpoint) = &checkpoint {
        facts.push(("Log", checkpoint.origin().to_owned()));
        facts.push(("Tree size", time::grouped(checkpoint.size().get())));
    }
    let mut wants_entry = false;
    match (entry, checkpoint) {
        (Some(entry), Ok(checkpoint)) => {
            let included = checkpoint.includes(entry.to_vec(), proof.index, &proof.hashes);
            let holds = format!("The entry is number {} of {}.", proof.index, checkpoint.origin());
            steps.push(Step::of("Entry included", &included, holds).with_bytes(entry));
            facts.push(("Leaf hash", Hash::leaf(entry).to_string()));
            if let Ok(statement) = Statement::parse(entry) {
                facts.push(("Statement", format!("{}: {}", statement.kind(), describe::summary(&statement))));
            }
        }
        (None, Ok(_)) => {
            wants_entry = true;
            steps.push(Step::not_verifiable(
                "Entry included",
                "A proof does not hold its entry. Add the file with the entry's bytes below.",
            ));
        }
        (_, Err(_)) => {
            steps.push(Step::not_verifiable("Entry included", "There is no checkpoint to compare with."))
        }
    }
    let outcome = Outcome::of(steps, "The entry is in a log that the policy's witnesses saw.");
    Checked { kind: "Inclusion proof", outcome, facts, disclosed: Vec::new(), wants_entry }
}

fn check_checkpoint(policy: &Policy, file: &[u8], now: UnixMillis) -> Checked {
    let opened = policy.open(None, file);
    let (step, facts) = match &opened {
        Ok(checkpoint) => (
            Step::verified("Signed and witnessed", witnessed(checkpoint)),
            vec![
                ("Log", checkpoint.origin().to_owned()),
                ("Tree size", time::grouped(checkpoint.size().get())),
                ("Root", checkpoint.root().to_string()),
                ("Age", time::ago(checkpoint.cosigned_at(), now)),
            ],
        ),
        Err(error) => (refused("Signed and witnessed", error), Vec::new()),
    };
    let outcome = Outcome::of(vec![step.with_bytes(file)], "A checkpoint that the policy accepts.");
    Checked { kind: "Checkpoint", outcome, facts, disclosed: Vec::new(), wants_entry: false }
}

fn witnessed(checkpoint: &glassbloom_spec::checkpoint::Checkpoint) -> String {
    let names: Vec<_> = checkpoint.cosignatures().iter().map(|(name, _)| name.as_str()).collect();
    let by = if names.is_empty() { "no witness, as the policy allows".to_owned() } else { names.join(", ") };
    format!("{}, {} entries, cosigned by {by}.", checkpoint.origin(), checkpoint.size())
}

/// A log that the policy does not know is nothing that the policy can judge.
fn refused(name: &str, error: &OpenError) -> Step {
    match error {
        OpenError::UnknownLog { origin } => {
            Step::not_verifiable(name, format!("The policy does not know the log {origin}."))
        }
        error => Step::failed(name, sentence(&error.to_string())),
    }
}

fn failed(kind: &'static str, step: &str, error: &str) -> Checked {
    let outcome = Outcome::of(vec![Step::failed(step, sentence(error))], "");
    Checked { kind, outcome, facts: Vec::new(), disclosed: Vec::new(), wants_entry: false }
}

fn unknown(error: &str) -> Checked {
    let step = Step::not_verifiable(
        "A file this page knows",
        format!(
            "It is no receipt bundle ({error}), no .tlog-proof and no checkpoint. Choose a file that `glassbloom receipts export` wrote."
        ),
    );
    Checked {
        kind: "Unknown file",
        outcome: Outcome::of(vec![step], ""),
        facts: Vec::new(),
        disclosed: Vec::new(),
        wants_entry: false,
    }
}
