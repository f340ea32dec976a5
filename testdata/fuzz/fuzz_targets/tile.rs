//! Bundles have one spelling per width, and tiles hold what they are made of.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::tile(data);
});
