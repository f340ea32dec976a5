//! A provider: keys, what vouches for them, and what that does not prove.

use glassbloom_spec::{evidence::Proven, hash::Hash, id::UnixMillis};
use leptos::prelude::*;

use crate::{
    data::{
        identity::Step,
        provider::{Provider, RECEIPTS_SCANNED, Receipts, VerdictLine},
    },
    describe::short,
    route::Route,
    ui::{
        fields::FieldList,
        text::{HashText, When},
        verdict::Verdict,
    },
};

/// A provider.
#[component]
pub fn ProviderPage(
    /// What was loaded and checked.
    provider: Provider,
) -> impl IntoView {
    let Provider {
        leaf,
        entry,
        key,
        fields,
        proven,
        lacking,
        now,
        timeline,
        provider: identity,
        verdicts,
        models,
        release,
        successor,
        not_after,
        receipts,
        outcome,
        keep: _,
    } = provider;
    let replaced = successor.map(|route| view! { <p class="notice">"A newer attestation of this provider "<a href=route.to_string()>"replaced this one"</a>"."</p> });
    let models =
        models.into_iter().map(|(name, route)| view! { <li>{linked(name, route)}</li> }).collect_view();
    let release = match release {
        Some((version, route)) => linked(version, Some(route)),
        None => view! { <span class="quiet">"no release in the registry names this build"</span> }.into_any(),
    };
    let judged = |line: VerdictLine| view! { <li><a href=line.route.to_string()>{line.text}</a></li> };
    let judged = if verdicts.is_empty() {
        view! { <p class="empty">"No coordinator has judged this attestation yet."</p> }.into_any()
    } else {
        view! { <ul class="plain" data-testid="verdicts">{verdicts.into_iter().map(judged).collect_view()}</ul> }.into_any()
    };
    view! {
        <section class="page-head" data-testid="page-provider">
            <p class="kicker">"Provider"</p>
            <h1>"Key "<code>{short(&key.0)}</code></h1>
            <p class="lead">"Whoever holds this key signs the answers; prompts are sealed to the key beside it."</p>
        </section>
        {replaced}
        <Verdict outcome=outcome testid="provider-verdict"/>
        <TierView proven=proven lacking=lacking now=now/>
        <Timeline steps=timeline identity=identity/>
        <div class="split">
            <div class="main-column">
                <section class="card">
                    <header class="card-head"><h2>"Keys and evidence"</h2><p class="quiet">"as it attested them"</p></header>
                    <FieldList fields=fields/>
                </section>
            </div>
            <aside class="side-column">
                <section class="card">
                    <header class="card-head"><h2>"In the registry"</h2></header>
                    <dl class="facts stacked">
                        <div><dt>"Attestation"</dt><dd><a href=entry.to_string() data-testid="provider-entry">"registry entry"</a>" "<HashText text=leaf.to_string() short=true/></dd></div>
                        <div><dt>"Release"</dt><dd>{release}</dd></div>
                        <div><dt>"Models"</dt><dd><ul class="plain">{models}</ul></dd></div>
                        <div><dt>"Keys until"</dt><dd><When time=not_after/></dd></div>
                    </dl>
                </section>
                <section class="card">
                    <header class="card-head"><h2>"Verdicts"</h2></header>
                    {judged}
                </section>
                <section class="card">
                    <header class="card-head"><h2>"Receipts"</h2></header>
                    <ReceiptsView receipts=receipts/>
                </section>
            </aside>
        </div>
    }
}

fn linked(name: String, route: Option<Route>) -> AnyView {
    match route {
        Some(route) => view! { <a href=route.to_string()>{name}</a> }.into_any(),
        None => name.into_any(),
    }
}

/// A provider's life, newest first.
#[component]
fn Timeline(steps: Vec<Step>, identity: Option<Hash>) -> impl IntoView {
    let rows = steps.into_iter().map(|step| {
        let class = if step.is_odd { "odd" } else { "" };
        view! {
            <li class=class><When time=step.at/>" "<a href=step.route.to_string()>{step.what}</a></li>
        }
    });
    identity.map(|identity| {
        view! {
            <section class="card wide" aria-label="Identity">
                <header class="card-head"><h2>"Identity"</h2><p class="quiet">"provider "<HashText text=identity.to_string() short=true/></p></header>
                <ol class="timeline" data-testid="provider-timeline" reversed>{rows.collect_view()}</ol>
            </section>
        }
    })
}

/// What the evidence proves, and beside it what it does not.
#[component]
fn TierView(proven: Option<Proven>, lacking: Option<String>, now: UnixMillis) -> impl IntoView {
    // Valid at its time is what counts; that it is not any more is said apart.
    let expired = proven
        .as_ref()
        .and_then(|proven| proven.expires)
        .filter(|expires| now.seconds() >= *expires)
        .map(|expires| view! { <p class="quiet">"The certificates were valid when this was logged and have expired since: "<When time=expires/>"."</p> });
    let (name, proves, does_not) = proven.as_ref().map_or(
        ("nothing proven", lacking.unwrap_or_else(|| "nothing".to_owned()), "anything at all"),
        |proven| (proven.tier.name(), proven.tier.proves().to_owned(), proven.tier.does_not_prove()),
    );
    let claims = proven.map(|proven| proven.claims).unwrap_or_default();
    let rows = claims.into_iter().map(|claim| {
        view! {
            <tr><th scope="row">{claim.name}</th><td>{claim.value.to_string()}</td><td><span class="tag">{claim.by.name()}</span></td></tr>
        }
    });
    let table = (rows.len() > 0).then(|| {
        view! {
            <table class="claims" data-testid="provider-claims">
                <thead><tr><th scope="col">"Claim"</th><th scope="col">"Value"</th><th scope="col">"Vouched for by"</th></tr></thead>
                <tbody>{rows.collect_view()}</tbody>
            </table>
        }
    });
    view! {
        <section class="tier" aria-label="Tier" data-testid="provider-tier">
            <h2>"Tier "<span class="tag">{name}</span></h2>
            <div class="two">
                <div><h3>"What it proves"</h3><p>{proves}"."</p></div>
                <div class="not"><h3>"What it does not prove"</h3><p>{does_not}"."</p></div>
            </div>
            {table}
            {expired}
        </section>
    }
}

#[component]
fn ReceiptsView(receipts: Receipts) -> AnyView {
    match receipts {
        Receipts::Unknown(cause) => view! { <p class="empty">{cause}</p> }.into_any(),
        Receipts::Counted { count, among, newest } => {
            let among = if among == RECEIPTS_SCANNED {
                format!("the newest {among}")
            } else {
                format!("{among} in the log")
            };
            let newest = newest.into_iter().map(|route| {
                let label = match route {
                    Route::Entry(log, index) => format!("{log} #{index}"),
                    _ => "receipt".to_owned(),
                };
                view! { <li><a href=route.to_string()>{label}</a></li> }
            });
            view! {
                <p><strong data-testid="receipt-count">{count}</strong>" of "{among}</p>
                <ul class="plain">{newest.collect_view()}</ul>
            }
            .into_any()
        }
    }
}
