//! Events read the same however they arrive, and padding adds none.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::openai::event_stream(data);
});
