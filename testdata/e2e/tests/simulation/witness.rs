//! Models of witnesses, and the network to them.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use axum::http::StatusCode;
use glassbloom_log::{Endpoint, Reply, Transport};
use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    merkle::verify_consistency,
    note::{NoteSigner, SignedNote, VerifierKey},
};

use crate::sim::Sim;

/// How a witness behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Honest,
    /// Answers after more than the time-out, or shortly before it.
    Slow,
    /// Never answers.
    Silent,
    /// Nobody can connect to it.
    Unreachable,
    Broken,
    /// Its reply is no signature.
    Garbage,
    /// Signs another root.
    Forging,
    /// Signs with a key that is not its own.
    Stranger,
    /// Claims to know a larger tree, and shows its own honest note or nothing.
    Claiming,
    /// Claims to know a larger tree, and shows one that another key signed.
    ShowsForeign,
    /// Says that every tree contradicts the one it knows.
    Rejecting,
    /// Names a size that it does not have.
    Confused,
}

pub(crate) const MOODS: [Mood; 12] = [
    Mood::Honest,
    Mood::Slow,
    Mood::Silent,
    Mood::Unreachable,
    Mood::Broken,
    Mood::Garbage,
    Mood::Forging,
    Mood::Stranger,
    Mood::Claiming,
    Mood::ShowsForeign,
    Mood::Rejecting,
    Mood::Confused,
];

/// A witness of one log, as the rules of c2sp.org/tlog-witness have it.
pub(crate) struct FakeWitness {
    pub(crate) endpoint: Endpoint,
    log: Vec<VerifierKey>,
    signer: NoteSigner,
    stranger: NoteSigner,
    state: Mutex<State>,
}

struct State {
    mood: Mood,
    seen: Option<(TreeHead, SignedNote)>,
    /// Every head it truly cosigned.
    cosigned: BTreeSet<(u64, Hash)>,
    time: u64,
}

