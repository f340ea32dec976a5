//! What stands around every page, and what stands there when there is none.

use leptos::prelude::*;

use super::text::with_code;
use crate::{
    data::{Trouble, site::PolicySource},
    route::Route,
};

const MARK: &str = r#"<svg viewBox="0 0 32 32" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" stroke-linecap="round" aria-hidden="true" focusable="false"><path d="M16 29V15"/><path d="M16 15c-5.800 0-9.500-3.700-9.500-10C12.300 5 16 8.700 16 15z"/><path d="M16 15c5.800 0 9.500-3.700 9.500-10C19.700 5 16 8.700 16 15z"/><path d="M16 24.500c-4.300 0-7-2.300-8-6.500 4.300 0 7 2.300 8 6.500z"/><path d="M16 24.500c4.300 0 7-2.300 8-6.500-4.300 0-7 2.300-8 6.500z"/></svg>"#;

/// The wordmark and the ways to the pages.
#[component]
pub fn Header(
    /// The page that is shown.
    #[prop(into)]
    route: Signal<Route>,
) -> impl IntoView {
    let link = move |to: Route, label: &'static str, testid: &'static str| {
        let current = move || (route.get() == to).then_some("page");
        view! { <a href=to.to_string() aria-current=current data-testid=testid>{label}</a> }
    };
    view! {
        <a class="skip" href="#main">"Skip to content"</a>
        <header class="site-header">
            <a class="wordmark" href="#/" aria-label="Glassbloom, overview">
                <span class="icon" inner_html=MARK></span>
                "Glassbloom"
            </a>
            <nav aria-label="Pages">
                {link(Route::Overview, "Overview", "nav-overview")}
                {link(Route::Verify, "Verify", "nav-verify")}
                {link(Route::Policy, "Policy", "nav-policy")}
            </nav>
        </header>
    }
}

/// Who was believed for what the page says.
#[component]
pub fn Footer(
    /// Where the policy came from; `None` while there is none.
    #[prop(into)]
    source: Signal<Option<PolicySource>>,
) -> impl IntoView {
    let believed = move || {
        source.get().map(|source| match source {
            PolicySource::ThisSite => "Checked under the policy that this site sent. Whoever gives you the policy chooses whom you believe: bring your own.".to_owned(),
            PolicySource::Visitor => "Checked under your own policy, kept in this browser.".to_owned(),
            PolicySource::Address(address) => format!("Checked under the policy at {address}."),
        })
    };
    view! {
        <footer class="site-footer">
            <p>{believed}" "<a href="#/policy">"What this page trusts"</a></p>
            <p class="quiet">"Everything marked verified was computed in your browser, by the code that the auditor runs. Nothing here asks for trust in this server."</p>
        </footer>
    }
}

/// While data is on its way.
#[component]
pub fn Loading() -> impl IntoView {
    view! {
        <section class="loading" role="status" aria-live="polite" data-testid="loading">
            <span class="pulse" aria-hidden="true"></span>
            <p>"Reading the log and checking it…"</p>
        </section>
    }
}

/// A page that cannot be shown.
#[component]
pub fn TroubleView(
    /// Why, and what to do.
    trouble: Trouble,
) -> impl IntoView {
    view! {
        <section class="trouble" role="alert" data-testid="trouble">
            <h1>{trouble.title}</h1>
            <p class="cause">{trouble.cause}</p>
            <p>{with_code(&trouble.next)}</p>
        </section>
    }
}
