//! Hashes, times and the button that copies.

use glassbloom_spec::id::{UnixMillis, UnixSeconds};
use leptos::prelude::*;

use crate::{browser, time};

/// A button that puts text on the clipboard and says so.
#[component]
pub fn Copy(
    /// The text.
    text: String,
    /// What it is, for those who hear the page.
    #[prop(default = "Copy")]
    label: &'static str,
) -> AnyView {
    let copied = RwSignal::new(false);
    let copy = move |_| {
        browser::copy(text.clone(), move || {
            copied.set(true);
            browser::after(1500, move || copied.set(false));
        });
    };
    const ICON: &str = r#"<svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.500" stroke-linejoin="round" aria-hidden="true" focusable="false"><rect x="5.500" y="5.500" width="8.500" height="8.500" rx="1.500"/><path d="M10.500 5.500V3.500A1.500 1.500 0 0 0 9 2H3.500A1.500 1.500 0 0 0 2 3.500V9a1.500 1.500 0 0 0 1.500 1.500h2"/></svg>"#;
    view! {
        <button type="button" class="copy" aria-label=label title=label on:click=copy>
            <span class="icon" inner_html=ICON></span>
            <span class="copied" role="status">{move || copied.get().then_some("copied")}</span>
        </button>
    }
    .into_any()
}

/// A hash in monospace, with a button that copies it.
#[component]
pub fn HashText(
    /// All of it.
    #[prop(into)]
    text: String,
    /// Show the first and last digits only.
    #[prop(optional)]
    short: bool,
) -> AnyView {
    let shown = match (short, text.get(..10), text.len().checked_sub(6).and_then(|from| text.get(from..))) {
        (true, Some(head), Some(tail)) if text.len() > 20 => format!("{head}…{tail}"),
        _ => text.clone(),
    };
    view! {
        <span class="hash">
            <code title=text.clone()>{shown}</code>
            <Copy text=text label="Copy hash"/>
        </span>
    }
    .into_any()
}

/// A time in the visitor's zone.
#[component]
pub fn When(
    /// The time.
    time: UnixSeconds,
) -> impl IntoView {
    view! { <time datetime=time::iso(time)>{time::local(time)}</time> }
}

/// How long ago a time was; the time itself on hover.
#[component]
pub fn Ago(
    /// The time.
    time: UnixSeconds,
    /// Now.
    now: UnixMillis,
) -> impl IntoView {
    view! { <time datetime=time::iso(time) title=time::local(time)>{time::ago(time, now)}</time> }
}

/// Words with commands and addresses between backticks.
pub fn with_code(text: &str) -> Vec<AnyView> {
    let part = |(at, part): (usize, &str)| match at % 2 {
        0 => part.to_owned().into_any(),
        _ => view! { <code>{part.to_owned()}</code> }.into_any(),
    };
    text.split('`').enumerate().map(part).collect()
}
