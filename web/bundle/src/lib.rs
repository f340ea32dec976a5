//! Makes the explorer's static files, and serves them on a local network.
//!
//! # In scope
//! Compiling the pages to WebAssembly with nothing but cargo and crates, and a small static server with the headers
//! that a public host should send too.
//!
//! # Out of scope
//! Anything the pages rely on: the files work on any static host, and this server is not trusted by them.

pub mod build;
pub mod cli;
pub mod serve;
