//! A response reads the same however it is cut, and in one piece once it is written again.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::sealing::http_response(data);
});
