//! A key configuration has one spelling.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::sealing::key_config(data);
});
