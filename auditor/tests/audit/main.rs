//! Audits of a log service in memory that tells the truth, or lies in one way.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod identity;
mod liveness;
mod log;
mod mirror;
mod replica;
mod rules;
mod submissions;
mod succession;
mod support;
mod watch;
