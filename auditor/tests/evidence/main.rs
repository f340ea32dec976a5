//! Tests of `evidence`: statements of ours, what vendors' hardware wrote, and what is no evidence at all.

#![expect(clippy::unwrap_used, reason = "code of tests")]

mod ours;
mod rubbish;
mod support;
mod vendors;
