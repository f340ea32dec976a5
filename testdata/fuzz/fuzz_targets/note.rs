//! Notes, their lines and their text as a tree head: each has one spelling.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::note(data);
});
