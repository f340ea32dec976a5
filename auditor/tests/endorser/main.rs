//! Tests of the endorser: what it refuses, and a software TPM that it vouches for.

#![expect(clippy::unwrap_used, reason = "code of tests")]

mod live;
mod mac;
mod protocol;
mod support;
