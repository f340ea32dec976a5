//! A record has one spelling, tells nothing that names a device, and verifies only as its endorser saw it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::evidence::evidence_mda(data);
});
