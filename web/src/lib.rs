//! The Glassbloom explorer: static pages that read a log and check it in the visitor's browser.
use leptos::prelude::*;

/// Mounts the explorer in the page. Called once by the module's loader.
#[wasm_bindgen::prelude::wasm_bindgen(start)]
pub fn start() {
    mount_to_body(|| view! { <p>"hi"</p> });
}
