//! Evidence has one spelling, and none verifies but the one that was made.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::evidence::evidence_app_attest(data);
});
