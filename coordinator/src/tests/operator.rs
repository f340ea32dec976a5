//! Changes by hand, and what the rules in force are: nothing is silent.

use glassbloom_service::{LogClient, SystemClock};
use glassbloom_spec::{
    api::{ReleaseRecord, path},
    curve::SigningKey,
    hash::Hash,
    leaf::{OperatorAction, Payload, PolicyLeaf, Verdict},
    proof::TlogProof,
    statement::{Kind, Statement},
};

use super::{
    net::{Net, release},
    provider::{Claims, Provider},
};
use crate::operator::{Approval, Change, approve, log};

async fn registry(net: &Net) -> Vec<Statement> {
    let client = LogClient::new(&format!("{}/registry", net.app.config.log.url));
    let size = net.checkpoint("registry").await.size();
    let entries = client.entries(0..size.get(), size).await.unwrap();
    entries.iter().map(|entry| Statement::parse(entry).unwrap()).collect()
}

async fn actions(net: &Net) -> Vec<OperatorAction> {
    let registry = registry(net).await;
    let actions = registry.iter().filter(|statement| statement.kind() == Kind::OperatorAction);
    actions
        .map(|statement| {
            statement.verify(&net.app.signer.public_key()).unwrap();
            OperatorAction::of(statement).unwrap()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn b9_a_change_by_hand_is_logged() {
    let net = Net::start().await;
    let whats = |actions: &[OperatorAction]| -> Vec<String> {
        actions.iter().map(|action| action.what.clone()).collect()
    };
    // What the test network was set up with.
    assert_eq!(whats(&actions(&net).await), ["api-key create", "provider-token create"]);
    crate::create_api_key(&net.app.config, "alice", &SystemClock).await.unwrap();
    net.app.log_actions().await.unwrap();
    assert_eq!(actions(&net).await.len(), 3);

    // Anything else, with whoever approves it.
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let change = Change {
        what: "rewrote trust rows".to_owned(),
        scope: "998 providers".to_owned(),
        change: file("change.sql", "UPDATE providers SET build = 'x'"),
        reason: "an incident".to_owned(),
    };
    let approver = |seed: u8| {
        let key = SigningKey::from_seed(&[seed; 32]);
        let text = format!("{}\n", Hash::from_bytes(*key.to_bytes()));
        approve(&change, &file(&format!("key{seed}"), &text)).unwrap().parse::<Approval>().unwrap()
    };
    let config = || net.app.config.clone();
    let (one, two) = (approver(1), approver(2));
    let twice = log(config(), &change, &[one.clone(), one.clone()]).await.unwrap_err();
    assert!(twice.to_string().contains("approves twice"), "{twice}");
    let other = Change { scope: "1 provider".to_owned(), ..change.clone() };
    let false_approval = log(config(), &other, std::slice::from_ref(&one)).await.unwrap_err();
    assert!(false_approval.to_string().contains("is not for this change"), "{false_approval}");
    log(config(), &change, &[two, one]).await.unwrap();
    let logged = actions(&net).await.pop().unwrap();
    assert_eq!((logged.what.as_str(), logged.approvals.len()), ("rewrote trust rows", 2));
    assert_eq!(logged.change, Hash::of(b"UPDATE providers SET build = 'x'"));
    assert_eq!(logged.false_approvals().count(), 0);
    assert!("nonsense".parse::<Approval>().is_err() && "a:b".parse::<Approval>().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn b10_a_knob_that_is_turned_is_in_the_registry() {
    let net = Net::start_with(|config| config.rules.cool_off = 3_600).await;
    let (code, message) = Provider::connect_as(&net, &Claims::default()).await.map(|_| ()).unwrap_err();
    assert!(
        code == "not_accepted" && message.contains("build-cooling-off (the release is too new"),
        "{message}"
    );
    let registry = registry(&net).await;
    let rules = registry.iter().rfind(|statement| statement.kind() == Kind::Policy).unwrap();
    assert_eq!(PolicyLeaf::of(rules).unwrap().cool_off, 3_600);
    let verdict = registry.iter().rfind(|statement| statement.kind() == Kind::Verdict).unwrap();
    let verdict = Verdict::of(verdict).unwrap();
    assert_eq!((verdict.policy, verdict.reasons), (rules.leaf_hash(), vec!["build-cooling-off".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_proven_by_the_oldest_checkpoint_that_shows_it() {
    let mut net = Net::start().await;
    let fetch = async |net: &Net| -> ReleaseRecord {
        let (status, value) = net.get(&path::release(&release().build)).await;
        assert_eq!(status, 200, "{value}");
        serde_json::from_value(value).unwrap()
    };
    let first = fetch(&net).await;
    let proof = TlogProof {
        extra: None,
        index: first.release.index,
        hashes: first.release.proof.clone(),
        checkpoint: first.checkpoint.clone(),
    };
    let proof = TlogProof::parse(&proof.encode()).unwrap();
    let logged = proof.open(&net.policy(), &first.release.leaf).unwrap();
    assert_eq!(logged.leaf_hash(), Hash::leaf(&first.release.leaf));
    Provider::connect(&net).await;
    net.restart(false).await;
    assert!(net.checkpoint("registry").await.note_bytes() != first.checkpoint);
    assert_eq!(fetch(&net).await, first, "the cool-off does not begin anew");
    assert_eq!(net.get(&path::release(&Hash::of(b"none"))).await.1["error"]["code"], "not_found");
    assert_eq!(net.get("/v1/releases/none").await.0, 400);
}
