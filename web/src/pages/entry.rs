//! One entry: what it says, who signed it, how it hangs in the tree, and its bytes.

use glassbloom_spec::id::LeafIndex;
use leptos::prelude::*;

use crate::{
    browser,
    data::entry::{Decoded, Entry, Signer},
    describe,
    route::Route,
    time,
    ui::{bytes::HexDump, fields::FieldList, path::InclusionPath, text::HashText, verdict::Verdict},
};

/// An entry of a log.
#[component]
pub fn EntryPage(
    /// What was loaded and checked.
    entry: Entry,
) -> impl IntoView {
    let title = format!("{} #{}", entry.log, entry.index);
    let (kind, purpose) = match &entry.statement {
        Ok(decoded) => (decoded.kind.name(), describe::purpose(decoded.kind)),
        Err(_) => ("unknown bytes", "No statement that this page knows; the log includes it all the same"),
    };
    let size = entry.bytes.len();
    let (bytes, parts) = (
        entry.bytes.clone(),
        entry.statement.as_ref().map(|decoded| decoded.parts.clone()).unwrap_or_default(),
    );
    let proof = entry.proof.as_ref().map(|proof| {
        let name = format!("{}-{}.tlog-proof", entry.log, entry.index);
        view! { <a class="button" download=name href=browser::download_address(proof) data-testid="download-proof">"Download .tlog-proof"</a> }
    });
    let weaker = entry.statement.as_ref().ok().and_then(|decoded| decoded.weaker);
    let weaker = weaker
        .map(|why| view! { <p class="notice" data-testid="weaker"><strong>"Says less. "</strong>{why}</p> });
    let diagnostic = entry.statement.as_ref().ok().map(|decoded| decoded.diagnostic.clone());
    view! {
        <section class="page-head" data-testid="page-entry">
            <Around entry=entry.clone()/>
            <p class="kicker">{title}</p>
            <h1 data-testid="entry-kind">{kind}</h1>
            <p class="lead">{purpose}"."</p>
        </section>
        <Verdict outcome=entry.outcome.clone() testid="entry-verdict"/>
        {weaker}
        <div class="split">
            <div class="main-column">
                <Said statement=entry.statement.clone()/>
                <section class="card">
                    <header class="card-head"><h2>"Bytes"</h2><p class="quiet">{format!("{} as they stand in the log", time::bytes(size as u64))}</p></header>
                    <div data-testid="entry-raw"><HexDump bytes=bytes parts=parts/></div>
                    {diagnostic.map(|text| view! {
                        <details class="fold"><summary>"Payload in CBOR diagnostic notation"</summary><pre tabindex="0">{text}</pre></details>
                    })}
                </section>
            </div>
            <aside class="side-column">
                <section class="card">
                    <header class="card-head"><h2>"In the tree"</h2></header>
                    <InclusionPath entry=entry.clone()/>
                    <dl class="facts stacked">
                        <div><dt>"Leaf hash"</dt><dd data-testid="entry-leaf"><HashText text=entry.leaf.to_string()/></dd></div>
                        <div><dt>"Root, signed and witnessed"</dt><dd><HashText text=entry.root.to_string()/></dd></div>
                        <div><dt>"Log"</dt><dd><code>{entry.origin}</code></dd></div>
                    </dl>
                    {proof}
                </section>
            </aside>
        </div>
    }
}

/// The entries before and after.
#[component]
fn Around(entry: Entry) -> impl IntoView {
    let to = move |index: u64| Route::Entry(entry.log, LeafIndex::new(index)).to_string();
    let index = entry.index.get();
    let older = index.checked_sub(1).map(|older| view! { <a href=to(older) rel="prev">"← older"</a> });
    let newer =
        (index + 1 < entry.size.get()).then(|| view! { <a href=to(index + 1) rel="next">"newer →"</a> });
    view! { <nav class="around" aria-label="Neighbours">{older}{newer}</nav> }
}

#[component]
fn Said(statement: Result<Decoded, String>) -> AnyView {
    match statement {
        Ok(Decoded { fields, signer, .. }) => view! {
            <section class="card" data-testid="entry-statement">
                <header class="card-head"><h2>"What it says"</h2></header>
                <FieldList fields=fields/>
            </section>
            <section class="card">
                <header class="card-head"><h2>"Who signed it"</h2></header>
                <SignerView signer=signer/>
            </section>
        }
        .into_any(),
        Err(error) => view! {
            <section class="card" data-testid="entry-statement">
                <header class="card-head"><h2>"What it says"</h2></header>
                <p>"These bytes are no statement that this page knows: "{error}"."</p>
                <p class="quiet">"The log promises only that they stand there, at this place, for everyone."</p>
            </section>
        }
        .into_any(),
    }
}

#[component]
fn SignerView(signer: Signer) -> impl IntoView {
    let who = match signer.route {
        Some(route) => view! { <a href=route.to_string()>{signer.who}</a> }.into_any(),
        None => signer.who.into_any(),
    };
    view! {
        <dl class="fields">
            <div class="field"><dt>"Key"</dt><dd><HashText text=signer.key.to_string()/><p class="note">"As the statement's protected header names it."</p></dd></div>
            <div class="field"><dt>"Held by"</dt><dd data-testid="entry-signer">{who}</dd></div>
        </dl>
    }
}
