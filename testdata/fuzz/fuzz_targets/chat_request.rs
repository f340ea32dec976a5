//! A request that is taken means the same once it is passed on.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::openai::chat_request(data);
});
