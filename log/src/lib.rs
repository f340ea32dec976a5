//! The Glassbloom transparency log: tlog-tiles on disk, cosigned checkpoints, nothing lost.
//!
//! # In scope
//! Appending entries durably ([`Log`]), having checkpoints cosigned by witnesses and publishing those that meet the
//! policy, serving both logs over HTTP ([`routes`]), and checking a log from outside ([`fsck`]).
//!
//! # Out of scope
//! What an entry means: the log orders bytes. Who may write is one bearer token; who may read is everybody.

// The tests' servers are shared with the tests outside, which know the crate by its name.
#[cfg(test)]
extern crate self as glassbloom_log;

pub mod cli;
pub mod config;
pub mod copy;
mod declared;
mod edge;
mod error;
pub mod fsck;
pub mod import;
mod indexer;
pub mod init;
mod integrator;
mod janitor;
mod keyfile;
mod keys;
mod life;
mod load;
mod log;
mod metrics;
pub mod places;
mod policyfile;
mod publisher;
mod reader;
pub mod rotation;
pub mod routes;
mod scrub;
mod sequencer;
mod serve;
mod source;
pub mod split;
mod staging;
pub mod store;
mod witness;

pub use crate::{
    error::Error,
    keys::{KeysError, LogKeys},
    life::{Life, Successor},
    log::{Log, Options, Parts},
    metrics::Metrics,
    publisher::Published,
    reader::TileReader,
    serve::{open, serve},
    witness::{Endpoint, HttpTransport, Reply, Transport},
};
