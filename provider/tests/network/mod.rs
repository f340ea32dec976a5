//! A registry and a coordinator in memory: enough of both to admit a provider, and to lie to it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State, WebSocketUpgrade, ws},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use glassbloom_service::{Clock, MockClock};
use glassbloom_spec::{
    api::{FromProvider, ToProvider, data, path},
    checkpoint::TreeHead,
    curve::{Signer, SigningKey},
    hash::Hash,
    id::{LeafIndex, TreeSize, UnixMillis, UnixSeconds},
    leaf::{Model, ModelFile, Payload, PolicyLeaf, Price, PriceTable, Release, Verdict},
    merkle::{NodeId, Nodes, prove_inclusion, root_of},
    note::{NoteSigner, SignedNote},
    policy::Policy,
    record::{LeafProof, ProviderRecord},
    statement::Statement,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{Duration, timeout},
};

pub(crate) const TOKEN: &str = "gbp_0123456789";
pub(crate) const ALIAS: &str = "echo";
const ORIGIN: &str = "test/registry";

/// What servers and test share.
pub(crate) struct Network {
    pub(crate) address: SocketAddr,
    pub(crate) clock: MockClock,
    pub(crate) coordinator: SigningKey,
    pub(crate) release: SigningKey,
    entries: Arc<Mutex<Vec<Vec<u8>>>>,
    log: NoteSigner,
    witness: NoteSigner,
    sockets: tokio::sync::Mutex<mpsc::UnboundedReceiver<ws::WebSocket>>,
}

#[derive(Clone)]
struct Shared {
    network: std::sync::Weak<Network>,
    sockets: mpsc::UnboundedSender<ws::WebSocket>,
}

impl Network {
    /// Starts both servers on one port.
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (sender, sockets) = mpsc::unbounded_channel();
        let network = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            clock: MockClock::new(UnixMillis::new(1_800_000_000_000)),
            coordinator: SigningKey::from_seed(&[1; 32]),
            release: SigningKey::from_seed(&[2; 32]),
            entries: Arc::default(),
            log: NoteSigner::ed25519_log(ORIGIN, [3; 32]).unwrap(),
            witness: NoteSigner::ed25519_witness("witness", [4; 32]).unwrap(),
            sockets: tokio::sync::Mutex::new(sockets),
        });
        let router = Router::new()
            .route("/registry/checkpoint", get(checkpoint))
            .route("/registry/tile/0/000.p/{width}", get(tile))
            .route(path::SESSION, get(session))
            .with_state(Shared { network: Arc::downgrade(&network), sockets: sender });
        tokio::spawn(async move { axum::serve(listener, router).await });
        network
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn policy_text(&self) -> String {
        format!(
            "log {}\nwitness w {}\nquorum w\ncoordinator {}\nrelease {}\naccept self-signed\n",
            self.log.vkey(),
            self.witness.vkey(),
            Signer::public_key(&self.coordinator),
            Signer::public_key(&self.release)
        )
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::parse(&self.policy_text()).unwrap()
    }

    pub(crate) fn append(&self, statement: &Statement) -> LeafIndex {
        let mut entries = self.entries.lock().unwrap();
        entries.push(statement.bytes().to_vec());
        LeafIndex::new(entries.len() as u64 - 1)
    }

    /// Replaces an entry, as a log that forks would.
    pub(crate) fn rewrite(&self, index: usize) {
        self.entries.lock().unwrap()[index].push(0);
    }

    pub(crate) fn head(&self) -> TreeHead {
        let entries = self.entries.lock().unwrap();
        TreeHead {
            origin: ORIGIN.to_owned(),
            size: TreeSize::new(entries.len() as u64),
            root: root_of(entries.iter().map(|entry| Hash::leaf(entry))),
        }
    }

    pub(crate) fn note(&self) -> Vec<u8> {
        let head = self.head();
        let time = self.clock.now().seconds();
        let signatures =
            vec![self.log.sign_checkpoint(&head).unwrap(), self.witness.cosign(&head, time).unwrap()];
        SignedNote { text: head.to_string(), signatures }.encode()
    }

    fn proof(&self, index: LeafIndex) -> LeafProof {
        let entries = self.entries.lock().unwrap();
        let tree = Tree(entries.iter().map(|entry| Hash::leaf(entry)).collect());
        let size = TreeSize::new(entries.len() as u64);
        LeafProof {
            leaf: entries[index.get() as usize].clone(),
            index,
            proof: prove_inclusion(index, size, &tree).unwrap(),
        }
    }

    /// Logs what a coordinator publishes before anybody is admitted.
    pub(crate) fn publish(&self, build: Hash, files: Vec<ModelFile>) -> Published {
        let model = Model {
            alias: ALIAS.to_owned(),
            files,
            quantisation: "none".into(),
            licence: "Apache-2.0".into(),
            source: "test".into(),
        };
        let policy = PolicyLeaf {
            tiers: vec!["self-signed".into()],
            max_lifetime: 86_400,
            plaintext_api: false,
            ..PolicyLeaf::default()
        };
        let prices = PriceTable { prices: vec![Price { alias: ALIAS.into(), prompt: 3, completion: 5 }] };
        let release = Release {
            version: "1".into(),
            build,
            platform: "test".into(),
            commit: "c".into(),
            not_before: UnixSeconds::new(0),
            code: None,
            approvals: Vec::new(),
        };
        let policy = policy.sign(&self.coordinator).unwrap();
        Published {
            policy_hash: policy.leaf_hash(),
            policy: self.append(&policy),
            prices: self.append(&prices.sign(&self.coordinator).unwrap()),
            model: self.append(&model.sign(&self.coordinator).unwrap()),
            release: self.append(&release.sign(&self.release).unwrap()),
        }
    }

    /// Logs attestation and verdict and makes the record that proves everything.
    pub(crate) fn record(&self, published: &Published, attestation: &[u8]) -> ProviderRecord {
        let attestation = Statement::parse(attestation).unwrap();
        let verdict = Verdict {
            policy: published.policy_hash,
            attestation: attestation.leaf_hash(),
            tier: Some("self-signed".into()),
            reasons: Vec::new(),
        };
        let attested = self.append(&attestation);
        let judged = self.append(&verdict.sign(&self.coordinator).unwrap());
        ProviderRecord {
            checkpoint: self.note(),
            attestation: self.proof(attested),
            verdict: self.proof(judged),
            policy: self.proof(published.policy),
            prices: self.proof(published.prices),
            model: self.proof(published.model),
            release: self.proof(published.release),
            enrolment: None,
        }
    }

    /// The same record with proofs in the tree as it is now.
    pub(crate) fn proofs_again(&self, record: &ProviderRecord) -> ProviderRecord {
        ProviderRecord {
            checkpoint: self.note(),
            attestation: self.proof(record.attestation.index),
            verdict: self.proof(record.verdict.index),
            policy: self.proof(record.policy.index),
            prices: self.proof(record.prices.index),
            model: self.proof(record.model.index),
            release: self.proof(record.release.index),
            enrolment: None,
        }
    }

    /// The provider's next connection.
    pub(crate) async fn accept(&self) -> Session {
        let accepted = timeout(LIMIT, async { self.sockets.lock().await.recv().await }).await;
        Session(accepted.expect("the provider connects").unwrap())
    }
}

