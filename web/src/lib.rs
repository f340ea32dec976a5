//! The Glassbloom explorer: static pages that read a log and check it in the visitor's browser.
//!
//! # In scope
//! Fetching checkpoints, tiles and entries, running the checks of `glassbloom-spec` on them, and showing what was
//! found: verified, failed or not verifiable, each with the steps and bytes behind it.
//!
//! # Out of scope
//! Deciding whether a claim is true, which is `glassbloom-spec`'s, and any server of its own: the files work on any
//! static host beside any log that serves tiles.
//!
//! Pages are functions of data: [`data`] loads and checks, [`pages`] draws, so both are tested without a browser.

// Views are deeply nested types.
#![recursion_limit = "512"]

pub mod app;
pub mod browser;
pub mod check;
pub mod data;
pub mod describe;
pub mod pages;
pub mod reader;
pub mod registry;
pub mod route;
pub mod time;
pub mod ui;

/// Mounts the explorer in the page. Called once, when the module is loaded.
#[wasm_bindgen::prelude::wasm_bindgen(start)]
pub fn start() {
    browser::report_panics();
    browser::clear_boot_message();
    leptos::mount::mount_to_body(app::App);
}
