//! A policy that parses is the same policy once it is written and parsed again.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::policy(data);
});
