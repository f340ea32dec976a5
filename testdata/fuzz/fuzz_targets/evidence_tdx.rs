//! Evidence of TDX that verifies is the one that was made.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::machines::evidence_tdx(data);
});
