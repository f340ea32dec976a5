//! Nothing opens as a promise but the one that is signed in the corpus.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::promise(data);
});