/// Where the leaves stand that every record needs.
pub(crate) struct Published {
    pub(crate) policy_hash: Hash,
    policy: LeafIndex,
    prices: LeafIndex,
    model: LeafIndex,
    release: LeafIndex,
}

/// The coordinator's end of a session.
pub(crate) struct Session(ws::WebSocket);

/// What a provider sends.
#[derive(Debug)]
pub(crate) enum Sent {
    Data(u64, Vec<u8>),
    Text(FromProvider),
}

impl Session {
    /// The next message that is no sign of life; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        loop {
            match timeout(LIMIT, self.0.recv()).await.expect("the provider sends something")? {
                Ok(ws::Message::Text(text)) => match serde_json::from_str(&text).unwrap() {
                    FromProvider::Heartbeat { .. } => {}
                    message => return Some(Sent::Text(message)),
                },
                Ok(ws::Message::Binary(bytes)) => {
                    let (id, bytes) = data::decode(&bytes).unwrap();
                    return Some(Sent::Data(id, bytes.to_vec()));
                }
                Ok(ws::Message::Ping(_) | ws::Message::Pong(_)) => {}
                Ok(ws::Message::Close(_)) | Err(_) => return None,
            }
        }
    }

    /// The greeting: attestation, capacity, models.
    pub(crate) async fn hello(&mut self) -> (Vec<u8>, u32, Vec<String>) {
        match self.next().await {
            Some(Sent::Text(FromProvider::Hello { attestation, capacity, models })) => {
                (attestation, capacity, models)
            }
            other => panic!("no hello: {other:?}"),
        }
    }

    pub(crate) async fn tell(&mut self, message: &ToProvider) {
        self.0.send(ws::Message::text(serde_json::to_string(message).unwrap())).await.unwrap();
    }

    pub(crate) async fn request(&mut self, id: u64, sealed: &[u8]) {
        self.0.send(ws::Message::binary(data::encode(id, sealed))).await.unwrap();
    }
}

/// No test waits longer for a message.
const LIMIT: Duration = Duration::from_secs(30);

struct Tree(Vec<Hash>);

impl Nodes for Tree {
    fn node(&self, id: NodeId) -> Option<Hash> {
        let width = 1_usize << id.level;
        let start = usize::try_from(id.index).ok()? * width;
        Some(root_of(self.0.get(start..start + width)?.iter().copied()))
    }
}

async fn checkpoint(State(shared): State<Shared>) -> Vec<u8> {
    shared.network.upgrade().expect("the test holds the network").note()
}

async fn tile(State(shared): State<Shared>, Path(width): Path<usize>) -> Response {
    let network = shared.network.upgrade().expect("the test holds the network");
    let entries = network.entries.lock().unwrap();
    match entries.get(..width) {
        Some(entries) => entries
            .iter()
            .flat_map(|entry| *Hash::leaf(entry).as_bytes())
            .collect::<Vec<u8>>()
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn session(State(shared): State<Shared>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    if headers.get("authorization").is_none_or(|value| value != format!("Bearer {TOKEN}").as_str()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    upgrade.on_upgrade(async move |socket| {
        // Nobody takes it once the test is over.
        let _ = shared.sockets.send(socket);
    })
}
