//! The coordinator between a real log and a provider that the tests play.

mod api;
mod net;
mod plaintext;
mod provider;
mod relay;
mod session;
