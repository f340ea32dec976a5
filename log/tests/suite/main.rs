//! The log from outside: crashes, witnesses, HTTP.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod copy;
mod crash;
mod fsck;
mod http;
mod index;
mod memory;
mod process;
mod publishing;
mod rotation;
mod scrub;
mod split;
mod stores;
mod support;
mod witnesses;
