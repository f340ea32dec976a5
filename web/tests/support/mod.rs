//! A fake network: both logs with their witnesses, in memory. Keys are fixed and worthless; nothing here serves.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use glassbloom_spec::{
    bundle::ReceiptBundle,
    checkpoint::TreeHead,
    curve::{EcdhSecret, Signer, SigningKey},
    hash::Hash,
    id::{KeyId, UnixMillis, UnixMinutes, UnixSeconds},
    leaf::{
        Attestation, Beacon, Coordinator, Evidence, Model, ModelFile, Payload, PolicyLeaf, Price, PriceTable,
        Release, Revocation, Verdict, attestation_nonce,
    },
    merkle::{NodeId, prove_inclusion, root_of},
    note::{NoteSigner, SignedNote},
    proof::TlogProof,
    receipt::{CommitmentTree, Finish, Receipt, ReceiptSecret, SealedBy, Usage, charge, request_commitment},
    record::{LeafProof, ProviderRecord},
    seal::KeyConfig,
    statement::{Statement, key_id},
    tile::{TileLevel, encode_bundle, tiles_for_size},
};
use glassbloom_web::reader::{Fetch, FetchError};
use zeroize::Zeroizing;

/// The visitor's time in tests: 20 November 2026, 18:00 UTC.
pub(crate) const NOW: UnixMillis = UnixMillis::new(1_795_197_600_000);

/// Files of a static site, by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeSite(pub(crate) Rc<RefCell<BTreeMap<String, Vec<u8>>>>);

impl Fetch for FakeSite {
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        self.0.borrow().get(url).cloned().ok_or_else(|| FetchError::Missing { url: url.to_owned() })
    }
}

/// A log under construction.
pub(crate) struct FakeLog {
    origin: String,
    signer: NoteSigner,
    pub(crate) entries: Vec<Vec<u8>>,
}

/// Both logs and everyone who signs.
pub(crate) struct FakeNetwork {
    pub(crate) registry: FakeLog,
    pub(crate) receipts: FakeLog,
    witnesses: Vec<NoteSigner>,
    coordinator: SigningKey,
    release: SigningKey,
    provider: SigningKey,
    pub(crate) attestation: Hash,
    pub(crate) bundle: Option<ReceiptBundle>,
}

fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(name.as_bytes())
}

fn leaves(entries: &[Vec<u8>]) -> impl Iterator<Item = Hash> {
    entries.iter().map(|entry| Hash::leaf(entry))
}

impl FakeLog {
    fn new(name: &str, seed: u8) -> Self {
        let origin = format!("fake.example/{name}");
        Self { signer: NoteSigner::ed25519_log(&origin, [seed; 32]).unwrap(), origin, entries: Vec::new() }
    }

    pub(crate) fn add(&mut self, statement: &Statement) -> Hash {
        self.entries.push(statement.bytes().to_vec());
        statement.leaf_hash()
    }

    fn nodes(&self) -> BTreeMap<NodeId, Hash> {
        let leaves: Vec<Hash> = leaves(&self.entries).collect();
        let levels = 0..=leaves.len().checked_ilog2().unwrap_or(0) as u8;
        let at = |level: u8| (0..(leaves.len() >> level) as u64).map(move |index| NodeId { level, index });
        levels
            .flat_map(at)
            .map(|id| {
                (
                    id,
                    root_of(
                        leaves[(id.index as usize) << id.level..(id.index as usize + 1) << id.level]
                            .iter()
                            .copied(),
                    ),
                )
            })
            .collect()
    }

    fn proof(&self, index: usize) -> LeafProof {
        let proof = prove_inclusion((index as u64).into(), (self.entries.len() as u64).into(), &self.nodes())
            .unwrap();
        LeafProof { leaf: self.entries[index].clone(), index: (index as u64).into(), proof }
    }
}

impl FakeNetwork {
    /// A network with one provider and a few receipts.
    pub(crate) fn new() -> Self {
        let mut network = Self::empty();
        network.set_up();
        for answer in 0..5 {
            network.answer(answer);
        }
        network
    }

    /// A network that has not started yet.
    pub(crate) fn empty() -> Self {
        let witnesses = ["fake-oslo", "fake-lisbon"].iter().enumerate();
        Self {
            registry: FakeLog::new("registry", 1),
            receipts: FakeLog::new("receipts", 2),
            witnesses: witnesses
                .map(|(at, name)| NoteSigner::ed25519_witness(name, [10 + at as u8; 32]).unwrap())
                .collect(),
            coordinator: key("coordinator"),
            release: key("release"),
            provider: key("provider"),
            attestation: Hash::EMPTY_TREE,
            bundle: None,
        }
    }

