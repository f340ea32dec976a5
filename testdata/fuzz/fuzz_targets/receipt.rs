//! Receipts, and the cutting of a request into the segments that a receipt commits to.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::statements::receipt(data);
});
