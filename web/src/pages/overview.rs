//! Both logs at a glance, and the alarm when a log shows two histories.

use glassbloom_spec::id::UnixMillis;
use leptos::prelude::*;

use crate::{
    browser,
    data::{
        overview::{EntryLine, LogCard, LogView, Overview, ProviderLine, cosigned},
        pin::Fork,
    },
    route::{LogName, Route},
    time::grouped,
    ui::{
        frame::TroubleView,
        text::{Ago, HashText, When},
        verdict::{Mark, Verdict},
    },
};

/// Both logs; the alarm instead, when one of them forked.
#[component]
pub fn OverviewPage(
    /// What was loaded and checked.
    overview: Overview,
) -> AnyView {
    let forks: Vec<Fork> = overview.forks().into_iter().cloned().collect();
    if forks.is_empty() {
        return view! { <Logs overview=overview/> }.into_any();
    }
    view! {
        <ForkAlarm forks=forks/>
        <details class="fold"><summary>"Show the overview all the same"</summary><Logs overview=overview/></details>
    }
    .into_any()
}

#[component]
fn Logs(overview: Overview) -> impl IntoView {
    let Overview { logs, providers, now } = overview;
    view! {
        <section class="intro" data-testid="page-overview">
            <h1>"Two public logs, checked by you"</h1>
            <p class="lead">"Every claim this network makes is an entry here: which key belongs to which machine, which program and model it runs, which answer it signed. Your browser checks each of them itself, here and now."</p>
        </section>
        <div class="cards">
            {logs.into_iter().map(|log| view! { <LogCardView log=log now=now/> }).collect_view()}
        </div>
        <Providers providers=providers/>
    }
}

#[component]
fn LogCardView(log: LogCard, now: UnixMillis) -> impl IntoView {
    let LogCard { name, view } = log;
    let testid = match name {
        LogName::Receipts => "log-receipts",
        LogName::Registry => "log-registry",
    };
    let body = match view {
        Err(trouble) => view! { <TroubleView trouble=trouble/> }.into_any(),
        Ok(view) => view! { <LogBody name=name view=view now=now/> }.into_any(),
    };
    view! {
        <article class="card" data-testid=testid aria-label=format!("{name} log")>
            <header class="card-head"><h2>{name.name()}</h2><p class="quiet">{name.holds()}</p></header>
            {body}
        </article>
    }
}

#[component]
fn LogBody(name: LogName, view: LogView, now: UnixMillis) -> impl IntoView {
    let size = view.checkpoint.size().get();
    let age = match view.checkpoint.cosigned_at() {
        none if none.get() == 0 => view! { <span class="quiet">"no witness"</span> }.into_any(),
        time => view! { <Ago time=time now=now/> }.into_any(),
    };
    let witnesses = view.witnesses.iter().map(|witness| {
        let time = match cosigned(&view, witness) {
            Some(time) => view! { <Ago time=time now=now/> }.into_any(),
            None => view! { <span class="quiet">"did not cosign this checkpoint"</span> }.into_any(),
        };
        let has = cosigned(&view, witness).is_some();
        view! { <li data-testid="witness" class:absent=!has><span class="witness-name">{witness.clone()}</span>{time}</li> }
    });
    let witnesses = witnesses.collect_view();
    let origin = view.checkpoint.origin().to_owned();
    view! {
        <div class="figures">
            <p class="figure"><span class="number" data-testid="log-size">{grouped(size)}</span><span class="unit">{if size == 1 { "entry" } else { "entries" }}</span></p>
            <p class="figure"><span class="number small" data-testid="checkpoint-age">{age}</span><span class="unit">"last witnessed"</span></p>
        </div>
        <Verdict outcome=view.outcome testid="log-verdict"/>
        <dl class="facts">
            <div><dt>"Origin"</dt><dd><code>{origin}</code></dd></div>
            <div><dt>"Root"</dt><dd data-testid="log-root"><HashText text=view.checkpoint.root().to_string() short=true/></dd></div>
        </dl>
        <h3>"Witnesses"</h3>
        <ul class="witnesses">{witnesses}</ul>
        <h3>"Newest entries"</h3>
        <Recent name=name entries=view.recent/>
    }
}

