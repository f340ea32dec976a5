//! None leads to the root but the chain that its key signed.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::evidence::evidence_x509(data);
});
