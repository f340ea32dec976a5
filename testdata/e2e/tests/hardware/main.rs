//! Keys in hardware, from the maker's certificate to a served, sealed request whose receipt verifies. The TPM is a real
//! one in software (`swtpm`); everything but the engine is what people run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "../support/mod.rs"]
mod support;

mod life;
#[cfg(target_os = "linux")]
mod memory;
mod soft_tpm;

/// As the provider has it.
#[global_allocator]
static ALLOCATOR: glassbloom_hardware::wipe::Wiping = glassbloom_hardware::wipe::Wiping;
