//! The coordinator between a real log and a provider that the tests play.

mod api;
mod liveness;
mod net;
mod operator;
mod plaintext;
mod provider;
mod relay;
mod session;
