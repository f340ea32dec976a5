//! A succession has one spelling, and none holds but for a head that its log signed.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::succession(data);
});