    /// The policy that a user of this network would have.
    pub(crate) fn policy(&self) -> String {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let mut text = String::from("# A fake network for tests\n");
        for log in [&self.registry, &self.receipts] {
            text += &format!(
                "log {} http://log.test/{}\n",
                log.signer.vkey(),
                log.origin.rsplit('/').next().unwrap()
            );
        }
        for (name, witness) in ["oslo", "lisbon"].iter().zip(&self.witnesses) {
            text += &format!("witness {name} {}\n", witness.vkey());
        }
        let base64 = |key: &SigningKey| BASE64_STANDARD.encode(Signer::public_key(key).as_bytes());
        text += &format!(
            "group both 2 oslo lisbon\nquorum both\ncoordinator {}\nrelease {}\naccept self-signed\n",
            base64(&self.coordinator),
            base64(&self.release)
        );
        text
    }

    /// The newest checkpoint of a log, cosigned `seconds` before now by this many witnesses.
    pub(crate) fn checkpoint(&self, log: &FakeLog, seconds: u64, witnesses: usize) -> Vec<u8> {
        let head = TreeHead {
            origin: log.origin.clone(),
            size: (log.entries.len() as u64).into(),
            root: root_of(leaves(&log.entries)),
        };
        let mut signatures = vec![log.signer.sign_checkpoint(&head).unwrap()];
        let time = UnixSeconds::new(NOW.get() / 1000 - seconds);
        signatures.extend(
            self.witnesses.iter().take(witnesses).map(|witness| witness.cosign(&head, time).unwrap()),
        );
        SignedNote { text: head.to_string(), signatures }.encode()
    }

    fn set_up(&mut self) {
        let files = vec![
            ModelFile { name: "config.json".into(), size: 912, sha256: Hash::of(b"config") },
            ModelFile { name: "model.safetensors".into(), size: 2_187_264, sha256: Hash::of(b"weights") },
            ModelFile { name: "tokenizer.json".into(), size: 48_211, sha256: Hash::of(b"tokenizer") },
        ];
        let build = Hash::of(b"build");
        let coordinator = Coordinator {
            key: self.coordinator.public_key(),
            name: "fake coordinator".into(),
            build,
            quote: None,
        };
        self.registry.add(&coordinator.sign(&self.coordinator).unwrap());
        let rules = PolicyLeaf {
            tiers: vec!["self-signed".into()],
            max_lifetime: 30 * 86_400,
            plaintext_api: true,
            ..PolicyLeaf::default()
        };
        let policy = self.registry.add(&rules.sign(&self.coordinator).unwrap());
        let prices = PriceTable {
            prices: vec![Price { alias: "bloom-tiny".into(), prompt: 50_000, completion: 200_000 }],
        };
        self.registry.add(&prices.sign(&self.coordinator).unwrap());
        let model = Model {
            alias: "bloom-tiny".into(),
            files: files.clone(),
            quantisation: "bf16".into(),
            licence: "Apache-2.0".into(),
            source: "fake".into(),
        };
        self.registry.add(&model.sign(&self.coordinator).unwrap());
        let release = Release {
            version: "0.1.0".into(),
            build,
            platform: "x86_64-unknown-linux-gnu".into(),
            commit: "fake".into(),
            not_before: UnixSeconds::new(0),
            code: None,
            approvals: Vec::new(),
        };
        self.registry.add(&release.sign(&self.release).unwrap());

        let beacon = Beacon { checkpoint: self.checkpoint(&self.registry, 900, 2) };
        let sealing = EcdhSecret::from_bytes(&key("sealing").to_bytes()).unwrap();
        let key_config = KeyConfig::new(1, key("sealing").public_key());
        let signing_key = self.provider.public_key();
        let attestation = Attestation {
            signing_key,
            nonce: attestation_nonce(beacon.digest(), &signing_key, &key_config),
            key_config,
            build,
            endpoint: "http://127.0.0.1:8788".into(),
            not_after: UnixSeconds::new(NOW.get() / 1000 + 7 * 86_400),
            models: vec![Model::digest_of(&files)],
            beacon,
            evidence: Evidence::self_signed(),
            previous: None,
            possession: None,
            countersignature: None,
            release_proof: None,
            enrolment: None,
        }
        .possessed(&sealing);
        self.attestation = self.registry.add(&attestation.sign(&self.provider).unwrap());
        let verdict = Verdict {
            policy,
            attestation: self.attestation,
            tier: Some("self-signed".into()),
            reasons: Vec::new(),
        };
        self.registry.add(&verdict.sign(&self.coordinator).unwrap());
    }

