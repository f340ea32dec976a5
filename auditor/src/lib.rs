//! The Glassbloom auditor: recomputes every claim in the logs from the logs alone.
//!
//! # In scope
//! * [`audit`]: replays both logs, compares each head with the last one seen, applies the [`rules`] to each leaf.
//! * [`replay`]: a verified copy of the registry that other checkers (the user's proxy) keep as well.
//! * [`mirror`]: a verified copy of whole logs, served, so that a log that vanished can still be audited.
//! * [`endorser`]: vouches for evidence that the public does not see.
//! * [`watch`]: follows the registry for the owner of a machine.
//! * [`evidence`]: verifies a file of evidence by itself and explains it.
//! * [`witness`]: a C2SP witness, which cosigns checkpoints that extend the last one it cosigned.
//!
//! # Out of scope
//! Deciding what a byte means or whether a signature holds: that is `glassbloom-spec`, which the browser runs too.
//! Believing anybody: not the log, not the coordinator; the policy file is the only input that is trusted.

pub mod audit;
pub mod cli;
pub mod endorser;
pub mod evidence;
pub mod finding;
pub mod mirror;
pub mod replay;
pub mod rules;
pub mod watch;
pub mod witness;
