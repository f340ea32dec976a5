//! How a check ended: icon and words, never colour alone, with the steps and bytes behind it.

use leptos::prelude::*;

use super::{bytes::HexDump, text::with_code};
use crate::check::{Outcome, State, Step, state_label, state_name};

/// The three icons; each has a shape of its own.
#[component]
pub fn StateIcon(
    /// Which.
    state: State,
) -> impl IntoView {
    let shape = match state {
        State::Verified => r#"<circle cx="8" cy="8" r="7"/><path d="M4.8 8.3l2.2 2.2 4.3-4.8"/>"#,
        State::Failed => {
            r#"<path d="M5.1 1h5.8L15 5.100v5.8L10.900 15H5.100L1 10.900V5.100z"/><path d="M5.600 5.600l4.800 4.800M10.400 5.600l-4.800 4.800"/>"#
        }
        State::NotVerifiable => {
            r#"<circle cx="8" cy="8" r="7" stroke-dasharray="2.600 2.200"/><path d="M5 8h6"/>"#
        }
    };
    let svg = format!(
        r#"<svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.600" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">{shape}</svg>"#
    );
    view! { <span class="icon" inner_html=svg></span> }
}

/// A state in a list: icon and word.
#[component]
pub fn Mark(
    /// The outcome.
    outcome: Outcome,
    /// Show the icon alone; the word stays for those who hear the page.
    #[prop(optional)]
    compact: bool,
) -> impl IntoView {
    let label = state_label(outcome.state);
    view! {
        <span class="mark" class:compact=compact data-state=state_name(outcome.state) title=outcome.why>
            <StateIcon state=outcome.state/>
            <span class="mark-label">{label}</span>
        </span>
    }
}

/// An outcome that unfolds into its steps and bytes.
#[component]
pub fn Verdict(
    /// The outcome.
    outcome: Outcome,
    /// Names it for tests.
    #[prop(default = "verdict")]
    testid: &'static str,
    /// Unfolded from the start.
    #[prop(optional)]
    open: bool,
) -> AnyView {
    let Outcome { state, why, steps } = outcome;
    let label = match state {
        State::Verified => "Verified in this browser",
        state => state_label(state),
    };
    view! {
        <details class="verdict" data-testid=testid data-state=state_name(state) open=open>
            <summary>
                <StateIcon state=state/>
                <span class="verdict-words">
                    <strong>{label}</strong>
                    <span class="why" data-testid="why">{why}</span>
                </span>
                <span class="unfold" aria-hidden="true">{format!("{} checks", steps.len())}</span>
            </summary>
            <ol class="steps">
                {steps.into_iter().map(|step| view! { <StepView step=step/> }).collect_view()}
            </ol>
        </details>
    }
    .into_any()
}

#[component]
fn StepView(step: Step) -> impl IntoView {
    let Step { name, state, detail, bytes } = step;
    let bytes = (!bytes.is_empty()).then(|| {
        view! {
            <details class="step-bytes">
                <summary>{format!("The {} bytes that were checked", bytes.len())}</summary>
                <HexDump bytes=bytes/>
            </details>
        }
    });
    let title = name.clone();
    view! {
        <li class="step" data-testid="step" data-state=state_name(state) data-step=title>
            <StateIcon state=state/>
            <div>
                <p class="step-name">{name}" "<span class="step-state">{state_label(state)}</span></p>
                <p class="step-detail">{with_code(&detail)}</p>
                {bytes}
            </div>
        </li>
    }
}
