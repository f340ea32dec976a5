//! A log service in memory, signed and cosigned, that can be told to lie; and statements to fill it with.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use glassbloom_spec::{
    checkpoint::TreeHead,
    curve::{EcdhSecret, PublicKey, SigningKey},
    hash::Hash,
    id::{TreeSize, UnixMinutes, UnixSeconds},
    leaf::{
        Attestation, Beacon, Coordinator, Evidence, Model, ModelFile, Payload, PolicyLeaf, Price, PriceTable,
        Release, Revocation, Verdict, attestation_nonce,
    },
    merkle::root_of,
    note::{NoteSigner, SignedNote},
    pedersen::{Commitment, Opening},
    policy::Policy,
    receipt::{Finish, Receipt, SealedBy},
    seal::KeyConfig,
    statement::{Statement, key_id},
    tile::{TileLevel, TilePath, encode_bundle, tiles_for_size},
};
use tokio::{net::TcpListener, task::JoinHandle};

pub(crate) const NOW: u64 = 1_790_000_000;
pub(crate) const REGISTRY: &str = "glassbloom.test/registry";
pub(crate) const RECEIPTS: &str = "glassbloom.test/receipts";

/// What the service answers, by path.
#[derive(Default)]
pub(crate) struct Served {
    files: HashMap<String, Vec<u8>>,
    requests: Vec<String>,
}

/// A log service that serves whatever it was given.
pub(crate) struct FakeLog {
    pub(crate) url: String,
    served: Arc<Mutex<Served>>,
    task: JoinHandle<()>,
}

impl FakeLog {
    pub(crate) async fn start() -> Self {
        let served = Arc::new(Mutex::new(Served::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(served.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, served, task }
    }

    /// Publishes these entries as of a time; files already there that are not replaced stay.
    pub(crate) fn publish(&self, origin: &str, entries: &[Vec<u8>], at: u64) {
        let folder = origin.split_once('/').unwrap().1;
        let mut served = self.served.lock().unwrap();
        for (path, bytes) in tiles(entries) {
            served.files.insert(format!("/{folder}/{path}"), bytes);
        }
        served.files.insert(format!("/{folder}/checkpoint"), note(&head(origin, entries), at));
    }

    /// Replaces or removes a file; returns what was there.
    pub(crate) fn put(&self, path: &str, bytes: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut served = self.served.lock().unwrap();
        match bytes {
            Some(bytes) => served.files.insert(path.to_owned(), bytes),
            None => served.files.remove(path),
        }
    }

    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        self.served.lock().unwrap().files[path].clone()
    }

    /// Paths asked for since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.served.lock().unwrap().requests)
    }
}

impl Drop for FakeLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(served): State<Arc<Mutex<Served>>>, uri: Uri) -> Result<Vec<u8>, StatusCode> {
    let mut served = served.lock().unwrap();
    served.requests.push(uri.path().to_owned());
    served.files.get(uri.path()).cloned().ok_or(StatusCode::NOT_FOUND)
}

pub(crate) fn head(origin: &str, entries: &[Vec<u8>]) -> TreeHead {
    let root = root_of(entries.iter().map(|entry| Hash::leaf(entry)));
    TreeHead { origin: origin.to_owned(), size: TreeSize::new(entries.len() as u64), root }
}

pub(crate) fn tiles(entries: &[Vec<u8>]) -> Vec<(TilePath, Vec<u8>)> {
    let leaves: Vec<Hash> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
    tiles_for_size(TreeSize::new(entries.len() as u64))
        .map(|path| {
            let rows = path.index() as usize * 256..path.index() as usize * 256 + usize::from(path.width());
            let bytes = match path.level() {
                TileLevel::Entries => encode_bundle(&entries[rows]).unwrap(),
                TileLevel::Hashes(level) => {
                    let span = 256usize.pow(level.into());
                    let node = |row: usize| root_of(leaves[row * span..(row + 1) * span].iter().copied());
                    rows.flat_map(|row| *node(row).as_bytes()).collect()
                }
            };
            (path, bytes)
        })
        .collect()
}

pub(crate) fn log_key(origin: &str) -> NoteSigner {
    NoteSigner::ed25519_log(origin, *Hash::of(origin.as_bytes()).as_bytes()).unwrap()
}

pub(crate) fn witness_key() -> NoteSigner {
    NoteSigner::ed25519_witness("witness.test/w1", [3; 32]).unwrap()
}

/// A checkpoint by the log and the witness.
pub(crate) fn note(head: &TreeHead, at: u64) -> Vec<u8> {
    let signatures = vec![
        log_key(&head.origin).sign_checkpoint(head).unwrap(),
        witness_key().cosign(head, UnixSeconds::new(at)).unwrap(),
    ];
    SignedNote { text: head.to_string(), signatures }.encode()
}

pub(crate) fn coordinator_key() -> SigningKey {
    SigningKey::from_seed(b"coordinator")
}

pub(crate) fn release_key() -> SigningKey {
    SigningKey::from_seed(b"release")
}

pub(crate) fn policy_text() -> String {
    let point = |key: PublicKey| BASE64_STANDARD.encode(key.as_bytes());
    format!(
        "log {}\nlog {}\nwitness w1 {}\nquorum w1\ncoordinator {}\nrelease {}\naccept self-signed\ncheckpoint-age 1h\n",
        log_key(REGISTRY).vkey(),
        log_key(RECEIPTS).vkey(),
        witness_key().vkey(),
        point(coordinator_key().public_key()),
        point(release_key().public_key()),
    )
}

pub(crate) fn policy() -> Policy {
    Policy::parse(&policy_text()).unwrap()
}

