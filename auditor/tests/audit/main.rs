//! Audits of a log service in memory that tells the truth, or lies in one way.

mod log;
mod replica;
mod rules;
mod support;
