//! Nothing opens but what was sealed to the key.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::sealing::sealed_request(data);
});