#[component]
fn Recent(name: LogName, entries: Vec<EntryLine>) -> AnyView {
    if entries.is_empty() {
        let hint = match name {
            LogName::Registry => {
                "No entry yet. The first appears when a coordinator starts and logs who it is."
            }
            LogName::Receipts => {
                "No answer has been logged yet. Ask through the proxy: its receipt appears here within seconds."
            }
        };
        return view! { <p class="empty" data-testid="empty">{hint}</p> }.into_any();
    }
    let row = move |entry: EntryLine| {
        view! {
            <li>
                <a class="entry-row" data-testid="entry-row" href=Route::Entry(name, entry.index).to_string()>
                    <span class="entry-index">{entry.index.to_string()}</span>
                    <span class="entry-kind">{entry.kind}</span>
                    <span class="entry-summary" title=entry.summary.clone()>{entry.summary.clone()}</span>
                    <Mark outcome=entry.outcome compact=true/>
                </a>
            </li>
        }
    };
    view! { <ol class="entries" reversed>{entries.into_iter().map(row).collect_view()}</ol> }.into_any()
}

#[component]
fn Providers(providers: Vec<ProviderLine>) -> impl IntoView {
    (!providers.is_empty()).then(|| {
        let row = |provider: ProviderLine| {
            view! {
                <li>
                    <a class="provider-row" data-testid="provider-row" href=provider.route.to_string()>
                        <strong>{provider.name}</strong>
                        <span class="tag">{provider.tier}</span>
                        <span class="quiet">{provider.status}", "{provider.build}", since "<When time=provider.since/></span>
                        <span class="quiet not-proven">"Not proven: "{provider.not_proven}"."</span>
                    </a>
                </li>
            }
        };
        view! {
            <section class="card wide" aria-label="Providers">
                <header class="card-head"><h2>"Providers"</h2><p class="quiet">"who may answer, and what vouches for them"</p></header>
                <ul class="providers">{providers.into_iter().map(row).collect_view()}</ul>
            </section>
        }
    })
}

/// A log that shows two histories: the whole page says so.
#[component]
pub fn ForkAlarm(
    /// The evidence.
    forks: Vec<Fork>,
) -> impl IntoView {
    let (title, meaning) = if forks.iter().all(|fork| fork.is_rollback) {
        (
            "This log went back",
            "It signed more entries before than it shows now. It withholds them, or somebody serves you an old copy. Do not rely on what is missing here. Keep both checkpoints, and compare with others.",
        )
    } else {
        (
            "This log shows two histories",
            "Both checkpoints below are signed, and they cannot both be true. Do not rely on anything this log says. Keep the evidence and show it to others: anyone can check it without trusting you.",
        )
    };
    let one = |fork: Fork| {
        let file = browser::download_address(&fork.evidence());
        let name = format!("fork-{}.json", fork.origin.replace('/', "-"));
        view! {
            <section class="fork">
                <h2><code>{fork.origin}</code></h2>
                <p>{fork.reason}</p>
                <div class="two">
                    <div><h3>"What your browser kept"</h3><pre class="wrap" tabindex="0">{fork.kept}</pre></div>
                    <div><h3>"What the log shows now"</h3><pre class="wrap" tabindex="0">{fork.shown}</pre></div>
                </div>
                <p><a class="button" download=name href=file data-testid="fork-evidence">"Download both as evidence"</a></p>
            </section>
        }
    };
    view! {
        <div class="alarm" role="alert" data-testid="fork-alarm" data-state="failed">
            <h1>{title}</h1>
            <p class="lead">{meaning}</p>
            {forks.into_iter().map(one).collect_view()}
        </div>
    }
}
