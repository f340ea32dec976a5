//! Adversaries, by name. Each has its way with one party, and every test ends in a clear refusal by the others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod edges;
mod honest;
mod identity;
mod logs;
mod mirrors;
mod service;
mod witnesses;
