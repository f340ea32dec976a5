//! Reads a vector the way that its folder is read.

use std::{string::ToString, sync::Arc};

use glassbloom_spec::{
    bundle::ReceiptBundle,
    cbor::Value,
    curve::PublicKey,
    envelope,
    evidence::endorsement::Endorsement,
    id::UnixMillis,
    leaf::{
        Attestation, ChallengeBatch, Coordinator, Model, OperatorAction, Payload, PolicyLeaf, PriceTable,
        Release, Revocation, Verdict,
    },
    merkle::verify_consistency,
    policy::Policy,
    proof::TlogProof,
    receipt::Receipt,
    record::ProviderRecord,
    seal::KeyConfig,
    statement::Statement,
    subtree::verify_subtree,
    succession::Succession,
    verify::Report,
    witness::{AddCheckpoint, SignSubtree},
};

use super::{evidence, record::hardware_policies};
use crate::world::{Exchange, MODEL, NOW, RECEIPTS, REGISTRY, World, index, read, resume};

/// What becomes of the bytes of a vector: nothing to say, or the words of the refusal.
///
/// # Errors
/// When they are refused.
pub fn check(world: &World, folder: &str, with: &str, bytes: &[u8]) -> Result<(), String> {
    match folder {
        "statement" => {
            let statement = Statement::parse(bytes).map_err(text)?;
            let key: PublicKey = with.parse().map_err(text)?;
            statement.verify(&key).map_err(text)
        }
        "leaf" => leaf(with, bytes),
        "receipt" => Receipt::decode(bytes).map(drop).map_err(text),
        "evidence" => match with {
            "endorsement" => evidence::open(world, bytes).map(drop).map_err(text),
            _ => evidence::prove(world, with, bytes).map(drop).map_err(text),
        },
        "record" => {
            let record = Value::decode(bytes).map_err(text)?;
            let record = ProviderRecord::from_value(record).map_err(text)?;
            // `with` is a file in `policy/`, or the tier that the policy accepts, where it is another.
            let policy = match hardware_policies(world).into_iter().find(|(name, _)| *name == with) {
                Some((_, policy)) => Policy::parse(&policy).map_err(text)?,
                None if with.is_empty() => world.policy(),
                None => world.policy_accepting(with),
            };
            policy.verify(&record, MODEL, &world.known(), &mut Report::new()).map(drop).map_err(text)
        }
        "bundle" => {
            let bundle = ReceiptBundle::parse(bytes).map_err(text)?;
            let outcome = bundle.verify(&world.policy(), UnixMillis::new((NOW + 3600) * 1000));
            match (outcome.sentence, outcome.report.failure()) {
                (Some(_), None) => Ok(()),
                (_, failure) => Err(failure
                    .map_or("nothing was checked".into(), |step| format!("{}: {}", step.name, step.detail))),
            }
        }
        "key-config" => KeyConfig::parse(bytes).map(drop).map_err(text),
        "sealed-request" => {
            let attestation = world.provider().attestation_hash();
            envelope::open(Arc::clone(&world.keys.sealing) as _, &world.keys.key_config(), attestation, bytes)
                .map(drop)
                .map_err(text)
        }
        "sealed-answer" => answer(world, with, bytes),
        "policy" => Policy::parse(core::str::from_utf8(bytes).map_err(text)?).map(drop).map_err(text),
        "checkpoint" => world.policy().open(Some(REGISTRY), bytes).map(drop).map_err(text),
        "proof" => {
            let proof = TlogProof::parse(bytes).map_err(text)?;
            let at = if with == "verdict" { index::VERDICT } else { index::ATTESTATION };
            let entry = &world.registry_entries()[at as usize];
            proof.open_from(&world.policy(), REGISTRY, entry).map(drop).map_err(text)
        }
        "promise" => {
            let promised = world.policy().open_promise(Some(RECEIPTS), bytes).map_err(text)?;
            let about = promised.is_about(world.exchanges[0].receipt.bytes());
            about.then_some(()).ok_or_else(|| "the promise is about another entry".to_owned())
        }
        "succession" => {
            let succession = Succession::parse(bytes).map_err(text)?;
            succession.verify(&world.policy(), with).map(drop).map_err(text)
        }
        "witness-request" => request(world, with, bytes),
        _ => Err(format!("no folder of vectors: {folder}")),
    }
}

fn leaf(kind: &str, bytes: &[u8]) -> Result<(), String> {
    fn decode<P: Payload>(bytes: &[u8]) -> Result<(), String> {
        P::decode(bytes).map(drop).map_err(text)
    }
    match kind {
        "attestation" => decode::<Attestation>(bytes),
        "challenge-batch" => decode::<ChallengeBatch>(bytes),
        "endorsement" => decode::<Endorsement>(bytes),
        "operator-action" => decode::<OperatorAction>(bytes),
        "coordinator" => decode::<Coordinator>(bytes),
        "model" => decode::<Model>(bytes),
        "policy" => decode::<PolicyLeaf>(bytes),
        "price-table" => decode::<PriceTable>(bytes),
        "release" => decode::<Release>(bytes),
        "revocation" => decode::<Revocation>(bytes),
        "verdict" => decode::<Verdict>(bytes),
        _ => Err(format!("no kind of leaf: {kind}")),
    }
}

/// As a witness that cosigned the registry at [`witness::OLD`](super::witness::OLD), up to the signatures.
fn request(world: &World, endpoint: &str, bytes: &[u8]) -> Result<(), String> {
    if endpoint == "sign-subtree" {
        let SignSubtree { subtree, hash, proof, head, .. } = SignSubtree::parse(bytes).map_err(text)?;
        return verify_subtree(subtree, hash, head.size, head.root, &proof).map_err(text);
    }
    let AddCheckpoint { old, proof, head, .. } = AddCheckpoint::parse(bytes).map_err(text)?;
    let known = world.registry.head(super::witness::OLD);
    if old != known.size {
        return Err("another size was cosigned last".into());
    }
    verify_consistency(old, head.size, known.root, head.root, &proof).map_err(text)
}

/// `with` is the number of the exchange whose client reads the answer.
fn answer(world: &World, with: &str, bytes: &[u8]) -> Result<(), String> {
    let number: usize = with.parse().map_err(text)?;
    let provider = world.provider();
    let client = resume(&provider, number);
    let expected: &Exchange = world.exchanges.get(number).ok_or("no such exchange")?;
    let verified = read(client, &provider, &[bytes.to_vec()]).map_err(text)?;
    if verified.statement() == &expected.receipt { Ok(()) } else { Err("another receipt".into()) }
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}
