//! `cargo bench-log`: how fast the log is, beside what the machine allows and what others reach on it.
//!
//! # In scope
//! Closed loops (N clients, each waits for its answer) and open loops (a fixed schedule of arrivals; the latency counts
//! from the intended start, so that a stall is charged to every request that it delays), over HTTP and in process,
//! against the release programs on loopback and a real disk.
//!
//! # Out of scope
//! Whether the answers are right: other tests verify them. Here a wrong status or an error ends the measurement.

pub mod entries;
pub mod http;
pub mod in_process;
pub mod limits;
pub mod load;
pub mod peer;
pub mod report;
pub mod rows;
pub mod servers;
pub mod site;
pub mod witness;

pub use rows::{Bench, Plan, Row};
