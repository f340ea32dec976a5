//! The formats of a log, from outside: other people's vectors, other people's code, and every rule broken once.

mod notes;
mod opening;
mod oracles;
mod policies;
mod support;
mod tampering;
mod vectors;
