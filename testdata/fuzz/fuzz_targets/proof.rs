//! Proofs have one spelling, and prove of each log only what it has at that place.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::proof(data);
});
