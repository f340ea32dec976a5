//! Nothing opens as a checkpoint of the two logs but a head that they have.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::checkpoint(data);
});
