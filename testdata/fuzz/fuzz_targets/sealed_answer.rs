//! Nobody on the way can make an answer of bytes, or another one, whichever way they arrive.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::sealing::sealed_answer(data);
});
