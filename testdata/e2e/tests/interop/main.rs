//! Other people's software on our log, and ours on other people's logs: nothing in between is adapted.
//!
//! What is compared with is installed by `.ci/run` (Debian's Go with `golang.org/x/mod`, nginx, curl) and by `cargo ci`
//! (Python packages, `testdata/e2e/requirements.txt`); a test whose tool is missing says that it was skipped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod bed;
mod go;
mod http;
mod others;
mod python;
mod static_files;
