//! The real processes with MLX, driven by the clients and the browser that people use, and killed in mid-stream.
//!
//! `cargo ci` builds the programs, the explorer, the Python and Node clients and runs these; without the feature
//! `mlx` they say that they were skipped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod bed;
mod browser;
mod chat;
mod clients;
mod crash;
mod offline;
mod restart;
