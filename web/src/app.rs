//! Puts pages together: which one is shown, and what it shows.

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::{
    browser::{self, BrowserFetch},
    data::{
        Site, Trouble,
        entry::{self, Entry},
        overview::{self, Overview},
        provider::{self, Provider},
        site::PolicySource,
    },
    pages::{
        entry::EntryPage, overview::OverviewPage, policy::PolicyPage, provider::ProviderPage,
        verify::VerifyPage,
    },
    route::Route,
    ui::frame::{Footer, Header, Loading, TroubleView},
};

/// What stands in the middle of the page.
#[derive(Clone)]
enum Shown {
    Entry(Box<Entry>),
    Loading,
    Overview(Box<Overview>),
    Policy,
    Provider(Box<Provider>),
    Trouble(Trouble),
    Verify,
}

type Loaded = Option<Result<Site<BrowserFetch>, Trouble>>;

/// The explorer.
#[component]
pub fn App() -> impl IntoView {
    let route = RwSignal::new(browser::route());
    let site: RwSignal<Loaded> = RwSignal::new(None);
    let shown = RwSignal::new(Shown::Loading);
    browser::on_route_change(move |to| route.set(to));
    spawn_local(async move { site.set(Some(Site::load(BrowserFetch, browser::choices()).await)) });

    Effect::new(move |_| {
        let to = route.get();
        browser::arrive(to);
        shown.set(Shown::Loading);
        let Some(site) = site.get() else { return };
        spawn_local(async move {
            let loaded = load(site, to).await;
            // The visitor may have gone on in the meantime.
            if route.get_untracked() == to {
                shown.set(loaded);
            }
        });
    });

    keep_fresh(site, route, shown);

    let source =
        Signal::derive(move || site.with(|site| Some(site.as_ref()?.as_ref().ok()?.policy_source().clone())));
    view! {
        <Header route=route/>
        <main id="main" tabindex="-1">{move || page(shown.get(), &site.get_untracked())}</main>
        <Footer source=source/>
    }
}

async fn load(site: Result<Site<BrowserFetch>, Trouble>, to: Route) -> Shown {
    let site = match (site, to) {
        // This page is where a visitor without a policy gets one.
        (_, Route::Policy) => return Shown::Policy,
        (Err(trouble), _) => return Shown::Trouble(trouble),
        (Ok(site), _) => site,
    };
    let now = browser::now();
    match to {
        Route::Entry(log, index) => match entry::load(&site, log, index, browser::kept_checkpoint, now).await
        {
            Ok(entry) => {
                keep(entry.keep.clone());
                Shown::Entry(Box::new(entry))
            }
            Err(trouble) => Shown::Trouble(trouble),
        },
        Route::NotFound => Shown::Trouble(Trouble {
            title: "There is no such page".to_owned(),
            cause: "The address names none.".to_owned(),
            next: "Go to the overview and start from there.".to_owned(),
        }),
        Route::Overview => {
            let overview = overview::load(&site, browser::kept_checkpoint, now).await;
            keep(overview.to_keep());
            Shown::Overview(Box::new(overview))
        }
        Route::Policy => Shown::Policy,
        Route::Provider(leaf) => match provider::load(&site, leaf, browser::kept_checkpoint, now).await {
            Ok(provider) => {
                keep(provider.keep.clone());
                Shown::Provider(Box::new(provider))
            }
            Err(trouble) => Shown::Trouble(trouble),
        },
        Route::Verify => Shown::Verify,
    }
}

/// Keeps checkpoints as seen last.
fn keep(notes: impl IntoIterator<Item = (String, Vec<u8>)>) {
    for (origin, note) in notes {
        browser::keep_checkpoint(&origin, &note);
    }
}

/// Loads the overview again from time to time, unless the visitor has unfolded something and is reading it.
fn keep_fresh(site: RwSignal<Loaded>, route: RwSignal<Route>, shown: RwSignal<Shown>) {
    browser::after(REFRESH_MILLIS, move || {
        spawn_local(async move {
            let is_wanted = || route.get_untracked() == Route::Overview && !browser::is_reading();
            if let (true, Some(loaded)) = (is_wanted(), site.get_untracked()) {
                let next = load(loaded, Route::Overview).await;
                if is_wanted() {
                    shown.set(next);
                }
            }
            keep_fresh(site, route, shown);
        });
    });
}

/// How often the overview is loaded again.
const REFRESH_MILLIS: i32 = 15_000;

fn page(shown: Shown, site: &Loaded) -> AnyView {
    let site = site.as_ref().and_then(|site| site.as_ref().ok());
    match (shown, site) {
        (Shown::Entry(entry), _) => view! { <EntryPage entry=*entry/> }.into_any(),
        (Shown::Overview(overview), _) => view! { <OverviewPage overview=*overview/> }.into_any(),
        (Shown::Policy, site) => {
            let policy =
                site.map(|site| (site.policy_text().to_owned(), PolicySource::clone(site.policy_source())));
            view! { <PolicyPage policy=policy/> }.into_any()
        }
        (Shown::Provider(provider), _) => view! { <ProviderPage provider=*provider/> }.into_any(),
        (Shown::Trouble(trouble), _) => view! { <TroubleView trouble=trouble/> }.into_any(),
        (Shown::Verify, Some(site)) => view! { <VerifyPage policy=site.policy().clone()/> }.into_any(),
        (Shown::Loading | Shown::Verify, _) => view! { <Loading/> }.into_any(),
    }
}