    /// Revokes the provider's key.
    pub(crate) fn revoke(&mut self) {
        let revocation =
            Revocation { key: self.provider_key(), from: 0.into(), reason: "the key leaked".into() };
        self.registry.add(&revocation.sign(&self.coordinator).unwrap());
    }

    pub(crate) fn provider_key(&self) -> KeyId {
        key_id(&self.provider.public_key())
    }

    fn answer(&mut self, number: u64) {
        let secret = ReceiptSecret::new(Zeroizing::new([number as u8 + 1; 32]));
        let usage = Usage { prompt: 20 + number, completion: 40 };
        let request = br#"{"model":"bloom-tiny","messages":[{"role":"user","content":"What is the capital of France?"}],"stream":true}"#;
        let chunks: Vec<Vec<u8>> =
            ["The capital of France", " is Paris."].iter().map(|text| text.as_bytes().to_vec()).collect();
        let mut tree = CommitmentTree::chunks(secret.clone());
        chunks.iter().for_each(|chunk| tree.push(chunk));
        let openings = secret.usage(usage);
        let price = Price { alias: "bloom-tiny".into(), prompt: 50_000, completion: 200_000 };
        let leaf = |index: usize| Hash::leaf(&self.registry.entries[index]);
        let minute = UnixMinutes::new(NOW.get() / 60_000 - 3);
        let receipt = Receipt {
            attestation: self.attestation,
            model: leaf(3),
            policy: leaf(1),
            prices: leaf(2),
            registry: ((self.registry.entries.len() as u64).into(), root_of(leaves(&self.registry.entries))),
            request: request_commitment(&secret, request),
            response: tree.root(),
            chunks: tree.len(),
            finish: Finish::Stop,
            usage: openings.map(|opening| opening.commitment()),
            charge: charge(&openings, &price).unwrap().commitment(),
            sampling: Hash::of(b"sampling"),
            attempt: 1,
            times: [minute, minute],
            sealed_by: if number == 1 { SealedBy::Coordinator } else { SealedBy::User },
        };
        let statement = receipt.sign(&self.provider).unwrap();
        self.receipts.add(&statement);
        let index = self.receipts.entries.len() - 1;
        let proof = self.receipts.proof(index);
        let proof = TlogProof {
            extra: None,
            index: proof.index,
            hashes: proof.proof,
            checkpoint: self.checkpoint(&self.receipts, 12, 2),
        };
        let record = ProviderRecord {
            checkpoint: self.checkpoint(&self.registry, 40, 2),
            attestation: self.registry.proof(5),
            verdict: self.registry.proof(6),
            policy: self.registry.proof(1),
            prices: self.registry.proof(2),
            model: self.registry.proof(3),
            release: self.registry.proof(4),
            enrolment: None,
        };
        self.bundle = Some(ReceiptBundle {
            record,
            receipt: statement.bytes().to_vec(),
            proof: proof.encode(),
            secret,
            usage,
            request: Some(request.to_vec()),
            response: Some(chunks),
        });
    }

    /// Everything as files of a static host, the logs under an address.
    pub(crate) fn site(&self, base: &str) -> FakeSite {
        let mut files = BTreeMap::from([
            ("policy".to_owned(), self.policy().into_bytes()),
            ("config.json".to_owned(), format!("{{\"log\":\"{base}\"}}").into_bytes()),
        ]);
        for (name, log) in [("registry", &self.registry), ("receipts", &self.receipts)] {
            files.insert(format!("{base}/{name}/checkpoint"), self.checkpoint(log, 12, 2));
            let leaves: Vec<Hash> = leaves(&log.entries).collect();
            for path in tiles_for_size((log.entries.len() as u64).into()) {
                let range =
                    path.index() as usize * 256..path.index() as usize * 256 + usize::from(path.width());
                let content = match path.level() {
                    TileLevel::Entries => encode_bundle(&log.entries[range]).unwrap(),
                    TileLevel::Hashes(0) => leaves[range].iter().flat_map(|hash| *hash.as_bytes()).collect(),
                    TileLevel::Hashes(_) => continue,
                };
                files.insert(format!("{base}/{name}/{path}"), content);
            }
        }
        FakeSite(Rc::new(RefCell::new(files)))
    }
}

/// Runs a future that waits for nothing.
pub(crate) fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = core::pin::pin!(future);
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        core::task::Poll::Ready(value) => value,
        core::task::Poll::Pending => panic!("memory is always at hand"),
    }
}
