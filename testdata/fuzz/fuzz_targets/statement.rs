//! A statement has one spelling, and none verifies but those that were signed, to the byte.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::statements::statement(data);
});
