//! The test network, its adversaries, and the task runner behind the cargo aliases.

pub mod network;
pub mod tasks;
