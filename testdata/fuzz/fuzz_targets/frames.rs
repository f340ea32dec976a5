//! Frames come out the same however they arrive, and go back into the same bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::api::frames(data);
});
