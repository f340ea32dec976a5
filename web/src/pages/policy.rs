//! What this page trusts, and how a visitor changes it.

use leptos::prelude::*;
use wasm_bindgen::JsCast;

use crate::{
    browser,
    data::site::{PolicySource, policy_digest},
    ui::text::HashText,
};

/// The policy in use, and a way to bring one's own.
#[component]
pub fn PolicyPage(
    /// The policy, as it was written, and where it came from; `None` when there is none.
    policy: Option<(String, PolicySource)>,
) -> impl IntoView {
    let trouble = RwSignal::new(None::<String>);
    let chosen = move |event: leptos::ev::Event| {
        let Some(file) = chosen_file(&event) else { return };
        leptos::task::spawn_local(async move {
            let text = browser::read(file)
                .await
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "the file is not text".to_owned()));
            match text.and_then(|text| {
                glassbloom_spec::policy::Policy::parse(&text).map(|_| text).map_err(|error| error.to_string())
            }) {
                Ok(text) => {
                    browser::keep_policy(Some(&text));
                    browser::reload();
                }
                Err(error) => trouble.set(Some(error)),
            }
        });
    };
    let own = matches!(policy, Some((_, PolicySource::Visitor)));
    let shown = policy.map(|(text, source)| {
        let from = match source {
            PolicySource::ThisSite => "this site sent it".to_owned(),
            PolicySource::Visitor => "your own, kept in this browser".to_owned(),
            PolicySource::Address(address) => format!("from {address}"),
        };
        view! {
            <section class="card">
                <header class="card-head"><h2>"The policy"</h2><p class="quiet">{from}</p></header>
                <pre tabindex="0" class="wrap" data-testid="policy-text">{text.clone()}</pre>
                <dl class="facts"><div><dt>"SHA-256"</dt><dd><HashText text=policy_digest(&text).to_string()/></dd></div></dl>
            </section>
        }
    });
    view! {
        <section class="page-head" data-testid="page-policy">
            <h1>"What this page trusts"</h1>
            <p class="lead">"A policy: which keys speak for which log, which witnesses must have seen a checkpoint, and whose statements count. Everything else is computed. Compare the policy with one you got elsewhere, or use your own."</p>
        </section>
        {shown}
        <section class="card">
            <header class="card-head"><h2>"Your own policy"</h2></header>
            <p>"It stays in this browser and takes the place of the one that the site sends."</p>
            <p class="row">
                <label class="button" for="policy-file">"Choose a policy file"</label>
                <input id="policy-file" class="visually-hidden" type="file" data-testid="policy-file" on:change=chosen/>
                {own.then(|| view! {
                    <button type="button" class="button quiet-button" on:click=move |_| { browser::keep_policy(None); browser::reload(); }>"Go back to the site's policy"</button>
                })}
            </p>
            <p class="cause" role="alert">{move || trouble.get()}</p>
        </section>
    }
}

/// The file that an input of the page was given.
fn chosen_file(event: &leptos::ev::Event) -> Option<web_sys::File> {
    event.target()?.dyn_into::<web_sys::HtmlInputElement>().ok()?.files()?.get(0)
}
