//! A value has one encoding.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::statements::cbor(data);
});
