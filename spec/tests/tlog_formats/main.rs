//! The formats of a log, from outside: other people's vectors, other people's code, and every rule broken once.

#![expect(clippy::unwrap_used, reason = "what helps tests may panic like tests")]

mod notes;
mod opening;
mod oracles;
mod policies;
mod support;
mod tampering;
mod vectors;
