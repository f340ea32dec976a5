//! The Glassbloom provider: holds the keys, opens sealed requests, runs the model, signs receipts.
//!
//! # In scope
//! The daemon around an [`engine::Engine`]: keys and attestation, the session with a coordinator, the inner server that
//! speaks OpenAI's chat API inside the seal, the measurement of program and models, and the command line.
//!
//! # Out of scope
//! Every check of somebody else's claim: that is `glassbloom-spec`, which the clients run too. A provider serves only
//! when its own policy would let a client seal to it.

pub mod admission;
mod answer;
pub mod attest;
mod challenge;
pub mod command;
pub mod config;
mod cool_off;
mod daemon;
pub mod engine;
mod enrol;
mod health;
pub mod inner;
pub mod keys;
pub mod measure;
pub mod registry;
mod session;
pub mod status;

pub use config::Config;
pub use daemon::serve;
