//! Pages drawn from a fake network, without a browser: every state, and the data behind it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glassbloom_spec::{hash::Hash, id::LeafIndex};
use glassbloom_web::{
    check::{Outcome, State, Step},
    data::{
        Site, Trouble, entry, overview,
        pin::Continuity,
        provider,
        site::{Choices, PolicySource},
        verify,
    },
    pages::{
        entry::EntryPage,
        overview::{ForkAlarm, OverviewPage},
        policy::PolicyPage,
        provider::ProviderPage,
        verify::CheckedView,
    },
    route::LogName,
    ui::{frame::TroubleView, verdict::Verdict},
};
use leptos::prelude::*;
use support::{FakeNetwork, FakeSite, NOW, now_or_never};

const BASE: &str = "http://log.test";

fn open(files: FakeSite) -> Site<FakeSite> {
    now_or_never(Site::load(files, Choices::default())).unwrap()
}

fn load_overview(site: &Site<FakeSite>, kept: Option<&[u8]>) -> overview::Overview {
    let kept = |origin: &str| {
        (origin == "fake.example/registry").then(|| Some(String::from_utf8(kept?.to_vec()).unwrap()))?
    };
    now_or_never(overview::load(site, kept, NOW))
}

fn load_entry(site: &Site<FakeSite>, log: LogName, index: u64) -> Result<entry::Entry, Trouble> {
    now_or_never(entry::load(site, log, LeafIndex::new(index), |_| None, NOW))
}

/// Replaces a file of the site, which must exist.
fn tamper(files: &FakeSite, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    change(files.0.borrow_mut().get_mut(&format!("{BASE}/{path}")).unwrap());
}

fn step(outcome: &Outcome, name: &str) -> Step {
    outcome
        .steps
        .iter()
        .find(|step| step.name == name)
        .unwrap_or_else(|| panic!("no step {name}: {outcome:?}"))
        .clone()
}

#[test]
fn a_verdict_has_three_states_each_with_icon_and_words() {
    let states = [
        (Step::verified("A", "It holds."), "data-state=\"verified\"", "Verified in this browser", "M4.8 8.3"),
        (Step::failed("A", "It does not."), "data-state=\"failed\"", "Failed", "M5.1 1h5.8"),
        (
            Step::not_verifiable("A", "Who knows."),
            "data-state=\"not-verifiable\"",
            "Not verifiable",
            "stroke-dasharray",
        ),
    ];
    for (step, attribute, words, icon) in states {
        let html =
            view! { <Verdict outcome=Outcome::of(vec![step.with_bytes(&[0xd2, 0x84])], "All holds.")/> }
                .to_html();
        for part in [attribute, words, icon, "data-step=\"A\"", "d2 84 ", "<details", "<summary"] {
            assert!(html.contains(part), "{part} in {html}");
        }
    }
}