impl FakeWitness {
    pub(crate) fn new(n: usize, log: Vec<VerifierKey>) -> Self {
        let name = format!("witness{n}.example");
        let signer = NoteSigner::ed25519_witness(&name, [100 + n as u8; 32]).unwrap();
        let stranger = NoteSigner::ed25519_witness(&name, [200 + n as u8; 32]).unwrap();
        let endpoint = Endpoint { url: format!("http://{name}"), keys: vec![signer.vkey().clone()] };
        let state = State { mood: Mood::Honest, seen: None, cosigned: BTreeSet::new(), time: 1_900_000_000 };
        Self { endpoint, log, signer, stranger, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    pub(crate) fn has_cosigned(&self, head: &TreeHead) -> bool {
        self.state().cosigned.contains(&(head.size.get(), head.root))
    }

    /// The largest tree it has cosigned.
    pub(crate) fn seen(&self) -> Option<TreeHead> {
        self.state().seen.as_ref().map(|(head, _)| head.clone())
    }

    fn reply(&self, mood: Mood, body: &[u8], sim: &Sim) -> Reply {
        let status = |status: StatusCode, body: &str| Reply { status, body: body.as_bytes().to_vec() };
        let known = self.seen().map_or(0, |head| head.size.get());
        match mood {
            Mood::Broken => status(StatusCode::INTERNAL_SERVER_ERROR, "oh"),
            Mood::Garbage => status(StatusCode::OK, "\u{2014} nothing\n"),
            Mood::Claiming | Mood::ShowsForeign => {
                status(StatusCode::CONFLICT, &format!("{}\n", known + 1_000_000))
            }
            Mood::Rejecting => status(StatusCode::UNPROCESSABLE_ENTITY, ""),
            Mood::Confused => {
                let any = sim.delays(None).below(known + 2);
                status(StatusCode::CONFLICT, &format!("{any}\n"))
            }
            _ => self.check(mood, body).unwrap_or_else(|refusal| refusal),
        }
    }

    /// Checks in the order of the specification: form, signature, sizes, proof.
    fn check(&self, mood: Mood, body: &[u8]) -> Result<Reply, Reply> {
        let status = |status: StatusCode, body: String| Reply { status, body: body.into_bytes() };
        let malformed = || status(StatusCode::BAD_REQUEST, String::new());
        let body = std::str::from_utf8(body).map_err(|_| malformed())?;
        let (request, note) = body.split_once("\n\n").ok_or_else(malformed)?;
        let mut lines = request.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or_else(malformed)?;
        let old: TreeSize = old.parse().map_err(|_| malformed())?;
        let proof: Option<Vec<Hash>> = lines.map(Hash::from_base64).collect();
        let proof = proof.filter(|proof| proof.len() <= 63).ok_or_else(malformed)?;
        let mut note = SignedNote::parse(note.as_bytes()).map_err(|_| malformed())?;
        let head = TreeHead::parse(&note.text).map_err(|_| malformed())?;
        if old > head.size {
            return Err(malformed());
        }
        let signed = |key: &VerifierKey| note.signatures.iter().any(|line| key.verify(&head, line).is_ok());
        if !self.log.iter().all(signed) {
            return Err(status(StatusCode::FORBIDDEN, String::new()));
        }
        let mut state = self.state();
        let known = state.seen.as_ref().map_or((0.into(), Hash::EMPTY_TREE), |(h, _)| (h.size, h.root));
        if old != known.0 {
            return Err(status(StatusCode::CONFLICT, format!("{}\n", known.0)));
        }
        if verify_consistency(known.0, head.size, known.1, head.root, &proof).is_err() {
            return Err(status(StatusCode::UNPROCESSABLE_ENTITY, String::new()));
        }
        state.time += 1;
        let time = UnixSeconds::new(state.time);
        let line = self.signer.cosign(&head, time).unwrap();
        note.signatures.push(line.clone());
        state.cosigned.insert((head.size.get(), head.root));
        state.seen = Some((head.clone(), note));
        // No honest head of size 0 has another root.
        let size = head.size.max(1.into());
        let other = TreeHead { origin: head.origin.clone(), size, root: Hash::of(b"another tree") };
        let line = match mood {
            Mood::Forging => self.signer.cosign(&other, time).unwrap(),
            Mood::Stranger => self.stranger.cosign(&head, time).unwrap(),
            _ => line,
        };
        Ok(status(StatusCode::OK, format!("{line}\n")))
    }

    fn shown(&self, mood: Mood, origin: &str) -> Option<Vec<u8>> {
        if mood == Mood::ShowsForeign {
            let size = TreeSize::new(1_000_000_000);
            let head = TreeHead { origin: origin.to_owned(), size, root: Hash::of(b"a larger tree") };
            let signer = NoteSigner::ed25519_log(origin, [77; 32]).unwrap();
            let line = signer.sign_checkpoint(&head).unwrap();
            return Some(SignedNote { text: head.to_string(), signatures: vec![line] }.encode());
        }
        self.state().seen.as_ref().filter(|(head, _)| head.origin == origin).map(|(_, note)| note.encode())
    }
}

/// Called with every head that goes to a witness, and whether an honest one refused it.
pub(crate) type OnSubmit = Box<dyn Fn(&Sim, &TreeHead) + Send + Sync>;

/// The network between the log and its witnesses.
pub(crate) struct Network {
    pub(crate) sim: Arc<Sim>,
    pub(crate) witnesses: Vec<Arc<FakeWitness>>,
    pub(crate) on_submit: OnSubmit,
    /// Whether an honest witness may have cause to refuse what the log sends.
    pub(crate) may_refuse: std::sync::atomic::AtomicBool,
}

impl Network {
    fn find(&self, prefix: &str) -> Result<(&FakeWitness, Mood), String> {
        let found = self.witnesses.iter().find(|witness| witness.endpoint.url == prefix);
        let witness = found.ok_or("no such host")?;
        let mood = witness.state().mood;
        if mood == Mood::Unreachable { Err("connection refused".into()) } else { Ok((witness, mood)) }
    }

    async fn travel(&self, mood: Mood) {
        match mood {
            Mood::Silent => pending().await,
            Mood::Slow => {
                let millis = 100 + self.sim.delays(None).below(900);
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            _ => self.sim.pause(None).await,
        }
    }
}

#[async_trait]
impl Transport for Network {
    async fn add_checkpoint(&self, prefix: &str, body: Vec<u8>) -> Result<Reply, String> {
        let (witness, mood) = self.find(prefix)?;
        let text = String::from_utf8_lossy(&body);
        let head = text.split_once("\n\n").and_then(|(_, note)| SignedNote::parse(note.as_bytes()).ok());
        match head.and_then(|note| TreeHead::parse(&note.text).ok()) {
            Some(head) => (self.on_submit)(&self.sim, &head),
            None => self.sim.violation("what goes to a witness is not a request"),
        }
        self.sim.pause(None).await;
        let reply = witness.reply(mood, &body, &self.sim);
        let code = reply.status.as_u16();
        self.sim.note(|| format!("  {prefix} ({mood:?}) {code}"));
        let honest = matches!(mood, Mood::Honest | Mood::Slow);
        if honest && ![200, 409].contains(&code) && !self.may_refuse.load(std::sync::atomic::Ordering::SeqCst)
        {
            self.sim.violation(format!("an honest witness answered {code} to {text:?}"));
        }
        // It has cosigned, whether or not the reply arrives.
        self.travel(mood).await;
        Ok(reply)
    }

    async fn checkpoint(&self, prefix: &str, origin: &str) -> Result<Option<Vec<u8>>, String> {
        let (witness, mood) = self.find(prefix)?;
        self.travel(mood).await;
        Ok(witness.shown(mood, origin))
    }
}
