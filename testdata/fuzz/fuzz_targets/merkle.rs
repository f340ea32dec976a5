//! What proves a leaf or an older tree is what this crate would build, to the hash: nothing more, nothing less.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::merkle(data);
});
