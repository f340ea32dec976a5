//! The test network, its adversaries, the load generator, and the task runner behind the cargo aliases.

#[cfg(feature = "bench")]
pub mod bench;
pub mod network;
pub mod tasks;
