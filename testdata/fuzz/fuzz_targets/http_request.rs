//! A request is the same once it is written and read again, and says nothing that HTTP/1.1 could take for two.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::sealing::http_request(data);
});