/// A small network that grows statement by statement.
pub(crate) struct World {
    pub(crate) registry: Vec<Vec<u8>>,
    pub(crate) receipts: Vec<Vec<u8>>,
    pub(crate) provider: SigningKey,
    pub(crate) model: Model,
    pub(crate) price: Price,
    model_leaf: Hash,
    policy_leaf: Hash,
    prices_leaf: Hash,
    pub(crate) attestation: Hash,
}

impl World {
    /// Coordinator, policy, prices, model, release, one attestation with its verdict; no receipts.
    pub(crate) fn new() -> Self {
        let provider = SigningKey::from_seed(b"provider");
        let file = ModelFile { name: "model.safetensors".into(), size: 7, sha256: Hash::of(b"weights") };
        let model = Model {
            alias: "bloom".into(),
            files: vec![file],
            quantisation: "bf16".into(),
            licence: "Apache-2.0".into(),
            source: "tests".into(),
        };
        let price = Price { alias: "bloom".into(), prompt: 2, completion: 3 };
        let nothing = Hash::EMPTY_TREE;
        let mut world = Self {
            registry: Vec::new(),
            receipts: Vec::new(),
            provider,
            price: price.clone(),
            model_leaf: nothing,
            policy_leaf: nothing,
            prices_leaf: nothing,
            attestation: nothing,
            model: model.clone(),
        };
        let key = coordinator_key();
        world.log(
            &Coordinator { key: key.public_key(), name: "test".into(), build: nothing, quote: None },
            &key,
        );
        let rules = PolicyLeaf {
            tiers: vec!["self-signed".into()],
            max_lifetime: 3600,
            plaintext_api: true,
            ..PolicyLeaf::default()
        };
        world.policy_leaf = world.log(&rules, &key);
        world.prices_leaf = world.log(&PriceTable { prices: vec![price] }, &key);
        world.model_leaf = world.log(&model, &key);
        let release = Release {
            version: "0.1.0".into(),
            build: Hash::of(b"build"),
            platform: "test".into(),
            commit: "0".into(),
            not_before: UnixSeconds::new(0),
            code: None,
            approvals: Vec::new(),
        };
        world.log(&release, &release_key());
        let attestation = world.attest(&note(&head(REGISTRY, &world.registry), NOW));
        world.attestation = world.log(&attestation, &world.provider.clone());
        let verdict = world.verdict(Some("self-signed"), &[]);
        world.log(&verdict, &key);
        world
    }

    /// Signs a statement and appends it to the registry.
    pub(crate) fn log(&mut self, payload: &impl Payload, signer: &SigningKey) -> Hash {
        let statement = payload.sign(signer).unwrap();
        self.registry.push(statement.bytes().to_vec());
        statement.leaf_hash()
    }

    pub(crate) fn attest(&self, beacon: &[u8]) -> Attestation {
        let secret = EcdhSecret::from_bytes(&[5; 32]).unwrap();
        let key_config = KeyConfig::new(1, PublicKey::from_sec1(&secret.public_key()).unwrap());
        let signing_key = self.provider.public_key();
        let beacon = Beacon { checkpoint: beacon.to_vec() };
        Attestation {
            nonce: attestation_nonce(beacon.digest(), &signing_key, &key_config),
            signing_key,
            key_config,
            build: Hash::of(b"build"),
            endpoint: "http://127.0.0.1:1".into(),
            not_after: UnixSeconds::new(NOW + 1800),
            models: vec![self.model.digest()],
            beacon,
            evidence: Evidence::self_signed(),
            previous: None,
            possession: None,
            countersignature: None,
            release_proof: None,
            enrolment: None,
        }
        .possessed(&secret)
    }

    /// Puts other rules in force.
    pub(crate) fn adopt(&mut self, rules: &PolicyLeaf) {
        self.policy_leaf = self.log(rules, &coordinator_key());
    }

    pub(crate) fn verdict(&self, tier: Option<&str>, reasons: &[&str]) -> Verdict {
        Verdict {
            policy: self.policy_leaf,
            attestation: self.attestation,
            tier: tier.map(str::to_owned),
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        }
    }

    pub(crate) fn revocation(&self, from: u64) -> Revocation {
        Revocation {
            key: key_id(&self.provider.public_key()),
            from: TreeSize::new(from),
            reason: "lost".into(),
        }
    }

    /// A receipt in order; `number` makes it differ from others.
    pub(crate) fn receipt(&self, number: u64) -> Receipt {
        let opening = |value, fill| Opening::new(value, &[fill; 64]).commitment();
        let usage = [opening(10, 1), opening(20, 2)];
        let registry = head(REGISTRY, &self.registry);
        Receipt {
            attestation: self.attestation,
            model: self.model_leaf,
            policy: self.policy_leaf,
            prices: self.prices_leaf,
            registry: (registry.size, registry.root),
            request: Hash::of(&number.to_be_bytes()),
            response: Hash::of(b"response"),
            chunks: 1,
            finish: Finish::Stop,
            usage,
            charge: Commitment::linear(&[(self.price.prompt, usage[0]), (self.price.completion, usage[1])]),
            sampling: Hash::of(b"sampling"),
            attempt: 1,
            times: [UnixMinutes::new(NOW / 60), UnixMinutes::new(NOW / 60)],
            sealed_by: SealedBy::User,
        }
    }

    /// Signs a receipt with the provider's key and appends it to the receipts.
    pub(crate) fn answer(&mut self, receipt: &Receipt) -> Statement {
        let statement = receipt.sign(&self.provider).unwrap();
        self.receipts.push(statement.bytes().to_vec());
        statement
    }

    /// Publishes both logs.
    pub(crate) fn publish(&self, log: &FakeLog) {
        log.publish(REGISTRY, &self.registry, NOW);
        log.publish(RECEIPTS, &self.receipts, NOW);
    }
}
