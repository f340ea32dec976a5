//! Public and private keys as text: one spelling, and a key made from a text is the key that the text names.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::key(data);
});
