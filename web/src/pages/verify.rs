//! Checks a file of the visitor's, without the network.

use glassbloom_spec::policy::Policy;
use leptos::prelude::*;
use wasm_bindgen::JsCast;

use crate::{
    browser,
    check::{Outcome, State},
    data::verify::{Checked, MAX_FILE, check},
    describe::plural,
    ui::{
        text::HashText,
        verdict::{StateIcon, Verdict},
    },
};

/// A place to drop, choose or paste a file, and what was found.
#[component]
pub fn VerifyPage(
    /// The policy to check under.
    policy: Policy,
) -> impl IntoView {
    let file = RwSignal::new(None::<Vec<u8>>);
    let entry = RwSignal::new(None::<Vec<u8>>);
    let trouble = RwSignal::new(None::<String>);
    let hovering = RwSignal::new(false);
    let take = move |chosen: Option<web_sys::File>, into: RwSignal<Option<Vec<u8>>>| {
        let Some(chosen) = chosen else { return };
        trouble.set(None);
        if chosen.size() > MAX_FILE as f64 {
            trouble.set(Some(format!("{} is larger than any receipt bundle.", chosen.name())));
            return;
        }
        leptos::task::spawn_local(async move {
            match browser::read(chosen).await {
                Ok(bytes) => into.set(Some(bytes)),
                Err(error) => trouble.set(Some(format!("The file cannot be read: {error}."))),
            }
        });
    };
    let take_main = move |chosen| {
        entry.set(None);
        take(chosen, file);
    };
    let dropped = move |event: leptos::ev::DragEvent| {
        event.prevent_default();
        hovering.set(false);
        take_main(event.data_transfer().and_then(|data| data.files()).and_then(|files| files.get(0)));
    };
    let over = move |event: leptos::ev::DragEvent| {
        event.prevent_default();
        hovering.set(true);
    };
    let pasted = move |event: leptos::ev::Event| {
        let text = event
            .target()
            .and_then(|it| it.dyn_into::<web_sys::HtmlTextAreaElement>().ok())
            .map(|it| it.value());
        trouble.set(None);
        entry.set(None);
        file.set(text.filter(|text| !text.trim().is_empty()).map(|text| pasted_bytes(&text)));
    };
    let checked =
        move || file.get().map(|file| check(&policy, &file, entry.get().as_deref(), browser::now()));
    view! {
        <section class="page-head" data-testid="page-verify">
            <h1>"Verify a file"</h1>
            <p class="lead">"A receipt bundle that the proxy saved, a .tlog-proof, or a checkpoint. It is read and checked here; nothing leaves this page, and it works with the network cut."</p>
        </section>
        <section class="drop" class:over=move || hovering.get() on:drop=dropped on:dragover=over on:dragleave=move |_| hovering.set(false)>
            <p class="drop-words">"Drop a file here"</p>
            <p class="row">
                <label class="button" for="verify-file">"Choose a file"</label>
                <input id="verify-file" class="visually-hidden" type="file" data-testid="verify-file" on:change=move |event| take_main(chosen_file(&event))/>
            </p>
            <details class="fold">
                <summary>"Or paste it"</summary>
                <label for="verify-text">"A .tlog-proof or checkpoint as text, or any of them as hexadecimal"</label>
                <textarea id="verify-text" rows="8" spellcheck="false" data-testid="verify-text" on:input=pasted></textarea>
            </details>
        </section>
        <p class="cause" role="alert">{move || trouble.get()}</p>
        <div aria-live="polite">
            {move || checked().map(|checked| {
                let wants_entry = checked.wants_entry.then(|| view! {
                    <p class="row">
                        <label class="button" for="verify-entry-file">"Add the entry's bytes"</label>
                        <input id="verify-entry-file" class="visually-hidden" type="file" data-testid="verify-entry-file" on:change=move |event| take(chosen_file(&event), entry)/>
                    </p>
                });
                view! { <CheckedView checked=checked/>{wants_entry} }
            })}
        </div>
        <p class="quiet hint">"No file at hand? "<code>"glassbloom receipts list"</code>" shows yours, and "<code>"glassbloom receipts export ID -o FILE"</code>" writes one."</p>
    }
}

/// What was found about a file.
#[component]
pub fn CheckedView(
    /// The result.
    checked: Checked,
) -> impl IntoView {
    let Checked { kind, outcome, facts, disclosed, .. } = checked;
    let heading = match outcome.state {
        State::Verified => "Verified",
        State::Failed => "Does not hold",
        State::NotVerifiable => "Not verifiable",
    };
    let fact = |(name, value): (&'static str, String)| {
        let is_hash = value.len() >= 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = if is_hash { view! { <HashText text=value/> }.into_any() } else { value.into_any() };
        view! { <div><dt>{name}</dt><dd>{value}</dd></div> }
    };
    let text = |(name, text): (&'static str, String)| view! { <h3>{name}</h3><pre tabindex="0" class="wrap">{text}</pre> };
    let disclosed = (!disclosed.is_empty()).then(|| {
        view! { <section class="card"><header class="card-head"><h2>"The text"</h2><p class="quiet">"disclosed by this file"</p></header>{disclosed.into_iter().map(text).collect_view()}</section> }
    });
    view! {
        <section class="result" data-testid="verify-result" data-state=crate::check::state_name(outcome.state)>
            <div class="result-head">
                <StateIcon state=outcome.state/>
                <div><p class="kicker">{kind}</p><h2>{heading}</h2></div>
            </div>
            <p class="sentence" data-testid="verify-sentence">{outcome.why.clone()}</p>
        </section>
        <Verdict outcome=Outcome { why: tally(&outcome), ..outcome } open=true/>
        {(!facts.is_empty()).then(|| view! { <dl class="facts stacked">{facts.into_iter().map(fact).collect_view()}</dl> })}
        {disclosed}
    }
}

/// How many checks ended how.
fn tally(outcome: &Outcome) -> String {
    let count = |state| outcome.steps.iter().filter(|step| step.state == state).count();
    let parts = [
        (State::Failed, "failed"),
        (State::Verified, "hold"),
        (State::NotVerifiable, "could not be made with what is at hand"),
    ];
    let parts = parts.map(|(state, words)| (count(state), words)).into_iter().filter(|(count, _)| *count > 0);
    format!(
        "{}.",
        parts
            .map(|(count, words)| format!("{} {words}", plural(count, "check")))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

/// Pasted text as the bytes of a file: hexadecimal is decoded, and a line end that was lost in copying is put back.
fn pasted_bytes(text: &str) -> Vec<u8> {
    let compact: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
    if let Some(bytes) = compact.chunks(2).map(pair).collect::<Option<Vec<u8>>>() {
        return bytes;
    }
    let text = text.replace("\r\n", "\n");
    format!("{}\n", text.trim_start().trim_end_matches('\n')).into_bytes()
}

/// The file that an input of the page was given.
fn chosen_file(event: &leptos::ev::Event) -> Option<web_sys::File> {
    event.target()?.dyn_into::<web_sys::HtmlInputElement>().ok()?.files()?.get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_text_becomes_the_bytes_of_a_file() {
        assert_eq!(pasted_bytes("d2 84\n00"), [0xd2, 0x84, 0]);
        assert_eq!(pasted_bytes("\nlog\r\n1\r\n\r\n\u{2014} a b"), "log\n1\n\n\u{2014} a b\n".as_bytes());
    }
}
