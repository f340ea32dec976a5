//! A bundle that verifies is of an exchange that was, with the text that it had.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::statements::bundle(data);
});
