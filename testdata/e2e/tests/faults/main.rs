//! The real program under failing system calls, `kill -9`, a full disk and flipped bits: each with the exact outcome that
//! log/README.md promises.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod bits;
mod full;
mod kill;
mod program;
mod syscalls;