#[test]
fn the_overview_shows_both_logs_verified() {
    let site = open(FakeNetwork::new().site(BASE));
    let overview = load_overview(&site, None);
    for log in &overview.logs {
        let view = log.view.as_ref().unwrap();
        assert_eq!(view.outcome.state, State::Verified, "{:?}", view.outcome);
        assert!(view.recent.iter().all(|entry| entry.outcome.state == State::Verified), "{:?}", view.recent);
    }
    assert_eq!(overview.to_keep().len(), 2);
    let html = view! { <OverviewPage overview=overview/> }.to_html();
    for part in [
        "data-testid=\"log-registry\"",
        "data-testid=\"log-receipts\"",
        ">7<",
        ">5<",
        "12 s ago",
        "oslo",
        "lisbon",
        "may serve as self-signed",
        "#/entry/receipts/4",
        "#/provider/",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
}

#[test]
fn an_empty_network_says_what_comes_next() {
    let overview = load_overview(&open(FakeNetwork::empty().site(BASE)), None);
    let html = view! { <OverviewPage overview=overview/> }.to_html();
    assert_eq!(html.matches("data-testid=\"empty\"").count(), 2, "{html}");
    assert!(html.contains("Ask through the proxy"));
}

#[test]
fn a_log_that_cannot_be_reached_says_what_to_do() {
    let files = FakeNetwork::new().site(BASE);
    files.0.borrow_mut().remove(&format!("{BASE}/receipts/checkpoint"));
    let html = view! { <OverviewPage overview=load_overview(&open(files), None)/> }.to_html();
    assert!(html.contains("The log cannot be read") && html.contains("?log=URL"), "{html}");
    assert!(html.contains("data-testid=\"log-size\""), "the other log is shown all the same");
}

#[test]
fn too_few_witnesses_is_no_checkpoint() {
    let network = FakeNetwork::new();
    let files = network.site(BASE);
    tamper(&files, "registry/checkpoint", |note| *note = network.checkpoint(&network.registry, 12, 1));
    let overview = load_overview(&open(files), None);
    let trouble = overview.logs[0].view.as_ref().unwrap_err();
    assert!(trouble.cause.contains("lisbon"), "{trouble:?}");
}

#[test]
fn a_stale_checkpoint_fails() {
    let network = FakeNetwork::new();
    let files = network.site(BASE);
    tamper(&files, "registry/checkpoint", |note| {
        *note = network.checkpoint(&network.registry, 3 * 86_400, 2)
    });
    let overview = load_overview(&open(files), None);
    let outcome = &overview.logs[0].view.as_ref().unwrap().outcome;
    assert_eq!((outcome.state, step(outcome, "Fresh").state), (State::Failed, State::Failed));
}

#[test]
fn a_log_that_grew_is_consistent() {
    let mut network = FakeNetwork::new();
    let kept = network.checkpoint(&network.registry, 100, 2);
    network.revoke();
    let overview = load_overview(&open(network.site(BASE)), Some(&kept));
    assert_eq!(overview.logs[0].view.as_ref().unwrap().continuity, Continuity::Extends { older: 7 });
}

#[test]
fn a_fork_is_a_full_page_alarm_with_the_evidence() {
    let mut other = FakeNetwork::new();
    other.revoke();
    let kept = other.checkpoint(&other.registry, 100, 2);
    for (grow, title) in [(0, "This log went back"), (1, "shows two histories"), (2, "shows two histories")] {
        let mut network = FakeNetwork::new();
        for _ in 0..grow {
            let again = network.registry.entries[0].clone();
            network.registry.entries.push(again);
        }
        let overview = load_overview(&open(network.site(BASE)), Some(&kept));
        let forks: Vec<_> = overview.forks().into_iter().cloned().collect();
        assert_eq!(forks.len(), 1, "{grow}");
        assert_eq!(overview.to_keep().len(), 1, "the kept checkpoint stays");
        let evidence: serde_json::Value = serde_json::from_str(&forks[0].evidence()).unwrap();
        assert_eq!(evidence["kept"].as_str().unwrap().as_bytes(), kept);
        let html = view! { <OverviewPage overview=overview/> }.to_html();
        assert!(html.contains("data-testid=\"fork-alarm\"") && html.contains(title), "{html}");
        assert!(
            view! { <ForkAlarm forks=forks/> }
                .to_html()
                .contains("download=\"fork-fake.example-registry.json\"")
        );
    }
}

#[test]
fn every_entry_is_verified_and_explained() {
    let network = FakeNetwork::new();
    let site = open(network.site(BASE));
    for (log, count) in [
        (LogName::Registry, network.registry.entries.len()),
        (LogName::Receipts, network.receipts.entries.len()),
    ] {
        for index in 0..count as u64 {
            let entry = load_entry(&site, log, index).unwrap();
            assert_eq!(entry.outcome.state, State::Verified, "{log} {index}: {:?}", entry.outcome);
            let decoded = entry.statement.as_ref().unwrap();
            assert_eq!(decoded.parts.len(), 3);
            assert_eq!(decoded.parts[2].end, entry.bytes.len());
            let leaf = entry.leaf.to_string();
            let html = view! { <EntryPage entry=entry/> }.to_html();
            for part in [
                "data-state=\"verified\"",
                "Verified in this browser",
                &leaf,
                "data-testid=\"inclusion-path\"",
                "download=",
            ] {
                assert!(html.contains(part), "{part} in {html}");
            }
        }
    }
}

#[test]
fn a_receipt_that_the_coordinator_sealed_says_less() {
    let site = open(FakeNetwork::new().site(BASE));
    for (index, is_weaker) in [(0, false), (1, true)] {
        let html =
            view! { <EntryPage entry=load_entry(&site, LogName::Receipts, index).unwrap()/> }.to_html();
        assert_eq!(html.contains("data-testid=\"weaker\""), is_weaker, "{html}");
    }
}

#[test]
fn an_entry_of_a_forked_log_fails() {
    let mut other = FakeNetwork::new();
    other.revoke();
    let kept = String::from_utf8(other.checkpoint(&other.registry, 100, 2)).unwrap();
    let site = open(FakeNetwork::new().site(BASE));
    let entry =
        now_or_never(entry::load(&site, LogName::Registry, LeafIndex::new(0), |_| Some(kept.clone()), NOW))
            .unwrap();
    assert_eq!(entry.outcome.state, State::Failed);
    assert_eq!(entry.keep, None, "the kept checkpoint stays");
}

#[test]
fn a_changed_entry_fails_and_says_where() {
    let files = FakeNetwork::new().site(BASE);
    tamper(&files, "receipts/tile/entries/000.p/5", |bundle| *bundle.last_mut().unwrap() ^= 1);
    let entry = load_entry(&open(files), LogName::Receipts, 4).unwrap();
    assert_eq!(step(&entry.outcome, "Included in the log").state, State::Failed);
    assert_eq!(step(&entry.outcome, "Signed by the right key").state, State::Failed);
    assert!(entry.proof.is_none(), "no proof is offered for what is not included");
    let html = view! { <EntryPage entry=entry/> }.to_html();
    assert!(html.contains("data-testid=\"entry-verdict\" data-state=\"failed\""), "{html}");
}

#[test]
fn a_changed_tile_fails() {
    let files = FakeNetwork::new().site(BASE);
    tamper(&files, "receipts/tile/0/000.p/5", |tile| tile[0] ^= 1);
    let entry = load_entry(&open(files), LogName::Receipts, 2).unwrap();
    assert_eq!(step(&entry.outcome, "Included in the log").state, State::Failed);
}

#[test]
fn a_missing_tile_is_not_verifiable() {
    let files = FakeNetwork::new().site(BASE);
    files.0.borrow_mut().remove(&format!("{BASE}/receipts/tile/0/000.p/5"));
    let entry = load_entry(&open(files), LogName::Receipts, 2).unwrap();
    assert_eq!(entry.outcome.state, State::NotVerifiable);
    assert_eq!(step(&entry.outcome, "Included in the log").state, State::NotVerifiable);
}

#[test]
fn an_entry_that_is_no_statement_is_shown_as_bytes() {
    let mut network = FakeNetwork::new();
    network.receipts.entries.push(b"hello".to_vec());
    let entry = load_entry(&open(network.site(BASE)), LogName::Receipts, 5).unwrap();
    assert_eq!(
        (entry.outcome.state, step(&entry.outcome, "Included in the log").state),
        (State::NotVerifiable, State::Verified)
    );
    let html = view! { <EntryPage entry=entry/> }.to_html();
    assert!(html.contains("unknown bytes") && html.contains("68 65 6c 6c 6f"), "{html}");
}

#[test]
fn an_entry_beyond_the_log_says_so() {
    let trouble = load_entry(&open(FakeNetwork::new().site(BASE)), LogName::Receipts, 5).unwrap_err();
    assert!(view! { <TroubleView trouble=trouble/> }.to_html().contains("has no entry 5"));
}

#[test]
fn a_receipt_of_a_revoked_key_fails() {
    let mut network = FakeNetwork::new();
    network.revoke();
    let entry = load_entry(&open(network.site(BASE)), LogName::Receipts, 0).unwrap();
    assert_eq!(step(&entry.outcome, "Key not revoked").state, State::Failed);
    assert_eq!(step(&entry.outcome, "The same registry as yours").state, State::Verified);
}

#[test]
fn a_receipt_of_another_registry_fails() {
    let mut network = FakeNetwork::new();
    network.registry.entries.swap(1, 2);
    let entry = load_entry(&open(network.site(BASE)), LogName::Receipts, 0).unwrap();
    assert_eq!(step(&entry.outcome, "The same registry as yours").state, State::Failed);
}

#[test]
fn a_provider_is_judged_anew_and_says_what_is_not_proven() {
    let network = FakeNetwork::new();
    let provider =
        now_or_never(provider::load(&open(network.site(BASE)), network.attestation, |_| None, NOW)).unwrap();
    assert_eq!(provider.outcome.state, State::Verified, "{:?}", provider.outcome);
    let html = view! { <ProviderPage provider=provider/> }.to_html();
    for part in [
        "What it does not prove",
        "that the keys live in hardware",
        "bloom-tiny",
        "0.1.0",
        "data-testid=\"receipt-count\"",
        ">5<",
        "#/entry/receipts/4",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
}

#[test]
fn a_revoked_provider_fails() {
    let mut network = FakeNetwork::new();
    network.revoke();
    let provider =
        now_or_never(provider::load(&open(network.site(BASE)), network.attestation, |_| None, NOW)).unwrap();
    assert_eq!(step(&provider.outcome, "Not revoked").state, State::Failed);
    let unknown =
        now_or_never(provider::load(&open(network.site(BASE)), Hash::EMPTY_TREE, |_| None, NOW)).unwrap_err();
    assert_eq!(unknown.title, "No such provider");
}

#[test]
fn a_bundle_is_verified_offline_and_one_bit_breaks_it() {
    let network = FakeNetwork::new();
    let site = open(network.site(BASE));
    let bytes = network.bundle.unwrap().to_bytes();
    let checked = verify::check(site.policy(), &bytes, None, NOW);
    assert_eq!(checked.outcome.state, State::Verified, "{:?}", checked.outcome);
    let html = view! { <CheckedView checked=checked/> }.to_html();
    for part in [
        "data-testid=\"verify-result\" data-state=\"verified\"",
        "answered one request with bloom-tiny",
        "What is the capital of France?",
        "is Paris.",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
    for at in (0..bytes.len()).step_by(97) {
        let mut other = bytes.to_vec();
        other[at] ^= 1;
        let checked = verify::check(site.policy(), &other, None, NOW);
        assert_ne!(checked.outcome.state, State::Verified, "byte {at}");
    }
}

#[test]
fn a_proof_needs_its_entry() {
    let network = FakeNetwork::new();
    let site = open(network.site(BASE));
    let bundle = network.bundle.unwrap();
    let alone = verify::check(site.policy(), &bundle.proof, None, NOW);
    assert_eq!((alone.outcome.state, alone.wants_entry), (State::NotVerifiable, true));
    let whole = verify::check(site.policy(), &bundle.proof, Some(&bundle.receipt), NOW);
    assert_eq!(whole.outcome.state, State::Verified, "{:?}", whole.outcome);
    let other = verify::check(site.policy(), &bundle.proof, Some(b"other"), NOW);
    assert_eq!(other.outcome.state, State::Failed);
}

#[test]
fn a_checkpoint_and_an_unknown_file_have_their_states() {
    let network = FakeNetwork::new();
    let site = open(network.site(BASE));
    let state = |file: &[u8]| verify::check(site.policy(), file, None, NOW).outcome.state;
    assert_eq!(state(&network.checkpoint(&network.registry, 5, 2)), State::Verified);
    assert_eq!(state(&network.checkpoint(&network.registry, 5, 1)), State::Failed);
    assert_eq!(state(b"what is this"), State::NotVerifiable);
    assert_eq!(state(b""), State::NotVerifiable);
}

#[test]
fn the_policy_page_says_who_is_trusted_and_by_whose_choice() {
    let text = FakeNetwork::new().policy();
    let html = view! { <PolicyPage policy=Some((text, PolicySource::ThisSite))/> }.to_html();
    assert!(html.contains("this site sent it") && html.contains("quorum both"), "{html}");
}

/// Writes the fake network as files, to look at the pages: `GLASSBLOOM_FAKE_SITE=DIR`.
#[test]
fn write_fake_site_where_asked() {
    let Some(folder) = std::env::var_os("GLASSBLOOM_FAKE_SITE").map(std::path::PathBuf::from) else { return };
    let network = FakeNetwork::new();
    for (path, content) in network.site(".").0.borrow().iter() {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let mut other = FakeNetwork::new();
    other.revoke();
    std::fs::write(folder.join("fork"), other.checkpoint(&other.registry, 100, 2)).unwrap();
    std::fs::write(folder.join("bundle"), network.bundle.unwrap().to_bytes()).unwrap();
    std::fs::write(folder.join("attestation"), network.attestation.to_string()).unwrap();
}
