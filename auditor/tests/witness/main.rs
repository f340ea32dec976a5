//! The witness over HTTP: every row of the status table, and what must survive races, forgeries and restarts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod process;
mod protocol;
mod state;
mod subtree;
mod support;
