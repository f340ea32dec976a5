//! Every kind of payload: what is read is what is written, and without fields of the future to the byte.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::statements::leaf(data);
});
