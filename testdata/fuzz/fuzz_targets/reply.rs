//! Whole answers, chunks, lists of models and errors of other servers: read, written and read again, the same.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::openai::reply(data);
});
