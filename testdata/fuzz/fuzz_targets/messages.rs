//! Messages of a session and bodies of answers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::api::messages(data);
});
